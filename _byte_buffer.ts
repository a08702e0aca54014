// Copyright 2026 the Duplex authors. MIT license.

/**
 * Bytes that grow at the end: what encoders write into, so that a message goes
 * from its value into the outgoing frames with one copy.
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
