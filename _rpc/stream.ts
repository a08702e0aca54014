// Copyright 2026 the Duplex authors. MIT license.

/**
 * Calls that give many values: the end that gives them ({@linkcode Producer}) and
 * the end that takes them ({@linkcode RemoteStream}). Values go out only as far as
 * the taker has asked for some, so a slow taker slows the giver.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { MAX_PULL } from "./messages.ts";
import { Deque } from "../_base/waiting.ts";

/** What a stream asks of its call. */
export interface StreamCall {
  /** Names the call in errors. */
  readonly label: string;
  /** Asks for more values. */
  pull(count: number): void;
  /** Nobody wants the rest. */
  cancel(reason: unknown): void;
}

/** How a stream ended. */
type End =
  | { readonly isError: false; readonly value: unknown }
  | { readonly isError: true; readonly error: unknown };

type Result = IteratorResult<unknown, unknown>;

/** The values that a call gives, as they arrive. */
export class RemoteStream implements AsyncGenerator<unknown, unknown, void> {
  readonly #call: StreamCall;
  readonly #readAhead: number;
  readonly #items = new Deque<unknown>();
  readonly #takers = new Deque<PromiseWithResolvers<Result>>();
  /** Values asked for that have not come. */
  #asked = 0;
  #end: End | undefined;

  /**
   * @param call The call.
   * @param readAhead Values that are asked for ahead at most.
   */
  constructor(call: StreamCall, readAhead: number) {
    this.#call = call;
    this.#readAhead = readAhead;
  }

  next(): Promise<Result> {
    if (this.#items.length > 0) {
      const value = this.#items.shift();
      this.#askIfDue();
      return Promise.resolve({ value, done: false });
    }
    if (this.#end !== undefined) return this.#tell(this.#end);
    const taker = Promise.withResolvers<Result>();
    this.#takers.push(taker);
    this.#askIfDue();
    return taker.promise;
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

  /** Values have come. */
  onItems(values: readonly unknown[]): void {
    this.#asked -= values.length;
    if (this.#asked < 0) {
      throw new ProtocolError(
        `Cannot take values of ${this.#call.label}: ${-this
          .#asked} more have come than were asked for`,
      );
    }
    for (const value of values) {
      if (this.#takers.length === 0) this.#items.push(value);
      else this.#takers.shift().resolve({ value, done: false });
    }
    if (this.#takers.length > 0) this.#askIfDue();
  }

  /** The far side has given its last value. */
  onReturn(value: unknown): void {
    this.#finish({ isError: false, value });
  }

  /** The stream ended with an error; what has come can still be taken. */
  onThrow(error: unknown): void {
    this.#finish({ isError: true, error });
  }

  /** Ends the stream from this side; what has come is dropped. */
  #stop(reason: unknown): void {
    const isOpen = this.#end === undefined;
    this.#items.clear();
    this.#finish({ isError: false, value: undefined });
    if (isOpen) this.#call.cancel(reason);
  }

  #finish(end: End): void {
    this.#end ??= end;
    while (this.#takers.length > 0) {
      const taker = this.#takers.shift();
      this.#tell(this.#end).then(taker.resolve, taker.reject);
    }
  }

  /** Tells of the end once, and from then on that there is nothing. */
  #tell(end: End): Promise<Result> {
    this.#end = { isError: false, value: undefined };
    return end.isError
      ? Promise.reject(end.error)
      : Promise.resolve({ value: end.value, done: true });
  }

  /** Asks for more once half of what may be ahead was taken. */
  #askIfDue(): void {
    const ahead = this.#items.length + this.#asked;
    if (this.#end !== undefined || ahead * 2 > this.#readAhead) return;
    const count = this.#readAhead - ahead;
    this.#asked += count;
    this.#call.pull(count);
  }
}

/** What a producer sends with. */
export interface ProducerOutlet {
  item(value: unknown): Promise<void> | undefined;
  done(value: unknown): void;
  failed(error: unknown): void;
}

/** Gives the values of an iterator as they are asked for. */
export class Producer {
  readonly #iterator: AsyncIterator<unknown> | Iterator<unknown>;
  readonly #outlet: ProducerOutlet;
  #credit = 0;
  #wake: (() => void) | undefined;
  #isStopped = false;
  #isDrained = false;

  constructor(
    iterator: AsyncIterator<unknown> | Iterator<unknown>,
    outlet: ProducerOutlet,
  ) {
    this.#iterator = iterator;
    this.#outlet = outlet;
  }

  /** The far side takes so many more. */
  pull(count: number): void {
    this.#credit += count;
    if (this.#credit > MAX_PULL) {
      throw new ProtocolError(
        `Cannot give ${this.#credit} values ahead: at most ${MAX_PULL} may be asked for`,
      );
    }
    this.#wake?.();
  }

  /** Nobody wants the rest: the iterator is told to return. */
  stop(): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#wake?.();
    // A generator that is at work returns when it comes to its next value. What
    // it throws on its way out concerns nobody any more.
    (async () => await this.#iterator.return?.())().catch(() => {});
  }

  /**
   * Nothing more will be asked for; what was is still given. A stream that stands
   * still then ends without an answer, as its duplex is about to.
   */
  drain(): void {
    this.#isDrained = true;
    this.#wake?.();
  }

  /** Gives values until there are no more. Never rejects. */
  async run(): Promise<void> {
    try {
      for (;;) {
        if (this.#credit === 0) await this.#credited();
        if (this.#isStopped) return;
        const { value, done } = await this.#iterator.next();
        if (this.#isStopped) return;
        if (done) return this.#outlet.done(value);
        this.#credit--;
        await this.#outlet.item(value);
      }
    } catch (error) {
      if (!this.#isStopped) this.#outlet.failed(error);
      this.stop();
    }
  }

  /** Waits until values are asked for, or nobody wants them. */
  async #credited(): Promise<void> {
    while (this.#credit === 0 && !this.#isStopped) {
      if (this.#isDrained) return this.stop();
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
      this.#wake = undefined;
    }
  }
}
