// Copyright 2026 the Duplex authors. MIT license.

/**
 * Calls whose result is a stream of values: the sending end ({@linkcode Producer})
 * and the receiving end ({@linkcode RemoteStream}). Values are sent only after they
 * were requested, so a slow receiver slows down the sender.
 *
 * Only the answer shows whether the result of a call is one value or a stream. So
 * a call returns a {@linkcode CallPromise}, which can be awaited and iterated.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { MAX_CHUNK_COST, MAX_PULL, MIN_CHUNK_COST } from "./messages.ts";
import { Deque } from "../_base/waiting.ts";

/** The call of a stream. */
export interface StreamCall {
  /** The name of the method in errors. */
  readonly label: string;
  /** Requests more values. */
  pull(count: number): void;
  /** Cancels the call: the rest of the values is not needed. */
  cancel(reason: unknown): void;
}

/** Receives the values of a call. */
export interface AnswerStream {
  onItems(values: readonly unknown[]): void;
  onChunk(cost: number, chunk: unknown): void;
  /** Ends the stream with the result of its iterator. */
  onReturn(value: unknown): void;
  /** Ends the stream with an error, after the values that arrived. */
  onThrow(error: unknown): void;
}

/** The end of a stream. */
export type End =
  | { readonly isError: false; readonly value: unknown }
  | { readonly isError: true; readonly error: unknown };

export type Result = IteratorResult<unknown, unknown>;

/** The values of a call, as they arrive. */
export class RemoteStream
  implements AsyncGenerator<unknown, unknown, void>, AnswerStream {
  readonly #call: StreamCall;
  readonly #readAhead: number;
  readonly #items = new Deque<unknown>();
  readonly #receivers = new Deque<PromiseWithResolvers<Result>>();
  /** Values that were requested and have not arrived. */
  #requested = 0;
  #end: End | undefined;

  /**
   * @param call The call.
   * @param readAhead Maximum number of values that are requested in advance.
   */
  constructor(call: StreamCall, readAhead: number) {
    this.#call = call;
    this.#readAhead = readAhead;
  }

  next(): Promise<Result> {
    if (this.#items.length > 0) {
      const value = this.#items.shift();
      this.#requestIfDue();
      return Promise.resolve({ value, done: false });
    }
    if (this.#end !== undefined) return this.#settle(this.#end);
    const receiver = Promise.withResolvers<Result>();
    this.#receivers.push(receiver);
    this.#requestIfDue();
    return receiver.promise;
  }

  return(value?: unknown): Promise<Result> {
    this.#stop(
      new DOMException(
        `The stream of ${this.#call.label} was stopped`,
        "AbortError",
      ),
    );
    return Promise.resolve({ value, done: true });
  }

  throw(error: unknown): Promise<Result> {
    this.#stop(error);
    return Promise.reject(error);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  /** Handles values that arrived. */
  onItems(values: readonly unknown[]): void {
    this.#requested -= values.length;
    if (this.#requested < 0) {
      throw new ProtocolError(
        `Cannot read values of ${this.#call.label}: ${-this
          .#requested} more arrived than were requested`,
      );
    }
    for (const value of values) {
      if (this.#receivers.length === 0) this.#items.push(value);
      else this.#receivers.shift().resolve({ value, done: false });
    }
    if (this.#receivers.length > 0) this.#requestIfDue();
  }

  onChunk(): void {
    throw new ProtocolError(
      `Cannot read a chunk of ${this.#call.label}: its result is not a web stream`,
    );
  }

  /** Ends the stream with the result of its iterator. */
  onReturn(value: unknown): void {
    this.#finish({ isError: false, value });
  }

  /** Ends the stream with an error, after the values that arrived. */
  onThrow(error: unknown): void {
    this.#finish({ isError: true, error });
  }

  /** Ends the stream from this end and drops the values that arrived. */
  #stop(reason: unknown): void {
    const isOpen = this.#end === undefined;
    this.#items.clear();
    this.#finish({ isError: false, value: undefined });
    if (isOpen) this.#call.cancel(reason);
  }

  #finish(end: End): void {
    this.#end ??= end;
    while (this.#receivers.length > 0) {
      const receiver = this.#receivers.shift();
      this.#settle(this.#end).then(receiver.resolve, receiver.reject);
    }
  }

  /** Reports the end once; after that the stream is empty. */
  #settle(end: End): Promise<Result> {
    this.#end = { isError: false, value: undefined };
    return end.isError
      ? Promise.reject(end.error)
      : Promise.resolve({ value: end.value, done: true });
  }

  /** Requests more once half of the values ahead were received. */
  #requestIfDue(): void {
    const ahead = this.#items.length + this.#requested;
    if (this.#end !== undefined || ahead * 2 > this.#readAhead) return;
    const count = this.#readAhead - ahead;
    this.#requested += count;
    this.#call.pull(count);
  }
}

/** Iterates over the result of a call, which may turn out not to be a stream. */
class Cursor implements AsyncGenerator<unknown, unknown, void> {
  readonly #call: Promise<unknown>;
  #stream: RemoteStream | undefined;

  constructor(call: Promise<unknown>) {
    this.#call = call;
  }

  next(): Promise<Result> {
    return this.#stream?.next() ?? this.#begin((stream) => stream.next());
  }

  return(value?: unknown): Promise<Result> {
    return this.#stream?.return(value) ??
      this.#begin((stream) => stream.return(value));
  }

