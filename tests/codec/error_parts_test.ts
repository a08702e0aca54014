// Copyright 2026 the Duplex authors. MIT license.

/**
 * The parts of errors, which every format of an error has in common.
 *
 * @module
 */

import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import { fromParts, toParts } from "../../_codec/error_parts.ts";

const { test } = Deno;

test("fromParts() restores what toParts() gives", () => {
  const inner = new RangeError("inner", { cause: null });
  const named = new TypeError("named");
  named.name = "Odd";
  const errors: Error[] = [
    new Error("plain"),
    new Error(),
    new URIError("fields", { cause: inner }),
    Object.assign(new SyntaxError("fields"), { code: 7, "0": "index" }),
    new AggregateError([inner, 7], "all"),
    new SuppressedError(inner, "suppressed", "both"),
    new DOMException("late", "TimeoutError"),
    named,
  ];
  for (const error of errors) {
    const restored = fromParts(toParts(error));
    assertEquals(restored.constructor, error.constructor);
    assertEquals(toParts(restored), toParts(error));
  }
});

test("toParts() gives a text for each part that must be one", () => {
  const error = Object.assign(new RangeError("odd"), {
    name: 7,
    message: {},
    stack: null,
  });
  const { className, name, message, stack, fields } = toParts(error);
  assertEquals([className, name, message, stack], [
    "RangeError",
    "RangeError",
    undefined,
    undefined,
  ]);
  assertEquals(fields, {});
});

test("toParts() reads each property through its second argument", () => {
  const error = Object.assign(
    new AggregateError([1], "odd", { cause: 2 }),
    { code: 3 },
  );
  const names: string[] = [];
  const parts = toParts(error, (_error, name) => {
    names.push(name);
    return undefined;
  });
  assertEquals(names.sort(), [
    "cause",
    "code",
    "errors",
    "message",
    "name",
    "stack",
  ]);
  assertEquals(parts.causes, [undefined]);
  assertEquals(parts.errors, []);
});

test("fromParts() lets no field replace a part", () => {
  const error = fromParts({
    className: "AggregateError",
    name: "AggregateError",
    message: "all",
    stack: undefined,
    causes: [],
    errors: [1],
    fields: { errors: 7, message: 7, error: 8, ["__proto__"]: null },
  });
  assertInstanceOf(error, AggregateError);
  assertEquals(error.errors, [1]);
  assertEquals(error.message, "all");
  assertEquals((error as unknown as { error: number }).error, 8);
  assert(error instanceof Error);
});
