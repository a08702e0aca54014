// Copyright 2026 the Duplex authors. MIT license.

/**
 * Regular expressions in messages: V8 parses each when it is made, which can
 * take a thousand times as long as to receive it.
 *
 * @module
 */

import {
  assertEquals,
  assertGreater,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { msgpack } from "../../codec.ts";
import { ProtocolError } from "../../_base/errors.ts";
import { MAX_COST, regexpCost } from "../../_codec/message_cost.ts";
import { header } from "./_kinds.ts";

/** A test that needs no permission. */
function test(name: string, fn: () => void): void {
  Deno.test({ name, permissions: "none", fn });
}

/** Expressions as a peer writes them, which ours would not. */
function encode(source: string, flags: string, count = 1): Uint8Array {
  const parts = [...msgpack.encode(source), ...msgpack.encode(flags)];
  const one = [...header(0xc9, parts.length), 3, ...parts];
  const bytes = new Uint8Array(5 + count * one.length);
  bytes.set(header(0xdd, count));
  for (let index = 0; index < count; index++) {
    bytes.set(one, 5 + index * one.length);
  }
  return bytes;
}

test("msgpack.decode() refuses expressions that take long to parse", () => {
  const cases: [string, string, number?][] = [
    ["\\p{RGI_Emoji}".repeat(65), "v"],
    ["[\\p{L}--\\p{N}]".repeat(50), "v"],
    ["\\p{Lu}".repeat(600), "iu"],
    ["[\\p{C}\\P{L}]", "u", 300],
    [`[${"\\W".repeat(3000)}]`, "iu"],
    [`[${"\\w".repeat(3000)}]`, "v"],
    ["a".repeat(6000), "u"],
    ["a".repeat(25_000), ""],
    [`${"(\\9".repeat(7000)}${")".repeat(7000)}`, ""],
    ["a".repeat(1000), "", 1000],
    ["", "", 1_100_000],
  ];
  for (const [source, flags, count] of cases) {
    assertThrows(
      () => msgpack.decode(encode(source, flags, count)),
      ProtocolError,
      "takes too much memory for its size",
      `/${source.slice(0, 20)}/${flags}`,
    );
  }
});

test("msgpack.decode() takes the expressions that programs have", () => {
  const expressions = [
    /^(?<year>\d{4})-(?<month>\d\d)-(?<day>\d\d)$/u,
    /[\p{L}\p{N}_]+/gu,
    /^[\p{Emoji}--\p{ASCII}]$/v,
    new RegExp("word|".repeat(2000) + "end", "i"),
    new RegExp(`[${"\\u00aa\\u00b5".repeat(200)}]`, "u"),
    ...Array.from({ length: 1000 }, (_, at) => new RegExp(`^/path/${at}/.*$`)),
  ];
  assertEquals(msgpack.decode(msgpack.encode(expressions)), expressions);
});

test("msgpack.encode() refuses an expression that no peer would take", () => {
  for (const flags of ["", "g", "u", "v"]) {
    let length = 1000;
    while (regexpCost("a".repeat(length + 1), flags) <= MAX_COST) length++;
    const longest = new RegExp("a".repeat(length), flags);
    const decoded = msgpack.decode(msgpack.encode([longest])) as RegExp[];
    assertStrictEquals(decoded[0]!.source, longest.source);
    assertThrows(
      () => msgpack.encode({ a: [new RegExp("a".repeat(length + 1), flags)] }),
      TypeError,
      `the value at "$.a[0]" is a regular expression of ${
        length + 1
      } characters, which would take a receiver too long to read`,
    );
  }
});

test("regexpCost() counts a property only where it is one", () => {
  assertStrictEquals(
    regexpCost("\\\\p{L}", "u"),
    regexpCost("\\\\q{L}", "u"),
  );
  assertGreater(regexpCost("\\P{L}", "u"), 2 * regexpCost("\\\\P{L}", "u"));
  assertGreater(regexpCost("\\p{L}", "v"), regexpCost("\\p{L}", "u"));
  assertStrictEquals(regexpCost("\\p{L}", ""), regexpCost("\\q{L}", ""));
});
