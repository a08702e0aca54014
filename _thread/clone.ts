// Copyright 2026 the Duplex authors. MIT license.

/**
 * Messages that are cloned between threads, because bytes cannot carry them: shared
 * memory, objects of the runtime such as a `Blob`, what is in `transfer`, and cycles
 * with a codec that has no graph form.
 *
 * A clone that fails does not name the value, and has detached the buffers in
 * `transfer` before. So arrays, objects, maps, sets and errors are copied first: a
 * value that cannot be sent is found then, getters and proxies are read once, and
 * nothing is left that the clone could refuse. The clone loses the class and the
 * fields of errors, so they are sent along and restored. It refuses a `URL` and the
 * objects of `Temporal`: an empty object takes the place of each, and its text is sent
 * along.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { checkTransfer, isTransferable } from "../_wire/transfer.ts";
import { createError, restoreParts, toParts } from "../_codec/error_parts.ts";
import { isIndex, setOwn } from "../_codec/properties.ts";
import { SeparateList } from "../_codec/separate_list.ts";
import {
  arrayFields,
  describeUnsendable,
  isRecord,
  mapStep,
  MAX_DEPTH,
  propertyStep,
  quotedPath,
} from "../_codec/values.ts";
import { readWritten, toWritten, WRITTEN_KINDS } from "../_codec/written.ts";

/**
 * The parts of an error that the clone loses. The error itself is included: in the
 * clone it is the same object in the note and in the message.
 */
type ErrorNote = [
  error: Error,
  className: string,
  name: string,
  causes: readonly unknown[],
  errors: readonly unknown[] | undefined,
  fields: Readonly<Record<string, unknown>>,
];

/** An object that is sent as a text: what takes its place, its class and its text. */
type WrittenNote = [place: object, kind: number, text: string];

/** A message prepared for a clone, with notes of its errors and texts. */
export type Cloneable = [
  message: unknown,
  errors: ErrorNote[],
  written: WrittenNote[],
];

/** Bytes that a value counts as, in addition to those of texts and buffers: a word. */
const VALUE_SIZE = 8;

/**
 * Sizes of a byte array that is cheaper to post than to encode, and behind which
 * control frames do not wait long.
 */
const MIN_BULK = 64 * 1024;
const MAX_BULK = 4 * 1024 * 1024;

/** Whether a message is a large byte array, which is cheaper to clone. */
export function isBulk(message: unknown): message is Uint8Array<ArrayBuffer> {
  return message instanceof Uint8Array && message.length >= MIN_BULK &&
    message.length <= MAX_BULK && message.constructor === Uint8Array &&
    message.buffer instanceof ArrayBuffer;
}

/** The bytes in a buffer of their size, since a clone copies the whole buffer. */
export function trimmed(
  bytes: Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  return bytes.length === bytes.buffer.byteLength ? bytes : bytes.slice();
}

/**
 * Makes a message ready to be posted.
 *
 * @param message The message.
 * @param transfer The buffers, ports and streams that are transferred.
 * @returns A copy of the message with its notes, and its approximate size in bytes.
 * @throws {TypeError} If the message holds a value that cannot be sent.
 */
export function makeCloneable(
  message: unknown,
  transfer: readonly Transferable[] = [],
): { cloneable: Cloneable; size: number } {
  checkTransfer(transfer, "a thread");
  const copier = new Copier(transfer);
  const copy = copier.copy(message, "$", 0);
  const cloneable: Cloneable = [copy, copier.errors, copier.written];
  return { cloneable, size: copier.size };
}

/** Copies the containers of a message, and checks its values. */
class Copier {
  readonly errors: ErrorNote[] = [];
  readonly written: WrittenNote[] = [];
  /** The approximate size of the message in bytes. */
  size = 0;
  readonly #transfer: readonly unknown[];
  /** The copies of the containers, and all other objects that were met. */
  #copies = new Map<object, unknown>();
  /** Objects in earlier items of a {@linkcode SeparateList}. */
  #earlier: Set<unknown> | undefined;

  constructor(transfer: readonly unknown[]) {
    this.#transfer = transfer;
  }

