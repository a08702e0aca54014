// Copyright 2026 the Duplex authors. MIT license.

import {
  decode as peerDecode,
  encode as peerEncode,
  ExtData,
} from "@msgpack/msgpack";
import {
  assert,
  assertEquals,
  assertFalse,
  assertInstanceOf,
  assertNotStrictEquals,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { decode as stdDecode, encode as stdEncode } from "@std/msgpack";
import suite from "msgpack-test-suite" with { type: "json" };
import { Buffer } from "node:buffer";
import { ByteBuffer } from "../../_base/byte_buffer.ts";
import { TEMPORAL } from "./_value_rows.ts";
import { json, msgpack } from "./_fast.ts";
import { ProtocolError } from "../../_base/errors.ts";
import { difference } from "../fuzz/equal.ts";

function bytes(...values: number[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(values);
}

function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(
    hex ? hex.split("-") : [],
    (byte) => Number.parseInt(byte, 16),
  );
}

function roundTrip(value: unknown): unknown {
  return msgpack.decode(msgpack.encode(value));
}

/** A test that needs no permission. */
function test(name: string, fn: () => void): void {
  Deno.test({ name, permissions: "none", fn });
}

/** JSON's own values, which come back equal through both codecs. */
const JSON_VALUES: unknown[] = [
  null,
  true,
  false,
  ...[0, 1, 31, 32, 127, 128, 255, 256, 65_535, 65_536, 2 ** 31 - 1, 2 ** 31],
  ...[2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 2 ** 63, 2 ** 64, 1e300],
  ...[-1, -32, -33, -128, -129, -32_768, -32_769, -(2 ** 31), -(2 ** 31) - 1],
  ...[-(2 ** 32), -(2 ** 53) + 1, -(2 ** 53), -(2 ** 63), -1e300],
  ...[0.5, -0.5, 12.5, 0.1, Math.PI, 5e-324, Number.MAX_VALUE],
  "",
  "a",
  "GET /index.html 200",
  ...[31, 32, 40, 41, 100, 101, 255, 256, 65_535, 65_536].flatMap((length) => [
    "x".repeat(length),
    "é".repeat(length),
    "x".repeat(length - 1) + "😀",
  ]),
  "größe",
  "日本語",
  "\0\x7f\x80\u07ff\u0800\uffff\u{10000}\u{10ffff}",
  "\ufffd",
  "\ufeffbyte order mark",
  "\ud800 alone",
  "\udc00\ud800",
  [],
  [[], [[]], {}],
  Array.from({ length: 15 }, (_, index) => index),
  Array.from({ length: 16 }, (_, index) => index),
  Array.from({ length: 70_000 }, (_, index) => index),
  {},
  { a: 1, "": 2, größe: 3, "\ud800": 4, 7: 5, constructor: 6, toString: 7 },
  JSON.parse('{"__proto__":{"polluted":true},"hasOwnProperty":1}'),
  Object.fromEntries(Array.from({ length: 15 }, (_, i) => [`k${i}`, i])),
  Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`k${i}`, i])),
  Object.fromEntries(Array.from({ length: 70_000 }, (_, i) => [`k${i}`, i])),
  { jobs: [{ run: { at: "now", tags: ["a", "b"] } }, null] },
];

