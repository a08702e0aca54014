// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker of a pool whose methods perform acts, over a pipe, a queue and
 * shared memory.
 *
 * @module
 */

import { expose, withSignal } from "@duplex/ipc/rpc";

/** Words shared with the caller, if that is another thread. */
let words: Int32Array<SharedArrayBuffer> | undefined;
let begun = 0;
let aborted = 0;

/** Identifies thrown values. */
const THROWN = { undefined, zero: 0, empty: "", null: null };

const methods = {
  square: (n: number) => n * n,
  add: (a: number, b: number) => a + b,
  echo: (value: unknown) => value,

  /**
   * Twice the number, the process id, and the number of tasks started so far.
   */
  begun: (n: number) => [2 * n, Deno.pid, ++begun],

  /** Calls the callback twice. */
  async progress(n: number, onStep: (n: number) => Promise<number>) {
    return await onStep(n) + await onStep(n + 1);
  },
  /** Calls back once. */
  callBack: (step: () => Promise<unknown>) => step(),
  throws(name: keyof typeof THROWN) {
    throw THROWN[name];
  },
  async rejects(message: string): Promise<void> {
    await undefined;
    throw new RangeError(message);
  },
  unsendable: () => Symbol("x"),
  *count(n: number) {
    for (let number = 0; number < n; number++) yield number;
  },

  /** Blocks the thread forever. */
  spin() {
    for (;;);
  },
  never: () => new Promise(() => {}),
  /** Ends like a worker that was closed. */
  exits(code: number) {
    Deno.exit(code);
  },
  /** Counts in shared words, and ends for items that end workers. */
  log(n: number, ends: boolean) {
    Atomics.add(words!, n, 1);
    if (ends) Deno.exit(1);
    return n;
  },
  share(shared: Int32Array<SharedArrayBuffer>) {
    words = shared;
  },
  /**
   * Like `log`, for the items of a map; each number in the second half ends a
   * worker once.
   */
  logOnce(n: number) {
    const half = words!.length / 2;
    const times = Atomics.add(words!, n, 1);
    if (times === 0 && Atomics.load(words!, half + n) === 1) Deno.exit(1);
    return 2 * n;
  },
  /**
   * Waits from the second task on, and reports it, until no task has to wait.
   */
  waitsFrom: withSignal((signal, n: number) => {
    if (n === 0) return 0;
    Atomics.store(words!, 0, 1);
    Atomics.notify(words!, 0);
    return new Promise<number>((resolve) => {
      signal.addEventListener("abort", () => resolve(++aborted));
    });
  }),
  /** The number of these tasks. */
  wasAborted: () => aborted,
};

/** The type of the methods for `Pool`. */
export type Methods = typeof methods;

expose(methods);
