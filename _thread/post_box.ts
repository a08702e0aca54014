// Copyright 2026 the Duplex authors. MIT license.

/**
 * Messages that are posted separately from a stream of frames, because bytes cannot
 * carry them: shared memory, buffers that move, and cycles with a codec that has no
 * graph form. A frame with the number of the message keeps its place in the stream.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { messageOf } from "../_base/text.ts";
import type { Posts } from "../_wire/byte_stream.ts";
import type { FrameEncoder } from "../_wire/frame_encoder.ts";
import { type Cloneable, makeCloneable, receiveClone } from "./clone.ts";
import type { Port } from "./scope.ts";

/** Calls `clone`; an error says that the message cannot be sent. */
export function cloning<T>(clone: () => T): T {
  try {
    return clone();
  } catch (cause) {
    throw new TypeError(
      `Cannot send a message to a thread: ${messageOf(cause)}`,
      { cause },
    );
  }
}

/** Posts a prepared message under the number of the next message, and adds its frame. */
export function postClone(
  port: Port,
  encoder: FrameEncoder,
  cloneable: Cloneable,
  size: number,
  transfer: readonly Transferable[] = [],
): number {
  const post = [encoder.nextNumber, cloneable];
  cloning(() => port.postMessage(post, [...transfer]));
  encoder.posted(size);
  return size;
}

/** Posts a message, adds its frame, and returns its size. */
export function postMessage(
  port: Port,
  encoder: FrameEncoder,
  message: unknown,
  transfer?: readonly Transferable[],
): number {
  const { cloneable, size } = makeCloneable(message, transfer);
  encoder.checkSize(size);
  return postClone(port, encoder, cloneable, size, transfer);
}

/** The error for a post that neither side of the duplex has made. */
export function foreignPost(): ProtocolError {
  return new ProtocolError(
    "Cannot read a post as it holds no frames and no message: a worker whose duplex is open must not post messages of its own",
  );
}

/** Messages that were posted separately, until their frames arrive. */
export class PostBox implements Posts {
  readonly #receive: (cloneable: unknown) => unknown;
  readonly #posted = new Map<number, unknown>();
  #arrival: PromiseWithResolvers<boolean> | undefined;
  #hasEnded = false;

  /** @param receive Returns the message of a post. */
  constructor(receive: (post: unknown) => unknown = receiveClone) {
    this.#receive = receive;
  }

  /** Keeps a post under the number of its message; returns whether it is one. */
  put(post: unknown): boolean {
    if (!Array.isArray(post) || post.length !== 2) return false;
    const [number, cloneable] = post;
    if (typeof number !== "number") return false;
    this.#posted.set(number, cloneable);
    this.#arrival?.resolve(true);
    return true;
  }

  has(number: number): boolean {
    return this.#posted.has(number);
  }

  take(number: number): unknown {
    const cloneable = this.#posted.get(number);
    this.#posted.delete(number);
    return this.#receive(cloneable);
  }

  arrival(): Promise<boolean> {
    this.#arrival = Promise.withResolvers();
    if (this.#hasEnded) this.#arrival.resolve(false);
    return this.#arrival.promise;
  }

  /** Nothing more will arrive. */
  end(): void {
    this.#hasEnded = true;
    this.#arrival?.resolve(false);
  }
}
