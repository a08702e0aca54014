// Copyright 2026 the Duplex authors. MIT license.

/**
 * Common parts of the codecs: the limit of nesting, the numbers of the MessagePack
 * extension types, and the values that cannot be sent. An encoder does not track
 * where it is in a message. If it meets a value that it cannot send, a second,
 * slower walk finds the path to that value for the error.
 *
 * @module
 */

import { toParts } from "./error_parts.ts";
import { MAX_COST, MAX_ITEMS, regexpCost } from "./message_cost.ts";
import { isIndex } from "./properties.ts";
import { excerpt, printable, quoted, show } from "../_base/text.ts";
import { describeUnwritten, toWritten, writtenClass } from "./written.ts";

/**
 * Maximum number of nested containers (arrays, objects, maps, sets, errors) in a
 * message. The codecs recurse, so the limit protects the stack: a chain of this
 * many errors, which takes the most, uses half of the megabyte that V8 gives a
 * thread. Data is rarely nested deeper than ten.
 */
export const MAX_DEPTH = 500;

/**
 * Bytes from which on a byte array is decoded as a view of an owned message. A
 * smaller one is copied: that costs little and releases the message.
 */
export const MIN_OWNED_VIEW = 0x1_0000;

/** The weight of the high word of 64 bits. */
export const TWO_32 = 0x1_0000_0000;

/** 2^53 / 2^32: the high word of a safe integer is below it. */
export const MAX_SAFE_HIGH = 0x20_0000;

/** The MessagePack extension types, and their payloads. */
export const EXT = {
  /** `undefined`; no payload. */
  undefined: 0x01,
  /** A bigint; a sign byte (0, or 1 for negative), the magnitude big-endian. */
  bigint: 0x02,
  /** A regular expression; two strings, its source and its flags. */
  regexp: 0x03,
  /** A `Map`; an array of a key, its value, the next key, its value … */
  map: 0x04,
  /** A `Set`; an array of its values. */
  set: 0x05,
  /** An `ArrayBuffer`; its bytes. */
  arrayBuffer: 0x06,
  /** A view; a byte of {@linkcode VIEW_KINDS}, its elements little-endian. */
  view: 0x07,
  /** An error; an array of class, name, message, stack, causes, errors, fields. */
  error: 0x08,
  /** A `Date` without a time; no payload. */
  invalidDate: 0x09,
  /** A string that is not well-formed; its UTF-16 code units little-endian. */
  utf16: 0x0a,
  /**
   * An array with fields or missing items; an array of its items, a map of its fields,
   * an array of the ranges that are missing, if any are.
   */
  array: 0x0b,
  /** Graph form; the message, whose containers are numbered as they start. */
  graph: 0x0c,
  /** A container that has started; its number in 1, 2 or 4 bytes. */
  reference: 0x0d,
  /** A string, number, boolean or bigint in an object; the value. */
  boxed: 0x0e,
  /** An object that is sent as a text; a byte of its class, the text in UTF-8. */
  written: 0x0f,
  /** The timestamp of the MessagePack specification, -1 as a byte. */
  timestamp: 0xff,
} as const;

/** The constructor of a view. */
export type ViewConstructor = new (buffer: ArrayBuffer) => ArrayBufferView;

/** A class that an older runtime may not have. */
const RUNTIME: { readonly Float16Array?: ViewConstructor } = globalThis;

/** The constructor and the element size of a view, by its kind byte. */
export const VIEW_KINDS: ReadonlyMap<
  number,
  readonly [constructor: ViewConstructor, elementSize: number]
> = new Map<number, readonly [ViewConstructor, number]>([
  [1, [Int8Array, 1]],
  [2, [Uint8ClampedArray, 1]],
  [3, [Int16Array, 2]],
  [4, [Uint16Array, 2]],
  [5, [Int32Array, 4]],
  [6, [Uint32Array, 4]],
  ...RUNTIME.Float16Array ? [[7, [RUNTIME.Float16Array, 2]] as const] : [],
  [8, [Float32Array, 4]],
  [9, [Float64Array, 8]],
  [10, [BigInt64Array, 8]],
  [11, [BigUint64Array, 8]],
  [12, [DataView, 1]],
]);

/**
 * The kind byte of a view.
 *
 * @param view A view, not a `Uint8Array`.
 * @returns The kind, or `undefined` if the class is unknown.
 */
export function viewKind(view: ArrayBufferView): number | undefined {
  for (const [kind, [constructor]] of VIEW_KINDS) {
    if (view instanceof constructor) return kind;
  }
  return undefined;
}

