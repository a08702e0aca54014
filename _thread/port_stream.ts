// Copyright 2026 the Duplex authors. MIT license.

/**
 * A port between threads as a stream of bytes: many frames travel in one post.
 * The cost of a post does not depend on its size, so while one is on its way the
 * next fills.
 *
 * @module
 */

import type { ByteStream } from "../_wire/byte_stream.ts";
import { foreignPost, PostBox } from "./post_box.ts";
import { PART_SIZE } from "../_wire/frame_layout.ts";
import type { Port } from "./scope.ts";
import { Deque } from "../_base/waiting.ts";

/** How the thread behind a port ends. */
export interface PortEnd {
  /** Returns the error that says how it ended without a goodbye. */
  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error>;
  /** Ends it after both goodbyes. */
  close(timeout: number, unsent: readonly unknown[]): Promise<void>;
  /** Ends it now. */
  destroy(): Promise<void>;
}

const NOTHING: Transferable[] = [];
const RESOLVED: Promise<void> = Promise.resolve();

/**
 * Bytes that may be posted and not read. A port takes everything, so without a
 * limit a control frame would wait behind all of a large message. Two parts, so
 * that the peer has one while the next is on its way.
 */
const MAX_UNREAD = 2 * PART_SIZE;

/** Bytes read after which the peer is notified: often enough that it does not wait. */
const REPORT_SIZE = MAX_UNREAD / 4;

/** A stream of bytes over a {@linkcode Port}. */
export class PortStream implements ByteStream {
  /** Messages that were posted separately from the stream. */
  readonly posts: PostBox;
  /** The port, on which messages may be posted separately as well. */
  readonly port: Port;
  readonly #end: PortEnd;
  readonly #chunks = new Deque<Uint8Array>();
  /** How much of the first chunk has been read. */
  #read = 0;
  #arrival: PromiseWithResolvers<void> | undefined;
  /** Bytes that the peer has not reported as read, and the write that waits for it. */
  #unread = 0;
  #onRead: (() => void) | undefined;
  /** Whether something arrived since the last write. */
  #isAnswer = true;
  /** Bytes read that the peer was not notified of. */
  #unreported = 0;
  #ended = false;
  #fault: Error | undefined;

  constructor(port: Port, end: PortEnd, posts: PostBox = new PostBox()) {
    this.posts = posts;
    this.port = port;
    this.#end = end;
    port.listen((message) => this.#onMessage(message));
  }

  async read(
    into: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer> | null> {
    while (this.#chunks.length === 0) {
      if (this.#fault !== undefined) throw this.#fault;
      if (this.#ended) return null;
      this.#arrival = Promise.withResolvers();
      await this.#arrival.promise;
    }
    const chunk = this.#chunks.first;
    const size = Math.min(into.length, chunk.length - this.#read);
    into.set(chunk.subarray(this.#read, this.#read + size));
    this.#read += size;
    if (this.#read === chunk.length) {
      this.#chunks.shift();
      this.#read = 0;
    }
    this.#unreported += size;
    if (this.#unreported >= REPORT_SIZE) {
      this.port.postMessage(this.#unreported, NOTHING);
      this.#unreported = 0;
    }
    return into.subarray(0, size);
  }

  /**
   * Settles a turn of the event loop later, so that what is sent meanwhile is
   * joined in one post, and not before enough of what was posted is read. The first
   * write after something arrived is an answer, which must not wait.
   */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    // The clone would take the whole buffer behind a view.
    this.port.postMessage(bytes.slice(), NOTHING);
    this.#unread += bytes.length;
    if (this.#isAnswer) {
      this.#isAnswer = false;
      return RESOLVED;
    }
    return new Promise((resolve) => {
      if (this.#unread > MAX_UNREAD && !this.#ended) this.#onRead = resolve;
      else setImmediate(resolve);
    });
  }

  /** Nothing more will arrive. */
  end(): void {
    this.#ended = true;
    this.#arrival?.resolve();
    this.#onRead?.();
    this.posts.end();
  }

  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error> {
    return this.#end.diagnose(cause, unsent);
  }

  close(timeout: number, unsent: readonly unknown[]): Promise<void> {
    this.end();
    return this.#end.close(timeout, unsent);
  }

  destroy(): Promise<void> {
    this.end();
    return this.#end.destroy();
  }

  #onMessage(message: unknown): void {
    if (message instanceof Uint8Array) {
      if (message.length > 0) this.#chunks.push(message);
      this.#isAnswer = true;
    } else if (typeof message === "number") {
      this.#unread -= message;
      if (this.#unread <= MAX_UNREAD) this.#onRead?.();
      return;
    } else if (!this.posts.put(message)) {
      this.#fault = foreignPost();
    }
    this.#arrival?.resolve();
  }
}
