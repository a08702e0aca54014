// Copyright 2026 the Duplex authors. MIT license.

/**
 * A condition variable: only a queue. A wait enters the queue before it unlocks the
 * mutex, so it misses no notification after the unlock. A notification is settled
 * when the wait holds the mutex again; if its thread dies before, the notification
 * is granted to the next wait.
 *
 * @module
 */

import { checkNumber } from "../_base/options.ts";
import { isInstance } from "../_base/errors.ts";
import { LockType, SharedLock } from "./lock.ts";
import type { Memory } from "./memory.ts";
import { Guard, type MutexGuard, type TryLockOptions } from "./mutex.ts";
import {
  capacityFor,
  checkFlag,
  limitsOf,
  type LockMemoryOptions,
  syncLimitsOf,
  type SyncWaitOptions,
  typeError,
  type WaitLimits,
  type WaitOptions,
} from "./options.ts";
import { QueuedCore, type Wait } from "./wait_queue.ts";
import { MUST_WAIT, NONE } from "./slots.ts";

/** The result of a wait that was notified. */
const NOTIFIED = 0;

const ACTION = "wait for the condition";
const NOTIFY = "notify the condition";

/** An error of one of the steps of a wait. */
interface Failure {
  readonly reason: unknown;
}

/** A condition as one thread uses it. */
class ConditionCore extends QueuedCore {
  constructor(memory: Memory) {
    super(memory, { isUniform: true, isKept: true });
  }

  override attempt(): number {
    return MUST_WAIT;
  }

  override revoke(_result: number, count: number): void {
    this.notify(count);
  }

  /** Notifies waits; returns their number. Under the latch. */
  notify(count: number): number {
    const { slots } = this;
    for (let notified = 0; notified < count; notified++) {
      const slot = slots.first();
      if (slot === NONE) return notified;
      slots.grant(slot, NOTIFIED);
    }
    return count;
  }

  async waitWith(
    guard: Guard,
    limits: WaitLimits,
    recover: boolean,
  ): Promise<void> {
    limits.signal?.throwIfAborted();
    const wait = this.#enqueueAndUnlock(guard, limits, false);
    const failure = await failureOf(this.finish(wait, limits));
    const relocked = await failureOf(guard.core.relock(guard, recover));
    this.#end(wait, failure, relocked);
  }

  waitSyncWith(guard: Guard, limits: WaitLimits, recover: boolean): void {
    const wait = this.#enqueueAndUnlock(guard, limits, true);
    const failure = failureOfSync(() => this.finishSync(wait, limits));
    const relocked = failureOfSync(() => guard.core.relockSync(guard, recover));
    this.#end(wait, failure, relocked);
  }

  #enqueueAndUnlock(guard: Guard, limits: WaitLimits, isSync: boolean): Wait {
    // An attempt never succeeds, so this is a wait.
    const wait = this.begin(limits, 0, isSync) as Wait;
    try {
      guard.unlock();
    } catch (error) {
      this.abandon(wait);
      throw error;
    }
    return wait;
  }

  /** Ends a wait, given what failed in it, and in locking the mutex again. */
  #end(
    wait: Wait,
    failure: Failure | undefined,
    relocked: Failure | undefined,
  ): void {
    if (failure === undefined) {
      if (relocked === undefined) return this.settle(wait);
      // The caller cannot use its notification without the mutex.
      this.passOn(wait);
    }
    throw (relocked ?? failure)!.reason;
  }
}

function failureOf(promise: Promise<unknown>): Promise<Failure | undefined> {
  return promise.then(() => undefined, (reason: unknown) => ({ reason }));
}

function failureOfSync(run: () => unknown): Failure | undefined {
  try {
    run();
  } catch (reason) {
    return { reason };
  }
  return undefined;
}

const conditions = new LockType(
  "Condition",
  ConditionCore,
  ({ threads }: LockMemoryOptions, action) => ({
    fields: [],
    capacity: capacityFor(action, threads),
  }),
);

/** Options for {@linkcode Condition.waitSync}. */
export interface ConditionSyncOptions extends SyncWaitOptions, TryLockOptions {}

/** Options for {@linkcode Condition.wait}. */
export interface ConditionOptions extends WaitOptions, TryLockOptions {}

