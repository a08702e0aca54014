// Copyright 2026 the Duplex authors. MIT license.

/**
 * A mutex that detects the death of its owner. In addition to the queue of
 * `_sync/wait_queue.ts` it has two words:
 *
 * | word | content                                                           |
 * | ---- | ----------------------------------------------------------------- |
 * | 16   | the owner: the number of the thread that holds the mutex, or 0    |
 * | 17   | 1 after an owner died, until the mutex is recovered               |
 *
 * - **To lock:** if there is no owner, become it. If word 17 is 1, a call without
 *   `recover` is refused, and one with `recover` sets it to 0.
 * - **To unlock:** make the thread of the first wait in the queue the owner and
 *   grant it the mutex; if the queue is empty, there is no owner. So no later call
 *   can overtake a wait.
 * - **If a thread that tries or waits finds the owner dead:** refuse all waits
 *   before the first with `recover`, whose thread becomes the owner. If there is
 *   none, word 17 becomes 1. An owner that died before it received its grant had
 *   changed nothing, so the mutex is granted to the next wait.
 *
 * @module
 */

import { checkOptions } from "../_base/options.ts";
import { isAlive, ownId, releaseId, retainId } from "./liveness.ts";
import { LockType, SharedLock } from "./lock.ts";
import { FIELDS, LATCH_LIMIT_MS, latchError } from "./memory.ts";
import {
  capacityFor,
  checkFlag,
  limitsOf,
  type LockMemoryOptions,
  syncLimitsOf,
  type SyncWaitOptions,
  type WaitLimits,
  type WaitOptions,
} from "./options.ts";
import { FullError, QueuedCore } from "./wait_queue.ts";
import { COUNT, MUST_WAIT, NONE, TAG, THREAD } from "./slots.ts";
import { CHECK_MS } from "./timers.ts";

const OWNER = FIELDS;
const DIED = FIELDS + 1;

/** The tag of a call with `recover`. */
const RECOVER = 1;

/** Results: the mutex, the mutex of a dead owner, not the mutex. */
const LOCKED = 0;
const RECOVERED = 1;
const REFUSED = 2;

const ACTION = "lock the mutex";
const RELOCK = "lock the mutex again after a wait";

/** Options for {@linkcode Mutex.tryLock}. */
export interface TryLockOptions {
  /**
   * Locks the mutex also if its owner died. {@linkcode MutexGuard.ownerDied} is
   * then `true`, and the caller must repair what the mutex protects. Without it the
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
   * Waits also if another task of this thread holds the mutex or waits for it.
   * Without it that is an error, since a task that waits for itself never ends, and
   * tasks cannot be distinguished.
   *
   * @default {false}
   */
  queue?: boolean;
}

/**
 * A lock on a mutex, from {@linkcode Mutex.lock}, {@linkcode Mutex.lockSync} or
 * {@linkcode Mutex.tryLock}. The end of a `using` block unlocks the mutex if the
 * guard still holds it.
 */
export interface MutexGuard extends Disposable {
  /**
   * Whether the previous owner died, so that what the mutex protects must be
   * repaired. `true` only if `recover` was.
   */
  readonly ownerDied: boolean;
  /**
   * Unlocks the mutex.
   *
   * @throws {DOMException} `InvalidStateError` if the guard does not hold the mutex.
   */
  unlock(): void;
}

/**
 * Error thrown by {@linkcode Mutex.lock}, {@linkcode Mutex.lockSync} and
 * {@linkcode Mutex.tryLock} if the thread that held the mutex has died, so that what
 * the mutex protects may be inconsistent. The call does not hold the mutex. Every
 * call throws this error until one locks the mutex with `recover` set to `true`,
 * repairs what it protects, and unlocks it.
 *
 * @example Usage
 * ```ts
 * import { Mutex, OwnerDiedError } from "@duplex/ipc/sync";
 * import { assert, assertRejects } from "@std/assert";
 *
 * const mutex = new Mutex();
 * // A worker that locks the mutex and is terminated.
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
 * await assertRejects(() => mutex.lock(), OwnerDiedError);
 * {
 *   using guard = await mutex.lock({ recover: true });
 *   // Repair here if `guard.ownerDied`: no other thread has done so.
 *   assert(guard.ownerDied);
 * }
 * using guard = await mutex.lock();
 * assert(!guard.ownerDied);
 * ```
 */
