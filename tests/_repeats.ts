// Copyright 2026 the Duplex authors. MIT license.

/**
 * Values with objects that occur several times, or contain themselves.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { difference } from "./fuzz/equal.ts";

interface Tree {
  name: string;
  parent?: Tree;
  children: Tree[];
}

function tree(): Tree {
  const root: Tree = { name: "root", children: [] };
  for (let index = 0; index < 20; index++) {
    root.children.push({ name: `${index}`, parent: root, children: [] });
  }
  return root;
}

/** What each is, and what makes the value. */
export const REPEATS: readonly (readonly [string, () => unknown])[] = [
  ["an object as two arguments", () => {
    const doc = { title: "A", lines: ["a"] };
    return [1, "diff", [doc, doc]];
  }],
  ["Array(3).fill(object)", () => Array(3).fill({ n: 1 })],
  ["an empty array in two fields", () => {
    const empty: unknown[] = [];
    return { a: empty, b: { c: empty } };
  }],
  ["an array that contains itself", () => {
    const list: unknown[] = [];
    list.push(list, [list]);
    return list;
  }],
  ["a tree with parents", tree],
  ["a Map with itself and a shared key", () => {
    const key = { n: 1 };
    const map = new Map<unknown, unknown>([[key, key]]);
    return map.set(map, map).set("key", key);
  }],
  ["a Set with itself", () => {
    const set = new Set<unknown>([[]]);
    return [set.add(set), set];
  }],
  ["an error whose cause is itself", () => {
    // Without the option, the property would be enumerable.
    const error = new RangeError("Too far", { cause: 1 });
    error.cause = error;
    return { error };
  }],
  ["errors that share a cause and a field", () => {
    const cause = new Error("The cause");
    const detail = { cause };
    return [1, 2].map((code) =>
      Object.assign(new TypeError("Wrong", { cause }), { code, detail })
    );
  }],
  ["errors that contain each other", () => {
    const error = new AggregateError([], "All");
    error.errors.push(error, new SuppressedError(error, error, "Both"));
    return error;
  }],
  ["an array with a field that is itself", () => {
    const list = [[1], [2]] as unknown[] & { all?: unknown };
    list.all = list;
    return [list, list[0]];
  }],
  ["more containers than 256, and some again", () => {
    const list: unknown[] = Array.from({ length: 300 }, (_, n) => ({ n }));
    return [list, ...list.slice(250)];
  }],
];

/** Asserts that a value was received equal, with the identity of its objects. */
export function assertRepeats(
  value: unknown,
  received: unknown,
  what: string,
): void {
  assertEquals(difference(value, received), undefined, what);
  assertEquals(difference(received, value), undefined, what);
}
