// Copyright 2026 the Duplex authors. MIT license.

/**
 * Watches a Web Worker for a thread that is blocked. Deno reports the end of a worker
 * to the event loop, which does not run then. So another worker, which starts even
 * while its creator is blocked, waits for the Web Lock that the watched one holds
 * (see `_thread/scope.ts`), and closes the watched one's side of their shared memory.
 *
 * @module
 */

/** How the watcher closes a side: a bit to set, and the words to clear and notify. */
export interface Closing {
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly closed: number;
  readonly bit: number;
  readonly bells: readonly number[];
}

const SOURCE = `onmessage = ({ data: [lock, { words, closed, bit, bells }] }) =>
  navigator.locks.request(lock, { mode: "shared" }, () => {
    Atomics.or(words, closed, bit);
    for (const bell of bells) {
      Atomics.store(words, bell, 0);
      Atomics.notify(words, bell);
    }
  });`;

const SCRIPT = `data:text/javascript,${encodeURIComponent(SOURCE)}`;

/**
 * Calls `wait` while another thread watches a worker.
 *
 * @param lock The name of the worker's lock.
 * @param closing What to do when the worker has ended.
 * @param wait Blocks this thread.
 * @returns The result of `wait`.
 */
export function whileWatching<T>(
  lock: string,
  closing: Closing,
  wait: () => T,
): T {
  let watcher: Worker | undefined;
  try {
    watcher = new Worker(SCRIPT, { type: "module" });
    watcher.postMessage([lock, closing]);
  } catch {
    // The system has no thread for it: the wait is not watched.
  }
  try {
    return wait();
  } finally {
    watcher?.terminate();
  }
}
