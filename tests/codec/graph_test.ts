// Copyright 2026 the Duplex authors. MIT license.

/**
 * Objects that occur several times in a message, and cycles: in graph form, and as
 * copies for peers and codecs without it.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertLess,
  assertNotStrictEquals,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { json, msgpack } from "./_fast.ts";
import { ByteBuffer } from "../../_base/byte_buffer.ts";
import { ProtocolError } from "../../_base/errors.ts";
import type { FastCodec, SharingRules } from "../../_codec/fast_codec.ts";
import { measureMsgpack } from "../../_codec/msgpack_decode.ts";
import { SeparateList } from "../../_codec/separate_list.ts";
import { difference } from "../fuzz/equal.ts";
import { assertRepeats, REPEATS } from "../_repeats.ts";

/** A test that needs no permission. */
function test(name: string, fn: () => void): void {
  Deno.test({ name, permissions: "none", fn });
}

function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromHex(hex.replaceAll(" ", ""));
}

/** An extension with a payload of less than 256 bytes. */
function extension(type: string, payload: string): string {
  const size = fromHex(payload).length.toString(16).padStart(2, "0");
  return `c7 ${size} ${type} ${payload}`;
}

function graph(content: string): string {
  return extension("0c", content);
}

/** The rules for a peer that does not read graph form. */
const COPIES: SharingRules = { graph: false, copies: true, maxBytes: 10_000 };

function encodeWith(
  codec: Required<FastCodec>,
  value: unknown,
  rules: SharingRules,
): Uint8Array<ArrayBuffer> {
  const target = new ByteBuffer(16);
  codec.encodeInto(value, target, rules);
  return target.toBytes();
}

/** A list of a list of a list …, each of which occurs twice: 2^levels copies. */
function doubled(levels: number): unknown {
  let value: unknown = [];
  for (let level = 0; level < levels; level++) value = [value, value];
  return value;
}

test("msgpack carries objects that occur again with their identity", () => {
  for (const [what, make] of REPEATS) {
    const value = make();
    const received = msgpack.decode(msgpack.encode(value));
    assertRepeats(value, received, what);
  }
});

test("msgpack.encode() writes graph form as PROTOCOL.md lays it out", () => {
  const shared = { n: 1 };
  const bytes = msgpack.encode({ a: shared, b: [shared] });
  assertEquals(
    bytes,
    fromHex("c9 0000000d 0c 82 a1 61 81 a1 6e 01 a1 62 91 d4 0d 01"),
  );
  // Not without an object that occurs again.
  assertEquals(msgpack.encode([[], []]), fromHex("92 90 90"));
});

test("msgpack.encode() writes references of 1, 2 and 4 bytes", () => {
  const list: unknown[] = Array.from({ length: 70_000 }, () => []);
  list.push(list[0], list[254], list[255], list[65_534], list[65_535]);
  const bytes = msgpack.encode(list);
  assertEquals(
    bytes.slice(-20),
    fromHex("d4 0d 01 d4 0d ff d5 0d 0100 d5 0d ffff d6 0d 00010000"),
  );
  const received = msgpack.decode(bytes) as unknown[];
  assertStrictEquals(received.at(-1), received[65_535]);
  assertStrictEquals(received.at(-5), received[0]);
});

test("msgpack.encode() writes graph form behind other bytes of a buffer", () => {
  const shared = [1];
  const target = new ByteBuffer(4);
  msgpack.encodeInto("first", target);
  const start = target.length;
  msgpack.encodeInto([shared, shared], target);
  const { bytes, length } = target;
  const received = msgpack.decodeRange(bytes, start, length) as unknown[];
  assertStrictEquals(received[0], received[1]);
  assertEquals(msgpack.decodeRange(bytes, 0, start), "first");
});

