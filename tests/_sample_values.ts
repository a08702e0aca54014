// Copyright 2026 the Duplex authors. MIT license.

/**
 * One value of every kind that a message may contain.
 *
 * @module
 */

function ownFields(): Error {
  const error = new RangeError("Too far", { cause: new Error("The cause") });
  return Object.assign(error, { code: 42, path: ["a", "b"] });
}

/** Descriptions and values. */
export const SAMPLE_VALUES: readonly (readonly [string, unknown])[] = [
  ["null", null],
  ["booleans", [true, false]],
  ["integers", [0, 1, -1, 127, 128, -128, 65536, 2 ** 32, -(2 ** 40)]],
  ["other numbers", [-0, 1.5, 1e300, NaN, Infinity, -Infinity, 2 ** 53 + 2]],
  ["bigints", [0n, -1n, 2n ** 63n, -(2n ** 63n), 2n ** 200n, -(3n ** 500n)]],
  ["text", ["", "plain", "mit Umlaut: ä", "𝄞", "\u0000", "x".repeat(70_000)]],
  ["undefined in places", { a: undefined, b: [undefined] }],
  ["nested objects", { a: { b: [{ c: 1 }, {}] }, "": "empty key" }],
  ["dates", [new Date(0), new Date("2026-11-23T06:59:25.123Z"), new Date(NaN)]],
  ["a regular expression", /a+[b"]/giu],
  ["a map", new Map<unknown, unknown>([["a", 1], [{ k: 1 }, new Map()]])],
  ["a set", new Set<unknown>(["a", 1, null, new Set()])],
  ["a buffer", new Uint8Array([1, 2, 3]).buffer],
  ["bytes", new Uint8Array([0, 255])],
  ["clamped bytes", new Uint8ClampedArray([0, 255])],
  ["signed integers", [
    new Int8Array([-1]),
    new Int16Array([-2]),
    new Int32Array([-3]),
    new BigInt64Array([-4n]),
  ]],
  ["unsigned integers", [
    new Uint16Array([2]),
    new Uint32Array([3]),
    new BigUint64Array([4n]),
  ]],
  ["floats", [new Float32Array([1.5]), new Float64Array([-0, NaN])]],
  ["a view", new DataView(new Uint8Array([1, 2, 3]).buffer)],
  ["an error", new TypeError("Wrong")],
  ["an error with fields and a cause", ownFields()],
  ["several errors", new AggregateError([new Error("a"), "b"], "Both")],
  ["__proto__ as a key", JSON.parse('{"__proto__": {"polluted": true}}')],
];