  copy(value: unknown, path: string, depth: number): unknown {
    this.size += sizeOf(value);
    if (isObject(value)) {
      const known = this.#copies.get(value);
      if (known !== undefined) return known;
      if (this.#transfer.includes(value)) return this.#leaf(value);
    }
    const reason = refusal(value);
    if (reason !== undefined) refuse(path, reason);
    if (!isObject(value)) return value;
    if (ArrayBuffer.isView(value)) return this.#leaf(value);
    if (depth === MAX_DEPTH) {
      refuse(
        path,
        `nested too deep: at most ${MAX_DEPTH} containers may be nested`,
      );
    }
    if (Array.isArray(value)) return this.#array(value, path, depth + 1);
    if (value instanceof Map) return this.#map(value, path, depth + 1);
    if (value instanceof Set) {
      const set = this.#keep(value, new Set());
      let index = 0;
      for (const item of value) {
        set.add(this.copy(item, `${path}.values()[${index++}]`, depth + 1));
      }
      return set;
    }
    if (value instanceof Error) return this.#error(value, path, depth + 1);
    if (!isPlain(value)) return this.#written(value) ?? this.#leaf(value);
    const record = this.#keep(value, {});
    const keys = Object.keys(value);
    return this.#fields(record, value, keys, path, depth + 1);
  }

  #keep<T>(value: object, copy: T): T {
    this.#copies.set(value, copy);
    return copy;
  }

  /** An object in the place of one that is sent as a text. */
  #written(value: object): object | undefined {
    const found = toWritten(value);
    if (found === undefined) return undefined;
    const { written: { kind }, text } = found;
    this.size += text.length;
    const place = {};
    this.written.push([place, kind, text]);
    return this.#keep(value, place);
  }

  /** An object that the clone copies or moves. */
  #leaf(value: object): object {
    const memory = ArrayBuffer.isView(value) ? value.buffer : value;
    // A clone takes all of the memory behind a view, once.
    if (memory instanceof ArrayBuffer && !this.#copies.has(memory)) {
      this.size += memory.byteLength;
    }
    const isEarlier = this.#earlier?.has(memory) && !isShared(memory);
    const copy = isEarlier ? structuredClone(value) : value;
    if (!isEarlier) this.#earlier?.add(memory);
    this.#copies.set(memory, memory);
    return this.#keep(value, copy);
  }

  #array(value: unknown[], path: string, depth: number): unknown[] {
    const { length } = value;
    const array = this.#keep(value, new Array<unknown>(length));
    const outer = this.#copies;
    const isSeparate = value instanceof SeparateList;
    if (isSeparate) this.#earlier ??= new Set();
    // Missing items stay missing.
    for (const key of Object.keys(value)) {
      if (!isIndex(key)) break;
      if (isSeparate) this.#copies = new Map(outer);
      this.size += key.length;
      const index = Number(key);
      array[index] = this.copy(value[index], `${path}[${index}]`, depth);
    }
    this.#copies = outer;
    return this.#fields(array, value, arrayFields(value), path, depth);
  }

  #map(value: Map<unknown, unknown>, path: string, depth: number): unknown {
    const map = this.#keep(value, new Map<unknown, unknown>());
    let index = 0;
    for (const [key, item] of value) {
      map.set(
        this.copy(key, `${path}.keys()[${index++}]`, depth),
        this.copy(item, path + mapStep(key), depth),
      );
    }
    return map;
  }

  /** An error that the clone carries, with a note of what it loses. */
  #error(error: Error, path: string, depth: number): Error {
    const parts = toParts(error);
    const { className, name, fields } = parts;
    const copy = this.#keep(
      error,
      restoreParts(createError(parts), {
        ...parts,
        causes: [],
        errors: undefined,
        fields: {},
      }),
    );
    const causes = parts.causes.map((cause) =>
      this.copy(cause, `${path}.cause`, depth)
    );
    const errors = parts.errors?.map((inner, index) =>
      this.copy(inner, `${path}.errors[${index}]`, depth)
    );
    const keys = Object.keys(fields);
    const copied = this.#fields({}, fields, keys, path, depth);
    this.errors.push([copy, className, name, causes, errors, copied]);
    return copy;
  }

  #fields<T extends object>(
    target: T,
    value: object,
    keys: readonly string[],
    path: string,
    depth: number,
  ): T {
    for (const key of keys) {
      const step = propertyStep(key);
      this.size += step.length;
      const item = (value as Record<string, unknown>)[key];
      setOwn(target, key, this.copy(item, path + step, depth));
    }
    return target;
  }
}

function refuse(path: string, reason: string): never {
  throw new TypeError(
    `Cannot send a message: the value at ${quotedPath(path)} is ${reason}`,
  );
}

