// Copyright 2026 the Duplex authors. MIT license.

/**
 * A stream of bytes whose peer is the campaign: reads return the bytes that are
 * fed, and writes are recorded.
 *
 * @module
 */

import type { ByteStream } from "../../_wire/byte_stream.ts";
import { PeerExitError } from "../../duplex.ts";
import { type Bytes, concat } from "./draw.ts";

/** A stream with fed bytes. */
export class FeedStream implements ByteStream {
  #pieces: Bytes[] = [];
  #isEnded = false;
  #arrival: PromiseWithResolvers<void> | undefined;
  #drained: PromiseWithResolvers<void> | undefined;
  readonly #written: Uint8Array[] = [];
  #isGone = false;

  /** Adds bytes; settles when they are read or dropped. */
  feed(bytes: Bytes): Promise<void> {
    if (bytes.length === 0 || this.#isGone) return Promise.resolve();
    this.#pieces.push(bytes);
    this.#drained = Promise.withResolvers();
    this.#arrival?.resolve();
    return this.#drained.promise;
  }

  /** Ends the bytes to read. */
  end(): void {
    this.#isEnded = true;
    this.#arrival?.resolve();
  }

  /** Whether the reader has closed it. */
  get isGone(): boolean {
    return this.#isGone;
  }

  /** All bytes that were written. */
  get output(): Bytes {
    return concat(...this.#written);
  }

  async read(
    into: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer> | null> {
    while (this.#pieces.length === 0) {
      this.#drained?.resolve();
      if (this.#isEnded || this.#isGone) return null;
      this.#arrival = Promise.withResolvers();
      await this.#arrival.promise;
    }
    const piece = this.#pieces[0]!;
    const size = Math.min(into.length, piece.length);
    into.set(piece.subarray(0, size));
    if (size < piece.length) this.#pieces[0] = piece.subarray(size);
    else this.#pieces.shift();
    return into.subarray(0, size);
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#written.push(bytes.slice());
    return Promise.resolve();
  }

  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error> {
    return Promise.resolve(
      new PeerExitError("The campaign has ended the stream", { cause, unsent }),
    );
  }

  close(): Promise<void> {
    return this.destroy();
  }

  destroy(): Promise<void> {
    this.#isGone = true;
    this.#pieces = [];
    this.#arrival?.resolve();
    this.#drained?.resolve();
    return Promise.resolve();
  }
}
