// Copyright 2026 the Duplex authors. MIT license.

/**
 * A condition: only a queue. A wait gets into the queue before it unlocks the
 * mutex, so it misses no notification that comes after the unlocking. A
 * notification is settled when the wait holds the mutex again; if its thread dies
 * before, the notification goes to the next.
 *
 * @module
 */

import { checkFlag, checkWhole, hasType, isOptions } from "./checks.ts";
import {
  limitsOf,
  syncLimitsOf,
  type SyncWaitOptions,
  type WaitLimits,
  type WaitOptions,
} from "./limits.ts";
import type { Memory } from "./memory.ts";
import type { MutexGuard, TryLockOptions } from "./mutex.ts";
import { Guard } from "./mutex_core.ts";
import { capacityFor, KEPT, type LockMemoryOptions, Queue } from "./queue.ts";
import { type Core, Registry } from "./registry.ts";
import { MUST_WAIT, NONE, type Rules } from "./slots.ts";
import type { Wait } from "./wait.ts";
import { show } from "../_base/text.ts";

/** The result of a wait that was notified. */
const NOTIFIED = 0;

const ACTION = "wait for the condition";
const NOTIFY = "notify the condition";

/** What a condition does. */
class ConditionCore implements Core, Rules {
  readonly memory: Memory;
  readonly queue: Queue;

  constructor(memory: Memory) {
    this.memory = memory;
    this.queue = new Queue(memory, this, KEPT);
  }

  attempt(): number {
    return MUST_WAIT;
  }

  revoke(_result: number, count: number): void {
    this.notify(count);
  }

  /** Notifies so many, and returns how many there were. Under the latch. */
  notify(count: number): number {
    const { slots } = this.queue;
    for (let notified = 0; notified < count; notified++) {
      const slot = slots.first();
      if (slot === NONE) return notified;
      slots.grant(slot, NOTIFIED);
    }
    return count;
  }

  async wait(held: Guard, limits: WaitLimits, recover: boolean): Promise<void> {
    limits.signal?.throwIfAborted();
    const wait = this.#begin(held, limits, false);
    let failure: { reason: unknown } | undefined;
    try {
      await this.queue.finish(wait, limits);
    } catch (reason) {
      failure = { reason };
    }
    try {
      await held.core.resume(held, recover);
    } catch (error) {
      if (failure === undefined) this.queue.pass(wait);
      throw error;
    }
    if (failure !== undefined) throw failure.reason;
    this.queue.settle(wait);
  }

  waitSync(held: Guard, limits: WaitLimits, recover: boolean): void {
    const wait = this.#begin(held, limits, true);
    let failure: { reason: unknown } | undefined;
    try {
      this.queue.finishSync(wait, limits);
    } catch (reason) {
      failure = { reason };
    }
    try {
      held.core.resumeSync(held, recover);
    } catch (error) {
      if (failure === undefined) this.queue.pass(wait);
      throw error;
    }
    if (failure !== undefined) throw failure.reason;
    this.queue.settle(wait);
  }

  /** Gets into the queue, and unlocks the mutex. */
  #begin(held: Guard, limits: WaitLimits, isSync: boolean): Wait {
    // An attempt never succeeds, so this is a wait.
    const wait = this.queue.begin(limits, 0, isSync) as Wait;
    try {
      held.unlock();
    } catch (error) {
      this.queue.cancel(wait);
      throw error;
    }
    return wait;
  }
}

const conditions: Registry<ConditionCore> = new Registry(
  "Condition",
  (memory) => new ConditionCore(memory),
);

/** Options for {@linkcode Condition.waitSync}. */
export interface ConditionSyncOptions extends SyncWaitOptions, TryLockOptions {}

/** Options for {@linkcode Condition.wait}. */
export interface ConditionOptions extends WaitOptions, TryLockOptions {}

