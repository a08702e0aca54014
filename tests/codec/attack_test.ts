// Copyright 2026 the Duplex authors. MIT license.

/**
 * Untrusted bytes: each message is a value or a `ProtocolError`, in time
 * and memory that follow the bytes received.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertLess,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { json, msgpack } from "./_fast.ts";
import type { Codec } from "../../codec.ts";
import { ProtocolError } from "../../_base/errors.ts";
import { MAX_DEPTH } from "../../_codec/values.ts";
import { random } from "../_seed.ts";

/** A test that needs no permission. */
function test(name: string, fn: () => void): void {
  Deno.test({ name, permissions: "none", fn });
}

function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromHex(hex.replaceAll(" ", ""));
}

/** Asserts that bytes are refused with an error of the documented form. */
function assertRefused(
  bytes: Uint8Array,
  includes: string,
  codec: Codec = msgpack,
): ProtocolError {
  const error = assertThrows(() => codec.decode(bytes), ProtocolError);
  assert(error.message.startsWith("Cannot decode a message: "), error.message);
  assert(error.message.includes(includes), error.message);
  return error;
}

/** A message that has one of everything. */
const EVERYTHING = {
  ints: [0, -1, 200, -200, 70_000, -70_000, 2 ** 40, -(2 ** 40), 1.5],
  bigints: [1n, 2n ** 63n, -(2n ** 80n)],
  texts: ["", "a", "größe", "x".repeat(300), "\ud800"],
  nothing: [null, undefined, true, false],
  dates: [new Date(0), new Date(1), new Date(-1), new Date(NaN)],
  regexp: /a+/gi,
  map: new Map<unknown, unknown>([[1, new Map()], ["a", [new Set([1n])]]]),
  bytes: [new Uint8Array(3), new ArrayBuffer(300), new Float64Array(2)],
  view: new DataView(new ArrayBuffer(2)),
  error: new AggregateError([new TypeError("t")], "m", { cause: { a: 1 } }),
};

test("msgpack.decode() takes no more memory for keys that look like indexes", () => {
  const count = 100_000;
  const one = fromHex("81 a4 31 30 32 33 c0");
  const bytes = new Uint8Array(5 + one.length * count);
  bytes[0] = 0xdd;
  new DataView(bytes.buffer).setUint32(1, count);
  for (let index = 0; index < count; index++) {
    bytes.set(one, 5 + index * one.length);
  }
  const before = Deno.memoryUsage().heapUsed;
  const records = msgpack.decode(bytes) as unknown[];
  // An array of 1023 holes for each of them would be 800 MB.
  assertLess(Deno.memoryUsage().heapUsed - before, 200 * 2 ** 20);
  assertEquals(records.at(-1), { 1023: null });
});

test("msgpack.decode() refuses more objects than memory holds", () => {
  const count = 2 ** 23 + 1;
  const bytes = new Uint8Array(5 + count).fill(0x80);
  bytes[0] = 0xdd;
  new DataView(bytes.buffer).setUint32(1, count);
  assertRefused(bytes, "takes too much memory for its size");
});

/** Containers in each other, of a given depth. */
function nest(depth: number, wrap: (inner: unknown) => unknown): unknown {
  let value: unknown = 0;
  for (let level = 0; level < depth; level++) value = wrap(value);
  return value;
}

const WRAPPERS: Record<string, (inner: unknown) => unknown> = {
  array: (inner) => [inner],
  object: (inner) => ({ inner }),
  map: (inner) => new Map([[1, inner]]),
  set: (inner) => new Set([inner]),
  error: (cause) => new Error("m", { cause }),
};

