// Copyright 2026 the Duplex authors. MIT license.

/**
 * A growing buffer that encoders append to, so that a message is copied once from
 * its value to the outgoing frames; and text as UTF-8.
 *
 * @module
 */

/**
 * A growing buffer. A writer calls {@linkcode ByteBuffer.reserve} with the most
 * bytes that it may write, writes at {@linkcode ByteBuffer.length} through `bytes`
 * or `view`, and adds to `length`. The fields are public for the inner loops of
 * encoders.
 */
export class ByteBuffer {
  /** The storage, unused from `length` on. Replaced when it grows. */
  bytes: Uint8Array<ArrayBuffer>;
  /** A view of the same storage. Replaced when it grows. */
  view: DataView<ArrayBuffer>;
  /** Number of bytes in use. */
  length = 0;

  /** @param capacity Initial bytes of the storage. */
  constructor(capacity: number) {
    this.bytes = new Uint8Array(capacity);
    this.view = new DataView(this.bytes.buffer);
  }

  /**
   * Makes room for `size` more bytes. The storage at least doubles when it grows,
   * so that all bytes together are copied once on average.
   */
  reserve(size: number): void {
    const needed = this.length + size;
    if (needed > this.bytes.length) this.#grow(needed);
  }

  /** A copy of the bytes in use. */
  toBytes(): Uint8Array<ArrayBuffer> {
    return this.bytes.slice(0, this.length);
  }

  #grow(needed: number): void {
    const bytes = new Uint8Array(Math.max(needed, this.bytes.length * 2));
    bytes.set(this.bytes.subarray(0, this.length));
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer);
  }
}

const TEXT_ENCODER = new TextEncoder();

/** Decodes malformed text as U+FFFD, in a third of the time of the fatal decoder. */
const LENIENT_DECODER = new TextDecoder("utf-8", { ignoreBOM: true });
const FATAL_DECODER = new TextDecoder("utf-8", {
  fatal: true,
  ignoreBOM: true,
});

/**
 * Appends a string as UTF-8.
 *
 * @param target The buffer.
 * @param text The string, well-formed.
 */
export function writeText(target: ByteBuffer, text: string): void {
  // ASCII needs one byte for each character. The rest of other text follows.
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
  // U+FFFD may have been sent, or replace malformed bytes. Only then the fatal
  // decoder runs: for a valid text it would take the same memory again.
  if (
    !text.includes("\ufffd") || countInText(text) === countInBytes(bytes)
  ) return text;
  return FATAL_DECODER.decode(bytes);
}

/** Occurrences of U+FFFD in a text. */
function countInText(text: string): number {
  let count = 0;
  for (
    let at = text.indexOf("\ufffd");
    at >= 0;
    at = text.indexOf("\ufffd", at + 1)
  ) count++;
  return count;
}

/** Occurrences of U+FFFD in UTF-8. */
function countInBytes(bytes: Uint8Array): number {
  let count = 0;
  for (
    let at = bytes.indexOf(0xef);
    at >= 0;
    at = bytes.indexOf(0xef, at + 1)
  ) {
    if (bytes[at + 1] === 0xbf && bytes[at + 2] === 0xbd) count++;
  }
  return count;
}