const NUMBERS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/** What comes back equal through MessagePack and not through JSON. */
const OTHER_VALUES: unknown[] = [
  undefined,
  [undefined, { member: undefined }],
  -0,
  NaN,
  Infinity,
  -Infinity,
  ...[0n, 1n, -1n, 255n, 256n, 2n ** 53n - 1n, 2n ** 53n, -(2n ** 53n)],
  ...[2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 64n, -(2n ** 63n)],
  ...[-(2n ** 63n) - 1n, 2n ** 100n, -(2n ** 4096n), 16n ** 9999n - 1n],
  ...[0, 1, 999, 1000, 1500, -1, -1000, -1001].map((time) => new Date(time)),
  ...[2 ** 32 * 1000 - 1000, 2 ** 32 * 1000, 2 ** 34 * 1000 - 1]
    .map((time) => new Date(time)),
  ...[2 ** 34 * 1000, 8.64e15, -8.64e15, NaN].map((time) => new Date(time)),
  /a+[/]/giu,
  /(?:)/,
  /größe😀/su,
  new Map(),
  new Map<unknown, unknown>([[1, "a"], ["1", "b"], [NaN, 1], [null, 2]]),
  new Map<unknown, unknown>([[{ a: 1 }, [1]], [new Map(), new Set([1])]]),
  new Set(),
  new Set<unknown>([1, "1", undefined, null, -1n]),
  new Uint8Array(),
  ...[1, 255, 256, 65_535, 65_536].map((size) => new Uint8Array(size).fill(7)),
  new ArrayBuffer(0),
  new Uint8Array(NUMBERS).buffer,
  new Int8Array([-128, 127]),
  new Uint8ClampedArray([0, 255]),
  new Int16Array([-32_768, 32_767]),
  new Uint16Array([65_535]),
  new Int32Array([-(2 ** 31), 2 ** 31 - 1]),
  new Uint32Array([2 ** 32 - 1]),
  new Float16Array([1.5, -0]),
  new Float32Array([1.5, -0, NaN, Infinity]),
  new Float64Array([0.1, -0, NaN, -Infinity]),
  new BigInt64Array([-1n, 2n ** 63n - 1n]),
  new BigUint64Array([2n ** 64n - 1n]),
  new DataView(new Uint8Array(NUMBERS).buffer),
  new Uint16Array(new Uint8Array(NUMBERS).buffer, 2, 3),
  new Uint8Array(NUMBERS).subarray(3, 6),
];

