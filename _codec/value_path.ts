// Copyright 2026 the Duplex authors. MIT license.

/**
 * The slow second walk over a message that an encoder refused: finds the value
 * that is at fault and says where it is, so that the fast walk need not carry
 * the path.
 *
 * @module
 */

import { printable, quoted, show } from "../_base/text.ts";
import {
  arrayFields,
  errorErrors,
  errorFields,
  isRecord,
  MAX_DEPTH,
} from "./values.ts";

/** A path longer than this is shown by its two ends. */
const MAX_PATH_LENGTH = 200;

/** A part of a container: how it is reached, and what it is. */
type Part = readonly [step: string, value: unknown];

/** Says why a value by itself cannot be sent, or returns `undefined`. */
export type Describe = (value: unknown) => string | undefined;

/** ".name", or `["two words"]`. */
function property(key: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${quoted(key)}]`;
}

/** How a map's value is reached. */
function mapStep(key: unknown): string {
  return typeof key === "symbol" || typeof key === "function" ||
      typeof key === "object" && key !== null
    ? ".get(…)"
    : `.get(${show(key)})`;
}

function* mapParts(map: Map<unknown, unknown>): Generator<Part> {
  let index = 0;
  for (const [key, value] of map) {
    yield [`.keys()[${index++}]`, key];
    yield [mapStep(key), value];
  }
}

function* indexedParts(
  prefix: string,
  values: Iterable<unknown>,
): Generator<Part> {
  let index = 0;
  for (const value of values) yield [`${prefix}[${index++}]`, value];
}

function* recordParts(value: object, keys: string[]): Generator<Part> {
  const record = value as Record<string, unknown>;
  for (const key of keys) yield [property(key), record[key]];
}

function* errorParts(error: Error): Generator<Part> {
  if (Object.hasOwn(error, "cause")) yield [".cause", error.cause];
  const errors = errorErrors(error);
  if (errors) yield* indexedParts(".errors", errors);
  yield* recordParts(error, errorFields(error));
}

function* arrayParts(array: unknown[]): Generator<Part> {
  yield* indexedParts("", array);
  yield* recordParts(array, arrayFields(array));
}

/** The parts of a container, or `undefined` for a value that has none. */
export function partsOf(value: object): Generator<Part> | undefined {
  if (Array.isArray(value)) return arrayParts(value);
  if (value instanceof Map) return mapParts(value);
  if (value instanceof Set) return indexedParts(".values()", value);
  if (value instanceof Error) return errorParts(value);
  if (
    value instanceof Date || value instanceof RegExp ||
    value instanceof ArrayBuffer || ArrayBuffer.isView(value)
  ) return undefined;
  return isRecord(value) ? recordParts(value, Object.keys(value)) : undefined;
}

/** A path in quotation marks, its middle left out when it is very long. */
export function quote(path: string): string {
  const half = MAX_PATH_LENGTH / 2;
  return path.length > MAX_PATH_LENGTH
    ? `"${printable(path.slice(0, half))}…${printable(path.slice(-half))}"`
    : `"${printable(path)}"`;
}

/** A container that was met, where, and whether the walk is inside it. */
interface Visit {
  path: string;
  open: boolean;
}

/** How a path that met a container again names the first meeting. */
function describeRepeat({ path, open }: Visit): string {
  return open
    ? `the object at ${quote(path)} that contains it: a cycle cannot be sent`
    : `the object at ${quote(path)} again: a shared reference cannot be sent`;
}

/**
 * Finds why a message cannot be encoded.
 *
 * @param root The message.
 * @param describe Says why a value by itself cannot be sent.
 * @returns The text of the error, with the path to the value.
 */
export function explainRefusal(root: unknown, describe: Describe): string {
  return findRefusal(root, describe) ??
    "Cannot encode a message: a value in it changed while it was encoded";
}

/**
 * Finds a value that cannot be encoded, if there is one.
 *
 * @param root The message.
 * @param describe Says why a value by itself cannot be sent.
 * @returns The text of the error, with the path to the value.
 */
export function findRefusal(
  root: unknown,
  describe: Describe,
): string | undefined {
  const seen = new Map<object, Visit>();

  function visit(
    value: unknown,
    path: string,
    depth: number,
  ): string | undefined {
    const reason = describe(value);
    if (reason) return `the value at ${quote(path)} is ${reason}`;
    if (typeof value !== "object" || value === null) return undefined;
    const parts = partsOf(value);
    if (!parts) return undefined;
    const first = seen.get(value);
    if (first) {
      return `the value at ${quote(path)} is ${describeRepeat(first)}`;
    }
    if (depth === MAX_DEPTH) {
      return `the value at ${quote(path)} is nested too deep: ` +
        `at most ${MAX_DEPTH} containers may be nested`;
    }
    const visited = { path, open: true };
    seen.set(value, visited);
    for (const [step, part] of parts) {
      const found = visit(part, path + step, depth + 1);
      if (found) return found;
    }
    visited.open = false;
    return undefined;
  }

  const found = visit(root, "$", 0);
  return found && `Cannot encode a message: ${found}`;
}
