// Copyright 2026 the Duplex authors. MIT license.

/**
 * The public face of the mutex; what it does is in `_sync_mutex_core.ts`.
 *
 * @module
 */

import { Memory } from "./_sync_memory.ts";
import { type LockRequest, MutexCore } from "./_sync_mutex_core.ts";
import {
  limitsOf,
  type SyncWaitOptions,
  type WaitOptions,
} from "./_sync_sleep.ts";

/** Options for {@linkcode Mutex.tryLock}. */
export interface TryLockOptions {
  /**
   * Takes the mutex also if its holder died; {@linkcode MutexGuard.ownerDied}
   * then says so, and what the mutex protects is to be repaired. Without it the
   * call throws {@linkcode OwnerDiedError}.
   *
   * @default {false}
   */
  recover?: boolean;
}

/** Options for {@linkcode Mutex.lockSync}. */
export interface LockSyncOptions extends SyncWaitOptions, TryLockOptions {}

/** Options for {@linkcode Mutex.lock}. */
export interface LockOptions extends WaitOptions, TryLockOptions {
  /**
   * Waits also behind another task of the same thread. Without it, to lock a
   * mutex that this thread holds or waits for is an error, since a task that
   * waits for itself waits for ever, and nothing tells one task from another.
   *
   * @default {false}
   */
  queue?: boolean;
}

/**
 * A mutex that is held, from {@linkcode Mutex.lock} and its siblings. The end of
 * a `using` block unlocks it if it is still held.
 */
export interface MutexGuard extends Disposable {
  /**
   * Whether the thread that held the mutex before has died, so that what it
   * protects must be repaired. Only ever `true` if `recover` was.
   */
  readonly ownerDied: boolean;
  /**
   * Unlocks the mutex.
   *
   * @throws {DOMException} `InvalidStateError` if the guard does not hold it any
   *   more, or another thread calls.
   */
  unlock(): void;
}

/**
 * Lets one thread at a time into what it protects. Threads share it by its
 * `buffer`, sent in a message.
 *
 * - **Order:** first come, first served, asynchronous and synchronous calls in
 *   one queue: nobody who comes later overtakes. The first 128 who wait are kept
 *   in order, any more are served after them and in no order.
 * - **Owner:** the thread holds the mutex, not the task. To lock what this thread
 *   holds or waits for is an error at once, unless `queue` is set; to unlock what
 *   it does not hold is one as well.
 * - **Cancelling:** who is given the mutex in the moment in which its time is up
 *   or its signal aborts has it. No turn is lost.
 * - **Death:** when the thread that holds it ends (`terminate()`, `close()`, an
 *   error), all who wait and all who lock it later are refused with
 *   {@linkcode OwnerDiedError} until somebody locks it with `recover`, so nobody
 *   works on what is half changed without knowing. Those who wait know within
 *   20 ms of the thread's end, also while blocked, whatever other threads do.
 *   `terminate()` does not end a thread before what it runs is done: until then it
 *   lives, and holds what it holds.
 * - **Staying alive:** a thread that holds a mutex or waits for one does not end
 *   by itself when nothing else is left to do.
 *
 * Requires no permission.
 *
 * @example Usage
 * ```ts
 * import { Mutex } from "@duplex/ipc/sync";
 * import { assertThrows } from "@std/assert";
 *
 * const mutex = new Mutex();
 * // In another thread: const mutex = new Mutex(buffer);
 * {
 *   using _guard = await mutex.lock({ timeout: 1000 });
 *   assertThrows(() => mutex.lockSync(), DOMException, "holds it already");
 * }
 * {
 *   using _guard = mutex.lockSync();
 * }
 * assertThrows(() => mutex.unlock(), DOMException, "does not hold it");
 * ```
 */
export class Mutex {
  readonly #core: MutexCore;
  /**
   * The shared memory of the mutex, to be sent to other threads.
   *
   * @example Usage
   * ```ts
   * import { Mutex } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * const mutex = new Mutex();
   * using _guard = mutex.lockSync();
   * assertEquals(new Mutex(mutex.buffer).buffer, mutex.buffer);
   * ```
   */
  readonly buffer: SharedArrayBuffer;

