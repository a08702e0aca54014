// Copyright 2026 the Duplex authors. MIT license.

/**
 * A semaphore. Over the queue of `_sync/queue.ts` it keeps one word, 16: the free
 * permits. To release is to grant to the first in the queue, or else to add 1, so
 * permits are free only while the queue is empty.
 *
 * @module
 */

import { checkWhole, isOptions } from "./checks.ts";
import {
  limitsOf,
  syncLimitsOf,
  type SyncWaitOptions,
  type WaitOptions,
} from "./limits.ts";
import { FIELDS, LATCH_LIMIT_MS, latchError, type Memory } from "./memory.ts";
import {
  capacityFor,
  EXCHANGEABLE,
  type LockMemoryOptions,
  Queue,
} from "./queue.ts";
import { type Core, Registry } from "./registry.ts";
import { MUST_WAIT, NONE, type Rules } from "./slots.ts";

const PERMITS = FIELDS;
/** The highest number of a word. */
const MAX_PERMITS = 2 ** 31 - 1;

/** The result of a wait that got a permit. */
const ACQUIRED = 0;

const ACTION = "acquire a permit of the semaphore";
const RELEASE = "release permits";

/** What a semaphore does. */
class SemaphoreCore implements Core, Rules {
  readonly memory: Memory;
  readonly queue: Queue;
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(memory: Memory) {
    this.memory = memory;
    this.#words = memory.words;
    this.queue = new Queue(memory, this, EXCHANGEABLE);
  }