  throw(error: unknown): Promise<Result> {
    return this.#stream?.throw(error) ??
      this.#begin((stream) => stream.throw(error));
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  async #begin(
    then: (stream: RemoteStream) => Promise<Result>,
  ): Promise<Result> {
    const value = await this.#call;
    this.#stream = asStream(value);
    return await then(this.#stream);
  }
}

function asStream(value: unknown): RemoteStream {
  const isStream = typeof value === "object" && value !== null &&
    Symbol.asyncIterator in value;
  if (isStream) return value as RemoteStream;
  throw new TypeError(
    `Cannot iterate over the result of a call: it is one value of type ${
      value === null ? "null" : typeof value
    }; await it`,
  );
}

/** The cursors of calls that are iterated. */
const cursors = new WeakMap<Promise<unknown>, Cursor>();

/** The cursor of a call. */
function callCursor(call: Promise<unknown>): Cursor {
  let cursor = cursors.get(call);
  if (cursor === undefined) {
    cursor = new Cursor(call);
    cursors.set(call, cursor);
  }
  return cursor;
}

/**
 * The promise for the result of a call, which is also a generator.
 *
 * It is a plain promise with another prototype, not an instance of a class that
 * extends `Promise`. `await` uses a promise directly only if its `constructor` is
 * `Promise` (`PromiseResolve` in ECMA-262, 27.2.4.7.1); otherwise it creates a second
 * promise and calls `then`, which creates a third one.
 */
export class CallPromise extends Promise<unknown> {
  /** Changes a promise in place. */
  static from(call: Promise<unknown>): CallPromise {
    return Object.setPrototypeOf(call, CallPromise.prototype);
  }

  next(): Promise<Result> {
    return callCursor(this).next();
  }

  return(value?: unknown): Promise<Result> {
    return callCursor(this).return(value);
  }

  throw(error: unknown): Promise<Result> {
    return callCursor(this).throw(error);
  }

  [Symbol.asyncIterator](): AsyncGenerator<unknown, unknown, void> {
    return callCursor(this);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }
}

Object.defineProperty(CallPromise.prototype, "constructor", { value: Promise });

/**
 * The chunks of a web stream of this end. The peer requests them by their cost
 * instead of their number, so a large chunk uses up the request of many small ones.
 */
export abstract class ChunkSource implements AsyncIterator<unknown> {
  /** Ends the stream with an error although no chunk is requested. */
  onFailure: ((error: unknown) => void) | undefined;

  abstract next(): Promise<Result>;

  /** The peer needs no more chunks. */
  abstract cancel(reason: unknown): Promise<void> | void;
}

/** Bytes of a unit of cost. */
const COST_UNIT = 1024;

/** The cost of a chunk: KiB of its bytes, or of the code units of its text. */
function chunkCost(chunk: unknown): number {
  const size = typeof chunk === "string"
    ? chunk.length
    : ArrayBuffer.isView(chunk) || chunk instanceof ArrayBuffer
    ? chunk.byteLength
    : 0;
  const cost = Math.ceil(size / COST_UNIT);
  return Math.min(Math.max(MIN_CHUNK_COST, cost), MAX_CHUNK_COST);
}

/** Sends the values of a producer. */
export interface ProducerOutlet {
  /** Sends a value; the cost is that of a chunk. */
  item(value: unknown, cost: number): Promise<void> | undefined;
  done(value: unknown): void;
  failed(error: unknown): void;
}

/** Sends the values of an iterator as they are requested. */
export class Producer {
  readonly #iterator: AsyncIterator<unknown> | Iterator<unknown>;
  readonly #outlet: ProducerOutlet;
  /** The iterator, if it is that of a web stream. */
  readonly #source: ChunkSource | undefined;
  /** Values, or the cost of chunks, that are requested. The last chunk may exceed it. */
  #credit = 0;
  #wake: (() => void) | undefined;
  #isStopped = false;
  #drained: { readonly reason: unknown } | undefined;

  constructor(
    iterator: AsyncIterator<unknown> | Iterator<unknown>,
    outlet: ProducerOutlet,
  ) {
    this.#iterator = iterator;
    this.#outlet = outlet;
    if (iterator instanceof ChunkSource) {
      this.#source = iterator;
      iterator.onFailure = (error) => this.#fail(error);
    }
  }

  /** Handles a request for more values. */
  pull(count: number): void {
    this.#credit += count;
    if (this.#credit > MAX_PULL) {
      throw new ProtocolError(
        `Cannot send ${this.#credit} values ahead: at most ${MAX_PULL} may be requested`,
      );
    }
    this.#wake?.();
  }

  /** Stops the iterator: the rest of its values is not needed. */
  stop(reason: unknown): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#wake?.();
    // A running generator returns at its next value. The call has ended, so that
    // errors of its cleanup have no receiver.
    (async () => {
      if (this.#source === undefined) await this.#iterator.return?.();
      else await this.#source.cancel(reason);
    })().catch(() => {});
  }

  /**
   * No more values will be requested. Those that were are still sent; then the
   * stream stops without an answer, because its duplex is about to end.
   */
  drain(reason: unknown): void {
    this.#drained = { reason };
    this.#wake?.();
  }

  /** Sends values until there are no more. Never rejects. */
  async run(): Promise<void> {
    try {
      for (;;) {
        if (this.#credit <= 0) await this.#credited();
        if (this.#isStopped) return;
        const { value, done } = await this.#iterator.next();
        if (this.#isStopped) return;
        if (done) {
          this.#isStopped = true;
          return this.#outlet.done(value);
        }
        const cost = this.#source === undefined ? 1 : chunkCost(value);
        this.#credit -= cost;
        await this.#outlet.item(value, cost);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (!this.#isStopped) this.#outlet.failed(error);
    this.stop(error);
  }

  /** Waits until values are requested, or the stream is stopped. */
  async #credited(): Promise<void> {
    while (this.#credit <= 0 && !this.#isStopped) {
      if (this.#drained !== undefined) return this.stop(this.#drained.reason);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
      this.#wake = undefined;
    }
  }
}
