// Copyright 2026 the Duplex authors. MIT license.

/**
 * Values of every kind as MessagePack and as JSON, for tests of what a message
 * of one kind alone costs its receiver. Run as a program, it decodes a message
 * from its standard input and prints what that took.
 *
 * @module
 */

import { TEMPORAL } from "./_value_rows.ts";
import { json, msgpack } from "./_fast.ts";
import { costOfJson } from "../../_codec/json_scan.ts";
import { measureMsgpack } from "../../_codec/msgpack_decode.ts";

/** The bytes of the value with a number, which may differ from its neighbours. */
export type Make = (index: number) => Uint8Array;

function fromHex(hex: string): Uint8Array {
  return Uint8Array.fromHex(hex.replaceAll(" ", ""));
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(
    parts.reduce((sum, part) => sum + part.length, 0),
  );
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** The same bytes for each value. */
function same(hex: string): Make {
  const bytes = fromHex(hex);
  return () => bytes;
}

/** The same value each time, as the codec writes it. */
function value(value: unknown): Make {
  const bytes = msgpack.encode(value);
  return () => bytes;
}

/** A value of its own for each number. */
function each(make: (index: number) => unknown): Make {
  return (index) => msgpack.encode(make(index));
}

/** An extension around what the codec writes for several values. */
function extension(type: number, ...parts: Uint8Array[]): Uint8Array {
  const payload = concat(parts);
  const header = new Uint8Array(6);
  header[0] = 0xc9;
  new DataView(header.buffer).setUint32(1, payload.length);
  header[5] = type;
  return concat([header, payload]);
}

/** The header of a container with a 32-bit count. */
export function header(format: number, count: number): Uint8Array {
  const bytes = new Uint8Array(5);
  bytes[0] = format;
  new DataView(bytes.buffer).setUint32(1, count);
  return bytes;
}

/** A word that no other number has. It does not begin with a digit. */
function word(index: number): string {
  return `k${(index * 7919 + 50_000).toString(36)}`;
}

/** An object with so many fields, the same ones each time. */
function record(count: number, value: unknown = 1): Record<string, unknown> {
  return Object.fromEntries(
    Array.from({ length: count }, (_, at) => [`f${at}`, value]),
  );
}

/** An object with so many fields out of a thousand for each of them. */
function shape(count: number, index: number): Record<string, number> {
  let state = index * 2_654_435_761 >>> 0;
  const entries = Array.from({ length: count }, (_, at) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return [`k${(state >>> 8) % 1000}.${at}`, 1];
  });
  return Object.fromEntries(entries);
}

function nest(wrap: (inner: unknown) => unknown): unknown {
  let value: unknown = 0;
  for (let level = 0; level < 400; level++) value = wrap(value);
  return value;
}

const ERRORS: Error[] = [
  new Error(),
  new TypeError("m", { cause: 1 }),
  Object.assign(new RangeError("m"), { a: 1, b: 2 }),
  new AggregateError([1, 2], "m"),
  new SuppressedError(1, 2, "m"),
  new DOMException("m", "AbortError"),
];

const VIEW_CLASSES: (new (buffer: ArrayBuffer) => ArrayBufferView)[] = [
  Int8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
  DataView,
];

/** A view of no bytes and one of 8, of each class. */
const VIEWS = VIEW_CLASSES.map((constructor) =>
  [0, 8].map((size) => msgpack.encode(new constructor(new ArrayBuffer(size))))
);