test("msgpack.encode() allows a getter that encodes a cycle", () => {
  const shared = {};
  const cycle: unknown[] = [];
  cycle.push(cycle);
  const received = msgpack.decode(msgpack.encode([shared, {
    get inner() {
      return msgpack.encode(cycle);
    },
  }, shared])) as [object, { inner: Uint8Array }, object];
  assertStrictEquals(received[0], received[2]);
  const inner = msgpack.decode(received[1].inner) as unknown[];
  assertStrictEquals(inner[0], inner);
});

test("msgpack.encode() names the path to what cannot be sent in a cycle", () => {
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  cycle.list = [() => {}];
  const target = new ByteBuffer(4);
  assertThrows(
    () => msgpack.encodeInto(cycle, target),
    TypeError,
    'the value at "$.list[0]" is a function',
  );
  assertStrictEquals(target.length, 0);
});

test("msgpack.encode() copies a view of memory in each place", () => {
  const bytes = new Uint8Array([1, 2, 3, 4]);
  const date = new Date(0);
  const views = { bytes, again: bytes, end: bytes.subarray(2), date, at: date };
  for (const value of [views, { views, more: views }]) {
    const received = msgpack.decode(msgpack.encode(value)) as typeof value;
    const found = "views" in received ? received.views : received;
    assertEquals(found, views);
    assertNotStrictEquals(found.bytes, found.again);
    assertNotStrictEquals(found.bytes.buffer, found.end.buffer);
    assertNotStrictEquals(found.date, found.at);
  }
});

test("msgpack.encode() keeps the items of a SeparateList apart", () => {
  const shared = { n: 1 };
  const list = SeparateList.from([[shared, 1], [shared, shared], [shared]]);
  const received = msgpack.decode(msgpack.encode([list, shared])) as [
    { n: number }[][],
    unknown,
  ];
  assertEquals(received, [[...list] as { n: number }[][], shared]);
  const [[first], [second, again], [third]] = received[0] as [
    unknown[],
    unknown[],
    unknown[],
  ];
  assertStrictEquals(second, again);
  assertEquals(new Set([first, second, third]).size, 3);
  // Nothing occurs again within an item, so graph form is not needed.
  const plain = SeparateList.from(Array.from({ length: 20 }, () => [shared]));
  assertStrictEquals(msgpack.encode(plain)[0], 0xdc);
  const before = { a: 1 };
  const around = [...Array.from({ length: 9 }, () => []), before, plain];
  assertStrictEquals(msgpack.encode(around)[0], 0x9b);
  assertStrictEquals(msgpack.encode([...around, before])[0], 0xc9);
});

test("msgpack.encode() writes what a peer without graph form reads", () => {
  // deno-lint-ignore no-sparse-arrays
  const list = [, 1];
  const bytes = encodeWith(msgpack, list, COPIES);
  assertEquals(bytes, fromHex("92 c7 00 01 01"));
  const fields = Object.assign([...list], { x: 1 });
  delete fields[0];
  assertEquals(
    encodeWith(msgpack, fields, COPIES),
    fromHex("c9 00000009 0b 92 c7 00 01 01 81 a1 78 01"),
  );
  assertThrows(
    () => encodeWith(msgpack, { boxed: Object(1) }, COPIES),
    TypeError,
    '"$.boxed" is an object with a primitive value, which the peer does not',
  );
  assertThrows(
    () => encodeWith(msgpack, { url: new URL("a:b") }, COPIES),
    TypeError,
    '"$.url" is a URL, which the peer does not read',
  );
});