/**
 * A condition variable: the holder of a {@linkcode Mutex} waits until another thread
 * has changed what the mutex protects. Threads share it by its `buffer`, sent in a
 * message.
 *
 * - **Waiting:** unlocks the mutex and waits in one step; afterwards the guard
 *   holds the mutex again, also after a timeout or an abort, which therefore may
 *   take until the mutex is free. Check again what you wait for: another thread may
 *   have been faster, and a wait may rarely end without a notification.
 * - **Order:** the longest wait is notified first. With more than 128 waiters, those
 *   of one thread stay in order and the threads take turns.
 * - **Death:** if a thread dies while it waits, or after it was notified and before
 *   it holds the mutex again, the next waiter is notified. If the owner of the mutex
 *   died, the wait throws {@linkcode OwnerDiedError} and its guard cannot be used
 *   any more, unless `recover` is set; the next waiter is notified then as well.
 *
 * Requires no permission. See {@linkcode SharedLock} for limits.
 *
 * @example Usage
 * ```ts
 * import { Condition, Mutex } from "@duplex/ipc/sync";
 * import { assertEquals, assertThrows } from "@std/assert";
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
 *
 * using guard = mutex.lockSync();
 * assertThrows(() => changed.waitSync(guard, { timeout: 10 }), DOMException);
 * assertEquals(changed.notifyAll(), 0);
 * ```
 */
export class Condition extends SharedLock {
  readonly #core: ConditionCore;

  /**
   * Creates a condition, or attaches to one.
   *
   * @param from Options for a new condition, or the `buffer` of the one to attach
   *   to.
   * @throws {TypeError} If the buffer is not that of a condition, or is a copy of
   *   it.
   * @throws {RangeError} If the number of threads is out of range.
   */
  constructor(from: LockMemoryOptions | SharedArrayBuffer = {}) {
    const core = conditions.open(from);
    super(core, from);
    this.#core = core;
  }

  /**
   * Unlocks the guard's mutex, waits for a notification, and locks it again. After
   * an error other than `OwnerDiedError` the guard holds the mutex if it held it
   * before.
   *
   * @param guard The guard of the mutex, which must hold it.
   * @param options Timeout and signal, and what to do if the mutex's owner died.
   * @returns A promise that settles when the guard holds the mutex again.
   * @throws The signal's reason if it aborts.
   * @throws {OwnerDiedError} If the thread that held the mutex meanwhile has died
   *   and `recover` is not set; the guard then does not hold the mutex.
   * @throws {DOMException} `TimeoutError` at the timeout, `InvalidStateError` if the
   *   guard does not hold its mutex.
   * @throws {TypeError} If the guard or an option has the wrong type.
   * @throws {RangeError} If the timeout is negative or the queue is full.
   */
  async wait(guard: MutexGuard, options?: ConditionOptions): Promise<void> {
    const limits = limitsOf(ACTION, options);
    const recover = checkFlag(ACTION, "recover", options?.recover);
    await this.#core.waitWith(checkGuard(guard, false), limits, recover);
  }

  /**
   * Unlocks the guard's mutex, blocks the thread until a notification, and locks
   * it again.
   *
   * @param guard The guard of the mutex, which must hold it.
   * @param options Timeout, and what to do if the mutex's owner died.
   * @throws What {@linkcode Condition.wait} rejects with, and an
   *   `InvalidStateError` if a task of this thread waits for the mutex.
   */
  waitSync(guard: MutexGuard, options?: ConditionSyncOptions): void {
    const limits = syncLimitsOf(ACTION, options);
    const recover = checkFlag(ACTION, "recover", options?.recover);
    this.#core.waitSyncWith(checkGuard(guard, true), limits, recover);
  }

  /**
   * Notifies the longest waits. Call it while you hold the mutex, so that no other
   * thread checks the data before and starts to wait after the notification.
   *
   * @param count Number of waits to notify, an integer, 1 or more.
   * @returns The number of notified waits: fewer than `count` if fewer wait.
   * @throws {TypeError} If the count is not a number.
   * @throws {RangeError} If the count is out of range.
   */
  notify(count = 1): number {
    checkNumber(`Cannot ${NOTIFY}`, "count", count, { min: 1, integer: true });
    if (this.#core.slots.waits === 0) return 0;
    return this.#core.withLatch(NOTIFY, () => this.#core.notify(count));
  }

  /**
   * Notifies all waits.
   *
   * @returns The number of notified waits.
   */
  notifyAll(): number {
    const { slots } = this.#core;
    if (slots.waits === 0) return 0;
    return this.#core.withLatch(NOTIFY, () => slots.grantAll(NOTIFIED));
  }
}

function checkGuard(guard: unknown, blocks: boolean): Guard {
  if (!isInstance(guard, Guard)) {
    const expected = "the guard of a Mutex";
    throw typeError(ACTION, "guard", expected, guard);
  }
  guard.core.checkWait(ACTION, guard, blocks);
  return guard;
}
