// Copyright 2026 the Duplex authors. MIT license.

/**
 * Text into growing bytes, for the codecs.
 *
 * @module
 */

import type { ByteBuffer } from "./_byte_buffer.ts";

const TEXT_ENCODER = new TextEncoder();

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
