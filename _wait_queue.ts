// Copyright 2026 the Duplex authors. MIT license.

/**
 * Promises that wait their turn: the sends that wait for room and the receives
 * that wait for a message. First come, first served; each may be taken back
 * through an `AbortSignal`, whose listener goes when the wait settles.
 *
 * @module
 */

import { Deque } from "./_deque.ts";

/** One promise that waits, with what it waits to hand over. */
export interface Waiter<Payload, Result> {
  /** What the waiting call was made with. */
  readonly payload: Payload;
  /** Fulfils the waiting promise. */
  resolve(result: Result): void;
  /** Rejects the waiting promise. */
  reject(reason: unknown): void;
  /** Stops listening to the caller's signal. */
  release(): void;
}

function nothing(): void {}

/** A first-in, first-out queue of promises that wait. */
export class WaitQueue<Payload, Result> {
  readonly #waiters = new Deque<Waiter<Payload, Result>>();
  readonly #onEmpty: () => void;

  /**
   * @param onEmpty Called when an aborted wait leaves the queue empty.
   */
  constructor(onEmpty: () => void = nothing) {
    this.#onEmpty = onEmpty;
  }

  /** How many wait. */
  get length(): number {
    return this.#waiters.length;
  }

  /** Waits at the end of the queue; rejects with the signal's reason. */
  wait(payload: Payload, signal: AbortSignal | undefined): Promise<Result> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const waiter = { payload, resolve, reject, release: nothing };
      this.#waiters.push(waiter);
      if (signal !== undefined) this.#listen(waiter, signal);
    });
  }

  /** Takes the first that waits. The queue must not be empty. */
  shift(): Waiter<Payload, Result> {
    const waiter = this.#waiters.shift();
    waiter.release();
    return waiter;
  }

  /** Rejects all that wait, and says whether there were any. */
  rejectAll(reason: unknown): boolean {
    const any = this.length > 0;
    while (this.length > 0) this.shift().reject(reason);
    return any;
  }

  #listen(waiter: Waiter<Payload, Result>, signal: AbortSignal): void {
    const onAbort = () => {
      if (!this.#waiters.remove(waiter)) return;
      waiter.reject(signal.reason);
      if (this.length === 0) this.#onEmpty();
    };
    signal.addEventListener("abort", onAbort, { once: true });
    waiter.release = () => signal.removeEventListener("abort", onAbort);
  }
}