/**
 * Whether an object is sent as its own enumerable properties: a plain object or
 * an instance of a class of the program.
 *
 * @param value An object that is not of a built-in class.
 * @returns Whether it is sent as its properties.
 */
export function isRecord(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null ||
    Object.prototype.toString.call(value) === "[object Object]" &&
      !isRuntimeClass(prototype);
}

/** Prototypes of instances, and whether they are those of classes of the runtime. */
const runtimeClasses = new WeakMap<object, boolean>();

/**
 * Whether a prototype is that of a class of the runtime, such as `ImageBitmap`, whose
 * instances keep their data elsewhere than in properties. Most have a tag of their own.
 */
function isRuntimeClass(prototype: object): boolean {
  let isRuntime = runtimeClasses.get(prototype);
  if (isRuntime === undefined) {
    const { constructor } = prototype;
    // An `Object.prototype` of another realm is the end of its chain.
    isRuntime = Object.getPrototypeOf(prototype) !== null &&
      Object.hasOwn(prototype, "constructor") &&
      typeof constructor === "function" &&
      constructor.prototype === prototype &&
      Function.prototype.toString.call(constructor).endsWith("[native code] }");
    runtimeClasses.set(prototype, isRuntime);
  }
  return isRuntime;
}

/**
 * Whether a buffer is shared between threads or detached. Neither can be sent as
 * bytes.
 *
 * @param buffer The buffer.
 * @returns Whether it cannot be sent.
 */
export function isUnsendableBuffer(buffer: ArrayBufferLike): boolean {
  return !(buffer instanceof ArrayBuffer) || buffer.detached;
}

/**
 * Whether a view is beyond the end of a buffer that was resized.
 *
 * @param view A view of a buffer that is not detached.
 * @returns Whether it is out of bounds.
 */
export function isOutOfBounds(view: ArrayBufferView): boolean {
  // Such a typed array has the length 0; such a `DataView` throws.
  if (!(view instanceof DataView) && view.byteLength > 0) return false;
  if (!(view.buffer as ArrayBuffer).resizable) return false;
  try {
    if (view instanceof DataView) return view.byteLength < 0;
    // Each method of a typed array checks whether it is in bounds.
    Uint8Array.prototype.at.call(view, 0);
    return false;
  } catch {
    return true;
  }
}

/** Items up to which `Object.keys` of an array is faster than `Object.values`. */
const MAX_FEW_ITEMS = 4;

/** The last index of an array of 0 to 4 items. */
const LAST_INDEX = [undefined, "0", "1", "2", "3"];

/**
 * Whether an array may have fields in addition to its items, such as the result of
 * `RegExp.exec`. It has none if the number of its values is that of its items,
 * unless an item is missing.
 *
 * @param array The array.
 * @returns Whether to look for fields.
 */
export function mayHaveFields(array: unknown[]): boolean {
  const { length } = array;
  // Values are listed without a string for each index.
  if (length > MAX_FEW_ITEMS) return Object.values(array).length !== length;
  const keys = Object.keys(array);
  return keys[keys.length - 1] !== LAST_INDEX[length];
}

/**
 * The names of the fields that an array has in addition to its items.
 *
 * @param array The array.
 * @returns The names.
 */
export function arrayFields(array: unknown[]): string[] {
  const keys = Object.keys(array);
  // Indexes come first.
  let first = keys.length;
  while (first > 0 && !isIndex(keys[first - 1]!)) first--;
  return keys.slice(first);
}

/**
 * The ranges of an array in which items are missing.
 *
 * @param array The array.
 * @param length Its length.
 * @returns The start and the length of each range, one after the other.
 */
export function missingRanges(array: unknown[], length: number): number[] {
  const ranges: number[] = [];
  let count = 0;
  for (let index = 0; index <= length; index++) {
    if (index < length && !(index in array)) count++;
    else if (count > 0) {
      ranges.push(index - count, count);
      count = 0;
    }
  }
  return ranges;
}

/** The tags of objects that hold a primitive value, and what returns that value. */
const UNBOX: ReadonlyMap<string, (this: unknown) => unknown> = new Map<
  string,
  (this: unknown) => unknown
>([
  ["[object Number]", Number.prototype.valueOf as () => unknown],
  ["[object String]", String.prototype.valueOf as () => unknown],
  ["[object Boolean]", Boolean.prototype.valueOf as () => unknown],
  ["[object BigInt]", BigInt.prototype.valueOf as () => unknown],
]);

