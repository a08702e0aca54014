// Copyright 2026 the Duplex authors. MIT license.

/**
 * What the codecs agree on: how deep a message may be nested, the numbers of
 * the MessagePack extension types, and which values cannot be sent.
 *
 * @module
 */

import { MAX_COST, MAX_ITEMS, regexpCost } from "./message_cost.ts";
import { excerpt } from "../_base/text.ts";

/**
 * How many containers (arrays, objects, maps, sets, errors) may be nested in a
 * message. The codecs recurse, so the limit keeps a hostile message from
 * exhausting the stack: a chain of this many errors, the costliest, takes half
 * of the megabyte that V8 gives a thread. Data is rarely deeper than ten.
 */
export const MAX_DEPTH = 500;

/**
 * From this size on, a byte array of a message that the caller gave up is a
 * view of it. Below, a copy costs little and lets go of the message.
 */
export const MIN_OWNED_VIEW = 0x1_0000;

/** What the high word of 64 bits counts. */
export const TWO_32 = 0x1_0000_0000;

/** 2^53 / 2^32: the high words of safe integers stay below it. */
export const MAX_SAFE_HIGH = 0x20_0000;

/** `undefined`; no payload. */
export const EXT_UNDEFINED = 0x01;
/** A bigint; a sign byte (0 or 1 for negative), the magnitude big-endian. */
export const EXT_BIGINT = 0x02;
/** A regular expression; two strings, its source and its flags. */
export const EXT_REGEXP = 0x03;
/** A `Map`; an array of a key, its value, the next key, its value … */
export const EXT_MAP = 0x04;
/** A `Set`; an array of its values. */
export const EXT_SET = 0x05;
/** An `ArrayBuffer`; its bytes. */
export const EXT_ARRAY_BUFFER = 0x06;
/** A view; a byte of {@linkcode VIEW_KINDS}, its elements little-endian. */
export const EXT_VIEW = 0x07;
/** An error; an array of class, name, message, stack, causes, errors, fields. */
export const EXT_ERROR = 0x08;
/** A `Date` without a time; no payload. */
export const EXT_INVALID_DATE = 0x09;
/** A string that UTF-8 cannot carry; its UTF-16 code units little-endian. */
export const EXT_UTF16 = 0x0a;
/** An array with fields of its own; an array of its items, a map of its fields. */
export const EXT_ARRAY = 0x0b;
/** The timestamp of the MessagePack specification, -1 as a byte. */
export const EXT_TIMESTAMP = 0xff;

/** A constructor of an array buffer's view. */
export type ViewConstructor = new (buffer: ArrayBuffer) => ArrayBufferView;

/** What an older runtime may not have. */
const RUNTIME: {
  readonly Float16Array?: ViewConstructor;
  readonly SuppressedError?: SuppressedErrorConstructor;
  readonly DOMException?: typeof DOMException;
} = globalThis;

/** A view's constructor by its kind byte, and the bytes of an element. */
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
 * @returns The kind, or `undefined` for one that is not known.
 */
export function viewKind(view: ArrayBufferView): number | undefined {
  for (const [kind, [constructor]] of VIEW_KINDS) {
    if (view instanceof constructor) return kind;
  }
  return undefined;
}

/**
 * Whether an object is sent by its own enumerable properties: a plain object or
 * an instance of a class of the program's own.
 *
 * @param value An object of no other known kind.
 * @returns Whether it is sent by its properties.
 */
export function isRecord(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null ||
    Object.prototype.toString.call(value) === "[object Object]";
}

/**
 * Whether memory is shared between threads, or was given away to one: neither
 * can be sent as bytes.
 *
 * @param buffer The memory.
 * @returns Whether it cannot be sent.
 */
export function isUnsendableBuffer(buffer: ArrayBufferLike): boolean {
  return !(buffer instanceof ArrayBuffer) || buffer.detached;
}