export class OwnerDiedError extends Error {
  /**
   * Constructs a new instance.
   *
   * @param message The error message.
   * @param options The cause, if there is one.
   */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "OwnerDiedError";
  }
}

function stateError(message: string): DOMException {
  return new DOMException(message, "InvalidStateError");
}

function tagOf(options: TryLockOptions | undefined): number {
  return checkFlag(ACTION, "recover", options?.recover) ? RECOVER : 0;
}

/**
 * The mutexes that this thread holds or waits for: its knowledge of them must not
 * be collected.
 */
const active = new Set<MutexCore>();

/** A mutex as one thread uses it. */
class MutexCore extends QueuedCore {
  /** The guard through which this thread holds the mutex. */
  #guard: Guard | undefined;
  /** The number of calls of this thread that wait. */
  #calls = 0;

  async lock(options?: LockOptions, action: string = ACTION): Promise<Guard> {
    const limits = limitsOf(action, options);
    const queue = checkFlag(action, "queue", options?.queue);
    const tag = tagOf(options);
    limits.signal?.throwIfAborted();
    this.#beginCall(action, queue);
    let result = REFUSED;
    try {
      const wait = this.begin(limits, tag, false);
      result = typeof wait === "number"
        ? wait
        : await this.finish(wait, limits);
    } finally {
      this.#endCall(result);
    }
    return this.#createGuard(action, result);
  }

  lockSync(
    options?: LockSyncOptions,
    action: string = ACTION,
    queue: boolean = false,
  ): Guard {
    const limits = syncLimitsOf(action, options);
    return this.#lock(action, tagOf(options), queue, limits)!;
  }

  tryLock(options?: TryLockOptions): Guard | undefined {
    if (options !== undefined) checkOptions(`Cannot ${ACTION}`, options);
    return this.#lock(ACTION, tagOf(options), false, undefined);
  }

