// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker of a pool that does what it is told: over a pipe, a queue and shared
 * memory.
 *
 * @module
 */

import { expose, withSignal } from "@duplex/ipc/rpc";

/** Words that it shares with the one who started it, where that is another thread. */
let words: Int32Array<SharedArrayBuffer> | undefined;
let begun = 0;
let aborted = 0;

/** What thrown values are told apart by. */
const THROWN = { undefined, zero: 0, empty: "", null: null };

const methods = {
  square: (n: number) => n * n,
  add: (a: number, b: number) => a + b,
  echo: (value: unknown) => value,

  /** Twice the number, which process it is, and how many tasks it has begun. */
  begun: (n: number) => [2 * n, Deno.pid, ++begun],

  /** Calls back twice. */
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
  unsendable: () => () => 1,
  *count(n: number) {
    for (let number = 0; number < n; number++) yield number;
  },

  /** Keeps the thread to itself for ever. */
  spin() {
    for (;;);
  },
  never: () => new Promise(() => {}),
  /** Ends as a worker does that was told to, in good order. */
  exits(code: number) {
    Deno.exit(code);
  },
  /** Counts in shared words, and ends if it is one of those that end workers. */
  log(n: number, ends: boolean) {
    Atomics.add(words!, n, 1);
    if (ends) Deno.exit(1);
    return n;
  },
  share(shared: Int32Array<SharedArrayBuffer>) {
    words = shared;
  },
  /** As `log`, for the items of a map; each number in the second half ends workers once. */
  logOnce(n: number) {
    const half = words!.length / 2;
    const times = Atomics.add(words!, n, 1);
    if (times === 0 && Atomics.load(words!, half + n) === 1) Deno.exit(1);
    return 2 * n;
  },
  /** Waits from the second on, and says so, until nobody does. */
  waitsFrom: withSignal((signal, n: number) => {
    if (n === 0) return 0;
    Atomics.store(words!, 0, 1);
    Atomics.notify(words!, 0);
    return new Promise<number>((resolve) => {
      signal.addEventListener("abort", () => resolve(++aborted));
    });
  }),
  /** How often that was. */
  wasAborted: () => aborted,
};

/** What `Pool` needs to know of it. */
export type Methods = typeof methods;

expose(methods);