  /**
   * Makes a mutex, or attaches to one.
   *
   * @param buffer The `buffer` of the mutex to attach to; without it, a new one
   *   is made.
   * @throws {TypeError} If the buffer is not that of a mutex.
   */
  constructor(buffer?: SharedArrayBuffer) {
    const memory = buffer === undefined
      ? Memory.create("Mutex", [])
      : Memory.attach("Mutex", buffer);
    this.buffer = memory.words.buffer;
    this.#core = new MutexCore(memory);
  }

  /**
   * Locks the mutex; waits while it is held.
   *
   * @param options How long to wait, and whether to take it from the dead.
   * @returns A promise for the guard that unlocks it.
   * @throws The signal's reason if it aborts.
   * @throws {OwnerDiedError} If the thread that held it has died and `recover` is
   *   not set.
   * @throws {DOMException} `TimeoutError` if the time is up, `InvalidStateError` if
   *   this thread holds or waits for it already and `queue` is not set.
   * @throws {RangeError} If the timeout is negative.
   *
   * @example Giving up
   * ```ts
   * import { Mutex } from "@duplex/ipc/sync";
   * import { assertRejects } from "@std/assert";
   *
   * const mutex = new Mutex();
   * using _guard = await mutex.lock();
   * await assertRejects(
   *   () => mutex.lock({ queue: true, timeout: 10 }),
   *   DOMException,
   *   "10 ms have passed",
   * );
   * ```
   */
  lock(options: LockOptions = {}): Promise<MutexGuard> {
    const { queue = false } = options;
    // A promise also for what is wrong with the options.
    return new Promise((resolve) =>
      resolve(this.#core.lock({ ...lockRequest(options), queue }))
    );
  }

  /**
   * Locks the mutex; blocks the thread while it is held.
   *
   * @param options How long to wait, and whether to take it from the dead.
   * @returns The guard that unlocks it.
   * @throws {OwnerDiedError} If the thread that held it has died and `recover` is
   *   not set.
   * @throws {DOMException} `TimeoutError` if the time is up, `InvalidStateError` if
   *   this thread holds or waits for it already.
   * @throws {RangeError} If the timeout is negative.
   *
   * @example Usage
   * ```ts
   * import { Mutex } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * const mutex = new Mutex();
   * using guard = mutex.lockSync({ timeout: 1000, recover: true });
   * assertEquals(guard.ownerDied, false);
   * ```
   */
  lockSync(options: LockSyncOptions = {}): MutexGuard {
    return this.#core.lockSync(lockRequest(options));
  }

  /**
   * Locks the mutex if it is free.
   *
   * @param options Whether to take it from the dead.
   * @returns The guard that unlocks it, or `undefined` while another thread holds
   *   it.
   * @throws {OwnerDiedError} If the thread that held it has died and `recover` is
   *   not set.
   * @throws {DOMException} `InvalidStateError` if this thread holds or waits for it
   *   already.
   *
   * @example Usage
   * ```ts
   * import { Mutex } from "@duplex/ipc/sync";
   * import { assert } from "@std/assert";
   *
   * using guard = new Mutex().tryLock();
   * assert(guard !== undefined);
   * ```
   */
  tryLock(options: TryLockOptions = {}): MutexGuard | undefined {
    const { recover = false } = options;
    return this.#core.tryLock(lockRequest({ recover }));
  }

  /**
   * Unlocks the mutex, whichever task of this thread has its guard.
   *
   * @throws {DOMException} `InvalidStateError` if this thread does not hold it.
   *
   * @example Usage
   * ```ts
   * import { Mutex } from "@duplex/ipc/sync";
   * import { assert } from "@std/assert";
   *
   * const mutex = new Mutex();
   * mutex.lockSync();
   * mutex.unlock();
   * assert(mutex.tryLock());
   * mutex.unlock();
   * ```
   */
  unlock(): void {
    this.#core.unlock();
  }
}

function lockRequest(options: WaitOptions & TryLockOptions): LockRequest {
  const action = "lock the mutex";
  const { recover = false } = options;
  return { action, limits: limitsOf(action, options), recover, queue: false };
}