/**
 * The primitive value in an object such as `new Number(1)`.
 *
 * @param value The object.
 * @returns The value, or `undefined` if it is another object.
 */
export function unboxed(value: object): unknown {
  try {
    return UNBOX.get(Object.prototype.toString.call(value))?.call(value);
  } catch {
    // Another object with such a tag.
    return undefined;
  }
}

/** Built-in classes, each with a getter that throws for other objects. */
const BRANDS: readonly (readonly [
  constructor: abstract new (...args: never[]) => object,
  read: (this: unknown) => unknown,
])[] = [
  [Map, getter(Map.prototype, "size")],
  [Set, getter(Set.prototype, "size")],
  [Date, Date.prototype.getTime as () => number],
  [RegExp, getter(RegExp.prototype, "source")],
  [ArrayBuffer, getter(ArrayBuffer.prototype, "byteLength")],
  [Uint8Array, getter(Object.getPrototypeOf(Uint8Array.prototype), "length")],
];

function getter(prototype: object, name: string): () => unknown {
  return Object.getOwnPropertyDescriptor(prototype, name)!.get!;
}

/**
 * Whether an object inherits from a built-in class but was not made by its
 * constructor, such as a proxy. The methods of the class throw for it.
 */
function isImpostor(value: object): boolean {
  for (const [constructor, read] of BRANDS) {
    if (!(value instanceof constructor)) continue;
    try {
      read.call(value);
    } catch {
      return true;
    }
  }
  return false;
}

/** "a string", "an array". */
function withArticle(noun: string): string {
  return `${/^[AEIOaeio]/.test(noun) ? "an" : "a"} ${noun}`;
}

const IMPOSTOR =
  "a proxy of a built-in object, or an object that only inherits from a built-in class";

/**
 * Why a value cannot be sent with MessagePack, apart from its parts.
 *
 * @param value A value.
 * @returns A description that follows "the value at … is", or `undefined`.
 */
export function describeUnsendable(value: unknown): string | undefined {
  if (typeof value === "function" || typeof value === "symbol") {
    return `a ${typeof value}, which cannot be sent`;
  }
  if (typeof value !== "object" || value === null) return undefined;
  if (ArrayBuffer.isView(value)) {
    if (value.buffer instanceof ArrayBuffer) {
      if (value.buffer.detached) {
        return "a view of a detached ArrayBuffer";
      }
      return isOutOfBounds(value)
        ? "a view beyond the end of a resized ArrayBuffer"
        : undefined;
    }
    return "a view of a SharedArrayBuffer, which cannot be sent as bytes";
  }
  // Most objects are plain.
  if (Object.getPrototypeOf(value) === Object.prototype) return undefined;
  if (value instanceof ArrayBuffer && !isImpostor(value)) {
    return value.detached ? "a detached ArrayBuffer" : undefined;
  }
  if (isImpostor(value)) return IMPOSTOR;
  if (value instanceof RegExp) return describeRegexp(value);
  const list = Array.isArray(value)
    ? value
    : value instanceof Error
    ? toParts(value).errors
    : undefined;
  if (list !== undefined && list.length > MAX_ITEMS) {
    const what = list === value ? "an array" : "an error with an array";
    return `${what} of ${list.length} items, which is more than ${MAX_ITEMS}`;
  }
  if (
    Array.isArray(value) || value instanceof Map || value instanceof Set ||
    value instanceof Error || value instanceof Date || isRecord(value) ||
    unboxed(value) !== undefined || toWritten(value) !== undefined
  ) return undefined;
  const written = writtenClass(value);
  if (written !== undefined) {
    return describeUnwritten(written, value) ?? IMPOSTOR;
  }
  const tag = Object.prototype.toString.call(value).slice(8, -1);
  // A class of the runtime without a tag.
  const name = tag === "Object"
    ? Object.getPrototypeOf(value).constructor.name
    : tag;
  return `${withArticle(excerpt(name))}, which cannot be sent`;
}

function describeRegexp({ source, flags }: RegExp): string | undefined {
  return regexpCost(source, flags) > MAX_COST
    ? `a regular expression of ${source.length} characters, which would take a receiver too long to read`
    : undefined;
}

/** Characters of a path above which only its two ends are shown. */
const MAX_PATH_LENGTH = 200;

/** A part of a container: the step of the path to it, and the value. */
type Part = readonly [step: string, value: unknown];

/** Describes why a value itself cannot be sent, or returns `undefined`. */
export type Describe = (value: unknown) => string | undefined;

