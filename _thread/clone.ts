// Copyright 2026 the Duplex authors. MIT license.

/**
 * Messages that the thread's own clone carries, because bytes cannot: cycles,
 * shared references, shared memory, and buffers that move. The clone loses the
 * class and the fields of errors, so they are sent along and put back; it says
 * nothing of where a value stands that it refuses, so that is found out before.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { excerpt } from "../_base/text.ts";
import { restoreParts, toParts } from "../_codec/error_parts.ts";
import {
  containerParts,
  describeUnsendable,
  MAX_DEPTH,
  quotedPath,
} from "../_codec/values.ts";

/**
 * What the clone forgets of an error. The error itself stands here too: a clone
 * keeps it the same object in the note and in the message.
 */
type ErrorNote = [
  error: Error,
  className: string,
  name: string,
  causes: readonly unknown[],
  errors: readonly unknown[] | undefined,
  fields: Readonly<Record<string, unknown>>,
];

/** A message as it is posted. */
export type Parcel = [message: unknown, errors: ErrorNote[]];

/** What a value is taken to cost, beside the bytes of texts and buffers: a word. */
const VALUE_SIZE = 8;

/**
 * Bytes from which on a byte array is cheaper to post than to pack, and up to
 * which control frames do not wait long behind it.
 */
const MIN_BULK = 64 * 1024;
const MAX_BULK = 4 * 1024 * 1024;

/** Whether a message is better cloned by itself: a large byte array. */
export function isBulk(message: unknown): message is Uint8Array<ArrayBuffer> {
  return message instanceof Uint8Array && message.length >= MIN_BULK &&
    message.length <= MAX_BULK && message.constructor === Uint8Array &&
    message.buffer instanceof ArrayBuffer;
}

/** The bytes with no more behind them than they are: a clone takes all there is. */
export function trimmed(
  bytes: Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  return bytes.length === bytes.buffer.byteLength ? bytes : bytes.slice();
}

/**
 * Makes a message ready to be posted.
 *
 * @param message The message.
 * @param transfer What moves with it.
 * @returns The parcel, and about how many bytes it takes.
 * @throws {TypeError} If the message holds a value that cannot be sent.
 */
export function makeParcel(
  message: unknown,
  transfer: readonly Transferable[] = [],
): { parcel: Parcel; size: number } {
  const errors: ErrorNote[] = [];
  const seen = new Set<object>();
  let size = 0;
  for (const [index, item] of transfer.entries()) {
    checkTransfer(transfer, item, index);
  }

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
  return { parcel: [message, errors], size };
}

/** The message of a parcel that was cloned on its way. */
export function receiveParcel(parcel: unknown): unknown {
  if (!Array.isArray(parcel) || !Array.isArray(parcel[1])) {
    throw new ProtocolError("Cannot take a post: it holds no message");
  }
  const [message, errors] = parcel as Parcel;
  for (const note of errors) {
    try {
      restore(note);
    } catch (cause) {
      const text =
        "Cannot take a post: what it says of an error makes no sense";
      throw new ProtocolError(text, { cause });
    }
  }
  return message;
}

/** About how many bytes a value takes, without its parts and its memory. */
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

/** Refuses what cannot move to a thread. */
function checkTransfer(
  transfer: readonly Transferable[],
  item: unknown,
  index: number,
): void {
  const isFree = item instanceof ArrayBuffer
    ? !item.detached
    : item instanceof MessagePort;
  if (isFree && transfer.indexOf(item as Transferable) === index) return;
  throw new TypeError(
    `Cannot transfer ${
      excerpt(Object.prototype.toString.call(item))
    }: only a MessagePort and an ArrayBuffer that is not detached can be given up to a thread, and only once`,
  );
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

function isShared(buffer: unknown): boolean {
  return buffer instanceof SharedArrayBuffer;
}

/** Why a thread cannot get a value, or `undefined`. */
function refusal(value: unknown): string | undefined {
  if (isShared(value)) return undefined;
  if (ArrayBuffer.isView(value) && isShared(value.buffer)) return undefined;
  return describeUnsendable(value);
}

function noteOf(error: Error): ErrorNote {
  const { className, name, causes, errors, fields } = toParts(error);
  return [error, className, name, causes, errors, fields];
}

/** Makes a cloned error what it was. */
function restore([error, className, name, causes, errors, fields]: ErrorNote) {
  const constructor = (globalThis as Record<string, unknown>)[className];
  const prototype: unknown = typeof constructor === "function"
    ? constructor.prototype
    : undefined;
  // A clone of these keeps its class by itself.
  const isWhole = className === "DOMException" || className === "Error";
  if (!isWhole && prototype instanceof Error) {
    Object.setPrototypeOf(error, prototype);
  }
  // The clone has the message and the stack.
  const { message, stack } = error;
  const parts = { className, name, message, stack, causes, errors, fields };
  restoreParts(error, parts);
}
