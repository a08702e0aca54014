// Copyright 2026 the Duplex authors. MIT license.

/**
 * The bytes of a stream that the peer has not acknowledged, kept to be sent again
 * on another connection.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";

/** Initial size of the buffer in bytes, doubled as needed. */
const INITIAL_SIZE = 64 * 1024;

/** Bytes above the limit, for pings, which are not subject to backpressure. */
const PING_ROOM = 64 * 1024;

/** The unacknowledged part of a stream, in a circular buffer. */
export class ReplayLog {
  readonly #limit: number;
  #bytes = new Uint8Array(INITIAL_SIZE);
  /** Positions in the stream, counted from its beginning. */
  #start = 0;
  #end = 0;

  /**
   * @param limit Maximum number of bytes kept, not counting pings.
   */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Number of bytes kept. */
  get length(): number {
    return this.#end - this.#start;
  }

  /** Whether the room for pings is used up as well. */
  get isOverfull(): boolean {
    return this.length >= this.#limit + PING_ROOM;
  }

  /** The position after the last byte. */
  get end(): number {
    return this.#end;
  }

  /** The position up to which all bytes were acknowledged. */
  get start(): number {
    return this.#start;
  }

  /** Adds bytes at the end. */
  append(bytes: Uint8Array): void {
    const length = this.length + bytes.length;
    if (length > this.#bytes.length) this.#grow(length);
    const at = this.#end % this.#bytes.length;
    const head = Math.min(bytes.length, this.#bytes.length - at);
    this.#bytes.set(bytes.subarray(0, head), at);
    this.#bytes.set(bytes.subarray(head), 0);
    this.#end += bytes.length;
  }

  /**
   * Drops all bytes before a position that the peer has acknowledged. A position that
   * was acknowledged before has no effect.
   *
   * @throws {ProtocolError} If these bytes were not written.
   */
  release(position: number): void {
    if (position > this.#end) {
      throw new ProtocolError(
        `Cannot accept an acknowledgement of ${position} bytes: ${this.#end} were written`,
      );
    }
    if (position > this.#start) this.#start = position;
  }

  /** The bytes kept from a position on, in one piece or two. */
  pieces(from: number = this.#start): Uint8Array<ArrayBuffer>[] {
    const size = this.#bytes.length;
    const at = from % size;
    const length = this.#end - from;
    const head = Math.min(length, size - at);
    return [
      this.#bytes.subarray(at, at + head),
      this.#bytes.subarray(0, length - head),
    ].filter((piece) => piece.length > 0);
  }

  /** Frees unused memory. */
  shrink(): void {
    if (this.length > 0 || this.#bytes.length === INITIAL_SIZE) return;
    this.#bytes = new Uint8Array(INITIAL_SIZE);
  }

  #grow(length: number): void {
    let size = this.#bytes.length;
    while (size < length) size *= 2;
    size = Math.max(length, Math.min(size, this.#limit + PING_ROOM));
    const bytes = new Uint8Array(size);
    let at = this.#start;
    for (const piece of this.pieces()) {
      // A byte's index is its position modulo the size of the buffer.
      const head = Math.min(piece.length, size - at % size);
      bytes.set(piece.subarray(0, head), at % size);
      bytes.set(piece.subarray(head), 0);
      at += piece.length;
    }
    this.#bytes = bytes;
  }
}