/** The fault, the bytes, what the error says. */
const FAULTS: [string, string, string][] = [
  ["nothing", "", "a length of 1 exceeds the remaining 0 at byte 0"],
  ["0xc1", "c1", "0xc1 is not a format at byte 0"],
  ["0xc1 within", "92 01 c1", "0xc1 is not a format at byte 2"],
  ["a byte too many", "01 02", "bytes follow the message at byte 1"],
  ["a short string", "a3 61 62", "a length of 3 exceeds the remaining 2"],
  ["a short key", "81 a3 61", "a length of 3 exceeds the remaining 1"],
  ["a string of 4 GiB", "db ff ff ff ff 61", "a length of 4294967295"],
  ["bytes of 4 GiB", "c6 ff ff ff ff 61", "a length of 4294967295"],
  ["an array of 4 G", "dd ff ff ff ff 01", "a count of 4294967295"],
  ["a map of 4 G", "df ff ff ff ff 01 01", "a count of 4294967295"],
  ["a map of half", "82 01 02 03", "a count of 2 exceeds what the remaining 3"],
  ["an extension of 4 GiB", "c9 ff ff ff ff 06", "a length of 4294967295"],
  ["a set of 4 G", "c7 05 05 dd ff ff ff ff", "a count of 4294967295"],
  [
    "a map extension of 4 G",
    "c7 05 04 dd ff ff ff fe",
    "a count of 4294967294",
  ],
  ["an unknown extension", "d4 10 00", "extension type 16 is not known"],
  ["extension type 0", "d4 00 00", "extension type 0 is not known"],
  ["a negative extension type", "d4 fe 00", "extension type -2 is not known"],
  ["invalid UTF-8", "a2 c3 28", "a string is not valid UTF-8 at byte 1"],
  ["an encoded surrogate", "a3 ed a0 80", "a string is not valid UTF-8"],
  ["an overlong character", "a2 c0 80", "a string is not valid UTF-8"],
  ["UTF-8 cut off", "a1 c3", "a string is not valid UTF-8"],
  ["invalid UTF-8 in a key", "81 a1 ff 01", "a string is not valid UTF-8"],
  ["undefined with a payload", "d4 01 00", "has no payload"],
  ["an invalid Date with a payload", "d4 09 00", "has no payload"],
  ["a bigint of nothing", "c7 00 02", "a bigint is malformed"],
  ["a bigint with another sign", "d5 02 02 01", "a bigint is malformed"],
  ["a map with half an entry", "d5 04 91 01", "a key without a value"],
  ["a map that is no array", "d4 04 01", "an array is missing at byte 2"],
  ["a set that is no array", "d4 05 80", "an array is missing"],
  ["a set that ends early", "d5 05 92 01", "a count of 2 exceeds what"],
  [
    "a set with more behind",
    "c7 03 05 91 01 02",
    "is longer than what it holds",
  ],
  [
    "a set whose string leaves it",
    "92 d5 05 91 a3 61 62",
    "a length of 3 exceeds the remaining 0",
  ],
  ["a regular expression of numbers", "d5 03 01 02", "a string is missing"],
  [
    "an invalid regular expression",
    "d6 03 a1 28 a1 67",
    "a regular expression is malformed",
  ],
  [
    "invalid flags",
    "d6 03 a1 61 a1 7a",
    "a regular expression is malformed",
  ],
  ["a view of no kind", "c7 00 07", "a view has no known kind"],
  ["a view of kind 0", "d4 07 00", "a view has no known kind"],
  ["a view of kind 13", "d4 07 0d", "a view has no known kind"],
  ["half an element", "d5 07 03 00", "ends within an element"],
  ["UTF-16 of odd size", "d4 0a 00", "a string is malformed"],
  ["a timestamp of no size", "c7 00 ff", "a timestamp is malformed"],
  ["a timestamp of 3 bytes", "c7 03 ff 00 00 00", "a timestamp is malformed"],
  [
    "too many nanoseconds",
    "d7 ff ff ff ff ff 00 00 00 00",
    "a timestamp is malformed",
  ],
  [
    "a time beyond a Date",
    "c7 0c ff 00 00 00 00 7f ff ff ff ff ff ff ff",
    "a timestamp is malformed",
  ],
  ["an error of one part", "d5 08 91 c0", "an error must have seven parts"],
  [
    "an error with two causes",
    "c7 0a 08 97 a0 a0 c0 c0 92 01 02 90 80",
    "an error has more than one cause",
  ],
  [
    "an error without fields",
    "d7 08 97 a0 a0 c0 c0 90 90 01",
    "an error has no fields",
  ],
  [
    "an error with a message of bytes",
    "c7 09 08 97 a0 a0 c4 00 c0 90 90 80",
    "a string is missing",
  ],
  ["an array extension of an object", "d4 0b 80", "an array is missing"],
  ["an array extension without fields", "d5 0b 91 01", "a length of 1 exceeds"],
  ["an array with fields that are none", "d5 0b 90 01", "has no fields"],
  ["half a range of missing items", "c7 04 0b 90 80 91 00", "not ranges of it"],
  [
    "missing items beyond an array",
    "d8 0b 91 c0 80 92 00 02 00 00 00 00 00 00 00 00 00 00",
    "not ranges of it",
  ],
  [
    "missing items out of order",
    "c7 09 0b 92 c0 c0 80 94 01 01 00 01",
    "not ranges of it",
  ],
  [
    "a range of floats",
    "c7 0e 0b 91 c0 80 92 cb 3f e0 00 00 00 00 00 00 01",
    "not ranges of it",
  ],
  ["a range of no items", "c7 06 0b 91 c0 80 92 00 00", "not ranges of it"],
  ["a boxed nil", "d4 0e c0", "an object has no primitive value"],
  ["a boxed array", "d4 0e 90", "an object has no primitive value"],
  ["a text of no class", "c7 00 0f", "a text has no class that is known here"],
  ["a text of class 0", "d4 0f 00", "a text has no class that is known here"],
  ["a text of class 10", "d4 0f 0a", "a text has no class that is known here"],
  ["a text of no URL", "d5 0f 01 61", "a URL is malformed at byte 2"],
  ["another text of a URL", "d6 0f 01 41 3a 62", "a URL is malformed"],
  ["a text that is not UTF-8", "d5 0f 01 ff", "a string is not valid UTF-8"],
  ["a text of no time", "d5 0f 05 31", "a Temporal.PlainTime is malformed"],
  [
    "a text of 257 characters",
    `c8 01 02 0f 09 ${"30".repeat(257)}`,
    "a Temporal.Duration is longer than 256 at byte 4",
  ],
  [
    "another text of a time",
    "c7 06 0f 05 31 32 3a 30 30",
    "a Temporal.PlainTime is malformed",
  ],
  [
    "a month without its day",
    "d7 0f 07 32 30 32 30 2d 30 31",
    "a Temporal.PlainYearMonth is malformed",
  ],
  ["a box of nothing", "c7 00 0e", "exceeds the remaining 0"],
  [
    "an array with an item as a field",
    "c7 05 0b 90 81 a1 30 01",
    "has an index or its length as a field",
  ],
  [
    "an array with its length as a field",
    "c7 0a 0b 90 81 a6 6c 65 6e 67 74 68 01",
    "has an index or its length as a field",
  ],
];