  get available(): number {
    // A permit may have been granted to a thread that died.
    this.queue.look(ACTION);
    return Atomics.load(this.#words, PERMITS);
  }

  attempt(): number {
    if (this.#words[PERMITS] === 0) return MUST_WAIT;
    Atomics.sub(this.#words, PERMITS, 1);
    return ACQUIRED;
  }

  revoke(_result: number, count: number): void {
    this.#release(count);
  }

  release(count: number): void {
    const { slots } = this.queue;
    if (!slots.enter(LATCH_LIMIT_MS)) throw latchError(RELEASE);
    try {
      const free = this.#words[PERMITS]!;
      if (free + count > MAX_PERMITS) {
        throw new RangeError(
          `Cannot release ${count} permits as at most ${MAX_PERMITS} may be free: ${free} are`,
        );
      }
      this.#release(count);
    } finally {
      slots.leave();
    }
  }

  #release(count: number): void {
    const { slots } = this.queue;
    for (let left = count; left > 0; left--) {
      const slot = slots.first();
      if (slot === NONE) {
        // Only a permit that comes back from a dead thread can be one too many.
        const room = MAX_PERMITS - this.#words[PERMITS]!;
        Atomics.add(this.#words, PERMITS, Math.min(left, room));
        return;
      }
      slots.grant(slot, ACQUIRED);
    }
  }
}

const semaphores: Registry<SemaphoreCore> = new Registry(
  "Semaphore",
  (memory) => new SemaphoreCore(memory),
);

/** Options for {@linkcode Semaphore}. */
export interface SemaphoreOptions extends LockMemoryOptions {
  /** How many permits there are at first, a whole number from 0 to 2147483647. */
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
 * Hands out a number of permits, so that no more than so many are at work.
 * Threads share it by its `buffer`, sent in a message.
 *
 * - **Order:** first come, first served, asynchronous and synchronous calls in
 *   one queue; only a call that blocks its thread goes before the tasks of the
 *   same thread, since they could not go on. With more than 128 waits, those of
 *   one thread stay in order and the threads take turns.
 * - **Limit:** any number of tasks of a thread can wait, and at least
 *   {@linkcode LockMemoryOptions.threads} threads. One more gets a `RangeError`.
 * - **Owner:** a permit has no owner: any thread may release it, also more often
 *   than it was acquired. So the permits of a thread that died are **not**
 *   returned: it may have passed them on. Where they must be, use a
 *   {@linkcode Mutex} for each. A permit that was granted to a thread that died
 *   before its call returned is granted to the next.
 * - **Cancelling:** a call that is granted a permit at the moment of its timeout or
 *   abort has it. No permit is lost.
 * - **Staying alive:** a thread that waits does not end automatically.
 *
 * Requires no permission.
 *
 * @example Usage
 * ```ts
 * import { Semaphore } from "@duplex/ipc/sync";
 * import { assertEquals } from "@std/assert";
 *
 * const semaphore = new Semaphore({ permits: 2 });
 * let atWork = 0;
 * let most = 0;
 * await Promise.all([1, 2, 3, 4].map(async () => {
 *   using _permit = await semaphore.acquire();
 *   most = Math.max(most, ++atWork);
 *   await Promise.resolve();
 *   atWork--;
 * }));
 * assertEquals(most, 2);
 * ```
 */
export class Semaphore {
  readonly #core: SemaphoreCore;
  readonly #buffer: SharedArrayBuffer | undefined;

  /**
   * Makes a semaphore, or attaches to one.
   *
   * @param from Options for a new semaphore, or the `buffer` of the one to attach
   *   to.
   * @throws {TypeError} If the buffer is not that of a semaphore, or is a copy of
   *   it, or an option has the wrong type.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(from: SemaphoreOptions | SharedArrayBuffer) {
    if (isOptions(from)) {
      const action = "make a Semaphore";
      const { permits, threads } = from;
      checkWhole(action, "permits", permits, 0, MAX_PERMITS);
      const capacity = capacityFor(action, threads);
      this.#core = semaphores.create([permits], capacity);
    } else {
      this.#core = semaphores.attach(from);
      this.#buffer = from;
    }
  }

  /**
   * The shared memory of the semaphore, to be sent to other threads. A copy of it
   * has permits of its own.
   *
   * @example Usage
   * ```ts
   * import { Semaphore } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * const first = new Semaphore({ permits: 1 });
   * assertEquals(new Semaphore(first.buffer).buffer, first.buffer);
   * ```
   */
  get buffer(): SharedArrayBuffer {
    return this.#buffer ?? semaphores.share(this.#core);
  }

  /**
   * How many permits are free at the moment. Another thread may take them.
   *
   * @example Usage
   * ```ts
   * import { Semaphore } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * const semaphore = new Semaphore({ permits: 2 });
   * using _permit = semaphore.acquireSync();
   * assertEquals(semaphore.available, 1);
   * ```
   */
  get available(): number {
    return this.#core.available;
  }

  /**
   * Acquires a permit; waits for one.
   *
   * @param options How long to wait.
   * @returns A promise for the permit.
   * @throws The signal's reason if it aborts.
   * @throws {DOMException} `TimeoutError` if the time is up.
   * @throws {TypeError} If an option has the wrong type.
   * @throws {RangeError} If the timeout is negative, or there is no place for one
   *   more thread.
   *
   * @example Giving up
   * ```ts
   * import { Semaphore } from "@duplex/ipc/sync";
   * import { assertRejects } from "@std/assert";
   *
   * const semaphore = new Semaphore({ permits: 1 });
   * using _permit = await semaphore.acquire();
   * await assertRejects(
   *   () => semaphore.acquire({ timeout: 10 }),
   *   DOMException,
   *   "10 ms have passed",
   * );
   * ```
   */
  async acquire(options?: WaitOptions): Promise<SemaphorePermit> {
    await this.#core.queue.wait(limitsOf(ACTION, options));
    return new Permit(this.#core);
  }

  /**
   * Acquires a permit; blocks the thread until there is one.
   *
   * @param options How long to wait.
   * @returns The permit.
   * @throws {DOMException} `TimeoutError` if the time is up.
   * @throws {TypeError} If an option has the wrong type.
   * @throws {RangeError} If the timeout is negative, or there is no place for one
   *   more thread.
   *
   * @example Usage
   * ```ts
   * import { Semaphore } from "@duplex/ipc/sync";
   * import { assertThrows } from "@std/assert";
   *
   * const semaphore = new Semaphore({ permits: 1 });
   * using _permit = semaphore.acquireSync();
   * assertThrows(() => semaphore.acquireSync({ timeout: 0 }), DOMException);
   * ```
   */
  acquireSync(options?: SyncWaitOptions): SemaphorePermit {
    this.#core.queue.waitSync(syncLimitsOf(ACTION, options));
    return new Permit(this.#core);
  }

  /**
   * Acquires a permit if one is free.
   *
   * @returns The permit, or `undefined`.
   *
   * @example Usage
   * ```ts
   * import { Semaphore } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new Semaphore({ permits: 0 }).tryAcquire(), undefined);
   * ```
   */
  tryAcquire(): SemaphorePermit | undefined {
    const result = this.#core.queue.tryNow(ACTION);
    return result === ACQUIRED ? new Permit(this.#core) : undefined;
  }

  /**
   * Releases permits, whichever thread acquired them.
   *
   * @param count How many, a whole number from 1 on.
   * @throws {TypeError} If the count is not a number.
   * @throws {RangeError} If the count is out of range, or more than 2147483647
   *   permits would be free; none is released then.
   *
   * @example Permits that stand for things that were made
   * ```ts
   * import { Semaphore } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * const things = new Semaphore({ permits: 0 });
   * things.release(3);
   * assertEquals(things.available, 3);
   * ```
   */
  release(count = 1): void {
    this.#core.release(checkWhole(RELEASE, "count", count, 1));
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
