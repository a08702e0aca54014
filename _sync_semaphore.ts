// Copyright 2026 the Duplex authors. MIT license.

/**
 * A semaphore. Over the queue of `_sync_queue.ts` it keeps one word, 10: the
 * permits that nobody has. To release is to grant to the first in the queue, or
 * else to add 1, so permits are free only while nobody waits.
 *
 * @module
 */

import { FIELDS, isOptions, Memory } from "./_sync_memory.ts";
import { MUST_WAIT, Queue } from "./_sync_queue.ts";
import {
  limitsOf,
  type SyncWaitOptions,
  type WaitOptions,
} from "./_sync_sleep.ts";
import { show } from "./_text.ts";

const PERMITS = FIELDS;
const MAX_PERMITS = 2 ** 31 - 1;

/** The result of a wait that got a permit. */
const ACQUIRED = 0;

const ACTION = "acquire a permit of the semaphore";

/** Options for {@linkcode Semaphore}. */
export interface SemaphoreOptions {
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
 *   same thread, since they could not go on. The first 128 who wait are kept in
 *   order, any more are served after them and in no order.
 * - **Owner:** nobody owns a permit: any thread may release it, more often than it
 *   was acquired as well. So the permits of a thread that died are **not**
 *   returned: it may have passed them on. Where they must be, let each stand for
 *   a {@linkcode Mutex}. One that had been given to a thread that died before it
 *   took it is given to the next.
 * - **Cancelling:** who is given a permit in the moment in which its time is up or
 *   its signal aborts has it. None is lost.
 * - **Staying alive:** a thread that waits does not end by itself.
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
  readonly #memory: Memory;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #queue: Queue;
  /**
   * The shared memory of the semaphore, to be sent to other threads.
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
  readonly buffer: SharedArrayBuffer;

  /**
   * Makes a semaphore, or attaches to one.
   *
   * @param from How many permits a new one has, or the `buffer` of the one to
   *   attach to.
   * @throws {TypeError} If the buffer is not that of a semaphore.
   * @throws {RangeError} If the permits are out of range.
   */
  constructor(from: SemaphoreOptions | SharedArrayBuffer) {
    this.#memory = isOptions(from)
      ? Memory.create("Semaphore", [checkPermits(from.permits)])
      : Memory.attach("Semaphore", from);
    this.#words = this.#memory.words;
    this.buffer = this.#words.buffer;
    this.#queue = new Queue(this.#memory, {
      attempt: () => this.#attempt(),
      revoke: () => this.#release(),
      exchangeable: true,
    });
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
    return Atomics.load(this.#words, PERMITS);
  }

  /**
   * Acquires a permit; waits for one.
   *
   * @param options How long to wait.
   * @returns A promise for the permit.
   * @throws The signal's reason if it aborts.
   * @throws {DOMException} `TimeoutError` if the time is up.
   * @throws {RangeError} If the timeout is negative.
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
  async acquire(options: WaitOptions = {}): Promise<SemaphorePermit> {
    await this.#queue.wait(limitsOf(ACTION, options));
    return new Permit(this);
  }

  /**
   * Acquires a permit; blocks the thread until there is one.
   *
   * @param options How long to wait.
   * @returns The permit.
   * @throws {DOMException} `TimeoutError` if the time is up.
   * @throws {RangeError} If the timeout is negative.
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
  acquireSync({ timeout = Infinity }: SyncWaitOptions = {}): SemaphorePermit {
    this.#queue.waitSync(limitsOf(ACTION, { timeout }));
    return new Permit(this);
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
    return this.#queue.tryNow() === ACQUIRED ? new Permit(this) : undefined;
  }

  /**
   * Releases permits, whoever acquired them.
   *
   * @param count How many, a whole number from 1 on.
   * @throws {RangeError} If the count is not such a number, or more than
   *   2147483647 permits would be free; none is released then.
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
    if (!(Number.isInteger(count) && count >= 1)) {
      throw new RangeError(
        `Cannot release permits as "count" must be a whole number from 1 on: current value is ${
          show(count)
        }`,
      );
    }
    this.#memory.latched(() => {
      const free = this.#words[PERMITS]!;
      if (free + count > MAX_PERMITS) {
        throw new RangeError(
          `Cannot release ${count} permits as at most ${MAX_PERMITS} may be free: ${free} are`,
        );
      }
      let left = count;
      while (left > 0 && this.#queue.first() !== undefined) {
        this.#release();
        left--;
      }
      Atomics.add(this.#words, PERMITS, left);
    });
  }

  #attempt(): number {
    if (this.#words[PERMITS] === 0) return MUST_WAIT;
    Atomics.sub(this.#words, PERMITS, 1);
    return ACQUIRED;
  }

  #release(): void {
    const who = this.#queue.first();
    if (who === undefined) Atomics.add(this.#words, PERMITS, 1);
    else this.#queue.grant(who, ACQUIRED);
  }
}

/** A permit that is released once. */
class Permit implements SemaphorePermit {
  #semaphore: Semaphore | undefined;

  constructor(semaphore: Semaphore) {
    this.#semaphore = semaphore;
  }

  release(): void {
    this.#semaphore?.release();
    this.#semaphore = undefined;
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

function checkPermits(permits: unknown): number {
  if (
    !(Number.isInteger(permits) && Number(permits) >= 0 &&
      Number(permits) <= MAX_PERMITS)
  ) {
    throw new RangeError(
      `Cannot make a Semaphore as "permits" must be a whole number from 0 to ${MAX_PERMITS}: current value is ${
        show(permits)
      }`,
    );
  }
  return Number(permits);
}