/** Returns the message after it was cloned, and restores its errors and texts. */
export function receiveClone(cloneable: unknown): unknown {
  if (
    !Array.isArray(cloneable) || !Array.isArray(cloneable[1]) ||
    !Array.isArray(cloneable[2])
  ) throw new ProtocolError("Cannot accept a post: it holds no message");
  const notes = (cloneable as Cloneable)[2];
  if (notes.length > 0) putWritten(cloneable, notes);
  const [message, errors] = cloneable as Cloneable;
  for (const note of errors) {
    try {
      restore(note);
    } catch (cause) {
      const text = "Cannot accept a post: its note of an error is not valid";
      throw new ProtocolError(text, { cause });
    }
  }
  return message;
}

/** Puts the objects of texts in their places. */
function putWritten(cloneable: unknown[], notes: readonly WrittenNote[]): void {
  const objects = new Map<unknown, object>();
  for (const note of notes) {
    try {
      const [place, kind, text] = note;
      objects.set(place, readWritten(WRITTEN_KINDS.get(kind)!, text));
    } catch (cause) {
      const message = "Cannot accept a post: its note of a text is not valid";
      throw new ProtocolError(message, { cause });
    }
  }
  // The loop visits the containers that are added in it.
  const containers = new Set<object>([cloneable]);
  const put = (part: unknown) => {
    const object = objects.get(part);
    if (object === undefined && isObject(part)) containers.add(part);
    return object ?? part;
  };
  for (const container of containers) putParts(container, put);
}

/** Replaces the parts of an array, a plain object, a map or a set. */
function putParts(container: object, put: (part: unknown) => unknown): void {
  if (container instanceof Map) {
    const entries = [...container];
    container.clear();
    for (const [key, value] of entries) container.set(put(key), put(value));
  } else if (container instanceof Set) {
    const values = [...container];
    container.clear();
    for (const value of values) container.add(put(value));
  } else if (
    Array.isArray(container) ||
    Object.getPrototypeOf(container) === Object.prototype
  ) {
    const parts = container as Record<string, unknown>;
    for (const key of Object.keys(parts)) {
      const part = parts[key];
      const replaced = put(part);
      if (replaced !== part) setOwn(parts, key, replaced);
    }
  }
}

/** The approximate size of a value, without its parts and its memory. */
function sizeOf(value: unknown): number {
  if (typeof value === "string") return VALUE_SIZE + value.length;
  if (typeof value === "bigint") {
    return VALUE_SIZE + (value.toString(16).length >> 1);
  }
  if (value instanceof Error) {
    return VALUE_SIZE + lengthOf(value.message) + lengthOf(value.stack);
  }
  return VALUE_SIZE;
}

function lengthOf(text: unknown): number {
  return typeof text === "string" ? text.length : 0;
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

function isShared(buffer: unknown): boolean {
  return buffer instanceof SharedArrayBuffer;
}

/** Whether an object is copied as its properties. */
function isPlain(value: object): boolean {
  return !(value instanceof Date || value instanceof RegExp ||
    value instanceof ArrayBuffer) && isRecord(value);
}

/** Returns why a value cannot be sent to a thread, or `undefined`. */
function refusal(value: unknown): string | undefined {
  if (isShared(value)) return undefined;
  if (ArrayBuffer.isView(value) && isShared(value.buffer)) return undefined;
  const reason = describeUnsendable(value);
  if (reason === undefined || !isObject(value) || !isCloned(value)) {
    return isTransferable(value)
      ? `${reason}; it can be moved to a thread: add it to "transfer"`
      : reason;
  }
  return undefined;
}

/**
 * Whether the runtime clones an object that is not part of the language, such as a
 * `Blob`. It clones some as an object without fields.
 */
function isCloned(value: object): boolean {
  // Built-in objects that are refused, such as a detached buffer.
  if (
    value instanceof ArrayBuffer || ArrayBuffer.isView(value) ||
    Array.isArray(value) || value instanceof RegExp || value instanceof Error
  ) return false;
  try {
    const clone: object = structuredClone(value);
    return Object.getPrototypeOf(clone) === Object.getPrototypeOf(value);
  } catch {
    return false;
  }
}

/** Restores the class and the fields of a cloned error. */
function restore([error, className, name, causes, errors, fields]: ErrorNote) {
  if (!(error instanceof Error)) throw new TypeError("It has no error");
  const constructor = (globalThis as Record<string, unknown>)[className];
  const prototype: unknown = typeof constructor === "function"
    ? constructor.prototype
    : undefined;
  // The clone keeps the class of these.
  const isWhole = className === "DOMException" || className === "Error";
  if (!isWhole && prototype instanceof Error) {
    Object.setPrototypeOf(error, prototype);
  }
  // The clone has the message and the stack.
  const { message, stack } = error;
  const parts = { className, name, message, stack, causes, errors, fields };
  restoreParts(error, parts);
}
