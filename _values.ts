// Copyright 2026 the Duplex authors. MIT license.

/**
 * What the codecs agree on: how deep a message may be nested, the numbers of
 * the MessagePack extension types, and which values cannot be sent.
 *
 * @module
 */

/**
 * How many containers (arrays, objects, maps, sets, errors) may be nested in a
 * message. The codecs recurse, so the limit keeps a hostile message from
 * exhausting the stack: a chain of this many errors, the costliest, takes half
 * of the megabyte that V8 gives a thread. Data is rarely deeper than ten.
 */
export const MAX_DEPTH = 500;

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
/** The timestamp of the MessagePack specification, -1 as a byte. */
export const EXT_TIMESTAMP = 0xff;

/** A constructor of an array buffer's view. */
export type ViewConstructor = new (buffer: ArrayBuffer) => ArrayBufferView;

/** What an older runtime may not have. */
const RUNTIME: { readonly Float16Array?: ViewConstructor } = globalThis;

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
      return value.buffer.detached
        ? "a view of an ArrayBuffer that was given away"
        : undefined;
    }
    return "a view of a SharedArrayBuffer, which cannot be sent as bytes";
  }
  if (value instanceof ArrayBuffer) {
    return value.detached ? "an ArrayBuffer that was given away" : undefined;
  }
  if (
    Array.isArray(value) || value instanceof Map || value instanceof Set ||
    value instanceof Error || value instanceof Date ||
    value instanceof RegExp || isRecord(value)
  ) return undefined;
  const tag = Object.prototype.toString.call(value).slice(8, -1);
  return `${withArticle(tag)}, which cannot be sent`;
}
