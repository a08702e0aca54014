// Copyright 2026 the Duplex authors. MIT license.

/**
 * The public face of the mutex; what it does is in `_sync/mutex_core.ts`.
 *
 * @module
 */

import { checkFlag, checkOptions, isOptions } from "./checks.ts";
import {
  limitsOf,
  syncLimitsOf,
  type SyncWaitOptions,
  WaitLimits,
  type WaitOptions,
} from "./limits.ts";
import { type LockRequest, type MutexCore, mutexes } from "./mutex_core.ts";
import { capacityFor, type LockMemoryOptions } from "./queue.ts";

const ACTION = "lock the mutex";

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
 *   one queue. With more than 128 waits, those of one thread stay in order and
 *   the threads take turns.
 * - **Limit:** any number of tasks of a thread can wait, and at least
 *   {@linkcode LockMemoryOptions.threads} threads. One more gets a `RangeError`.
 * - **Owner:** the thread holds the mutex, not the task. To lock what this thread
 *   holds or waits for is an error at once, unless `queue` is set; to unlock what
 *   it does not hold is one as well.
 * - **Cancelling:** a call that is granted the mutex at the moment of its timeout
 *   or abort has it. No turn is lost.
 * - **Death:** when the thread that holds it ends (`terminate()`, `close()`, an
 *   error), all calls that wait and all later ones throw
 *   {@linkcode OwnerDiedError} until one locks it with `recover`, so that no code
 *   works on half-changed data unknowingly. A call that waits throws within 20 ms
 *   of the thread's end, also while it blocks its thread. `terminate()` does not
 *   end a thread before its current task is done: until then it lives and holds
 *   the mutex.
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
  readonly #buffer: SharedArrayBuffer | undefined;

  /**
   * Makes a mutex, or attaches to one.
   *
   * @param from Options for a new mutex, or the `buffer` of the one to attach to.
   * @throws {TypeError} If the buffer is not that of a mutex, or is a copy of it.
   * @throws {RangeError} If the number of threads is out of range.
   */
  constructor(from: LockMemoryOptions | SharedArrayBuffer = {}) {
    if (isOptions(from)) {
      this.#core = mutexes.create(
        [],
        capacityFor("make a Mutex", from.threads),
      );
    } else {
      this.#core = mutexes.attach(from);
      this.#buffer = from;
    }
  }

  /**
   * The shared memory of the mutex, to be sent to other threads. A copy of it
   * protects nothing.
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
  get buffer(): SharedArrayBuffer {
    return this.#buffer ?? mutexes.share(this.#core);
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
   * @throws {TypeError} If an option has the wrong type.
   * @throws {RangeError} If the timeout is negative, or there is no place for one
   *   more thread.
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
  async lock(options?: LockOptions): Promise<MutexGuard> {
    const limits = limitsOf(ACTION, options);
    const queue = checkFlag(ACTION, "queue", options?.queue);
    return await this.#core.lock(lockRequest(limits, options, queue));
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
   * @throws {TypeError} If an option has the wrong type.
   * @throws {RangeError} If the timeout is negative, or there is no place for one
   *   more thread.
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
  lockSync(options?: LockSyncOptions): MutexGuard {
    const limits = syncLimitsOf(ACTION, options);
    return this.#core.lockSync(lockRequest(limits, options, false));
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
  tryLock(options?: TryLockOptions): MutexGuard | undefined {
    if (options !== undefined) checkOptions(ACTION, options);
    return this.#core.tryLock(lockRequest(NO_LIMITS, options, false));
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

const NO_LIMITS = new WaitLimits(ACTION, Infinity, undefined);

function lockRequest(
  limits: WaitLimits,
  options: TryLockOptions | undefined,
  queue: boolean,
): LockRequest {
  return {
    limits,
    recover: checkFlag(ACTION, "recover", options?.recover),
    queue,
  };
}