/**
 * Whether a view lies beyond the end of a buffer that was made smaller.
 *
 * @param view A view of memory that was not given away.
 * @returns Whether it has no bytes that could be sent.
 */
export function isOutOfBounds(view: ArrayBufferView): boolean {
  // Such a typed array has a length of 0, and such a `DataView` none at all.
  if (!(view instanceof DataView) && view.byteLength > 0) return false;
  if (!(view.buffer as ArrayBuffer).resizable) return false;
  try {
    if (view instanceof DataView) return view.byteLength < 0;
    // Each method of a typed array looks whether it is in bounds.
    Uint8Array.prototype.at.call(view, 0);
    return false;
  } catch {
    return true;
  }
}

/** Items up to which it is faster to ask for an array's keys than its values. */
const MAX_FEW_ITEMS = 4;

/** The last index of an array of so many items. */
const LAST_INDEX = [undefined, "0", "1", "2", "3"];

/**
 * Whether an array may have fields beside its items, as what `RegExp.exec`
 * returns. It may if it has not as many values as items, and may not otherwise,
 * unless an item is missing.
 *
 * @param array The array.
 * @returns Whether to ask for its fields.
 */
export function mayHaveFields(array: unknown[]): boolean {
  const { length } = array;
  // The values are there without a string for each index.
  if (length > MAX_FEW_ITEMS) return Object.values(array).length !== length;
  const keys = Object.keys(array);
  return keys[keys.length - 1] !== LAST_INDEX[length];
}

/**
 * The fields that an array has beside its items.
 *
 * @param array The array.
 * @returns Their names.
 */
