// Copyright 2026 the Duplex authors. MIT license.

/**
 * What was written to a link that can be resumed and has not been acknowledged:
 * bytes of the stream from one position to another, kept to be sent again.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";

/** Bytes that it has room for at first; doubled when they are not enough. */
const INITIAL_SIZE = 64 * 1024;

/** Bytes of room beyond the most that is kept: for pings, which nothing holds up. */
const PING_ROOM = 64 * 1024;

/** The unacknowledged part of a stream, in a circular buffer. */
export class ReplayLog {
  readonly #most: number;
  #bytes = new Uint8Array(INITIAL_SIZE);
  /** Positions in the stream, counted from its beginning. */
  #start = 0;
  #end = 0;

  /**
   * @param most Bytes that are kept at most, but for pings.
   */
  constructor(most: number) {
    this.#most = most;
  }

  /** How many bytes are kept. */
  get length(): number {
    return this.#end - this.#start;
  }

  /** Whether there is no room for pings any more, either. */
  get isOverfull(): boolean {
    return this.length >= this.#most + PING_ROOM;
  }

  /** The position behind the last byte. */
  get end(): number {
    return this.#end;
  }

  /** The position up to which everything was acknowledged. */
  get start(): number {
    return this.#start;
  }

  /** Keeps bytes that are written behind the others. */
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
   * Lets go of everything before a position that the far side has reached. One
   * that it has told of before is nothing new.
   */
  release(position: number): void {
    if (position > this.#end) {
      throw new ProtocolError(
        `Cannot take an acknowledgement of byte ${position}: the last one written is ${this.#end}`,
      );
    }
    if (position > this.#start) this.#start = position;
  }

  /** All that is kept from a position on, in one piece or two. */
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

  /** Lets the memory go that it does not need any more. */
  shrink(): void {
    if (this.length > 0 || this.#bytes.length === INITIAL_SIZE) return;
    this.#bytes = new Uint8Array(INITIAL_SIZE);
  }

  #grow(length: number): void {
    let size = this.#bytes.length;
    while (size < length) size *= 2;
    size = Math.max(length, Math.min(size, this.#most + PING_ROOM));
    const bytes = new Uint8Array(size);
    let at = this.#start;
    for (const piece of this.pieces()) {
      // A position stands where it stands in the larger buffer, around its edge.
      const head = Math.min(piece.length, size - at % size);
      bytes.set(piece.subarray(0, head), at % size);
      bytes.set(piece.subarray(head), 0);
      at += piece.length;
    }
    this.#bytes = bytes;
  }
}