/** A short name of a value. */
function label(value: unknown): string {
  const text = typeof value === "object" || typeof value === "string"
    ? Deno.inspect(value, { compact: true, breakLength: Infinity })
    : `${String(value)}, a ${typeof value}`;
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

test("msgpack.decode() gives every value back", () => {
  for (const value of [...JSON_VALUES, ...OTHER_VALUES]) {
    const decoded = roundTrip(value);
    assertEquals(decoded, value, label(value));
    if (typeof value !== "object") assert(Object.is(decoded, value));
    const owned = msgpack.decodeOwned(msgpack.encode([value]));
    assertEquals(owned, [value], label(value));
  }
});

test("json.decode() gives the values of JSON back", () => {
  for (const value of JSON_VALUES) {
    assertEquals(json.decode(json.encode(value)), value, label(value));
    assertEquals(json.decodeOwned(json.encode([value])), [value]);
  }
});

test("json.encode() writes -0 as a float", () => {
  const shared = [-0, 0];
  const value = { zero: -0, list: [1, shared, shared] };
  const text = '{"zero":-0.0,"list":[1,[-0.0,0],[-0.0,0]]}';
  assertEquals(new TextDecoder().decode(json.encode(value)), text);
  const received = json.decode(json.encode(value)) as typeof value;
  assertEquals(difference(value.list[1], received.list[1]), undefined);
  assert(Object.is(json.decode(json.encode(-0)), -0));
});

test("msgpack.decode() gives a bigint back as a bigint and a number as a number", () => {
  for (const value of [0, 255, 2 ** 53 - 1, 2 ** 53, 2 ** 64]) {
    assertStrictEquals(roundTrip(value), value);
    assertStrictEquals(roundTrip(BigInt(value)), BigInt(value));
  }
});

test("msgpack.encode() sends an instance by its own enumerable fields", () => {
  class Point {
    x = 1;
    #hidden = 2;
    static z = 3;
    get sum() {
      return this.x + this.#hidden;
    }
  }
  const sent = Object.assign(new Point(), { [Symbol("hidden")]: 4 });
  const point = roundTrip({ point: sent }) as { point: object };
  assertEquals(point, { point: { x: 1 } });
  assertStrictEquals(Object.getPrototypeOf(point.point), Object.prototype);
  const bare = Object.assign(Object.create(null), { a: 1 });
  assertEquals(roundTrip(bare), { a: 1 });
  const inherited = Object.create({ inherited: 1 }, {
    own: { value: 2, enumerable: true },
    hidden: { value: 3, enumerable: false },
  });
  assertEquals(roundTrip(inherited), { own: 2 });
});

test("msgpack.decode() gives arrays back with their missing items", () => {
  // deno-lint-ignore no-sparse-arrays
  const short = [, 1, undefined, , null];
  const long = Array.from({ length: 70_000 }, (_, at) => at);
  for (let at = 0; at < long.length; at += 3) delete long[at];
  const arrays: unknown[][] = [short, new Array(1), new Array(300), long];
  arrays.push(Object.assign(new Array(2), { x: 1 }), [short, short, [short]]);
  for (const array of arrays) {
    const decoded = roundTrip([array, array]) as unknown[][];
    assertEquals(difference([array, array], decoded), undefined);
    assertEquals(difference(array, roundTrip(array)), undefined);
  }
  assertFalse(0 in (roundTrip(short) as unknown[]));
});

test("msgpack.decode() gives boxed primitives back", () => {
  const boxes = [1, -0, "", "a\ud800", true, 7n, 2n ** 70n].map(Object);
  const decoded = roundTrip({ boxes }) as { boxes: unknown[] };
  assertEquals(difference(boxes, decoded.boxes), undefined);
  assertThrows(
    () => msgpack.encode([Object(Symbol())]),
    TypeError,
    '"$[0]" is a Symbol, which cannot be sent',
  );
});

test("msgpack.encode() writes one text for each object of Temporal", () => {
  const texts = TEMPORAL.map((make) => {
    const bytes = msgpack.encode(make());
    return `${bytes[6]} ${new TextDecoder().decode(bytes.subarray(7))}`;
  });
  assertEquals(texts, [
    "2 2020-01-01T00:00:00.123456789Z",
    "2 -271821-04-20T00:00:00Z",
    "3 2020-11-01T06:30:00Z[America/New_York]",
    "3 2020-11-01T05:30:00Z[America/New_York]",
    "3 1960-01-01T00:44:30Z[Africa/Monrovia][u-ca=hebrew]",
    "3 2020-01-01T23:59:00Z[-23:59]",
    "4 2020-02-29",
    "4 +275760-09-13[u-ca=japanese]",
    "5 23:59:59.999999999",
    "6 2020-02-29T12:00:00[u-ca=chinese]",
    "7 2020-02-01[u-ca=iso8601]",
    "7 -271821-04-01[u-ca=iso8601]",
    "8 1972-02-29[u-ca=iso8601]",
    "9 -1,-2,-3,-4,-5,-6,-7,0,-8,0",
    "9 0,0,0,0,0,0,0,0,0,0",
    "7 2019-11-29[u-ca=hebrew]",
    "7 2019-11-15[u-ca=gregory]",
    "8 1980-02-29[u-ca=chinese]",
    "9 0,0,0,0,0,0,0,1500,7000000000,0",
    "9 0,0,0,0,0,0,0,0,0,-900719925474099200000000",
  ]);
});

test("msgpack.encode() refuses a URL that a receiver would reject", () => {
  const url = new URL("file://a/b");
  url.pathname = "C:/x";
  assertThrows(
    () => msgpack.encode([url]),
    TypeError,
    '"$[0]" is a URL whose text is that of another value: "file://a/C:/x"',
  );
  assertThrows(
    () => msgpack.encode([new URL(`a:${"b".repeat(2 ** 22)}`)]),
    TypeError,
    '"$[0]" is a URL of 4194306 characters, which is more than 4194304',
  );
  const longest = new URL(`a:${"b".repeat(2 ** 22 - 2)}`);
  assertEquals((roundTrip(longest) as URL).href, longest.href);
});

test("msgpack.decode() gives arrays back with their fields", () => {
  class List extends Array<number> {
    total = 3;
  }
  const list = new List();
  list.push(1, 2);
  const large = Array.from({ length: 100 }, (_, at) => at);
  // deno-lint-ignore no-sparse-arrays
  const sparse = [1, , 3, 4, 5, 6, 7];
  const cases: [unknown[], Record<string, unknown>][] = [
    [Object.assign([1], { x: 2 }), { x: 2 }],
    [Object.assign([], { x: [] }), { x: [] }],
    [Object.assign([..."abcd"], { "": 1, "01": 2 }), { "": 1, "01": 2 }],
    [Object.assign([..."abcde"], { "4294967295": 1 }), { "4294967295": 1 }],
    [Object.assign(large, { toString: 1, at: 2 }), { toString: 1, at: 2 }],
    [Object.assign([undefined], { x: undefined }), { x: undefined }],
    // As many values as items.
    [Object.assign(sparse, { x: 7 }), { x: 7 }],
    [list, { total: 3 }],
    [
      Object.defineProperty([1], "__proto__", { value: 1, enumerable: true }),
      JSON.parse('{"__proto__":1}'),
    ],
  ];
  for (const [array, fields] of cases) {
    const decoded = roundTrip({ array }) as { array: unknown[] };
    assertEquals([...decoded.array], [...array]);
    assertStrictEquals(Object.getPrototypeOf(decoded.array), Array.prototype);
    const all = Object.entries(decoded.array);
    assertEquals(all, Object.entries(array));
    const entries = all.slice(-Object.keys(fields).length);
    assertEquals(entries, Object.entries(fields));
    assert(entries.every(([key]) => Object.hasOwn(decoded.array, key)));
  }
});

test("msgpack.decode() gives matches and template strings back", () => {
  const match = /(?<year>\d+)-(\d+)/.exec("on 2026-11")!;
  const decoded = roundTrip(match) as typeof match;
  assertEquals([...decoded], ["2026-11", "2026", "11"]);
  assertEquals(decoded.index, 3);
  assertEquals(decoded.input, "on 2026-11");
  assertEquals({ ...decoded.groups }, { year: "2026" });
  const strings =
    ((strings: TemplateStringsArray, _: number) => strings)`a${1}b`;
  assertEquals(roundTrip(strings), ["a", "b"]);
  assertEquals(Object.keys(roundTrip(strings) as object), ["0", "1"]);
});

test("msgpack.encode() writes arrays without fields as arrays", () => {
  const hidden = Object.defineProperty([1], "x", { value: 2 });
  const symbol = Object.assign([1], { [Symbol("s")]: 2 });
  for (const array of [[1], hidden, symbol, Object.freeze([1])]) {
    assertEquals(msgpack.encode(array), bytes(0x91, 0x01));
  }
});

test("msgpack.decode() gives a DataView back with the bytes that it shows", () => {
  const view = new DataView(new Uint8Array(NUMBERS).buffer, 3, 5);
  assertEquals(
    roundTrip(view),
    new DataView(new Uint8Array(NUMBERS.slice(3, 8)).buffer),
  );
});

test("msgpack.decode() gives a Buffer back as a Uint8Array", () => {
  const decoded = roundTrip(Buffer.from("hi"));
  assertEquals(decoded, bytes(0x68, 0x69));
  assertStrictEquals(Object.getPrototypeOf(decoded), Uint8Array.prototype);
});

test("msgpack.decode() keeps the order of a Map and of fields", () => {
  const map = new Map([["b", 1], ["a", 2], ["2", 3], ["1", 4]]);
  assertEquals([...roundTrip(map) as typeof map], [...map]);
  const keys = Object.keys(roundTrip({ b: 1, a: 2, c: 3 }) as object);
  assertEquals(keys, ["b", "a", "c"]);
});

test("msgpack.encode() takes leaves that repeat", () => {
  const date = new Date(1);
  const leaf = bytes(1);
  assertEquals(roundTrip([date, date, leaf, leaf, /a/, /a/]), [
    date,
    date,
    leaf,
    leaf,
    /a/,
    /a/,
  ]);
});

const ERRORS: [string, Error][] = [
  ["Error", new Error("plain")],
  ["EvalError", new EvalError("e")],
  ["RangeError", new RangeError("r")],
  ["ReferenceError", new ReferenceError("r")],
  ["SyntaxError", new SyntaxError("s")],
  ["TypeError", new TypeError("t")],
  ["URIError", new URIError("u")],
  ["AggregateError", new AggregateError([1, new TypeError("t")], "many")],
  ["SuppressedError", new SuppressedError(1, new Error("first"), "second")],
  ["DOMException", new DOMException("stopped", "AbortError")],
];

for (const [className, error] of ERRORS) {
  test(`msgpack.decode() gives back a ${className}`, () => {
    const decoded = roundTrip(error) as Error;
    assertStrictEquals(
      Object.getPrototypeOf(decoded),
      Object.getPrototypeOf(error),
    );
    assertStrictEquals(decoded.name, error.name);
    assertStrictEquals(decoded.message, error.message);
    assertStrictEquals(decoded.stack, error.stack);
    assertEquals(Object.keys(decoded), []);
    assert(!Object.hasOwn(decoded, "cause"));
  });
}

test("msgpack.decode() gives back causes, errors and fields", () => {
  class HttpError extends TypeError {
    override name = "HttpError";
    status = 503;
    headers = new Map([["retry-after", 5n]]);
  }
  const cause = new HttpError("busy", { cause: { attempt: 3 } });
  const error = new AggregateError([cause, "text"], "all failed", {
    cause: undefined,
  });
  const decoded = roundTrip({ error }) as { error: AggregateError };
  assertInstanceOf(decoded.error, AggregateError);
  assert(Object.hasOwn(decoded.error, "cause"));
  assertStrictEquals(decoded.error.cause, undefined);
  assertEquals(Object.keys(decoded.error), []);
  assertStrictEquals(decoded.error.errors[1], "text");
  const inner = decoded.error.errors[0];
  assertInstanceOf(inner, TypeError);
  assertStrictEquals(inner.name, "HttpError");
  assertEquals(inner.cause, { attempt: 3 });
  assertEquals({ ...inner }, { status: 503, headers: cause.headers });
  assertStrictEquals(inner.stack, cause.stack);
});

test("msgpack.decode() gives back the inner errors of a SuppressedError", () => {
  const decoded = roundTrip(new SuppressedError(1, [2], "m"));
  assertInstanceOf(decoded, SuppressedError);
  assertStrictEquals(decoded.error, 1);
  assertEquals(decoded.suppressed, [2]);
});

/** Encodes an error whose fields have other names than it can be made with. */
function encodeWithField(error: Error, name: string): Uint8Array {
  const placeholder = "#".repeat(name.length);
  const bytes = msgpack.encode(Object.assign(error, { [placeholder]: [7] }));
  const text = String.fromCharCode(...bytes).replace(placeholder, name);
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

test("msgpack.decode() ignores a field with the name of an error's part", () => {
  const cases: [() => Error, string[]][] = [
    [
      () => new Error("m", { cause: 1 }),
      ["name", "message", "stack", "cause"],
    ],
    [() => new AggregateError([1], "m"), ["message", "errors"]],
    [() => new SuppressedError(1, 2, "m"), ["error", "suppressed"]],
  ];
  for (const [make, names] of cases) {
    for (const name of names) {
      const error = make();
      const decoded = msgpack.decode(encodeWithField(error, name)) as Error;
      assertEquals(
        Reflect.get(decoded, name),
        Reflect.get(error, name),
        `${error.constructor.name}: ${name}`,
      );
      assertEquals(Object.keys(decoded), []);
    }
  }
  const decoded = msgpack.decode(encodeWithField(new Error("m"), "errors"));
  assertEquals({ ...decoded as Error }, { errors: [7] });
});

test("msgpack.encode() sends an enumerable part of an error once", () => {
  const error = new AggregateError([1], "m");
  const bytes = msgpack.encode(error);
  Object.defineProperty(error, "errors", { enumerable: true });
  assertEquals(msgpack.encode(error), bytes);
});

test("msgpack.decode() gives back an error without message or stack", () => {
  const error = new Error();
  error.stack = undefined as unknown as string;
  const decoded = roundTrip(error) as Error;
  assert(!Object.hasOwn(decoded, "message"));
  assertStrictEquals(decoded.stack, undefined);
});

test("msgpack.encode() writes the extensions that PROTOCOL.md lays out", () => {
  const error = new TypeError("m", { cause: 1 });
  error.stack = "s";
  const cases: [unknown, string][] = [
    [undefined, "c7-00-01"],
    [258n, "c7-03-02-00-01-02"],
    [0n, "d4-02-00"],
    [-1n, "d5-02-01-01"],
    [/a/g, "c9-00-00-00-04-03-a1-61-a1-67"],
    [new Map([[1, 2]]), "c9-00-00-00-03-04-92-01-02"],
    [new Set([1, 2]), "c9-00-00-00-03-05-92-01-02"],
    [bytes(1, 2).buffer, "d5-06-01-02"],
    [new Uint16Array([0x0102]), "c7-03-07-04-02-01"],
    [new Date(NaN), "c7-00-09"],
    ["\ud800", "d5-0a-00-d8"],
    [Object.assign([1], { a: 2 }), "c9-00-00-00-06-0b-91-01-81-a1-61-02"],
    // deno-lint-ignore no-sparse-arrays
    [[, 1, ,], "c9-00-00-00-0a-0b-93-c0-01-c0-80-94-00-01-02-01"],
    [Object("a"), "c9-00-00-00-02-0e-a1-61"],
    [new URL("a:b"), "c9-00-00-00-04-0f-01-61-3a-62"],
    [
      error,
      "c9-00-00-00-1d-08-97-a9-54-79-70-65-45-72-72-6f-72" +
      "-a9-54-79-70-65-45-72-72-6f-72-a1-6d-a1-73-91-01-90-80",
    ],
    [new Date(1000), "d6-ff-00-00-00-01"],
    [new Date(1), "d7-ff-00-3d-09-00-00-00-00-00"],
    [new Date(-1), "c7-0c-ff-3b-8b-87-c0-ff-ff-ff-ff-ff-ff-ff-ff"],
    [2 ** 32, "cf-00-00-00-01-00-00-00-00"],
    [-(2 ** 32), "d3-ff-ff-ff-ff-00-00-00-00"],
    [2n ** 63n, "cf-80-00-00-00-00-00-00-00"],
    [NaN, "cb-7f-f8-00-00-00-00-00-00"],
    [-0, "cb-80-00-00-00-00-00-00-00"],
  ];
  for (const [value, hex] of cases) {
    assertEquals(msgpack.encode(value), fromHex(hex), label(value));
  }
});

test("msgpack.encode() leaves out of error fields what has a place of its own", () => {
  const error = Object.assign(new Error("m"), { code: 1, name: "N" });
  const decoded = roundTrip(error) as Error;
  assertStrictEquals(decoded.name, "N");
  assertEquals(Object.keys(decoded), ["code"]);
});

/** What the peers carry as well; both drop a byte order mark. */
const PLAIN_VALUES = JSON_VALUES.filter((value) =>
  !JSON.stringify(value).includes("\\ud") &&
  !JSON.stringify(value).includes("\ufeff") &&
  !JSON.stringify(value).includes("__proto__")
);

test("msgpack.encode() writes what the peers read", () => {
  for (const value of [...PLAIN_VALUES, bytes(1, 2), -0, NaN, Infinity]) {
    const encoded = msgpack.encode(value);
    assertEquals(peerDecode(encoded), value);
    // The reference turns every 64-bit integer into a bigint.
    if (typeof value !== "number") assertEquals(stdDecode(encoded), value);
  }
  for (const time of [0, 1, 1e12 + 1, -1, 2 ** 34 * 1000]) {
    assertEquals(peerDecode(msgpack.encode(new Date(time))), new Date(time));
  }
});

test("msgpack.decode() reads what the peers write", () => {
  for (const value of [...PLAIN_VALUES, bytes(1, 2), -0, NaN, Infinity]) {
    if (!Object.is(value, -0)) {
      assertEquals(msgpack.decode(peerEncode(value)), value);
    }
    assertEquals(
      msgpack.decode(stdEncode(value as Parameters<typeof stdEncode>[0])),
      value,
    );
  }
  assertEquals(
    msgpack.decode(peerEncode([1.5], { forceFloat32: true })),
    [1.5],
  );
  for (const time of [0, 1, 1e12 + 1, -1, 2 ** 34 * 1000]) {
    assertEquals(msgpack.decode(peerEncode(new Date(time))), new Date(time));
  }
  assertThrows(
    () => msgpack.decode(peerEncode(new ExtData(77, bytes(1)))),
    ProtocolError,
    "extension type 77 is not known at byte 1",
  );
});

test("msgpack.encode() writes the same bytes as @msgpack/msgpack", () => {
  // The peer writes -0 as 0.
  for (const value of [...PLAIN_VALUES, bytes(1, 2), NaN, Infinity]) {
    assertEquals(msgpack.encode(value), peerEncode(value));
  }
});

interface SuiteCase {
  msgpack: string[];
  nil?: null;
  bool?: boolean;
  binary?: string;
  number?: number;
  bignum?: string;
  string?: string;
  array?: unknown[];
  map?: Record<string, unknown>;
  timestamp?: [seconds: number, nanoseconds: number];
  ext?: [type: number, hex: string];
}

/** What a case of the published suite stands for. */
function suiteValue(entry: SuiteCase): unknown {
  if (entry.binary !== undefined) return fromHex(entry.binary);
  if (entry.bignum !== undefined) {
    const value = BigInt(entry.bignum);
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }
  if (entry.timestamp) {
    const [seconds, nanoseconds] = entry.timestamp;
    return new Date(seconds * 1000 + Math.floor(nanoseconds / 1e6));
  }
  const { msgpack: _, ext: __, ...value } = entry;
  return Object.values(value)[0];
}

for (const [group, entries] of Object.entries(suite)) {
  if (group === "60.ext.yaml") continue;
  test(`msgpack.decode() passes ${group} of the published suite`, () => {
    for (const entry of entries as unknown as SuiteCase[]) {
      const value = suiteValue(entry);
      for (const hex of entry.msgpack) {
        const decoded = msgpack.decode(fromHex(hex));
        // A float that stands for a bigint is a number all the same.
        assertEquals(
          typeof value === "bigint" ? BigInt(decoded as bigint) : decoded,
          value,
          hex,
        );
      }
      // A Date has no nanoseconds.
      if (entry.timestamp && entry.timestamp[1] % 1e6) continue;
      const encoded = msgpack.encode(value);
      assert(entry.msgpack.some((hex) => equalBytes(encoded, fromHex(hex))));
    }
  });
}

function equalBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length &&
    left.every((byte, index) => byte === right[index]);
}

test("msgpack.decode() refuses the foreign extensions of the published suite", () => {
  for (const entry of suite["60.ext.yaml"] as unknown as SuiteCase[]) {
    const type = entry.ext![0];
    if (type >= 0x01 && type <= 0x0a) continue;
    for (const hex of entry.msgpack) {
      assertThrows(() => msgpack.decode(fromHex(hex)), ProtocolError);
    }
  }
});

test("msgpack.decode() reads every format of an integer", () => {
  const cases: [string, number | bigint][] = [
    ["cc-01", 1],
    ["cd-00-01", 1],
    ["ce-00-00-00-01", 1],
    ["cf-00-00-00-00-00-00-00-01", 1],
    ["d0-ff", -1],
    ["d1-ff-ff", -1],
    ["d2-ff-ff-ff-ff", -1],
    ["d3-ff-ff-ff-ff-ff-ff-ff-ff", -1],
    ["cf-00-1f-ff-ff-ff-ff-ff-ff", 2 ** 53 - 1],
    ["cf-00-20-00-00-00-00-00-00", 2n ** 53n],
    ["d3-ff-e0-00-00-00-00-00-01", -(2 ** 53) + 1],
    ["d3-ff-e0-00-00-00-00-00-00", -(2n ** 53n)],
    ["d3-80-00-00-00-00-00-00-00", -(2n ** 63n)],
    ["d3-7f-ff-ff-ff-ff-ff-ff-ff", 2n ** 63n - 1n],
    ["cf-ff-ff-ff-ff-ff-ff-ff-ff", 2n ** 64n - 1n],
  ];
  for (const [hex, value] of cases) {
    assertStrictEquals(msgpack.decode(fromHex(hex)), value, hex);
  }
});

test("msgpack.decode() makes a Map of a map with other keys than strings", () => {
  assertEquals(
    msgpack.decode(fromHex("83-a1-61-01-05-02-a1-62-03")),
    new Map<unknown, unknown>([["a", 1], [5, 2], ["b", 3]]),
  );
  assertEquals(msgpack.decode(fromHex("81-c0-01")), new Map([[null, 1]]));
});

test("msgpack.decode() takes the last of a key that repeats", () => {
  assertEquals(msgpack.decode(fromHex("82-a1-61-01-a1-61-02")), { a: 2 });
});

test("msgpack.decode() gives nothing that aliases its input", () => {
  const sizes = [1, 64, 100_000];
  const encoded = msgpack.encode([
    ...sizes.map((size) => new Uint8Array(size)),
    ...sizes.map((size) => new ArrayBuffer(size)),
    ...sizes.map((size) => new Int8Array(size)),
  ]);
  for (const input of [encoded, Buffer.from(encoded)]) {
    const decoded = msgpack.decode(input) as (ArrayBuffer | Uint8Array)[];
    input.fill(0xff);
    for (const value of decoded) {
      const view = value instanceof ArrayBuffer ? new Uint8Array(value) : value;
      assert(view.every((byte) => byte === 0));
      assertNotStrictEquals(view.buffer, input.buffer);
      assertStrictEquals(view.byteLength, view.buffer.byteLength);
    }
    input.set(encoded);
  }
});

test("msgpack.decodeOwned() gives views for large byte arrays only", () => {
  const encoded = msgpack.encode([new Uint8Array(100), new Uint8Array(70_000)]);
  const [small, large] = msgpack.decodeOwned(encoded) as Uint8Array[];
  assertNotStrictEquals(small!.buffer, encoded.buffer);
  assertStrictEquals(large!.buffer, encoded.buffer);
});

test("msgpack.encode() gives bytes of their own", () => {
  const first = msgpack.encode([1, 2, 3]);
  const copy = first.slice();
  msgpack.encode([4, 5, 6, 7]);
  assertEquals(first, copy);
  const large = msgpack.encode(new Uint8Array(100_000).fill(1));
  const largeCopy = large.slice();
  msgpack.encode(new Uint8Array(100_000).fill(2));
  assertEquals(large, largeCopy);
});

for (const codec of [msgpack, json]) {
  test(`${codec.name}.encodeInto() appends what encode() gives`, () => {
    const buffer = new ByteBuffer(1);
    const values = [1, "two", { three: [3, "größe".repeat(100)] }];
    const expected: number[] = [];
    for (const value of values) {
      codec.encodeInto(value, buffer);
      expected.push(...codec.encode(value));
    }
    assertEquals(buffer.toBytes(), bytes(...expected));
  });
}