/** The fault, the bytes, what the error says. */
const FAULTS: [string, string, string][] = [
  ["a reference without graph form", "d4 0d 00", "without graph form"],
  [
    "a reference after graph form's end",
    "92 90 d4 0d 00",
    "without graph form",
  ],
  [
    "a reference to nothing",
    graph("d4 0d 00"),
    "container 0 has not started",
  ],
  [
    "a reference out of range",
    graph("91 d4 0d 01"),
    "container 1 has not started at byte 6",
  ],
  [
    "a reference to what starts later",
    graph("92 d4 0d 01 90"),
    "container 1 has not started",
  ],
  [
    "the largest reference",
    graph("91 d6 0d ff ff ff ff"),
    "container 4294967295 has not started",
  ],
  ["a reference of no bytes", graph("91 c7 00 0d"), "1, 2 or 4 bytes"],
  ["a reference of 3 bytes", graph("91 c7 03 0d 00 00 00"), "1, 2 or 4"],
  ["a reference that is cut off", graph("91 d5 0d"), "a length of 2 exceeds"],
  [
    "a reference as a key",
    graph("81 d4 0d 00 01"),
    "key that is not a string",
  ],
  ["an integer as a key", graph("81 01 02"), "key that is not a string"],
  [
    "a later key of another type",
    graph("82 a1 61 01 02 03"),
    "key that is not a string",
  ],
  ["graph form in an array", "91 d4 0c 90", "does not begin the message"],
  ["graph form in graph form", graph("d4 0c 90"), "does not begin"],
  ["graph form in a map", "81 a1 61 d4 0c 90", "does not begin"],
  [
    "graph form in an error's cause",
    extension("08", "97 a0 a0 c0 c0 91 d4 0c 90 90 80"),
    "does not begin",
  ],
  ["two graph forms", "d4 0c 90 d4 0c 90", "bytes follow the message"],
  ["two values in graph form", "d5 0c 90 90", "longer than what it holds"],
  [
    "nothing in graph form",
    "c7 00 0c",
    "a length of 1 exceeds the remaining 0",
  ],
  [
    "a reference as the fields of an array",
    graph(extension("0b", "91 80 d4 0d 01")),
    "an array has no fields",
  ],
  [
    "a reference as the fields of an error",
    graph(`92 80 ${extension("08", "97 a0 a0 c0 c0 90 90 d4 0d 01")}`),
    "an error has no fields",
  ],
  [
    "a reference as the causes of an error",
    graph(`92 90 ${extension("08", "97 a0 a0 c0 c0 d4 0d 01 90 80")}`),
    "an array is missing",
  ],
  [
    "a reference as an error's name",
    graph(`92 90 ${extension("08", "97 a0 d4 0d 01 c0 c0 90 90 80")}`),
    "a string is missing",
  ],
];

for (const [fault, hex, text] of FAULTS) {
  test(`msgpack.decode() rejects ${fault}`, () => {
    const error = assertThrows(() => msgpack.decode(fromHex(hex)));
    assertInstanceOf(error, ProtocolError);
    assert(error.message.includes(text), error.message);
  });
}

test("msgpack.decode() gives no number to the parts of an extension", () => {
  // An array with fields is 0, an error 1, its cause 2, and a field of it 3.
  const error = extension("08", "97 a0 a0 c0 c0 91 80 90 81 a1 61 90");
  const hex = graph(extension("0b", `92 ${error} d4 0d 03 81 a1 66 d4 0d 02`));
  const list = msgpack.decode(fromHex(hex)) as [
    Error & { a: unknown },
    unknown,
  ] & { f: unknown };
  assertStrictEquals(list[0].a, list[1]);
  assertStrictEquals(list[0].cause, list.f);
  assert(Array.isArray(list[1]));
});

test("msgpack.decode() counts a constant for a reference", () => {
  const cost = (count: number) =>
    measureMsgpack(msgpack.encode(new Array(count).fill([]))).cost;
  assertEquals(cost(2000) - cost(1000), cost(3000) - cost(2000));
  assertLess(cost(2000) - cost(1000), 1000 * 100);
  // Each of 2^26 items may be a reference, but not more than there is memory for.
  const count = 2 ** 24;
  const bytes = new Uint8Array(6 + 5 + 3 * count);
  bytes.set(fromHex("c9 00000000 0c dd 00000000"));
  const view = new DataView(bytes.buffer);
  view.setUint32(1, bytes.length - 6);
  view.setUint32(7, count);
  for (let at = 11; at < bytes.length; at += 3) bytes.set([0xd4, 13, 0], at);
  assertThrows(() => msgpack.decode(bytes), ProtocolError, "too much memory");
});

