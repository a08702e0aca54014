// Copyright 2026 the Duplex authors. MIT license.

/**
 * Posted messages as a stream of bytes: frames travel many to a post, and a
 * message that no bytes can carry is posted beside them. What a post costs does
 * not depend on how much is in it, so while one is on its way the next fills.
 *
 * @module
 */

import { PostBox } from "./post_box.ts";
import type { ByteStream } from "../_wire/byte_stream.ts";
import { ProtocolError } from "../_base/errors.ts";
import { PART_SIZE } from "../_wire/frame_layout.ts";
import type { Port } from "./scope.ts";
import { Deque } from "../_base/waiting.ts";

/** What there is to do about the far side when the stream ends. */
export interface PortEnd {
  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error>;
  close(timeout: number, unsent: readonly unknown[]): Promise<void>;
  destroy(): Promise<void>;
  hold?(held: boolean): void;
}

const NOTHING: Transferable[] = [];
const RESOLVED: Promise<void> = Promise.resolve();

/**
 * Bytes that may be posted and not read. A port takes everything, so without a
 * bound a control frame would wait behind all of a huge message. Twice as much as
 * the largest part, so that the far side has one while the next is on its way.
 */
const MAX_UNREAD = 2 * PART_SIZE;

/** Bytes that were read after which the far side is told: often enough that it need not wait. */
const REPORT_SIZE = MAX_UNREAD / 4;

/** A stream of bytes over a {@linkcode Port}. */
export class PortStream implements ByteStream {
  /** What was posted beside the stream. */
  readonly posts: PostBox;
  readonly #port: Port;
  readonly #end: PortEnd;
  readonly #chunks = new Deque<Uint8Array>();
  /** How much of the first chunk has been read. */
  #read = 0;
  #arrival: PromiseWithResolvers<void> | undefined;
  /** Bytes that the far side has not said it read, and who waits for it. */
  #unread = 0;
  #onRead: (() => void) | undefined;
  /** Whether something came since the last write. */
  #isAnswer = true;
  /** Bytes read that the far side was not told of. */
  #unreported = 0;
  #ended = false;
  #fault: Error | undefined;

  constructor(port: Port, end: PortEnd, posts = new PostBox()) {
    this.posts = posts;
    this.#port = port;
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
      this.#port.postMessage(this.#unreported, NOTHING);
      this.#unreported = 0;
    }
    return into.subarray(0, size);
  }

  /**
   * Settles a turn of the event loop later, so that what is sent meanwhile leaves
   * in one post, and not before enough of what was posted is read. The first
   * write after something came is an answer, and is not worth a turn.
   */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    // The clone would take the whole buffer behind a view.
    this.#port.postMessage(bytes.slice(), NOTHING);
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

  post(number: number, message: unknown, transfer: Transferable[]): void {
    this.#port.postMessage([number >>> 0, message], transfer);
  }

  /** Nothing more will come. */
  end(): void {
    this.#ended = true;
    this.#arrival?.resolve();
    this.#onRead?.();
    this.posts.end();
  }

  hold(held: boolean): void {
    this.#end.hold?.(held);
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
      this.#fault = new ProtocolError(
        "Cannot read a post as it holds no frames: a worker whose duplex is open must not post messages of its own",
      );
    }
    this.#arrival?.resolve();
  }
}