/** A message that is an array of values of one kind. */
export const MSGPACK_KINDS: Record<string, Make> = {
  "nil": same("c0"),
  "an integer of 32 bits": same("ce ff 01 02 03"),
  "an integer beyond a number": same("cf ff 01 02 03 04 05 06 07"),
  "a float of 32 bits": same("ca 3f 8f 00 00"),
  "a float among others": (index) =>
    index % 1000 === 999 ? fromHex("c0") : msgpack.encode(index + 0.5),
  "an empty string": same("a0"),
  "a string of two characters": each((index) => word(index).slice(-2)),
  "a string of 30 characters": each((index) => word(index).padStart(30)),
  "a string of 60 characters": each((index) => word(index).padStart(60)),
  "a short string beyond ASCII": each((index) => `中${index % 10}`),
  "a string with one character beyond Latin": each((index) =>
    word(index).padEnd(60, "中a".slice(index % 2, 1 + index % 2))
  ),
  "a long string with U+FFFD": value(`\ufffd${"x".repeat(60)}`),
  "a string in UTF-16": value("\ud800 alone"),
  "an empty string in UTF-16": same("c7 00 0a"),
  "no bytes": same("c4 00"),
  "64 bytes": value(new Uint8Array(64)),
  "an empty array": same("90"),
  "an array of 1": same("91 c0"),
  "an array of 4 floats": value([0.5, 1.5, 2.5, 3.5]),
  "an array of 5": same("95 c0 c0 c0 c0 c0"),
  "an array of 18": value(new Array(18).fill(null)),
  "400 nested arrays": value(nest((inner) => [inner])),
  "an array with a field": value(Object.assign([1], { index: 0, input: "a" })),
  "an empty object": same("80"),
  "an object of 1": value({ a: 1 }),
  "an object of a float": value({ a: 0.5 }),
  "an object of 5": value(record(5)),
  "an object of 16": value(record(16)),
  "an object of 22": value(record(22)),
  "an object of 86 floats": value(record(86, 0.5)),
  "400 nested objects": value(nest((inner) => ({ inner }))),
  "an object with __proto__": value(JSON.parse('{"__proto__":1}')),
  "an object with a field of its own": each((index) => ({ [word(index)]: 1 })),
  "an object with a shape of its own, of 3": each((index) => shape(3, index)),
  "an object with a shape of its own, of 16": each((index) => shape(16, index)),
  "an object with a shape of its own, of 40": each((index) => shape(40, index)),
  "an object with an index": same("81 a1 37 c0"),
  "an object with a high index": same("81 a4 31 30 32 33 c0"),
  "an object with many indexes": value(
    Object.fromEntries(Array.from({ length: 16 }, (_, at) => [at * 1000, 1])),
  ),
  "an object with a number of its own": each((index) => ({
    [`0${index + 1_000_000}`]: 1,
  })),
  "a map with other keys": same("81 01 01"),
  "a map with another key behind fields": (() => {
    const fields = msgpack.encode(record(14)).subarray(1);
    const bytes = concat([fromHex("8f"), fields, fromHex("01 01")]);
    return () => bytes;
  })(),
  "an array of 1 that is missing": value(new Array(1)),
  "an array of 100 that are missing": value(new Array(100)),
  "a boxed number": value(Object(1.5)),
  "a boxed string": value(Object("text")),
  "a URL": each((index) => new URL(`a:${index}`)),
  "a URL of many labels": value(new URL(`http://${"1a.".repeat(300)}b/`)),
  ...Object.fromEntries(
    TEMPORAL.map((make, at) => [`a time, number ${at}`, value(make())]),
  ),
  "undefined": same("c7 00 01"),
  "a bigint of 1 byte": value(-7n),
  "a bigint of 20 bytes": value(-(2n ** 155n)),
  "a bigint of 400 bytes": value(2n ** 3200n - 1n),
  "an invalid date": same("c7 00 09"),
  "a date of 32 bits": value(new Date(1000)),
  "a date of 96 bits": value(new Date(-1)),
  "an expression": value(/a+/g),
  "an expression of its own": each((index) => new RegExp(word(index))),
  "an empty Map": value(new Map()),
  "a Map of 1": value(new Map([[1, 1]])),
  "a Map of 5": value(new Map([1, 2, 3, 4, 5].map((key) => [key, key]))),
  "an empty Set": value(new Set()),
  "a Set of 5": value(new Set([1, 2, 3, 4, 5])),
  "a Set of 9": value(new Set([1, 2, 3, 4, 5, 6, 7, 8, 9])),
  "an empty ArrayBuffer": value(new ArrayBuffer(0)),
  "an ArrayBuffer of 64": value(new ArrayBuffer(64)),
  "an empty view": (index) => VIEWS[index % VIEWS.length]![0]!,
  "a view of 8 bytes": (index) => VIEWS[index % VIEWS.length]![1]!,
  "a bare error": same("d7 08 97 a0 a0 c0 c0 90 90 80"),
  "an error": each((index) => ERRORS[index % ERRORS.length]),
  "an error with fields of its own": each((index) =>
    Object.assign(new Error("m"), shape(8, index))
  ),
};

/** An array in graph form, with the same bytes for each item. */
function numbered(count: number, hex: string): Uint8Array {
  const items = new Array(count).fill(fromHex(hex));
  return extension(12, header(0xdd, count), concat(items));
}

/** A message that is one large container. */
export const MSGPACK_CONTAINERS: Record<
  string,
  (count: number) => Uint8Array
