// Copyright 2026 the Duplex authors. MIT license.

/**
 * Messages that are cloned between threads, because bytes cannot carry them:
 * shared memory, buffers that move, and cycles with a codec that has no graph form.
 * The clone loses the class and the fields of errors, so they are sent along and
 * restored. Its error does not name the value that cannot be cloned, so the values are
 * checked before.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { checkTransfer } from "../_wire/transfer.ts";
import { restoreParts, toParts } from "../_codec/error_parts.ts";
import {
  containerParts,
  describeUnsendable,
  MAX_DEPTH,
  quotedPath,
} from "../_codec/values.ts";

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

/** A message prepared for a clone, with notes of its errors. */
export type Cloneable = [message: unknown, errors: ErrorNote[]];

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
 * @param transfer The buffers and ports that are transferred.
 * @returns The message with its notes, and its approximate size in bytes.
 * @throws {TypeError} If the message holds a value that cannot be sent.
 */
export function makeCloneable(
  message: unknown,
  transfer: readonly Transferable[] = [],
): { cloneable: Cloneable; size: number } {
  const errors: ErrorNote[] = [];
  const seen = new Set<object>();
  let size = 0;
  checkTransfer(transfer, "a thread");

  function visit(value: unknown, path: string, depth: number): void {
    size += sizeOf(value);
    const isMoved = transfer.includes(value as Transferable);
    const reason = isMoved ? undefined : refusal(value);
    if (reason !== undefined) {
      throw new TypeError(
        `Cannot send a message: the value at ${quotedPath(path)} is ${reason}`,
      );
    }
    if (!isObject(value) || seen.has(value)) return;
    seen.add(value);
    if (value instanceof ArrayBuffer) size += value.byteLength;
    if (ArrayBuffer.isView(value)) {
      // A clone takes all of the memory behind a view, once.
      const { buffer } = value;
      if (!isShared(buffer) && !seen.has(buffer)) size += buffer.byteLength;
      seen.add(buffer);
      return;
    }
    if (depth === MAX_DEPTH) {
      throw new TypeError(
        `Cannot send a message: the value at ${
          quotedPath(path)
        } is nested too deep: at most ${MAX_DEPTH} containers may be nested`,
      );
    }
    for (const [step, part] of isMoved ? [] : containerParts(value) ?? []) {
      size += step.length;
      visit(part, path + step, depth + 1);
    }
    if (value instanceof Error) errors.push(noteOf(value));
  }

  visit(message, "$", 0);
  return { cloneable: [message, errors], size };
}

/** Returns the message after it was cloned, and restores its errors. */
export function receiveClone(cloneable: unknown): unknown {
  if (!Array.isArray(cloneable) || !Array.isArray(cloneable[1])) {
    throw new ProtocolError("Cannot accept a post: it holds no message");
  }
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

/** Returns why a value cannot be sent to a thread, or `undefined`. */
function refusal(value: unknown): string | undefined {
  if (isShared(value)) return undefined;
  if (ArrayBuffer.isView(value) && isShared(value.buffer)) return undefined;
  return describeUnsendable(value);
}

function noteOf(error: Error): ErrorNote {
  const { className, name, causes, errors, fields } = toParts(error);
  return [error, className, name, causes, errors, fields];
}

/** Restores the class and the fields of a cloned error. */
function restore([error, className, name, causes, errors, fields]: ErrorNote) {
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
