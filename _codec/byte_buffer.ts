// Copyright 2026 the Duplex authors. MIT license.

/**
 * Bytes that grow at the end: what encoders write into, so that a message goes
 * from its value into the outgoing frames with one copy. Text goes in and comes
 * out as UTF-8.
 *
 * @module
 */

/**
 * A growing run of bytes. A writer calls {@linkcode ByteBuffer.reserve} for the
 * most that it is about to write, writes at {@linkcode ByteBuffer.length}
 * through `bytes` or `view`, and moves `length` on. The fields are open because
 * the encoders' inner loops live on them.
 *
 * @example Usage
 * ```ts
 * import { ByteBuffer } from "@duplex/ipc/codec";
 * import { assertEquals } from "@std/assert";
 *
 * const buffer = new ByteBuffer(16);
 * buffer.reserve(4);
 * buffer.view.setUint32(buffer.length, 0xcafe);
 * buffer.length += 4;
 * assertEquals(buffer.toBytes(), new Uint8Array([0, 0, 0xca, 0xfe]));
 * ```
 */
export class ByteBuffer {
  /**
   * The storage; what lies past `length` is unused. Replaced when it grows.
   *
   * @example Usage
   * ```ts
   * import { ByteBuffer } from "@duplex/ipc/codec";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new ByteBuffer(16).bytes.length, 16);
   * ```
   */
  bytes: Uint8Array<ArrayBuffer>;
  /**
   * A view of the same storage. Replaced when it grows.
   *
   * @example Usage
   * ```ts
   * import { ByteBuffer } from "@duplex/ipc/codec";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new ByteBuffer(16).view.byteLength, 16);
   * ```
   */
  view: DataView<ArrayBuffer>;
  /**
   * How many bytes are in use.
   *
   * @example Usage
   * ```ts
   * import { ByteBuffer } from "@duplex/ipc/codec";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new ByteBuffer(16).length, 0);
   * ```
   */
  length = 0;

  /**
   * Constructs a new instance.
   *
   * @param capacity Bytes to set aside at first.
   */
  constructor(capacity: number) {
    this.bytes = new Uint8Array(capacity);
    this.view = new DataView(this.bytes.buffer);
  }

  /**
   * Makes room for `size` more bytes. The storage at least doubles when it has
   * to grow, so that many small writes cost one copy in all.
   *
   * @example Usage
   * ```ts
   * import { ByteBuffer } from "@duplex/ipc/codec";
   * import { assert } from "@std/assert";
   *
   * const buffer = new ByteBuffer(16);
   * buffer.reserve(100);
   * assert(buffer.bytes.length >= 100);
   * ```
   *
   * @param size How many bytes are about to be written.
   */
  reserve(size: number): void {
    const needed = this.length + size;
    if (needed > this.bytes.length) this.#grow(needed);
  }

  /**
   * A copy of the bytes in use.
   *
   * @example Usage
   * ```ts
   * import { ByteBuffer } from "@duplex/ipc/codec";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new ByteBuffer(16).toBytes(), new Uint8Array());
   * ```
   *
   * @returns A copy of the bytes in use.
   */
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
  // U+FFFD may be what was sent, or stand for what is malformed. The other
  // decoder throws then; it would take as much memory again for a valid text.
  if (
    !text.includes("\ufffd") || countInText(text) === countInBytes(bytes)
  ) return text;
  return FATAL_DECODER.decode(bytes);
}

/** How often U+FFFD stands in a text. */
function countInText(text: string): number {
  let count = 0;
  for (
    let at = text.indexOf("\ufffd");
    at >= 0;
    at = text.indexOf("\ufffd", at + 1)
  ) count++;
  return count;
}

/** How often U+FFFD stands in UTF-8. */
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
