// Copyright 2026 the Duplex authors. MIT license.

/**
 * The errors of locks that callers catch.
 *
 * @module
 */

/**
 * Error thrown by {@linkcode Mutex.lock} and its siblings when the thread that
 * held the mutex has died, so that what the mutex protects may be half changed.
 * The call does not hold the mutex. Nobody gets it until somebody locks it with
 * `recover` set to `true`, repairs what it protects, and unlocks it.
 *
 * @example Usage
 * ```ts
 * import { Mutex, type MutexGuard, OwnerDiedError } from "@duplex/ipc/sync";
 * import { assert } from "@std/assert";
 *
 * const mutex = new Mutex();
 * // A worker that takes the mutex and ends with it.
 * const script = `
 *   import { Mutex } from "${new URL("../sync.ts", import.meta.url)}";
 *   self.onmessage = ({ data }) => {
 *     new Mutex(data).lockSync();
 *     postMessage("locked");
 *   };
 *   postMessage("ready");
 * `;
 * const worker = new Worker(`data:text/javascript,${encodeURIComponent(script)}`, {
 *   type: "module",
 * });
 * const { promise, resolve } = Promise.withResolvers<void>();
 * worker.onmessage = ({ data }) =>
 *   data === "ready" ? worker.postMessage(mutex.buffer) : resolve();
 * await promise;
 * worker.terminate();
 *
 * async function lock(): Promise<MutexGuard> {
 *   try {
 *     return await mutex.lock();
 *   } catch (error) {
 *     if (!(error instanceof OwnerDiedError)) throw error;
 *     const guard = await mutex.lock({ recover: true });
 *     // Repair here, if `guard.ownerDied`: nobody else has done so since.
 *     assert(guard.ownerDied);
 *     return guard;
 *   }
 * }
 *
 * using _guard = await lock();
 * ```
 */
export class OwnerDiedError extends Error {
  /**
   * Constructs a new instance.
   *
   * @param message The error message.
   * @param options The cause, where there is one.
   */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "OwnerDiedError";
  }
}

/**
 * Error thrown by {@linkcode Barrier.wait} and {@linkcode Barrier.waitSync} when
 * the barrier is broken: one that waited gave up or died, or somebody called
 * {@linkcode Barrier.abort}.
 *
 * @example Usage
 * ```ts
 * import { Barrier, BrokenBarrierError } from "@duplex/ipc/sync";
 * import { assertThrows } from "@std/assert";
 *
 * const barrier = new Barrier({ parties: 2 });
 * barrier.abort();
 * assertThrows(() => barrier.waitSync(), BrokenBarrierError);
 * ```
 */
export class BrokenBarrierError extends Error {
  /**
   * Constructs a new instance.
   *
   * @param message The error message.
   * @param options The cause, where there is one.
   */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "BrokenBarrierError";
  }
}
