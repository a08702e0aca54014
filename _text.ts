// Copyright 2026 the Duplex authors. MIT license.

/**
 * Text into growing bytes and back, for the codecs.
 *
 * @module
 */

import type { ByteBuffer } from "./_byte_buffer.ts";

const TEXT_ENCODER = new TextEncoder();

/** Turns malformed text into U+FFFD, in a third of the time of the next. */
const LENIENT_DECODER = new TextDecoder("utf-8", { ignoreBOM: true });
const FATAL_DECODER = new TextDecoder("utf-8", {
  fatal: true,
  ignoreBOM: true,
});

/**
 * Appends a string as UTF-8.
 *
 * @param target Where to.
 * @param text The string, well-formed.
 */
export function writeText(target: ByteBuffer, text: string): void {
  // One byte a character does for ASCII; the rest of other text follows.
  target.reserve(text.length);
  const { read, written } = TEXT_ENCODER.encodeInto(
    text,
    target.bytes.subarray(target.length),
  );
  target.length += written;
  if (read === text.length) return;
  target.reserve((text.length - read) * 3);
  target.length += TEXT_ENCODER.encodeInto(
    text.slice(read),
    target.bytes.subarray(target.length),
  ).written;
}

/**
 * Reads UTF-8. A byte order mark is a character like any other.
 *
 * @param bytes The text.
 * @returns The string.
 * @throws {TypeError} If the bytes are not valid UTF-8.
 */
export function readText(bytes: Uint8Array): string {
  const text = LENIENT_DECODER.decode(bytes);
  // U+FFFD may be what was sent, or stand for what is malformed.
  return text.includes("\ufffd") ? FATAL_DECODER.decode(bytes) : text;
}
