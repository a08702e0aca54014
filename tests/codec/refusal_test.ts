// Copyright 2026 the Duplex authors. MIT license.

/**
 * Messages that must not be sent: each is refused with an error that names the
 * path to what is at fault, and leaves nothing behind.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { MAX_ITEMS } from "../../_codec/message_cost.ts";
import { ByteBuffer } from "../../_base/byte_buffer.ts";
import { json, msgpack } from "./_fast.ts";
import { MAX_DEPTH } from "../../_codec/values.ts";

/** A test that needs no permission. */
function test(name: string, fn: () => void): void {
  Deno.test({ name, permissions: "none", fn });
}

/** The prototype of an object that holds no number. */
const TAGGED = {
  get [Symbol.toStringTag]() {
    return "Number";
  },
};

/** What both codecs refuse, and how the error names it. */
const REFUSED: [unknown, string][] = [
  [{ jobs: [0, 1, 2, { run() {} }] }, '"$.jobs[3].run" is a function, which'],
  [() => {}, '"$" is a function, which cannot be sent'],
  [class {}, '"$" is a function, which cannot be sent'],
  [{ "two words": Symbol("s") }, '"$["two words"]" is a symbol, which cannot'],
  [[Promise.resolve()], '"$[0]" is a Promise, which cannot be sent'],
  [{ a: new WeakMap() }, '"$.a" is a WeakMap, which cannot be sent'],
  [{ a: new WeakRef({}) }, '"$.a" is a WeakRef, which cannot be sent'],
  [[Object(Symbol())], '"$[0]" is a Symbol, which cannot be sent'],
  [[Object.create(TAGGED)], '"$[0]" is a Number, which cannot be sent'],
  [[new Headers()], '"$[0]" is a Headers, which cannot be sent'],
  [[new AbortController()], '"$[0]" is an AbortController, which cannot be'],
  [[new SharedArrayBuffer(1)], '"$[0]" is a SharedArrayBuffer, which cannot'],
  [
    [new Uint8Array(new SharedArrayBuffer(1))],
    '"$[0]" is a view of a SharedArrayBuffer, which cannot be sent as bytes',
  ],
  [
    [new DataView(new SharedArrayBuffer(1))],
    '"$[0]" is a view of a SharedArrayBuffer',
  ],
  [[givenAway(1).buffer], '"$[0]" is a detached ArrayBuffer'],
  [[givenAway(1)], '"$[0]" is a view of a detached ArrayBuffer'],
  ...outOfBounds().map((view): [unknown, string] => [
    { a: [view] },
    '"$.a[0]" is a view beyond the end of a resized ArrayBuffer',
  ]),
];

/** Views beyond the end of a buffer that was made smaller. */
function outOfBounds(): ArrayBufferView[] {
  const buffer = new ArrayBuffer(16, { maxByteLength: 16 });
  const views = [
    new Uint8Array(buffer, 8, 8),
    new Float32Array(buffer, 8, 1),
    new BigInt64Array(buffer, 8),
    new DataView(buffer, 8, 8),
    new DataView(buffer, 8),
  ];
  buffer.resize(4);
  return views;
}

/** A view of an `ArrayBuffer` that was transferred. */
function givenAway(size: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  bytes.buffer.transfer();
  return bytes;
}

for (const codec of [msgpack, json]) {
  test(`${codec.name}.encode() names the path to what cannot be sent`, () => {
    for (const [value, text] of REFUSED) {
      const buffer = new ByteBuffer(4);
      codec.encodeInto(1, buffer);
      const { message } = assertThrows(
        () => codec.encodeInto(value, buffer),
        TypeError,
      );
      assert(
        message.startsWith(`Cannot encode a message: the value at ${text}`),
        message,
      );
      assertStrictEquals(buffer.length, 1);
      assertThrows(() => codec.encode(value), TypeError, message);
    }
  });

  test(`${codec.name}.encode() lets the error of a getter through`, () => {
    const buffer = new ByteBuffer(4);
    const error = new Error("from the getter");
    const message = {
      text: "x".repeat(100),
      get bad() {
        throw error;
      },
    };
    const thrown = assertThrows(() => codec.encodeInto(message, buffer));
    assertStrictEquals(thrown, error);
    assertStrictEquals(buffer.length, 0);
  });

  test(`${codec.name}.encode() bears a getter that encodes`, () => {
    const inner: Uint8Array[] = [];
    const message = {
      before: 1,
      get nested() {
        inner.push(codec.encode({ other: "message", list: [[1], [2]] }));
        return ["value"];
      },
      after: { list: [1] },
    };
    const decoded = codec.decode(codec.encode(message));
    assertEquals(decoded, {
      before: 1,
      nested: ["value"],
      after: { list: [1] },
    });
    for (const bytes of inner) {
      assertEquals(codec.decode(bytes), {
        other: "message",
        list: [[1], [2]],
      });
    }
  });
}

/** Objects whose methods throw, as they are of another class than they appear. */
const IMPOSTORS: readonly object[] = [
  new Proxy(new Map(), {}),
  new Proxy(new Set(), {}),
  new Proxy(new Date(), {}),
  new Proxy(/a/, {}),
  new Proxy(new ArrayBuffer(1), {}),
  new Proxy(new Uint8Array(1), {}),
  Object.create(Map.prototype),
];

test("msgpack.encode() names the path to a proxy of a built-in object", () => {
  for (const value of IMPOSTORS) {
    const buffer = new ByteBuffer(4);
    const { message } = assertThrows(
      () => msgpack.encodeInto({ list: [1, value] }, buffer),
      TypeError,
      'Cannot encode a message: the value at "$.list[1]" is a proxy of a ' +
        "built-in object, or an object that only inherits from",
    );
    assertStrictEquals(buffer.length, 0);
    assertThrows(() => msgpack.encode([[value]]), TypeError, '"$[0][0]" is a');
    assert(!message.includes("incompatible receiver"), message);
  }
});

