// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a call gives: a promise that can also be walked through. Only the answer
 * tells whether a method gives one value or many, and a call is not to wait for
 * that before it can be used in `for await`.
 *
 * @module
 */

import type { RemoteStream } from "./stream.ts";

type Result = IteratorResult<unknown, unknown>;

/** Walks through a stream, of which it is not known yet whether it is one. */
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
    this.#stream = streamOf(value);
    return await then(this.#stream);
  }
}

function streamOf(value: unknown): RemoteStream {
  const isStream = typeof value === "object" && value !== null &&
    Symbol.asyncIterator in value;
  if (isStream) return value as RemoteStream;
  throw new TypeError(
    `Cannot walk through what a call gave: it is one value of type ${
      value === null ? "null" : typeof value
    }; await it`,
  );
}

/** The cursors that were asked for through their promises. */
const cursors = new WeakMap<Promise<unknown>, Cursor>();

/** The one cursor of a call. */
function cursorOf(call: Promise<unknown>): Cursor {
  let cursor = cursors.get(call);
  if (cursor === undefined) {
    cursor = new Cursor(call);
    cursors.set(call, cursor);
  }
  return cursor;
}

/** A promise for what a call gives, which is also a generator. */
export class CallPromise extends Promise<unknown> {
  /**
   * Makes one of a promise, in place: a class that extends `Promise` costs each
   * `await` a third promise.
   */
  static from(call: Promise<unknown>): CallPromise {
    return Object.setPrototypeOf(call, CallPromise.prototype);
  }

  next(): Promise<Result> {
    return cursorOf(this).next();
  }

  return(value?: unknown): Promise<Result> {
    return cursorOf(this).return(value);
  }

  throw(error: unknown): Promise<Result> {
    return cursorOf(this).throw(error);
  }

  [Symbol.asyncIterator](): AsyncGenerator<unknown, unknown, void> {
    return cursorOf(this);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }
}

// So that `await` takes it for the plain promise that it is.
Object.defineProperty(CallPromise.prototype, "constructor", { value: Promise });