/**
 * Lets the holder of a {@linkcode Mutex} wait until another thread has changed
 * what the mutex protects. Threads share it by its `buffer`, sent in a message.
 *
 * - **Waiting:** unlocks the mutex and waits in one step; afterwards the guard
 *   holds the mutex again, also after a timeout or an abort, which therefore may
 *   take until the mutex is free. Check again what you wait for: another may
 *   have been faster, and a wait may rarely end without a notification.
 * - **Order:** the longest wait is notified first. With more than 128 waits, those
 *   of one thread stay in order and the threads take turns.
 * - **Limit:** any number of tasks of a thread can wait, and at least
 *   {@linkcode LockMemoryOptions.threads} threads. One more gets a `RangeError`
 *   and still holds its mutex.
 * - **Death:** if a thread dies while it waits, or after it was notified and before
 *   it holds the mutex again, the notification goes to the next that waits. If the
 *   holder of the mutex died, the wait throws {@linkcode OwnerDiedError} and its
 *   guard cannot be used any more, unless `recover` is set; its notification goes
 *   to the next as well.
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
  readonly #core: ConditionCore;
  readonly #buffer: SharedArrayBuffer | undefined;

  /**
   * Makes a condition, or attaches to one.
   *
   * @param from Options for a new condition, or the `buffer` of the one to attach
   *   to.
   * @throws {TypeError} If the buffer is not that of a condition, or is a copy of
   *   it.
   * @throws {RangeError} If the number of threads is out of range.
   */
  constructor(from: LockMemoryOptions | SharedArrayBuffer = {}) {
    if (isOptions(from)) {
      const capacity = capacityFor("make a Condition", from.threads);
      this.#core = conditions.create([], capacity);
    } else {
      this.#core = conditions.attach(from);
      this.#buffer = from;
    }
  }

  /**
   * The shared memory of the condition, to be sent to other threads. A copy of it
   * is not notified.
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
  get buffer(): SharedArrayBuffer {
    return this.#buffer ?? conditions.share(this.#core);
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
   * @throws {TypeError} If the guard or an option has the wrong type.
   * @throws {RangeError} If the timeout is negative, or there is no place for one
   *   more thread; the guard then holds the mutex.
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
  async wait(guard: MutexGuard, options?: ConditionOptions): Promise<void> {
    const limits = limitsOf(ACTION, options);
    const recover = checkFlag(ACTION, "recover", options?.recover);
    await this.#core.wait(checkGuard(guard, false), limits, recover);
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
   * @throws {TypeError} If the guard or an option has the wrong type.
   * @throws {RangeError} If the timeout is negative, or there is no place for one
   *   more thread; the guard then holds the mutex.
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
  waitSync(guard: MutexGuard, options?: ConditionSyncOptions): void {
    const limits = syncLimitsOf(ACTION, options);
    const recover = checkFlag(ACTION, "recover", options?.recover);
    this.#core.waitSync(checkGuard(guard, true), limits, recover);
  }

  /**
   * Ends the longest waits. Call it while you hold the mutex, so that no other
   * thread checks and then starts to wait in between.
   *
   * @param count How many to notify, a whole number from 1 on.
   * @returns How many were notified: fewer if fewer wait.
   * @throws {TypeError} If the count is not a number.
   * @throws {RangeError} If the count is out of range.
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
    checkWhole(NOTIFY, "count", count, 1);
    const { queue } = this.#core;
    if (queue.slots.waits === 0) return 0;
    return queue.latched(NOTIFY, () => this.#core.notify(count));
  }

  /**
   * Ends all waits.
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
    const { queue } = this.#core;
    if (queue.slots.waits === 0) return 0;
    return queue.latched(NOTIFY, () => queue.slots.grantAll(NOTIFIED));
  }
}

function checkGuard(guard: unknown, blocks: boolean): Guard {
  if (!hasType(guard, Guard)) {
    throw new TypeError(
      `Cannot ${ACTION} as "guard" must come from a lock call of a Mutex: current value is ${
        show(guard)
      }`,
    );
  }
  guard.core.checkWait(ACTION, guard, blocks);
  return guard;
}