test("msgpack.encode() copies what occurs again for a peer without graph form", () => {
  const shared = { n: [1] };
  const value = { a: shared, b: [shared], m: new Map([[shared, shared]]) };
  const received = msgpack.decode(encodeWith(msgpack, value, COPIES));
  assertEquals(received, value);
  const { a, b } = received as typeof value;
  assertNotStrictEquals(a, b[0]);
});

for (const codec of [msgpack, json]) {
  test(`${codec.name}.encode() names the path to a cycle that it cannot send`, () => {
    const cycle: Record<string, unknown> = { a: { list: [1] }, b: [] };
    const value = { shared: [cycle.b, cycle.b], cycle };
    (cycle.a as { list: unknown[] }).list.push(cycle.a);
    assertThrows(
      () => encodeWith(codec, value, COPIES),
      TypeError,
      'the value at "$.cycle.a.list[1]" is the object at "$.cycle.a" that contains it: ' +
        "a cycle cannot be sent",
    );
    const root: unknown[] = [];
    root.push([root]);
    const { message } = assertThrows(
      () => encodeWith(codec, root, COPIES),
      TypeError,
    );
    assert(message.includes('the value at "$[0][0]"'), message);
  });

  test(`${codec.name}.encode() rejects more copies than a peer takes`, () => {
    for (const levels of [14, 60, 400]) {
      const target = new ByteBuffer(4);
      assertThrows(
        () => codec.encodeInto(doubled(levels), target, COPIES),
        RangeError,
        "Cannot encode a message of more than 10000 bytes",
      );
      assertStrictEquals(target.length, 0);
    }
    assertEquals(
      codec.decode(encodeWith(codec, doubled(10), COPIES)),
      doubled(10),
    );
    // A copy may be nested too deep where the first is not.
    const deep = doubled(1) as unknown[];
    let around: unknown = deep;
    for (let level = 0; level < 499; level++) around = [around];
    assertThrows(
      () => encodeWith(codec, [deep, around], COPIES),
      TypeError,
      "is nested too deep",
    );
  });

  test(`${codec.name}.encode() rejects what occurs again if it may not copy`, () => {
    const shared = {};
    const rules = { ...COPIES, copies: false };
    assertThrows(
      () => encodeWith(codec, { a: shared, b: [shared] }, rules),
      TypeError,
      'the value at "$.b[0]" is the object at "$.a" again: a shared reference',
    );
  });
}

test("json.encode() rejects at once what has more copies than a text holds", () => {
  let value = doubled(100);
  assertThrows(() => json.encode(value), RangeError, "more than 536870888");
  // A string of V8 is not the limit of each peer.
  value = [value];
  const rules = { ...COPIES, maxBytes: 2 ** 40 };
  assertThrows(() => encodeWith(msgpack, value, rules), RangeError);
});

test("json.encode() copies what occurs again", () => {
  const shared = { n: [1], text: "x" };
  const value = { a: shared, b: [shared, shared.n] };
  assertEquals(json.decode(json.encode(value)), value);
  const long = "x".repeat(2_000);
  const texts = Array(6).fill({ long });
  assertThrows(() => encodeWith(json, texts, COPIES), RangeError);
  const keys = Array(6).fill({ [long]: 1 });
  assertThrows(() => encodeWith(json, keys, COPIES), RangeError);
});

test("msgpack.encode() is small for nested sharing in graph form", () => {
  const value = doubled(400);
  const bytes = msgpack.encode(value);
  assertLess(bytes.length, 400 * 6 + 20);
  assertEquals(difference(value, msgpack.decode(bytes)), undefined);
});