  /** Locks with the thread blocked; without limits it does not wait. */
  #lock(
    action: string,
    tag: number,
    queue: boolean,
    limits: WaitLimits | undefined,
  ): Guard | undefined {
    this.#beginCall(action, queue);
    let result = REFUSED;
    try {
      result = limits === undefined
        ? this.tryNow(action, tag)
        : this.waitSync(limits, tag);
    } finally {
      this.#endCall(result);
    }
    return result === MUST_WAIT ? undefined : this.#createGuard(action, result);
  }

  /** Unlocks if this thread holds the mutex, and through this guard if given. */
  unlock(guard?: Guard): void {
    if (this.#guard === undefined || (guard && this.#guard !== guard)) {
      throw stateError(
        `Cannot unlock the mutex as ${
          guard ? "the guard does not hold it" : "this thread does not hold it"
        }`,
      );
    }
    const { slots } = this;
    if (!slots.enter(LATCH_LIMIT_MS)) throw latchError("unlock the mutex");
    try {
      this.#handOff(false);
    } finally {
      slots.leave();
    }
    this.#guard = undefined;
    this.#release();
  }

  isHeldBy(guard: Guard): boolean {
    return this.#guard === guard;
  }

  /**
   * Throws unless a wait for a condition can unlock the guard's mutex. A thread that
   * blocks must not have tasks that wait for the mutex: they could not continue.
   */
  checkWait(action: string, guard: Guard, blocks: boolean): void {
    if (this.#guard !== guard) {
      throw stateError(`Cannot ${action} as the guard does not hold its mutex`);
    }
    if (blocks && this.#calls > 0) {
      throw stateError(
        `Cannot ${action} as a task of this thread waits for the mutex: it could not continue while the thread is blocked`,
      );
    }
  }

  /** Locks again for a guard whose mutex was unlocked for a wait. */
  async relock(guard: Guard, recover: boolean): Promise<void> {
    for (;;) {
      try {
        const locked = await this.lock({ recover, queue: true }, RELOCK);
        return this.#adopt(guard, locked);
      } catch (error) {
        if (!(error instanceof FullError)) throw error;
      }
      // The queue is full. This call must not fail, so it tries again.
      await new Promise((resolve) => setTimeout(resolve, CHECK_MS));
    }
  }

  /** The same with the thread blocked. */
  relockSync(guard: Guard, recover: boolean): void {
    for (;;) {
      try {
        return this.#adopt(guard, this.lockSync({ recover }, RELOCK, true));
      } catch (error) {
        if (!(error instanceof FullError)) throw error;
      }
      // A word that is always 0: this only lets time pass.
      Atomics.wait(this.words, FIELDS + 2, 0, CHECK_MS);
    }
  }

  override attempt(tag: number): number {
    const { words } = this;
    if (words[OWNER] !== 0) return MUST_WAIT;
    if (words[DIED] === 0) {
      words[OWNER] = ownId();
      return LOCKED;
    }
    if (tag !== RECOVER) return REFUSED;
    words[OWNER] = ownId();
    words[DIED] = 0;
    return RECOVERED;
  }

  override revoke(result: number): void {
    if (result !== REFUSED) this.#handOff(result === RECOVERED);
  }

  hasDeadHolder(): boolean {
    const owner = Atomics.load(this.words, OWNER);
    return owner !== 0 && !isAlive(owner);
  }

  removeDeadHolder(): void {
    // It may have died before it received its grant, which the sweep returns.
    const owner = this.words[OWNER];
    this.slots.sweep();
    if (this.words[OWNER] === owner) this.#handOff(true);
  }

  #adopt(guard: Guard, { ownerDied }: Guard): void {
    guard.ownerDied ||= ownerDied;
    this.#guard = guard;
  }

  /** Throws if the call can never succeed, and counts it otherwise. */
  #beginCall(action: string, queue: boolean): void {
    if (!queue && this.#guard !== undefined) {
      throw stateError(
        `Cannot ${action} as this thread holds it already: unlock it first, or let tasks wait for each other with "queue" set to true`,
      );
    }
    if (!queue && this.#calls > 0) {
      throw stateError(
        `Cannot ${action} as a task of this thread waits for it already: let tasks wait for each other with "queue" set to true`,
      );
    }
    // The thread must have a number before it can be the owner.
    retainId();
    this.#calls++;
    active.add(this);
  }

  /** Ends a call; one that has locked the mutex keeps the thread's number. */
  #endCall(result: number): void {
    this.#calls--;
    if (result !== LOCKED && result !== RECOVERED) this.#release();
  }

  #release(): void {
    releaseId();
    if (this.#guard === undefined && this.#calls === 0) active.delete(this);
  }

  #createGuard(action: string, result: number): Guard {
    if (result === REFUSED) {
      throw new OwnerDiedError(
        `Cannot ${action} as the thread that held it has died, and what it protects may be inconsistent: lock it with "recover" set to true, repair, unlock`,
      );
    }
    return this.#guard = new Guard(this, result === RECOVERED);
  }

  /** Grants the mutex to the next wait, if there is one. Under the latch. */
  #handOff(hasOwnerDied: boolean): void {
    const { slots, words } = this;
    words[OWNER] = 0;
    words[DIED] = hasOwnerDied ? 1 : 0;
    for (let slot; (slot = slots.first()) !== NONE;) {
      if (hasOwnerDied && slots.read(slot, TAG) !== RECOVER) {
        slots.grant(slot, REFUSED, slots.read(slot, COUNT));
        continue;
      }
      words[OWNER] = slots.read(slot, THREAD);
      words[DIED] = 0;
      return slots.grant(slot, hasOwnerDied ? RECOVERED : LOCKED);
    }
  }
}

/** The guard of a mutex that this thread holds or held. */
export class Guard implements MutexGuard {
  readonly core: MutexCore;
  ownerDied: boolean;

  constructor(core: MutexCore, ownerDied: boolean) {
    this.core = core;
    this.ownerDied = ownerDied;
  }

  unlock(): void {
    this.core.unlock(this);
  }

  [Symbol.dispose](): void {
    if (this.core.isHeldBy(this)) this.core.unlock(this);
  }
}

const mutexes = new LockType(
  "Mutex",
  MutexCore,
  ({ threads }: LockMemoryOptions, action) => ({
    fields: [],
    capacity: capacityFor(action, threads),
  }),
);