test("json.encode() names the path to a proxy of an ArrayBuffer", () => {
  assertThrows(
    () => json.encode({ a: new Proxy(new ArrayBuffer(1), {}) }),
    TypeError,
    'the value at "$.a" is a proxy of a built-in object',
  );
});

test("msgpack.encode() lets the TypeError of a getter through", () => {
  const error = new TypeError("from the getter");
  const message = {
    get bad() {
      throw error;
    },
  };
  assertStrictEquals(assertThrows(() => msgpack.encode(message)), error);
});

test("msgpack.encode() refuses an array longer than a receiver reads", () => {
  // Without items it takes no memory, and what it is sent as is far too long.
  const list = new Array(MAX_ITEMS + 1);
  const count = `${MAX_ITEMS + 1} items, which is more than ${MAX_ITEMS}`;
  assertThrows(
    () => msgpack.encode({ list }),
    TypeError,
    `the value at "$.list" is an array of ${count}`,
  );
  const error = new AggregateError([], "m");
  error.errors = list;
  assertThrows(
    () => msgpack.encode([error]),
    TypeError,
    `the value at "$[0]" is an error with an array of ${count}`,
  );
});

test("msgpack.encode() names paths through maps, sets and errors", () => {
  const bad = () => {};
  const cases: [unknown, string][] = [
    [{ m: new Map<unknown, unknown>([["a b", [bad]]]) }, '$.m.get("a b")[0]'],
    [new Map<unknown, unknown>([[1, bad]]), "$.get(1)"],
    [new Map<unknown, unknown>([[{}, bad]]), "$.get(…)"],
    [new Map<unknown, unknown>([[1, 1], [bad, 1]]), "$.keys()[1]"],
    [new Set([0, bad]), "$.values()[1]"],
    [new Error("m", { cause: [bad] }), "$.cause[0]"],
    [new AggregateError([0, bad]), "$.errors[1]"],
    [Object.assign(new Error("m"), { extra: bad }), "$.extra"],
    [[Object.assign([1], { run: bad })], "$[0].run"],
    [Object.assign([1], { "b c": [bad] }), '$["b c"][0]'],
  ];
  for (const [value, path] of cases) {
    assertThrows(
      () => msgpack.encode(value),
      TypeError,
      `the value at "${path}" is a function`,
    );
  }
});

test("msgpack.encode() refuses to write into a buffer that is being written", () => {
  const buffer = new ByteBuffer(16);
  const other = new ByteBuffer(16);
  const message = {
    get outer() {
      msgpack.encodeInto({
        get inner() {
          msgpack.encodeInto(1, buffer);
          return 1;
        },
      }, other);
      return 1;
    },
  };
  assertThrows(
    () => msgpack.encodeInto(message, buffer),
    TypeError,
    "a getter in another message encodes into the same buffer",
  );
  assertStrictEquals(buffer.length, 0);
  msgpack.encodeInto(7, buffer);
  assertEquals(msgpack.decode(buffer.toBytes()), 7);
});

test("msgpack.encode() refuses a map that grows while it is encoded", () => {
  const map = new Map<unknown, unknown>();
  map.set(0, {
    get more() {
      return map.set(map.size, 1).size;
    },
  });
  assertThrows(() => msgpack.encode(map), TypeError, "changed while");
});

test("msgpack.encode() walks a message once", () => {
  let reads = 0;
  const item = () => ({
    get read() {
      return ++reads;
    },
  });
  const count = 10_000;
  msgpack.encode(Array.from({ length: count }, () => [[item()]]));
  assertStrictEquals(reads, count);
});

test("msgpack.encode() keeps a path short", () => {
  let nested: unknown[] = [];
  for (let level = 0; level < MAX_DEPTH; level++) nested = [nested];
  const { message } = assertThrows(
    () => msgpack.encode(nested),
    TypeError,
  );
  assertLess(message.length, 400);
  assertGreater(message.length, 200);
});

test("json.encode() refuses what JSON would drop or change", () => {
  const cases: [unknown, string][] = [
    [undefined, '"$" is undefined'],
    [{ a: undefined }, '"$.a" is undefined'],
    // deno-lint-ignore no-sparse-arrays
    [[1, , 3], '"$[1]" is undefined'],
    [[NaN], '"$[0]" is NaN'],
    [{ a: -Infinity }, '"$.a" is -Infinity'],
    [[1n], '"$[0]" is a bigint'],
    [{ a: Object.assign([1], { x: 2 }) }, '"$.a" is an array with fields'],
    [
      [/a/.exec("a")],
      '"$[0]" is an array with fields in addition to its items',
    ],
    [Object.assign(Array(9).fill(1), { x: 2 }), '"$" is an array with fields'],
    [{ at: new Date(0) }, '"$.at" is of the class Date'],
    [[new Map()], '"$[0]" is of the class Map'],
    [[new Set()], '"$[0]" is of the class Set'],
    [[/a/], '"$[0]" is of the class RegExp'],
    [[new Error("m")], '"$[0]" is of the class Error'],
    [new Uint8Array(1), '"$" is of the class Uint8Array'],
    [[new ArrayBuffer(1)], '"$[0]" is of the class ArrayBuffer'],
    [
      [
        new class {
          toJSON() {
            return 1;
          }
        }(),
      ],
      '"$[0]" is an object with a method "toJSON"',
    ],
  ];
  for (const [value, text] of cases) {
    const { message } = assertThrows(() => json.encode(value), TypeError);
    assert(message.includes(`the value at ${text}`), message);
    assert(message.includes("JSON"), message);
  }
});
