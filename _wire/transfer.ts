// Copyright 2026 the Duplex authors. MIT license.

/**
 * The objects in `transfer` of a message: their check, and detaching buffers.
 *
 * @module
 */

import { excerpt } from "../_base/text.ts";

/**
 * Throws unless every item can be transferred and is in the list once.
 *
 * @param to The receiver. A thread can receive ports and streams as well.
 */
export function checkTransfer(
  transfer: readonly Transferable[],
  to: "another process" | "a thread",
): void {
  const isThread = to === "a thread";
  for (const [index, item] of transfer.entries()) {
    const isMovable = item instanceof ArrayBuffer
      ? !item.detached
      : isThread && isTransferable(item) && !isLocked(item);
    if (isMovable && transfer.indexOf(item) === index) continue;
    const kinds = isThread
      ? "an ArrayBuffer that is not detached, a MessagePort and a stream that is not locked"
      : "an ArrayBuffer that is not detached";
    throw new TypeError(
      `Cannot transfer ${
        excerpt(Object.prototype.toString.call(item))
      }: only ${kinds} can be transferred to ${to}, and only once`,
    );
  }
}

/** Whether a value is a port or a stream, which can be moved to another thread. */
export function isTransferable(
  value: unknown,
): value is MessagePort | ReadableStream | WritableStream | TransformStream {
  return value instanceof MessagePort || value instanceof ReadableStream ||
    value instanceof WritableStream || value instanceof TransformStream;
}

function isLocked(
  item: MessagePort | ReadableStream | WritableStream | TransformStream,
): boolean {
  if (item instanceof MessagePort) return false;
  return item instanceof TransformStream
    ? item.readable.locked || item.writable.locked
    : item.locked;
}

/** Detaches a buffer whose bytes were copied. */
export function detach(buffer: ArrayBuffer): void {
  try {
    buffer.transfer();
  } catch {
    // The memory of a WebAssembly module cannot be detached. The message has
    // a copy, so the only difference is that the caller keeps the buffer.
  }
}