> = {
  "a Map of integers": (count) =>
    msgpack.encode(
      new Map(Array.from({ length: count }, (_, at) => [at * 7919, at])),
    ),
  "a Map of strings": (count) =>
    msgpack.encode(
      new Map(Array.from({ length: count }, (_, at) => [word(at), at])),
    ),
  "a Set of floats": (count) =>
    msgpack.encode(
      new Set(Array.from({ length: count }, (_, at) => at / 8)),
    ),
  "a Set of objects": (count) =>
    extension(5, header(0xdd, count), new Uint8Array(count).fill(0x80)),
  "empty arrays with numbers": (count) => numbered(count, "90"),
  "arrays of 4 with numbers": (count) => numbered(count, "94 c0 c0 c0 c0"),
  "empty objects with numbers": (count) => numbered(count, "80"),
  "references": (count) => numbered(count, "d4 0d 00"),
  "a Set of objects and references": (count) =>
    extension(
      12,
      extension(
        5,
        header(0xdd, 2 * count),
        concat(new Array(count).fill(fromHex("80 d4 0d 01"))),
      ),
    ),
  "an object of words": (count) =>
    msgpack.encode(
      Object.fromEntries(
        Array.from({ length: count }, (_, at) => [word(at), at]),
      ),
    ),
  "an object of indexes": (count) =>
    msgpack.encode(
      Object.fromEntries(
        Array.from({ length: count }, (_, at) => [String(at * 7919), at]),
      ),
    ),
  "a bigint": (count) => msgpack.encode(-(1n << BigInt(8 * count - 1))),
  "a text of one byte in two": (count) =>
    msgpack.encode(`中${"a".repeat(count)}`),
  "a text with U+FFFD": (count) => msgpack.encode("\ufffd".repeat(count)),
  "a text in UTF-16": (count) => msgpack.encode("\ud800".repeat(count)),
  "an error with many fields": (count) =>
    msgpack.encode(
      Object.assign(
        new Error("m"),
        Object.fromEntries(
          Array.from({ length: count }, (_, at) => [word(at), at]),
        ),
      ),
    ),
};

/** The same for JSON. */
export const JSON_KINDS: Record<string, (index: number) => string> = {
  "a number": () => "1",
  "a float among others": (index) => index % 1000 === 999 ? "null" : "1.5",
  "a short string": (index) => `"${word(index).slice(-2)}"`,
  "a string beyond Latin": () => `"中${"a".repeat(40)}"`,
  "an empty array": () => "[]",
  "an array of 1": () => "[1]",
  "an array of 28": () => JSON.stringify(new Array(28).fill(1)),
  "400 nested arrays": () => JSON.stringify(nest((inner) => [inner])),
  "an empty object": () => "{}",
  "an object of 1": () => '{"a":1}',
  "an object of 26 floats": () => JSON.stringify(record(26, 0.5)),
  "an object of 140": () => JSON.stringify(record(140)),
  "an object with a field of its own": (index) => `{"${word(index)}":1}`,
  "an object with a shape of its own": (index) =>
    JSON.stringify(shape(16, index)),
  "an object with a large shape of its own": (index) =>
    JSON.stringify(shape(60, index)),
  "an object with an index": () => '{"7":1}',
  "an object with a high index": () => '{"1023":1}',
  "an object with many indexes": () =>
    JSON.stringify(
      Object.fromEntries(Array.from({ length: 16 }, (_, at) => [at * 999, 1])),
    ),
};

/** What a message took to decode. */
export interface Usage {
  /** What it is said to cost, in addition to its bytes. */
  readonly cost: number;
  /** Bytes by which the process grew at most. */
  readonly growth: number;
}

/** A MessagePack array of values, or the container of a kind. */
export function msgpackMessage(kind: string, count: number): Uint8Array {
  const container = MSGPACK_CONTAINERS[kind];
  if (container !== undefined) return container(count);
  const make = MSGPACK_KINDS[kind]!;
  const parts = [header(0xdd, count)];
  for (let index = 0; index < count; index++) parts.push(make(index));
  return concat(parts);
}

/** A JSON array of values. */
export function jsonMessage(kind: string, count: number): Uint8Array {
  const make = JSON_KINDS[kind]!;
  const values = Array.from({ length: count }, (_, index) => make(index));
  return new TextEncoder().encode(`[${values.join()}]`);
}

/** Bytes of the process's memory, now or at most. */
function memory(field: "VmRSS" | "VmHWM"): number {
  const status = Deno.readTextFileSync("/proc/self/status");
  return 1024 * Number(RegExp(`${field}:\\s+(\\d+)`).exec(status)![1]);
}

if (import.meta.main) {
  const isJson = Deno.args[0] === "json";
  const bytes = await new Response(Deno.stdin.readable).bytes();
  msgpack.decode(msgpack.encode([{ a: 1 }, new Map(), new Error("m")]));
  (globalThis as unknown as { gc(): void }).gc();
  const before = memory("VmRSS");
  // Resets what the process had at most.
  Deno.writeTextFileSync("/proc/self/clear_refs", "5");
  const { value, cost } = isJson
    ? { value: json.decode(bytes), cost: costOfJson(bytes) }
    : measureMsgpack(bytes);
  const growth = memory("VmHWM") - before;
  console.log(JSON.stringify({ cost, growth }));
  // The value is in use until here.
  if (value === undefined) console.log("no value");
}
