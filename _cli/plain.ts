// Copyright 2026 the Duplex authors. MIT license.

/**
 * The JSON form of results that JSON does not have, as `map --help` documents it.
 *
 * @module
 */

/**
 * The depth down to which a value is changed. It is more than a codec sends, so that
 * the JSON of a deeper value is rejected in any case.
 */
const MAX_DEPTH = 1000;

/** The table of the forms, for the help of a command. */
export const PLAIN_USAGE = `\
  Date                  a string as of toISOString(); null if it is invalid
  bigint                a number up to 2^53 - 1, a string beyond
  NaN, Infinity         null; -0 is written as -0.0
  undefined             null; a property with this value is omitted
  boxed primitive       its primitive, as new Number(1) is 1
  Map                   an object if all keys are strings, otherwise an array of
                        [key, value]
  Set                   an array
  Uint8Array, Uint8ClampedArray, ArrayBuffer, SharedArrayBuffer, DataView
                        the bytes as a string in Base64
  other typed arrays    an array of numbers, or of the forms of bigint
  RegExp                a string: "/a+/g"
  URL                   its href
  classes of Temporal   the string of toString()
  Error                 an object with name, message, cause, errors and fields,
                        without the stack
  array                 an array, without additional fields; a missing item is
                        null
  an object in several places
                        a copy in each place; a cycle fails the line`;

/**
 * Replaces all parts of a value that JSON does not have. Objects that occur several
 * times occur as often in the copy, and a cycle stays a cycle.
 *
 * @param value The value.
 * @returns A copy of plain objects, arrays, strings, finite numbers, booleans and
 *   null; values that have no JSON form are unchanged.
 */
export function toPlain(value: unknown): unknown {
  return plainOf(value, new Map(), 0);
}

/** The forms of the objects that were copied, or are being copied. */
type Copies = Map<object, unknown>;

function plainOf(value: unknown, copies: Copies, depth: number): unknown {
  switch (typeof value) {
    case "undefined":
      return null;
    case "number":
      return Number.isFinite(value) ? value : null;
    case "bigint":
      return plainBigInt(value);
    case "object":
      return value === null || depth > MAX_DEPTH
        ? value
        : plainObject(value, copies, depth);
    default:
      return value;
  }
}

function plainBigInt(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}

function plainObject(value: object, copies: Copies, depth: number): unknown {
  if (value instanceof Date) {
    return Number.isNaN(value.getTime()) ? null : value.toISOString();
  }
  if (value instanceof RegExp) return `/${value.source}/${value.flags}`;
  if (isBoxed(value)) return plainOf(value.valueOf(), copies, depth);
  if (value instanceof URL) return value.href;
  if (isTemporal(value)) return value.toString();
  if (copies.has(value)) return copies.get(value);
  if (isBuffer(value) || ArrayBuffer.isView(value)) {
    const plain = isBuffer(value)
      ? base64(new Uint8Array(value))
      : plainView(value);
    copies.set(value, plain);
    return plain;
  }
  const part = (item: unknown) => plainOf(item, copies, depth + 1);
  if (Array.isArray(value) || value instanceof Set) {
    return fill(copies, value, value, part);
  }
  if (value instanceof Map) {
    const keys = Iterator.from(value.keys());
    return keys.every((key) => typeof key === "string")
      ? assign(copies, value, value, part)
      : fill(copies, value, value, (entry) => (entry as unknown[]).map(part));
  }
  if (value instanceof Error) {
    return assign(copies, value, errorEntries(value), part);
  }
  const prototype = Object.getPrototypeOf(value);
  // Another class has no JSON form.
  if (prototype !== Object.prototype && prototype !== null) return value;
  return assign(copies, value, Object.entries(value), part);
}

function isBuffer(value: object): value is ArrayBufferLike {
  return value instanceof ArrayBuffer || value instanceof SharedArrayBuffer;
}

/** Whether an object was made from a primitive, as by `new Number(1)`. */
function isBoxed(value: object): boolean {
  return value instanceof Number || value instanceof String ||
    value instanceof Boolean || value instanceof BigInt;
}

/** Whether an object is one of `Temporal`. */
function isTemporal(value: object): boolean {
  const tag = Object.prototype.toString.call(value);
  return tag.startsWith("[object Temporal.");
}

/** Copies items into an array. */
function fill(
  copies: Copies,
  value: object,
  items: Iterable<unknown>,
  part: (item: unknown) => unknown,
): unknown[] {
  const copy: unknown[] = [];
  copies.set(value, copy);
  for (const item of items) copy.push(part(item));
  return copy;
}

/** Copies entries into an object. */
function assign(
  copies: Copies,
  value: object,
  entries: Iterable<readonly [key: string, value: unknown]>,
  part: (item: unknown) => unknown,
): object {
  // In an object with a prototype, "__proto__" would set it.
  const copy: Record<string, unknown> = Object.create(null);
  copies.set(value, copy);
  for (const [key, item] of entries) {
    if (item !== undefined) copy[key] = part(item);
  }
  return copy;
}

function plainView(view: ArrayBufferView): unknown {
  if (
    view instanceof DataView || view instanceof Uint8Array ||
    view instanceof Uint8ClampedArray
  ) {
    const { buffer, byteOffset, byteLength } = view;
    return base64(new Uint8Array(buffer, byteOffset, byteLength));
  }
  const numbers = view as unknown as Iterable<number | bigint>;
  return Array.from(numbers, (number) => plainOf(number, new Map(), 0));
}

function base64(bytes: Uint8Array): string {
  // Shared memory has to be copied before it can be read as text.
  const { buffer } = bytes;
  return (buffer instanceof ArrayBuffer ? bytes : bytes.slice()).toBase64();
}

function errorEntries(error: Error): [key: string, value: unknown][] {
  const { name, message } = error;
  const own = ["cause", "errors"]
    .filter((key) => Object.hasOwn(error, key))
    .map((key): [string, unknown] => [key, error[key as keyof Error]]);
  return [
    ["name", name],
    ["message", message],
    ...own,
    ...Object.entries(error),
  ];
}