export function arrayFields(array: unknown[]): string[] {
  const keys = Object.keys(array);
  // Indexes come first.
  let first = keys.length;
  while (first > 0 && !isIndex(keys[first - 1]!)) first--;
  return keys.slice(first);
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
 * Whether an object inherits from a built-in class without being one of its
 * objects, such as a proxy of one. The methods of the class throw for it.
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

/**
 * Why a value that is not sent by parts cannot be sent with MessagePack.
 *
 * @param value A value.
 * @returns What the value is, to follow "the value at … is", or `undefined`.
 */
export function describeUnsendable(value: unknown): string | undefined {
  if (typeof value === "function" || typeof value === "symbol") {
    return `a ${typeof value}, which cannot be sent`;
  }
  if (typeof value !== "object" || value === null) return undefined;
  if (ArrayBuffer.isView(value)) {
    if (value.buffer instanceof ArrayBuffer) {
      if (value.buffer.detached) {
        return "a view of an ArrayBuffer that was given away";
      }
      return isOutOfBounds(value)
        ? "a view beyond the end of an ArrayBuffer that was made smaller"
        : undefined;
    }
    return "a view of a SharedArrayBuffer, which cannot be sent as bytes";
  }
  // Most objects are plain.
  if (Object.getPrototypeOf(value) === Object.prototype) return undefined;
  if (value instanceof ArrayBuffer && !isImpostor(value)) {
    return value.detached ? "an ArrayBuffer that was given away" : undefined;
  }
  if (isImpostor(value)) {
    return "a proxy of a built-in object, or an object that only inherits from a built-in class";
  }
  if (value instanceof RegExp) return describeRegexp(value);
  const list = Array.isArray(value)
    ? value
    : value instanceof Error
    ? errorErrors(value)
    : undefined;
  if (list !== undefined && list.length > MAX_ITEMS) {
    const what = list === value ? "an array" : "an error with an array";
    return `${what} of ${list.length} items, which is more than ${MAX_ITEMS}`;
  }
  if (
    Array.isArray(value) || value instanceof Map || value instanceof Set ||
    value instanceof Error || value instanceof Date || isRecord(value)
  ) return undefined;
  const tag = Object.prototype.toString.call(value).slice(8, -1);
  return `${withArticle(excerpt(tag))}, which cannot be sent`;
}

function describeRegexp({ source, flags }: RegExp): string | undefined {
  return regexpCost(source, flags) > MAX_COST
    ? `a regular expression of ${source.length} characters, which would take a receiver too long to read`
    : undefined;
}

/** Error classes that come back as themselves, the most special first. */
const ERROR_CLASSES: ReadonlyMap<string, ErrorConstructor> = new Map([
  ["EvalError", EvalError],
  ["RangeError", RangeError],
  ["ReferenceError", ReferenceError],
  ["SyntaxError", SyntaxError],
  ["TypeError", TypeError],
  ["URIError", URIError],
]);

const SuppressedErrorClass = RUNTIME.SuppressedError;

const DomExceptionClass = RUNTIME.DOMException;

/**
 * The class that an error comes back as.
 *
 * @param error The error.
 * @returns The class's name.
 */
export function errorClass(error: Error): string {
  for (const [name, constructor] of ERROR_CLASSES) {
    if (error instanceof constructor) return name;
  }
  if (error instanceof AggregateError) return "AggregateError";
  if (SuppressedErrorClass && error instanceof SuppressedErrorClass) {
    return "SuppressedError";
  }
  if (DomExceptionClass && error instanceof DomExceptionClass) {
    return "DOMException";
  }
  return "Error";
}

/**
 * The errors that an error holds beside its cause.
 *
 * @param error The error.
 * @returns The errors of an `AggregateError`, the error and the suppressed one
 * of a `SuppressedError`, `undefined` for other classes.
 */
export function errorErrors(error: Error): unknown[] | undefined {
  if (error instanceof AggregateError) {
    return Array.isArray(error.errors) ? error.errors : [];
  }
  if (SuppressedErrorClass && error instanceof SuppressedErrorClass) {
    const { error: inner, suppressed } = error as {
      error?: unknown;
      suppressed?: unknown;
    };
    return [inner, suppressed];
  }
  return undefined;
}

/** Properties of every error that its payload has a place for. */
const ERROR_PARTS: ReadonlySet<string> = new Set([
  "name",
  "message",
  "stack",
  "cause",
]);

/** The same of an error that holds errors. */
const AGGREGATE_PARTS: ReadonlySet<string> = new Set([
  ...ERROR_PARTS,
  "errors",
]);
const SUPPRESSED_PARTS: ReadonlySet<string> = new Set([
  ...ERROR_PARTS,
  "error",
  "suppressed",
]);

/** The properties of an error that its payload has a place for. */
function errorParts(error: Error): ReadonlySet<string> {
  if (error instanceof AggregateError) return AGGREGATE_PARTS;
  return SuppressedErrorClass && error instanceof SuppressedErrorClass
    ? SUPPRESSED_PARTS
    : ERROR_PARTS;
}

/**
 * The names of an error's own fields, apart from those that its payload has a
 * place for.
 *
 * @param error The error.
 * @returns The names.
 */
export function errorFields(error: Error): string[] {
  const parts = errorParts(error);
  return Object.keys(error).filter((key) => !parts.has(key));
}

/** The parts of an error as they were sent. */
export interface ErrorParts {
  /** The standard class, or any other name for `Error`. */
  className: string;
  /** The error's `name`. */
  name: string;
  /** The message, `undefined` if it has none of its own. */
  message: string | undefined;
  /** The stack, `undefined` if it has none. */
  stack: string | undefined;
  /** The cause, or nothing. */
  causes: unknown[];
  /** The errors that an aggregate holds. */
  errors: unknown[];
  /** The error's own fields. */
  fields: Record<string, unknown>;
}

/** The last index that an object or an array may have. */
const MAX_INDEX = 2 ** 32 - 2;

/** Whether a property's name is an index, which V8 keeps apart from other names. */
export function isIndex(key: string): boolean {
  const { length } = key;
  if (length === 0 || length > 10) return false;
  for (let at = 0; at < length; at++) {
    const code = key.charCodeAt(at);
    if (code < 0x30 || code > 0x39) return false;
  }
  return (length === 1 || key[0] !== "0") &&
    (length < 10 || Number(key) <= MAX_INDEX);
}

/** The last index but one that an object may have. */
const FAR_INDEX = "4294967293";

/**
 * Sets a property whose name is an index. V8 may set aside memory for all indexes
 * that come before it, 13 kB for a key of four bytes; an object
 * that has a far one keeps what it holds and no more.
 *
 * @param record The object.
 * @param key The name.
 * @param value The value.
 */
export function defineIndex(
  record: Record<string, unknown>,
  key: string,
  value: unknown,
): void {
  if (Object.hasOwn(record, FAR_INDEX) || key === FAR_INDEX) {
    record[key] = value;
    return;
  }
  record[FAR_INDEX] = undefined;
  record[key] = value;
  delete record[FAR_INDEX];
}

/**
 * Sets an own property, even where assigning would reach a prototype's setter.
 *
 * @param target The object.
 * @param key The property's name.
 * @param value Its value.
 * @param enumerable Whether it is seen when the object is walked.
 */
export function defineOwn(
  target: object,
  key: string,
  value: unknown,
  enumerable = true,
): void {
  Object.defineProperty(target, key, {
    value,
    writable: true,
    enumerable,
    configurable: true,
  });
}

/**
 * Sets an own property of an object that was just made.
 *
 * @param target The object.
 * @param key The property's name.
 * @param value Its value.
 */
export function setOwn(target: object, key: string, value: unknown): void {
  // Assigning takes a third of the time, where no prototype has such a property.
  if (key in target) defineOwn(target, key, value);
  else (target as Record<string, unknown>)[key] = value;
}

/** The classes that an error comes back as, by their names. */
export const STANDARD_ERRORS: ReadonlySet<string> = new Set([
  "Error",
  "AggregateError",
  ...ERROR_CLASSES.keys(),
  ...SuppressedErrorClass ? ["SuppressedError"] : [],
  ...DomExceptionClass ? ["DOMException"] : [],
]);

/** An error of the class named, with what its constructor takes. */
function construct(parts: ErrorParts): Error {
  const { className, name, message, errors } = parts;
  if (className === "AggregateError") {
    return new AggregateError(errors, message);
  }
  if (className === "SuppressedError" && SuppressedErrorClass) {
    return new SuppressedErrorClass(errors[0], errors[1], message);
  }
  if (className === "DOMException" && DomExceptionClass) {
    return new DomExceptionClass(message, name);
  }
  return new (ERROR_CLASSES.get(className) ?? Error)(message);
}

/**
 * Puts an error together.
 *
 * @param parts Its parts.
 * @returns The error.
 */
export function makeError(parts: ErrorParts): Error {
  return completeError(construct(parts), parts);
}

/**
 * Sets an error's stack through the accessor that V8 gives each error, which
 * takes a quarter of the memory that another property in its place takes.
 */
function setStack(error: Error, stack: string | undefined): void {
  error.stack = stack as string;
  if (error.stack !== stack) defineOwn(error, "stack", stack, false);
}

/**
 * Gives an error what its constructor did not take. A field never takes the place
 * of a part, which may have another type.
 *
 * @param error The error.
 * @param parts Its parts.
 * @returns The error.
 */
export function completeError<E extends Error>(error: E, parts: ErrorParts): E {
  setStack(error, parts.stack);
  if (error.name !== parts.name) defineOwn(error, "name", parts.name, false);
  if (parts.causes.length > 0) {
    defineOwn(error, "cause", parts.causes[0], false);
  }
  const { fields } = parts;
  const own = errorParts(error);
  for (const key of Object.keys(fields)) {
    if (!own.has(key)) setOwn(error, key, fields[key]);
  }
  return error;
}
