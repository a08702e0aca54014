// Copyright 2026 the Duplex authors. MIT license.

/**
 * A condition: nothing but a queue. Who waits gets into the queue before it
 * unlocks the mutex, so it misses no notification that comes after the unlocking.
 *
 * @module
 */

import { Guard } from "./_sync_mutex_core.ts";
import { ALWAYS_ZERO, Memory } from "./_sync_memory.ts";
import type { MutexGuard, TryLockOptions } from "./_sync_mutex.ts";
import { CHECK_MS, MUST_WAIT, Queue } from "./_sync_queue.ts";
import {
  limitsOf,
  sleep,
  type SyncWaitOptions,
  type WaitOptions,
} from "./_sync_sleep.ts";
import { show } from "./_text.ts";

/** The result of a wait that was notified. */
const NOTIFIED = 0;

const ACTION = "wait for the condition";

/** Options for {@linkcode Condition.waitSync}. */
export interface ConditionSyncOptions extends SyncWaitOptions, TryLockOptions {}

/** Options for {@linkcode Condition.wait}. */
export interface ConditionOptions extends WaitOptions, TryLockOptions {}

/**
 * Lets who holds a {@linkcode Mutex} wait until another thread has changed what
 * the mutex protects. Threads share it by its `buffer`, sent in a message.
 *
 * - **Waiting:** unlocks the mutex and waits in one step; afterwards the guard
 *   holds the mutex again, also after a timeout or an abort, which therefore may
 *   take until the mutex is free. Look again at what you wait for: another may
 *   have been faster, and a wait may rarely end without a notification.
 * - **Order:** who has waited longest is notified first.
 * - **Death:** a thread that dies while it waits leaves the notification to
 *   another. If the holder of the mutex died, the wait throws
 *   {@linkcode OwnerDiedError} and the guard is done, unless `recover` is set.
 *
 * Requires no permission.
 *
 * @example Usage
 * ```ts
 * import { Condition, Mutex } from "@duplex/ipc/sync";
 * import { assertEquals } from "@std/assert";
 *
 * const mutex = new Mutex();
 * const changed = new Condition();
 * let ready = false;
 *
 * async function wait() {
 *   using guard = await mutex.lock({ queue: true });
 *   while (!ready) await changed.wait(guard);
 * }
 *
 * async function prepare() {
 *   using _guard = await mutex.lock({ queue: true });
 *   ready = true;
 *   changed.notify();
 * }
 *
 * await Promise.all([wait(), prepare()]);
 * assertEquals(ready, true);
 * ```
 */
export class Condition {
  readonly #memory: Memory;
  readonly #queue: Queue;
  /**
   * The shared memory of the condition, to be sent to other threads.
   *
   * @example Usage
   * ```ts
   * import { Condition } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * const condition = new Condition();
   * assertEquals(new Condition(condition.buffer).buffer, condition.buffer);
   * ```
   */
  readonly buffer: SharedArrayBuffer;

