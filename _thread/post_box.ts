// Copyright 2026 the Duplex authors. MIT license.

/**
 * Messages that were posted beside a stream of frames.
 *
 * @module
 */

import { receiveParcel } from "./clone.ts";
import type { Posts } from "../_wire/byte_stream.ts";

/** Messages that were posted beside a stream, until their frame comes. */
export class PostBox implements Posts {
  readonly #posted = new Map<number, unknown>();
  #arrival: PromiseWithResolvers<boolean> | undefined;
  #ended = false;

  /** Keeps what arrived under its message's number, if it is such a post. */
  put(post: unknown): boolean {
    if (!Array.isArray(post) || post.length !== 2) return false;
    const [number, message] = post;
    if (typeof number !== "number") return false;
    this.#posted.set(number, message);
    this.#arrival?.resolve(true);
    return true;
  }

  /** Whether the message with this number has come. */
  has(number: number): boolean {
    return this.#posted.has(number);
  }

  /** Takes a message out. It must be there. */
  take(number: number): unknown {
    const message = this.#posted.get(number);
    this.#posted.delete(number);
    return receiveParcel(message);
  }

  /** Settles when something has come, with `false` when nothing will any more. */
  arrival(): Promise<boolean> {
    this.#arrival = Promise.withResolvers();
    if (this.#ended) this.#arrival.resolve(false);
    return this.#arrival.promise;
  }

  /** Nothing more will come. */
  end(): void {
    this.#ended = true;
    this.#arrival?.resolve(false);
  }
}
