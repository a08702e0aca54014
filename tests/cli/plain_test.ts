// Copyright 2026 the Duplex authors. MIT license.

/**
 * The JSON form of results that JSON does not have.
 *
 * @module
 */

import { assertEquals, assertLess, assertThrows } from "@std/assert";
import { toPlain } from "../../_cli/plain.ts";
import { json } from "@duplex/ipc/codec";

/** The JSON of the form of a value. */
function jsonOf(value: unknown): string {
  return new TextDecoder().decode(json.encode(toPlain(value)));
}

const AT = '"1970-01-01T00:00:00.000Z"';

/** A class of `Temporal`, for which TypeScript may have no types. */
interface FromText {
  from(text: string): unknown;
}

function temporalForms(): [value: unknown, form: string][] {
  const { Temporal } = globalThis as unknown as {
    Temporal: Record<string, FromText>;
  };
  return [
    ["Instant", "2026-01-02T03:04:05.000000006Z"],
    ["ZonedDateTime", "2026-01-02T03:04:05+01:00[Europe/Berlin]"],
    ["PlainDate", "2026-01-02[u-ca=hebrew]"],
    ["PlainYearMonth", "2026-01"],
    ["PlainMonthDay", "01-02"],
    ["Duration", "P1DT2.5S"],
  ].map(([name, text]) => [Temporal[name!]!.from(text!), `"${text}"`]);
}

const FORMS: [value: unknown, form: string][] = [
  [[1, "a", true, null, { b: [] }], '[1,"a",true,null,{"b":[]}]'],
  [new Date(0), AT],
  [new Date(NaN), "null"],
  [2n ** 53n - 1n, "9007199254740991"],
  [-(2n ** 53n), '"-9007199254740992"'],
  [[NaN, Infinity, -Infinity, -0], "[null,null,null,-0.0]"],
  [[Object(1), Object(NaN), Object(-0)], "[1,null,-0.0]"],
  [
    [Object("a"), Object(false), Object(2n ** 60n)],
    '["a",false,"1152921504606846976"]',
  ],
  [[undefined, , { a: undefined, b: 1 }], '[null,null,{"b":1}]'],
  [new Map(), "{}"],
  [new Map([["a", new Date(0)]]), `{"a":${AT}}`],
  [new Map([["__proto__", 1]]), '{"__proto__":1}'],
  [new Map<unknown, unknown>([["a", 1], [1n, new Set()]]), '[["a",1],[1,[]]]'],
  [new Set([NaN, undefined, 1n]), "[null,null,1]"],
  [new Uint8Array([0, 1, 255]).subarray(1), '"Af8="'],
  [new Uint8ClampedArray([255]), '"/w=="'],
  [new Uint8Array([1]).buffer, '"AQ=="'],
  [new DataView(new Uint8Array([1, 2]).buffer, 1), '"Ag=="'],
  [new SharedArrayBuffer(1), '"AA=="'],
  [new Uint8Array(new SharedArrayBuffer(2), 1), '"AA=="'],
  [new Float64Array([0.5, NaN]), "[0.5,null]"],
  [new BigInt64Array([1n, 2n ** 60n]), '[1,"1152921504606846976"]'],
  [/a+\/b/gi, String.raw`"/a+\\/b/gi"`],
  [new URL("http://a/b c?d"), '"http://a/b%20c?d"'],
  ...temporalForms(),
  [/a(b)/.exec("ab"), '["ab","b"]'],
  [
    Object.assign(new TypeError("no", { cause: new Date(0) }), { code: 7n }),
    `{"name":"TypeError","message":"no","cause":${AT},"code":7}`,
  ],
  [
    new AggregateError([new Error("a")], "all"),
    '{"name":"AggregateError","message":"all","errors":[{"name":"Error","message":"a"}]}',
  ],
];

Deno.test("toPlain() gives each kind of value a form", () => {
  for (const [value, form] of FORMS) {
    assertEquals(jsonOf(value), form);
    // In a container, and in several places.
    assertEquals(jsonOf({ a: [value] }), `{"a":[${form}]}`);
    const map = new Map([[1, value], [2, value]]);
    assertEquals(jsonOf(map), `[[1,${form}],[2,${form}]]`);
  }
});

Deno.test("toPlain() leaves cycles, deep values and other classes to the codec", () => {
  const cycle = new Map<string, unknown>();
  cycle.set("self", [cycle]);
  assertThrows(() => jsonOf(cycle), TypeError, "a cycle cannot be sent");
  let deep: unknown = 1;
  for (let depth = 0; depth < 100_000; depth++) deep = [deep];
  assertThrows(() => jsonOf(deep), TypeError, "nested");
  for (
    const value of [
      new Headers(),
      () => 1,
      Symbol(),
      Object(Symbol()),
    ]
  ) {
    assertThrows(() => jsonOf([value]), TypeError, '"$[0]"');
  }
});

Deno.test("toPlain() visits an object in many places once", () => {
  let count = 0;
  let value: unknown = {
    get once() {
      return ++count;
    },
  };
  for (let depth = 0; depth < 60; depth++) value = [value, value];
  assertThrows(() => jsonOf(value), RangeError);
  assertEquals(count, 1);
});

Deno.test("toPlain() makes one text of bytes that occur several times", () => {
  const bytes = new Uint8Array(1e6);
  const before = Deno.memoryUsage().heapUsed;
  const plain = toPlain([Array(1000).fill(bytes), bytes.buffer, bytes.buffer]);
  // One text for each place would take more than a gigabyte.
  assertLess(Deno.memoryUsage().heapUsed - before, 100e6);
  assertEquals((plain as unknown[])[1], bytes.toBase64());
});
