// Copyright 2026 the Duplex authors. MIT license.

/**
 * The buffers in `transfer` of a message: their check, and detaching them.
 *
 * @module
 */

import { excerpt } from "../_base/text.ts";

/**
 * Throws unless every item can be transferred and is in the list once.
 *
 * @param to The receiver. A thread can receive a `MessagePort` as well.
 */
export function checkTransfer(
  transfer: readonly Transferable[],
  to: "another process" | "a thread",
): void {
  const isThread = to === "a thread";
  for (const [index, item] of transfer.entries()) {
    const isMovable = item instanceof ArrayBuffer
      ? !item.detached
      : isThread && item instanceof MessagePort;
    if (isMovable && transfer.indexOf(item) === index) continue;
    const kinds = isThread
      ? "a MessagePort and an ArrayBuffer"
      : "an ArrayBuffer";
    throw new TypeError(
      `Cannot transfer ${
        excerpt(Object.prototype.toString.call(item))
      }: only ${kinds} that is not detached can be transferred to ${to}, and only once`,
    );
  }
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