/**
 * A lock that at most one thread holds at a time. Threads share it by its `buffer`,
 * sent in a message.
 *
 * - **Order:** first come, first served; asynchronous and synchronous calls have
 *   one queue. With more than 128 waiters, those of one thread stay in order and
 *   the threads take turns.
 * - **Owner:** the thread holds the mutex, not the task. To lock what this thread
 *   holds or waits for is an error at once, unless `queue` is set; so is to unlock
 *   what it does not hold.
 * - **Cancelling:** a call that is granted the mutex at the moment of its timeout or
 *   abort succeeds. No grant is lost.
 * - **Death:** if the thread that holds the mutex ends (`terminate()`, `close()`, an
 *   error), all waiting and later calls throw {@linkcode OwnerDiedError} until one
 *   locks the mutex with `recover`, so that no code uses inconsistent data
 *   unknowingly. A waiting call throws within 20 ms of the thread's end, also if it
 *   blocks its thread. `terminate()` does not end a thread before its current task
 *   ends: until then it is alive and holds the mutex.
 * - **Staying alive:** a thread that holds a mutex or waits for one does not end
 *   automatically.
 *
 * Requires no permission. See {@linkcode SharedLock} for limits.
 *
 * @example Usage
 * ```ts
 * import { Mutex } from "@duplex/ipc/sync";
 * import { assert, assertRejects, assertThrows } from "@std/assert";
 *
 * const mutex = new Mutex();
 * // In another thread: const mutex = new Mutex(buffer);
 * {
 *   using _guard = await mutex.lock({ timeout: 1000 });
 *   assertThrows(() => mutex.lockSync(), DOMException, "holds it already");
 *   // Another task of this thread waits for this one.
 *   const waiting = mutex.lock({ queue: true, timeout: 10 });
 *   await assertRejects(() => waiting, DOMException, "10 ms have passed");
 * }
 * const guard = mutex.tryLock();
 * assert(guard !== undefined);
 * guard.unlock();
 *
 * mutex.lockSync();
 * mutex.unlock();
 * assertThrows(() => mutex.unlock(), DOMException, "does not hold it");
 * ```
 */
export class Mutex extends SharedLock {
  readonly #core: MutexCore;

  /**
   * Creates a mutex, or attaches to one.
   *
   * @param from Options for a new mutex, or the `buffer` of the one to attach to.
   * @throws {TypeError} If the buffer is not that of a mutex, or is a copy of it.
   * @throws {RangeError} If the number of threads is out of range.
   */
  constructor(from: LockMemoryOptions | SharedArrayBuffer = {}) {
    const core = mutexes.open(from);
    super(core, from);
    this.#core = core;
  }

  /**
   * Locks the mutex; waits while another thread holds it.
   *
   * @param options Timeout and signal, and what to do if the owner died.
   * @returns A promise for the guard that unlocks it.
   * @throws The signal's reason if it aborts.
   * @throws {OwnerDiedError} If the thread that held it has died and `recover` is
   *   not set.
   * @throws {DOMException} `TimeoutError` at the timeout, `InvalidStateError` if
   *   this thread holds or waits for it already and `queue` is not set.
   * @throws {TypeError} If an option has the wrong type.
   * @throws {RangeError} If the timeout is negative or the queue is full.
   */
  lock(options?: LockOptions): Promise<MutexGuard> {
    return this.#core.lock(options);
  }

  /**
   * Locks the mutex; blocks the thread while another thread holds it.
   *
   * @param options Timeout, and what to do if the owner died.
   * @returns The guard that unlocks it.
   * @throws What {@linkcode Mutex.lock} rejects with.
   */
  lockSync(options?: LockSyncOptions): MutexGuard {
    return this.#core.lockSync(options);
  }

  /**
   * Locks the mutex if it is free.
   *
   * @param options What to do if the owner died.
   * @returns The guard that unlocks it, or `undefined` if another thread holds it.
   * @throws {OwnerDiedError} If the thread that held it has died and `recover` is
   *   not set.
   * @throws {DOMException} `InvalidStateError` if this thread holds or waits for it
   *   already.
   */
  tryLock(options?: TryLockOptions): MutexGuard | undefined {
    return this.#core.tryLock(options);
  }

  /**
   * Unlocks the mutex, whichever task of this thread has its guard.
   *
   * @throws {DOMException} `InvalidStateError` if this thread does not hold it.
   */
  unlock(): void {
    this.#core.unlock();
  }
}
