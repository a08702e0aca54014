// Copyright 2026 the Duplex authors. MIT license.

import { assertEquals, assertLess } from "@std/assert";
import {
  excerpt,
  messageOf,
  printable,
  quoted,
  show,
} from "../../_base/text.ts";

/** Objects that throw or give no text when they are converted. */
function hostileObjects(): [name: string, value: unknown][] {
  const throws = () => {
    throw new Error("Not to be called");
  };
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  return [
    ["toString and valueOf are numbers", { toString: 1, valueOf: 1 }],
    ["no prototype", Object.create(null)],
    ["toString throws", { toString: throws, toJSON: throws }],
    [
      "a getter throws",
      Object.defineProperty({}, "constructor", { get: throws }),
    ],
    ["a proxy throws", new Proxy({}, { get: throws, getPrototypeOf: throws })],
    ["a revoked proxy", revoked.proxy],
    ["a symbol as its tag", { [Symbol.toStringTag]: Symbol() }],
    ["a constructor with a symbol as its name", {
      constructor: { name: Symbol() },
    }],
    [
      "an error whose message is an object",
      Object.assign(new Error(), { message: { toString: 1 } }),
    ],
    [
      "an error whose message throws",
      Object.defineProperty(new Error(), "message", { get: throws }),
    ],
    [
      "an error whose message is a symbol",
      Object.assign(new Error(), { message: Symbol("s") }),
    ],
  ];
}

Deno.test("show() and messageOf() return a text for every value", async (t) => {
  for (const [name, value] of hostileObjects()) {
    await t.step(name, () => {
      assertEquals(typeof show(value), "string");
      assertEquals(typeof messageOf(value), "string");
    });
  }
});

Deno.test("show() formats values for errors", async (t) => {
  class Job {}
  const cases: [value: unknown, text: string][] = [
    ["a\nb", '"a\\nb"'],
    ["x".repeat(201), `"${"x".repeat(200)}"…`],
    [-0, "0"],
    [1.5, "1.5"],
    [undefined, "undefined"],
    [null, "null"],
    [2n ** 64n, "18446744073709551616n"],
    [2n ** 5000n, "a bigint of more than 1024 bits"],
    [Symbol("s"), "Symbol(s)"],
    [() => 1, "a function"],
    [[1], "an array"],
    [{}, "an object"],
    [new Job(), "an instance of Job"],
    [new Date(0), "an instance of Date"],
  ];
  for (const [value, text] of cases) {
    await t.step(text.slice(0, 40), () => assertEquals(show(value), text));
  }
});

Deno.test("show() takes time in proportion to its result", () => {
  const large = 2n ** (2n ** 24n);
  assertEquals(show(large), "a bigint of more than 1024 bits");
  assertLess(show("x".repeat(2 ** 24)).length, 300);
});

Deno.test("messageOf() returns the message, or the thrown value", () => {
  assertEquals(messageOf(new TypeError("Cannot do it")), "Cannot do it");
  assertEquals(messageOf("text"), "text");
  assertEquals(messageOf(undefined), "undefined");
  assertEquals(messageOf({ message: "not an error" }), "an object");
});

Deno.test("printable() escapes characters that move the cursor, hide or reorder text", () => {
  assertEquals(
    printable("\x1b[2J\r\n\x7f\x9b\u202eevil\u2066\u200b\ufeff\ud800\u2028é😀"),
    "\\u{1b}[2J\\u{d}\\u{a}\\u{7f}\\u{9b}\\u{202e}evil\\u{2066}\\u{200b}\\u{feff}\\u{d800}\\u{2028}é😀",
  );
});

Deno.test("quoted() and excerpt() shorten and escape", () => {
  assertEquals(quoted('say "hi"\u202e'), '"say \\"hi\\"\\u{202e}"');
  assertEquals(quoted("abcdef", 3), '"abc"…');
  assertEquals(excerpt("a\x1bbc", 3), "a\\u{1b}b…");
});
