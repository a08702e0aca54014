// Copyright 2026 the Duplex authors. MIT license.

/**
 * Locks for memory that threads share: {@linkcode Mutex},
 * {@linkcode Semaphore}, {@linkcode Condition}, {@linkcode Barrier},
 * {@linkcode ResetEvent} and {@linkcode AtomicCounter}. Each is stored in a
 * `SharedArrayBuffer`, its `buffer`, which is sent to a worker in a message;
 * the worker attaches to it with the same class. Each can be waited for in a task,
 * with a `timeout` and a `signal`, and with the thread blocked, with a `timeout`, on
 * the main thread as well. If the thread that holds a mutex dies, other threads can
 * recover the mutex.
 *
 * The threads are Web Workers and the main thread. Do not end a thread of
 * `node:worker_threads` with `terminate()` while it uses a lock: that can stop it in
 * the middle of a call, after which calls of other threads throw an error that says
 * that the memory of the lock is damaged.
 *
 * ```ts
 * import { AtomicCounter, Mutex } from "@duplex/ipc/sync";
 * import { assertEquals } from "@std/assert";
 *
 * const mutex = new Mutex();
 * const done = new AtomicCounter();
 * const account = new Float64Array(new SharedArrayBuffer(8));
 *
 * const script = `
 *   import { AtomicCounter, Mutex } from "${new URL("./sync.ts", import.meta.url)}";
 *   self.onmessage = ({ data }) => {
 *     const account = new Float64Array(data.account);
 *     {
 *       using guard = new Mutex(data.mutex).lockSync();
 *       account[0] += 10;
 *     }
 *     new AtomicCounter(data.done).add();
 *     self.close();
 *   };
 *   postMessage("ready");
 * `;
 * for (let index = 0; index < 2; index++) {
 *   const url = `data:text/javascript,${encodeURIComponent(script)}`;
 *   const worker = new Worker(url, { type: "module" });
 *   worker.onmessage = () =>
 *     worker.postMessage({
 *       account: account.buffer,
 *       mutex: mutex.buffer,
 *       done: done.buffer,
 *     });
 * }
 * await done.until((value) => value === 2);
 *
 * using _guard = await mutex.lock({ timeout: 1000 });
 * assertEquals(account[0], 20);
 * ```
 *
 * Requires no permission.
 *
 * @module
 */

export {
  Barrier,
  type BarrierOptions,
  BrokenBarrierError,
} from "./_sync/barrier.ts";
export {
  Condition,
  type ConditionOptions,
  type ConditionSyncOptions,
} from "./_sync/condition.ts";
export { AtomicCounter, type AtomicCounterOptions } from "./_sync/counter.ts";
export { ResetEvent, type ResetEventOptions } from "./_sync/event.ts";
export { SharedLock } from "./_sync/lock.ts";
export {
  type LockOptions,
  type LockSyncOptions,
  Mutex,
  type MutexGuard,
  OwnerDiedError,
  type TryLockOptions,
} from "./_sync/mutex.ts";
export type {
  LockMemoryOptions,
  SyncWaitOptions,
  WaitOptions,
} from "./_sync/options.ts";
export {
  Semaphore,
  type SemaphoreOptions,
  type SemaphorePermit,
} from "./_sync/semaphore.ts";