  /**
   * Makes a condition, or attaches to one.
   *
   * @param buffer The `buffer` of the condition to attach to; without it, a new
   *   one is made.
   * @throws {TypeError} If the buffer is not that of a condition.
   */
  constructor(buffer?: SharedArrayBuffer) {
    this.#memory = buffer === undefined
      ? Memory.create("Condition", [])
      : Memory.attach("Condition", buffer);
    this.buffer = this.#memory.words.buffer;
    this.#queue = new Queue(this.#memory, {
      attempt: () => MUST_WAIT,
      revoke: () => this.#notify(1),
    });
  }

  /**
   * Unlocks the guard's mutex, waits for a notification, and locks it again.
   *
   * @param guard The guard of the mutex, which must hold it.
   * @param options How long to wait, and whether to take the mutex from the dead.
   * @returns A promise that settles when the guard holds the mutex again.
   * @throws The signal's reason if it aborts; the guard then holds the mutex.
   * @throws {OwnerDiedError} If the thread that held the mutex meanwhile has died
   *   and `recover` is not set; the guard then does not hold the mutex.
   * @throws {DOMException} `TimeoutError` if the time is up; the guard then holds
   *   the mutex. `InvalidStateError` if the guard does not hold its mutex.
   * @throws {TypeError} If the guard is none.
   * @throws {RangeError} If the timeout is negative.
   *
   * @example Giving up
   * ```ts
   * import { Condition, Mutex } from "@duplex/ipc/sync";
   * import { assertRejects } from "@std/assert";
   *
   * const condition = new Condition();
   * using guard = await new Mutex().lock();
   * await assertRejects(
   *   () => condition.wait(guard, { timeout: 10 }),
   *   DOMException,
   *   "10 ms have passed",
   * );
   * ```
   */
  async wait(guard: MutexGuard, options: ConditionOptions = {}): Promise<void> {
    const { recover = false } = options;
    const limits = limitsOf(ACTION, options);
    const held = checkGuard(guard, false);
    limits.signal?.throwIfAborted();
    const place = this.#queue.begin(0, false);
    held.unlock();
    let cause: { reason: unknown } | undefined;
    try {
      if (place.state === "waiting") await this.#queue.finish(place, limits);
      else await sleep(this.#memory.words, ALWAYS_ZERO, 0, limits, CHECK_MS);
    } catch (reason) {
      cause = { reason };
    }
    await held.core.resume(held, recover);
    if (cause) throw cause.reason;
  }

  /**
   * Unlocks the guard's mutex, blocks the thread until a notification, and locks
   * it again.
   *
   * @param guard The guard of the mutex, which must hold it.
   * @param options How long to wait, and whether to take the mutex from the dead.
   * @throws {OwnerDiedError} If the thread that held the mutex meanwhile has died
   *   and `recover` is not set; the guard then does not hold the mutex.
   * @throws {DOMException} `TimeoutError` if the time is up; the guard then holds
   *   the mutex. `InvalidStateError` if the guard does not hold its mutex, or a
   *   task of this thread waits for it.
   * @throws {TypeError} If the guard is none.
   * @throws {RangeError} If the timeout is negative.
   *
   * @example Giving up
   * ```ts
   * import { Condition, Mutex } from "@duplex/ipc/sync";
   * import { assertThrows } from "@std/assert";
   *
   * const condition = new Condition();
   * using guard = new Mutex().lockSync();
   * assertThrows(
   *   () => condition.waitSync(guard, { timeout: 10 }),
   *   DOMException,
   *   "10 ms have passed",
   * );
   * ```
   */
  waitSync(guard: MutexGuard, options: ConditionSyncOptions = {}): void {
    const { recover = false, timeout = Infinity } = options;
    const limits = limitsOf(ACTION, { timeout });
    const held = checkGuard(guard, true);
    const place = this.#queue.begin(0, true);
    held.unlock();
    let cause: { reason: unknown } | undefined;
    try {
      if (place.state === "waiting") this.#queue.finishSync(place, limits);
      else Atomics.wait(this.#memory.words, ALWAYS_ZERO, 0, CHECK_MS);
    } catch (reason) {
      cause = { reason };
    }
    held.core.resumeSync(held, recover);
    if (cause) throw cause.reason;
  }

  /**
   * Ends the wait of those who have waited longest. Call it while you hold the
   * mutex, so that nobody looks and then starts to wait in between.
   *
   * @param count How many to notify, a whole number from 1 on.
   * @returns How many were notified: fewer if fewer wait.
   * @throws {RangeError} If the count is not such a number.
   *
   * @example Usage
   * ```ts
   * import { Condition } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new Condition().notify(), 0);
   * ```
   */
  notify(count = 1): number {
    if (!(Number.isInteger(count) && count >= 1)) {
      throw new RangeError(
        `Cannot notify the condition as "count" must be a whole number from 1 on: current value is ${
          show(count)
        }`,
      );
    }
    return this.#memory.latched(() => this.#notify(count));
  }

  /**
   * Ends the wait of all who wait.
   *
   * @returns How many were notified.
   *
   * @example Usage
   * ```ts
   * import { Condition } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new Condition().notifyAll(), 0);
   * ```
   */
  notifyAll(): number {
    return this.#memory.latched(() => this.#notify(Infinity));
  }

  #notify(count: number): number {
    let notified = 0;
    while (notified < count) {
      const who = this.#queue.first();
      if (who === undefined) break;
      this.#queue.grant(who, NOTIFIED);
      notified++;
    }
    return notified;
  }
}

function checkGuard(guard: unknown, blocks: boolean): Guard {
  if (!(guard instanceof Guard)) {
    throw new TypeError(
      `Cannot ${ACTION} as "guard" must come from a lock call of a Mutex: current value is ${
        show(guard)
      }`,
    );
  }
  guard.core.checkWait(ACTION, guard, blocks);
  return guard;
}
