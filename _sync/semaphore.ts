// Copyright 2026 the Duplex authors. MIT license.

/**
 * A semaphore. In addition to the queue of `_sync/wait_queue.ts` it has one word, 16: the
 * number of free permits. A released permit is granted to the first wait in the
 * queue; only if the queue is empty does it become free.
 *
 * @module
 */

import { checkNumber } from "../_base/options.ts";
import { LockType, SharedLock } from "./lock.ts";
import { FIELDS, type Memory } from "./memory.ts";
import {
  capacityFor,
  limitsOf,
  type LockMemoryOptions,
  syncLimitsOf,
  type SyncWaitOptions,
  type WaitOptions,
} from "./options.ts";
import { QueuedCore } from "./wait_queue.ts";
import { MUST_WAIT, NONE } from "./slots.ts";

const PERMITS = FIELDS;
/** The highest number in a word. */
const MAX_PERMITS = 2 ** 31 - 1;

/** The result of a wait that got a permit. */
const ACQUIRED = 0;

const ACTION = "acquire a permit of the semaphore";

/** A semaphore as one thread uses it. */
class SemaphoreCore extends QueuedCore {
  constructor(memory: Memory) {
    super(memory, { isUniform: true, isExchangeable: true });
  }

  get available(): number {
    // A permit may have been granted to a thread that died.
    this.checkThreads(ACTION);
    return Atomics.load(this.words, PERMITS);
  }

  release(count: number): void {
    this.withLatch("release permits", () => {
      const free = this.words[PERMITS]!;
      if (free + count > MAX_PERMITS) {
        throw new RangeError(
          `Cannot release ${count} permits as at most ${MAX_PERMITS} can be free: ${free} are free`,
        );
      }
      this.revoke(ACQUIRED, count);
    });
  }

  override attempt(): number {
    if (this.words[PERMITS] === 0) return MUST_WAIT;
    Atomics.sub(this.words, PERMITS, 1);
    return ACQUIRED;
  }

  override revoke(_result: number, count: number): void {
    const { slots, words } = this;
    for (let left = count; left > 0; left--) {
      const slot = slots.first();
      if (slot === NONE) {
        // Only permits that are returned for a dead thread can exceed the maximum.
        const room = MAX_PERMITS - words[PERMITS]!;
        Atomics.add(words, PERMITS, Math.min(left, room));
        return;
      }
      slots.grant(slot, ACQUIRED);
    }
  }
}

const semaphores = new LockType(
  "Semaphore",
  SemaphoreCore,
  ({ permits, threads }: SemaphoreOptions, action) => ({
    fields: [checkNumber(`Cannot ${action}`, "permits", permits, {
      min: 0,
      max: MAX_PERMITS,
      integer: true,
    })],
    capacity: capacityFor(action, threads),
  }),
);

/** Options for {@linkcode Semaphore}. */
export interface SemaphoreOptions extends LockMemoryOptions {
  /** Number of permits at first, an integer from 0 to 2147483647. */
  permits: number;
}

/**
 * A permit of a {@linkcode Semaphore}. The end of a `using` block releases it,
 * if it was not released before.
 */
export interface SemaphorePermit extends Disposable {
  /** Releases the permit; later calls do nothing. */
  release(): void;
}

/**
 * A number of permits that limits how many tasks and threads work at the same time.
 * Threads share it by its `buffer`, sent in a message.
 *
 * - **Order:** first come, first served; asynchronous and synchronous calls have
 *   one queue. Only a call that blocks its thread goes before the waiting tasks of
 *   the same thread, since they could not continue. With more than 128 waiters,
 *   those of one thread stay in order and the threads take turns.
 * - **Owner:** a permit has no owner: any thread may release it, also more often
 *   than it was acquired. So the permits of a thread that died are **not**
 *   returned, as it may have passed them on. If they must be returned, use a
 *   {@linkcode Mutex} for each. A permit that was granted to a thread that died
 *   before its call returned is granted to the next waiter.
 * - **Cancelling:** a call that is granted a permit at the moment of its timeout or
 *   abort succeeds. No permit is lost.
 *
 * Requires no permission. See {@linkcode SharedLock} for limits.
 *
 * @example Usage
 * ```ts
 * import { Semaphore } from "@duplex/ipc/sync";
 * import { assertEquals, assertThrows } from "@std/assert";
 *
 * const semaphore = new Semaphore({ permits: 2 });
 * {
 *   using _first = await semaphore.acquire();
 *   using _second = semaphore.acquireSync();
 *   assertThrows(() => semaphore.acquireSync({ timeout: 0 }), DOMException);
 *   assertEquals(semaphore.tryAcquire(), undefined);
 * }
 * assertEquals(semaphore.available, 2);
 * semaphore.release(3);
 * assertEquals(semaphore.available, 5);
 * ```
 */
export class Semaphore extends SharedLock {
  readonly #core: SemaphoreCore;

  /**
   * Creates a semaphore, or attaches to one.
   *
   * @param from Options for a new semaphore, or the `buffer` of the one to attach
   *   to.
   * @throws {TypeError} If the buffer is not that of a semaphore, or is a copy of
   *   it, or an option has the wrong type.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(from: SemaphoreOptions | SharedArrayBuffer) {
    const core = semaphores.open(from);
    super(core, from);
    this.#core = core;
  }

  /** The number of free permits. Other threads may change it at any time. */
  get available(): number {
    return this.#core.available;
  }

  /**
   * Acquires a permit; waits until one is free.
   *
   * @param options Timeout and signal.
   * @returns A promise for the permit.
   * @throws The signal's reason if it aborts.
   * @throws {DOMException} `TimeoutError` at the timeout.
   * @throws {TypeError} If an option has the wrong type.
   * @throws {RangeError} If the timeout is negative or the queue is full.
   */
  async acquire(options?: WaitOptions): Promise<SemaphorePermit> {
    await this.#core.wait(limitsOf(ACTION, options));
    return new Permit(this.#core);
  }

  /**
   * Acquires a permit; blocks the thread until one is free.
   *
   * @param options Timeout.
   * @returns The permit.
   * @throws What {@linkcode Semaphore.acquire} rejects with.
   */
  acquireSync(options?: SyncWaitOptions): SemaphorePermit {
    this.#core.waitSync(syncLimitsOf(ACTION, options));
    return new Permit(this.#core);
  }

  /**
   * Acquires a permit if one is free.
   *
   * @returns The permit, or `undefined`.
   */
  tryAcquire(): SemaphorePermit | undefined {
    const result = this.#core.tryNow(ACTION);
    return result === ACQUIRED ? new Permit(this.#core) : undefined;
  }

  /**
   * Releases permits, whichever thread acquired them.
   *
   * @param count Number of permits, an integer, 1 or more.
   * @throws {TypeError} If the count is not a number.
   * @throws {RangeError} If the count is out of range, or more than 2147483647
   *   permits would be free; none is released then.
   */
  release(count = 1): void {
    const range = { min: 1, integer: true };
    this.#core.release(
      checkNumber("Cannot release permits", "count", count, range),
    );
  }
}

/** A permit that is released once. */
class Permit implements SemaphorePermit {
  #semaphore: SemaphoreCore | undefined;

  constructor(semaphore: SemaphoreCore) {
    this.#semaphore = semaphore;
  }

  release(): void {
    this.#semaphore?.release(1);
    this.#semaphore = undefined;
  }

  [Symbol.dispose](): void {
    this.release();
  }
}
