// Copyright 2026 the Duplex authors. MIT license.

/**
 * Asynchronous contexts, which `AsyncLocalStorage` reads. A function that is sent in a
 * call runs in the context in which the call was made, not in that of the loop which
 * reads the messages of the peer.
 *
 * `AsyncLocalStorage.snapshot` would do that, but loading `node:async_hooks` takes
 * 20 ms. A reaction of a promise runs in the context in which `then` was called, and a
 * reaction that waits again keeps it.
 *
 * @module
 */

/** The context of the call that is being sent, if it is not that of the caller. */
let current: CallContext | undefined;

/** The context in which a call was made. */
export class CallContext {
  #jobs: (() => void)[] = [];
  #wake!: () => void;

  /** Keeps the context of the caller. */
  constructor() {
    this.#wait();
  }

  /** The context of the call that is being sent. */
  static get current(): CallContext {
    return current ?? new CallContext();
  }

  /** Makes this the context of the calls that `act` makes before it returns. */
  during<Result>(act: () => Result): Result {
    const before = current;
    current = this;
    try {
      return act();
    } finally {
      current = before;
    }
  }

  /** Calls a function in this context, after the calls before it. */
  run<Result>(act: () => Result): Promise<Awaited<Result>> {
    if (this.#jobs.length === 0) this.#wake();
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    this.#jobs.push(() => {
      try {
        resolve(act());
      } catch (error) {
        reject(error);
      }
    });
    return promise as Promise<Awaited<Result>>;
  }

  #wait(): void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    promise.then(() => {
      const jobs = this.#jobs;
      this.#jobs = [];
      this.#wait();
      for (const job of jobs) job();
    });
  }
}
