// Copyright 2026 the Duplex authors. MIT license.

/**
 * A connection of a socket whose peer is the campaign: writes call a function,
 * and reads return the bytes that are fed.
 *
 * @module
 */

import type { Connection } from "../../_socket/connection.ts";
import { type Bytes, concat, type Draw } from "./draw.ts";

/** A connection with fed bytes. */
export class MemoryConnection implements Connection {
  /** Called with a copy of each write. */
  onWrite: (bytes: Bytes) => void = () => {};
  /** Called when this side has closed the connection or its direction of it. */
  onEnd: () => void = () => {};
  /** Bytes that were read. */
  readCount = 0;
  readonly #pieces: Bytes[] = [];
  #arrival: PromiseWithResolvers<void> | undefined;
  #isEnded = false;
  #isClosed = false;

  /** Whether this side has closed the connection. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  setRef(): void {}

  /** Adds bytes to read. */
  feed(bytes: Bytes): void {
    if (bytes.length > 0) this.#pieces.push(bytes);
    this.#arrival?.resolve();
  }

  /** Ends the bytes to read. */
  end(): void {
    this.#isEnded = true;
    this.#arrival?.resolve();
  }

  /** All fed bytes that are unread. */
  get rest(): Bytes {
    return concat(...this.#pieces);
  }

  async read(into: Uint8Array<ArrayBuffer>): Promise<number | null> {
    while (this.#pieces.length === 0) {
      if (this.#isEnded || this.#isClosed) return null;
      this.#arrival = Promise.withResolvers();
      await this.#arrival.promise;
    }
    const piece = this.#pieces[0]!;
    const size = Math.min(into.length, piece.length);
    into.set(piece.subarray(0, size));
    if (size < piece.length) this.#pieces[0] = piece.subarray(size);
    else this.#pieces.shift();
    this.readCount += size;
    return size;
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (this.#isClosed) {
      return Promise.reject(
        new Deno.errors.BrokenPipe("The connection is closed"),
      );
    }
    this.onWrite(bytes.slice());
    return Promise.resolve();
  }

  shutdown(): Promise<boolean> {
    this.close();
    return Promise.resolve(true);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#arrival?.resolve();
    this.onEnd();
  }
}

/** Maximum number of pieces of some bytes. */
const MAX_PIECES = 12;

/** Feeds bytes in pieces. */
export function feedCut(
  connection: MemoryConnection,
  bytes: Bytes,
  draw: Draw,
): void {
  let at = 0;
  for (let left = draw.below(MAX_PIECES); left > 0; left--) {
    const end = at + draw.size(bytes.length - at);
    connection.feed(bytes.slice(at, end));
    at = end;
  }
  connection.feed(bytes.slice(at));
}
