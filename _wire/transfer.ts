// Copyright 2026 the Duplex authors. MIT license.

/**
 * Buffers that a sender gives up with a message.
 *
 * @module
 */

import { excerpt } from "../_base/text.ts";

/**
 * Throws unless every item can move, and stands in the list once.
 *
 * @param to Where to. A thread receives a `MessagePort` as well.
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
      }: only ${kinds} that is not detached can be given up to ${to}, and only once`,
    );
  }
}

/** Detaches a buffer whose bytes were copied. */
export function detach(buffer: ArrayBuffer): void {
  try {
    buffer.transfer();
  } catch {
    // The memory of a WebAssembly module cannot be detached. The message has
    // its copy, so only that the caller keeps the buffer differs.
  }
}