for (const [fault, hex, includes] of FAULTS) {
  test(`msgpack.decode() refuses ${fault}`, () => {
    assertRefused(fromHex(hex), includes);
    assertThrows(() => msgpack.decodeOwned(fromHex(hex)), ProtocolError);
  });
}

test("msgpack.decode() keeps the cause of a refusal", () => {
  const { cause: text } = assertRefused(fromHex("a1 ff"), "UTF-8");
  assertInstanceOf(text, TypeError);
  const { cause: regexp } = assertRefused(fromHex("d6 03 a1 28 a1 67"), "");
  assertInstanceOf(regexp, SyntaxError);
});

test("msgpack.decode() refuses every truncation", () => {
  const encoded = msgpack.encode(EVERYTHING);
  for (let length = 0; length < encoded.length; length++) {
    assertRefused(encoded.subarray(0, length), " at byte ");
  }
});

test("msgpack.decode() gives a value or a ProtocolError for damaged bytes", () => {
  const intact = msgpack.encode(EVERYTHING);
  const next = random(1);
  for (let round = 0; round < 20_000; round++) {
    const bytes = intact.slice();
    const flips = 1 + Math.floor(next() * 4);
    for (let flip = 0; flip < flips; flip++) {
      const bit = Math.floor(next() * bytes.length * 8);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
    assertValueOrProtocolError(bytes);
  }
});

test("msgpack.decode() gives a value or a ProtocolError for random bytes", () => {
  const next = random(2);
  for (let round = 0; round < 50_000; round++) {
    const bytes = Uint8Array.from(
      { length: Math.floor(next() * 64) },
      () => next() * 256,
    );
    // Formats that hold others come first, as chance would not have it.
    if (bytes.length > 0) bytes[0] = 0x80 + (bytes[0]! & 0x5f);
    assertValueOrProtocolError(bytes);
  }
});

function assertValueOrProtocolError(bytes: Uint8Array): void {
  try {
    msgpack.decode(bytes);
  } catch (error) {
    if (error instanceof ProtocolError) return;
    throw new Error(`${bytes.toHex()} gives another error`, { cause: error });
  }
}

for (const [kind, header] of [["arrays", "91"], ["maps", "81a161"]] as const) {
  test(`msgpack.decode() refuses a million nested ${kind}`, () => {
    const unit = fromHex(header);
    const bytes = new Uint8Array(unit.length * 1_000_000 + 1);
    for (let at = 0; at < bytes.length - 1; at += unit.length) {
      bytes.set(unit, at);
    }
    assertRefused(bytes, `more than ${MAX_DEPTH} containers are nested`);
  });
}

test("json.decode() refuses a million nested arrays", () => {
  const text = "[".repeat(1_000_000) + "]".repeat(1_000_000);
  assertRefused(new TextEncoder().encode(text), "are nested", json);
});

for (const [kind, wrap] of Object.entries(WRAPPERS)) {
  test(`msgpack.encode() and decode() agree on the depth of a ${kind}`, () => {
    const deepest = msgpack.encode(nest(MAX_DEPTH, wrap));
    msgpack.decode(deepest);
    assertThrows(
      () => msgpack.encode(nest(MAX_DEPTH + 1, wrap)),
      TypeError,
      "is nested too deep",
    );
    // One more around it: an array of one.
    const deeper = new Uint8Array(deepest.length + 1);
    deeper[0] = 0x91;
    deeper.set(deepest, 1);
    assertRefused(deeper, "containers are nested");
  });
}

test("json.encode() and decode() agree on the depth", () => {
  const deepest = json.encode(nest(MAX_DEPTH, (inner) => [inner]));
  json.decode(deepest);
  assertThrows(
    () => json.encode(nest(MAX_DEPTH + 1, (inner) => ({ inner }))),
    TypeError,
    "is nested too deep",
  );
  const padded = `["]\\"[",${"[".repeat(MAX_DEPTH)}"${"x".repeat(2000)}"`;
  const text = `${padded}${"]".repeat(MAX_DEPTH + 1)}`;
  assertRefused(new TextEncoder().encode(text), "are nested", json);
  const quoted = JSON.stringify(["[{".repeat(2000), '\\"[[{'.repeat(2000)]);
  assertEquals(
    json.decode(new TextEncoder().encode(quoted)),
    JSON.parse(quoted),
  );
});

test("msgpack.decode() sets nothing aside for counts that lie", () => {
  // Each level announces as many items as bytes remain.
  const size = 8 * 1024 * 1024;
  const bytes = new Uint8Array(size).fill(0xc1);
  const view = new DataView(bytes.buffer);
  for (let level = 0; level < MAX_DEPTH - 1; level++) {
    bytes[level * 5] = 0xdd;
    view.setUint32(level * 5 + 1, size - level * 5 - 5);
  }
  const before = Deno.memoryUsage();
  assertRefused(bytes, "takes too much memory for its size");
  const after = Deno.memoryUsage();
  assertLess(
    after.heapTotal + after.external - before.heapTotal - before.external,
    size,
  );
});

test("msgpack.decode() touches no prototype", () => {
  const text = '{"__proto__":{"polluted":1},"constructor":{"prototype":' +
    '{"polluted":1}},"toString":1,"hasOwnProperty":2}';
  const message = JSON.parse(text);
  const error = Object.defineProperty(new Error("m"), "__proto__", {
    value: { polluted: 1 },
    enumerable: true,
  });
  for (const codec of [msgpack, json]) {
    const decoded = codec.decode(codec.encode(message)) as object;
    assertStrictEquals(JSON.stringify(decoded), text);
    assertStrictEquals(Object.getPrototypeOf(decoded), Object.prototype);
    assert(Object.hasOwn(decoded, "__proto__"));
  }
  const decoded = msgpack.decode(msgpack.encode(error)) as Error;
  assertStrictEquals(Object.getPrototypeOf(decoded), Error.prototype);
  assert(!("polluted" in {}));
  assert(!("polluted" in decoded));
});

test("msgpack.decode() cannot be led astray by keys read before", () => {
  // Keys with the same first, middle and last characters and length, which is
  // all that their place among the remembered ones depends on.
  const keys = Array.from(
    { length: 26 },
    (_, index) => `a${String.fromCharCode(97 + index)}xx${index % 10}b`,
  );
  for (let round = 0; round < 3; round++) {
    const message = Object.fromEntries(keys.map((key, at) => [key, at]));
    assertEquals(msgpack.decode(msgpack.encode(message)), message);
    for (const key of keys) {
      assertEquals(msgpack.decode(msgpack.encode({ [key]: 1 })), { [key]: 1 });
    }
    assertEquals(msgpack.decode(msgpack.encode({ axxé: 1 })), { axxé: 1 });
    assertEquals(msgpack.decode(fromHex("81 a0 01")), { "": 1 });
  }
});

test("msgpack.decode() makes few error stacks of its own", () => {
  // Each error is read with the stack that it was sent with, and no other.
  const errors = Array.from({ length: 100 }, () => new Error("m"));
  for (const error of errors) error.stack = "none";
  const decoded = msgpack.decode(msgpack.encode(errors)) as Error[];
  assert(decoded.every(({ stack }) => stack === "none"));
});

/** A text that is one array of values, of some size. */
function jsonArray(size: number, make: (index: number) => string): Uint8Array {
  const values: string[] = [];
  for (let length = 0; length < size; length += values.at(-1)!.length + 1) {
    values.push(make(values.length));
  }
  return new TextEncoder().encode(`[${values.join()}]`);
}

test("json.decode() refuses more values than memory holds", () => {
  const size = 17 * 2 ** 20;
  const cases: [string, number, (index: number) => string][] = [
    ["empty objects", size, () => "{}"],
    ["objects of one field", 2 * size, () => '{"a":1}'],
    ["empty arrays", size, () => "[]"],
    ["nested arrays", size, () => "[".repeat(400) + "]".repeat(400)],
    ["numbers", 2 * size, () => "1"],
    ["fields of their own", size, (index) => `{"${index.toString(36)}":1}`],
    ["escaped fields", size, (index) => `{"\\u0061${index % 9}${index}":1}`],
  ];
  for (const [what, length, make] of cases) {
    const error = assertThrows(
      () => json.decode(jsonArray(length, make)),
      ProtocolError,
      "Cannot decode a message: it takes too much memory for its size",
      what,
    );
    assertStrictEquals(error.cause, undefined);
  }
});

test("json.decode() takes large texts that programs send", () => {
  const lines = Array.from({ length: 60_000 }, (_, id) => ({
    id,
    time: "2026-11-23T06:59:25.123Z",
    text: `the "${id}" \\ größe {[,:]}`,
    tags: ["a", "b"],
    size: { width: 1.5, height: id },
    ok: true,
  }));
  const table = Object.fromEntries(
    Array.from({ length: 100_000 }, (_, at) => [`name ${at}`, { at }]),
  );
  for (const message of [lines, table, "x".repeat(5_000_000)]) {
    assertEquals(json.decode(json.encode(message)), message);
  }
});

test("json.decode() refuses what is no JSON text", () => {
  const encoder = new TextEncoder();
  for (const text of ["", "[1", "{]", "undefined", "1 2", "\ufeff1"]) {
    const error = assertRefused(encoder.encode(text), "not valid JSON", json);
    assertInstanceOf(error.cause, SyntaxError);
  }
  const bad = fromHex("22 ff 22");
  assertInstanceOf(assertRefused(bad, "UTF-8", json).cause, TypeError);
  const encoded = json.encode({ a: [1, "größe", { b: null }] });
  for (let length = 0; length < encoded.length; length++) {
    assertRefused(encoded.subarray(0, length), "is not valid", json);
  }
});