/** ".name", or `["two words"]`. */
export function propertyStep(key: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${quoted(key)}]`;
}

/** The step from a map to the value of a key. */
export function mapStep(key: unknown): string {
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
  for (const key of keys) yield [propertyStep(key), record[key]];
}

function* errorParts(error: Error): Generator<Part> {
  const { causes, errors = [], fields } = toParts(error);
  for (const cause of causes) yield [".cause", cause];
  yield* indexedParts(".errors", errors);
  yield* recordParts(fields, Object.keys(fields));
}

function* arrayParts(array: unknown[]): Generator<Part> {
  yield* indexedParts("", array);
  yield* recordParts(array, arrayFields(array));
}

/** The parts of a container, or `undefined` if the value is not a container. */
export function containerParts(value: object): Generator<Part> | undefined {
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

/**
 * The least size of a message with a copy of each container in each place. It takes
 * one visit of each container, while the copies may be more than memory holds.
 *
 * @param root The message.
 * @returns Bytes that the message has at least, or `undefined` if it has a cycle or is
 *   nested too deep.
 */
export function leastCopiedSize(root: unknown): number | undefined {
  /** The size of each container, or `undefined` while it is visited. */
  const sizes = new Map<object, number | undefined>();

  function sizeOf(value: unknown, depth: number): number | undefined {
    if (typeof value === "string") return value.length;
    if (typeof value !== "object" || value === null) return 1;
    if (sizes.has(value)) return sizes.get(value);
    const parts = containerParts(value);
    if (parts === undefined) return 1;
    if (depth === MAX_DEPTH) return undefined;
    sizes.set(value, undefined);
    let size = 1;
    for (const [, part] of parts) {
      const partSize = sizeOf(part, depth + 1);
      if (partSize === undefined) return undefined;
      size += partSize;
    }
    sizes.set(value, size);
    return size;
  }

  return sizeOf(root, 0);
}

/** A path in quotation marks, without its middle if it is very long. */
export function quotedPath(path: string): string {
  const half = MAX_PATH_LENGTH / 2;
  return path.length > MAX_PATH_LENGTH
    ? `"${printable(path.slice(0, half))}…${printable(path.slice(-half))}"`
    : `"${printable(path)}"`;
}

/**
 * A container that the walk has reached: its path and depth, and whether the walk is
 * in it.
 */
interface Visit {
  path: string;
  depth: number;
  open: boolean;
}

/** What happens to a container that occurs again: it is sent, as a copy, or not. */
export type Sharing = "graph" | "copies" | "none";

/** Describes a container that occurs a second time. */
function describeRepeat({ path, open }: Visit): string {
  return open
    ? `the object at ${
      quotedPath(path)
    } that contains it: a cycle cannot be sent`
    : `the object at ${
      quotedPath(path)
    } again: a shared reference cannot be sent`;
}

/**
 * Finds why a message cannot be encoded.
 *
 * @param root The message.
 * @param describe Describes why a value itself cannot be sent.
 * @param sharing What happens to a container that occurs again.
 * @returns The text of the error, with the path to the value.
 */
export function explainRefusal(
  root: unknown,
  describe: Describe,
  sharing: Sharing,
): string {
  return findRefusal(root, describe, sharing) ??
    "Cannot encode a message: a value in it changed while it was encoded";
}

/**
 * Finds a value that cannot be encoded.
 *
 * @param root The message.
 * @param describe Describes why a value itself cannot be sent.
 * @param sharing What happens to a container that occurs again.
 * @returns The text of the error, or `undefined` if all values can be encoded.
 */
export function findRefusal(
  root: unknown,
  describe: Describe,
  sharing: Sharing,
): string | undefined {
  const seen = new Map<object, Visit>();

  function visit(
    value: unknown,
    path: string,
    depth: number,
  ): string | undefined {
    const reason = describe(value);
    if (reason) return `the value at ${quotedPath(path)} is ${reason}`;
    if (typeof value !== "object" || value === null) return undefined;
    const parts = containerParts(value);
    if (!parts) return undefined;
    const first = seen.get(value);
    if (first) {
      if (sharing === "none" || sharing === "copies" && first.open) {
        return `the value at ${quotedPath(path)} is ${describeRepeat(first)}`;
      }
      // A copy that is nested deeper may be nested too deep.
      if (sharing === "graph" || depth <= first.depth) return undefined;
    }
    if (depth === MAX_DEPTH) {
      return `the value at ${quotedPath(path)} is nested too deep: ` +
        `at most ${MAX_DEPTH} containers may be nested`;
    }
    const visited = { path, depth, open: true };
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
