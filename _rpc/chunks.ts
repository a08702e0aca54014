// Copyright 2026 the Duplex authors. MIT license.

/**
 * The chunks of web streams that go from one end to the other: those of a
 * `ReadableStream` or written to a `WritableStream` ({@linkcode ReadableSource},
 * {@linkcode WriteSource}), and their receiving end ({@linkcode ChunkReader}).
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { Deque } from "../_base/waiting.ts";
import { MAX_CHUNK_COST } from "./messages.ts";
import {
  type AnswerStream,
  ChunkSource,
  type End,
  type Result,
  type StreamCall,
} from "./stream.ts";

/**
 * Cost of the chunks that are requested in advance: 1 MiB, or 16 small chunks. It
 * hides the round trip, and bounds what a slow reader makes both ends hold to this
 * and one chunk more.
 */
const MAX_AHEAD = MAX_CHUNK_COST;

/** A chunk that arrived, as the result of an iterator. */
class Chunk implements IteratorYieldResult<unknown> {
  readonly value: unknown;
  readonly done = false;
  readonly cost: number;

  constructor(value: unknown, cost: number) {
    this.value = value;
    this.cost = cost;
  }
}

/** The chunks of a stream of the peer, as they arrive. It has one reader. */
export class ChunkReader implements AnswerStream {
  readonly #call: StreamCall;
  readonly #chunks = new Deque<Chunk>();
  #receiver: PromiseWithResolvers<Result> | undefined;
  /** Cost that was requested and has not arrived. The last chunk may exceed it. */
  #requested = 0;
  /** Cost of the chunks that arrived and were not read. */
  #held = 0;
  #end: End | undefined;
  #onFailure: ((error: unknown) => void) | undefined;

  constructor(call: StreamCall) {
    this.#call = call;
  }

  /** Calls `handle` with an error of the peer before the chunks ahead of it are read. */
  onFailure(handle: (error: unknown) => void): void {
    this.#onFailure = handle;
    // The error may have arrived right behind the beginning of the stream.
    if (this.#end?.isError) handle(this.#end.error);
  }

  /** Returns the next chunk; a promise if it has not arrived. Call it again only after that. */
  next(): Result | Promise<Result> {
    if (this.#chunks.length > 0) {
      const chunk = this.#chunks.shift();
      this.#held -= chunk.cost;
      this.#requestIfDue();
      return chunk;
    }
    if (this.#end === undefined) {
      this.#receiver = Promise.withResolvers();
      this.#requestIfDue();
      return this.#receiver.promise;
    }
    if (this.#end.isError) return Promise.reject(this.#end.error);
    return { value: undefined, done: true };
  }

  /** Ends the stream from this end and drops the chunks that arrived. */
  cancel(reason: unknown): void {
    const isOpen = this.#end === undefined;
    this.#chunks.clear();
    this.onReturn();
    if (isOpen) this.#call.cancel(reason);
  }

  onItems(): void {
    throw new ProtocolError(
      `Cannot read values of ${this.#call.label}: they have no cost`,
    );
  }

  onChunk(cost: number, value: unknown): void {
    if (this.#requested <= 0) {
      throw new ProtocolError(
        `Cannot read a chunk of ${this.#call.label}: it was not requested`,
      );
    }
    this.#requested -= cost;
    const chunk = new Chunk(value, cost);
    const receiver = this.#receiver;
    if (receiver === undefined) {
      this.#held += cost;
      this.#chunks.push(chunk);
    } else {
      this.#receiver = undefined;
      receiver.resolve(chunk);
      this.#requestIfDue();
    }
  }

  onReturn(): void {
    this.#end ??= { isError: false, value: undefined };
    this.#receiver?.resolve({ value: undefined, done: true });
  }

  onThrow(error: unknown): void {
    if (this.#end !== undefined) return;
    this.#end = { isError: true, error };
    this.#receiver?.reject(error);
    this.#onFailure?.(error);
  }

  /** Requests more once half of the cost ahead was read. */
  #requestIfDue(): void {
    const ahead = this.#held + this.#requested;
    if (this.#end !== undefined || ahead * 2 > MAX_AHEAD) return;
    const count = MAX_AHEAD - ahead;
    this.#requested += count;
    this.#call.pull(count);
  }
}

/** The chunks of a `ReadableStream` of this end. */
export class ReadableSource extends ChunkSource {
  readonly #reader: ReadableStreamDefaultReader<unknown>;

  constructor(reader: ReadableStreamDefaultReader<unknown>) {
    super();
    this.#reader = reader;
  }

  override next(): Promise<Result> {
    return this.#reader.read() as Promise<Result>;
  }

  override cancel(reason: unknown): Promise<void> {
    return this.#reader.cancel(reason);
  }
}

/** The chunks that this end writes to a `WritableStream` of the peer, one at a time. */
export class WriteSource extends ChunkSource {
  readonly #onCancel: (reason: unknown) => void;
  /** A chunk or the end, before it was requested. */
  #result: Result | undefined;
  #requested: PromiseWithResolvers<Result> | undefined;
  #written: PromiseWithResolvers<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  /** @param onCancel Called when the peer needs no more chunks. */
  constructor(onCancel: (reason: unknown) => void) {
    super();
    this.#onCancel = onCancel;
  }

  override next(): Promise<Result> {
    const result = this.#result;
    if (result !== undefined) {
      this.#result = undefined;
      return Promise.resolve(result);
    }
    this.#written?.resolve();
    this.#requested = Promise.withResolvers();
    return this.#requested.promise;
  }

  override cancel(reason: unknown): void {
    if (this.#failure === undefined) this.#onCancel(reason);
  }

  /** The source for the peer. Throws if it has failed. */
  open(): this {
    if (this.#failure !== undefined) throw this.#failure.error;
    return this;
  }

  /**
   * Writes a chunk. Settles when it was passed to the transport and another one may
   * follow, so that the writer can change the chunk.
   */
  write(value: unknown): Promise<void> {
    this.#written = Promise.withResolvers();
    this.#settle({ value, done: false });
    return this.#written.promise;
  }

  /** Ends the stream. */
  close(): void {
    this.#settle({ value: undefined, done: true });
  }

  /**
   * Ends the stream with an error, also if no chunk is requested, and rejects the chunk
   * that waits. A stream that was not closed must not arrive as one that was.
   */
  fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = { error };
    this.#written?.reject(error);
    this.onFailure?.(error);
    this.#requested?.resolve({ value: undefined, done: true });
  }

  #settle(result: Result): void {
    if (this.#requested === undefined) {
      this.#result = result;
      return;
    }
    this.#requested.resolve(result);
    this.#requested = undefined;
  }
}
