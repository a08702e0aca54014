// Copyright 2026 the Duplex authors. MIT license.

/**
 * Two streams of bytes joined in memory: the link under `duplexPair`. A write
 * settles when the peer has read all of it, so it waits as for a full pipe.
 *
 * @module
 */

import { PeerExitError } from "../_base/errors.ts";
import type { ByteStream } from "../_wire/byte_stream.ts";

/** One direction. */
class MemoryPipe {
  #bytes: Uint8Array | undefined;
  #written: PromiseWithResolvers<void> | undefined;
  #arrival: PromiseWithResolvers<void> | undefined;
  #ended = false;
  #isDiscarded = false;

  async read(
    into: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer> | null> {
    while (this.#bytes === undefined) {
      if (this.#ended) return null;
      this.#arrival = Promise.withResolvers();
      await this.#arrival.promise;
    }
    const size = Math.min(into.length, this.#bytes.length);
    into.set(this.#bytes.subarray(0, size));
    if (size < this.#bytes.length) {
      this.#bytes = this.#bytes.subarray(size);
    } else {
      this.#bytes = undefined;
      this.#written?.resolve();
    }
    return into.subarray(0, size);
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.#isDiscarded) return Promise.resolve();
    if (this.#ended) {
      return Promise.reject(new Error("The other end of the pair is closed"));
    }
    this.#bytes = bytes;
    this.#written = Promise.withResolvers();
    this.#arrival?.resolve();
    return this.#written.promise;
  }

  /** Ends the direction; what was written can still be read. */
  end(): void {
    this.#ended = true;
    this.#arrival?.resolve();
  }

  /** Drops what is written from now on, since it is not read any more. */
  discard(): void {
    this.#isDiscarded = true;
    this.#bytes = undefined;
    this.#written?.resolve();
  }

  /** Ends the direction and drops what was not read. */
  cut(): void {
    this.#bytes = undefined;
    this.end();
    this.#written?.reject(new Error("The other end of the pair is closed"));
  }
}

class MemoryStream implements ByteStream {
  readonly #input: MemoryPipe;
  readonly #output: MemoryPipe;

  constructor(input: MemoryPipe, output: MemoryPipe) {
    this.#input = input;
    this.#output = output;
  }

  read(into: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer> | null> {
    return this.#input.read(into);
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return this.#output.write(bytes);
  }

  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error> {
    return Promise.resolve(
      new PeerExitError("The other end of the pair ended without a goodbye", {
        cause,
        unsent,
      }),
    );
  }

  close(): Promise<void> {
    this.#output.end();
    // Credit that the peer sent before it received the last goodbye.
    this.#input.discard();
    return Promise.resolve();
  }

  destroy(): Promise<void> {
    this.#output.end();
    this.#input.cut();
    return Promise.resolve();
  }
}

/** Two streams, each reading what the other writes. */
export function memoryStreams(): [ByteStream, ByteStream] {
  const [there, back] = [new MemoryPipe(), new MemoryPipe()];
  return [new MemoryStream(back, there), new MemoryStream(there, back)];
}
