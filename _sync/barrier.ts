// Copyright 2026 the Duplex authors. MIT license.

/**
 * A barrier. In addition to the queue of `_sync/wait_queue.ts` it has two words:
 *
 * | word | content                                       |
 * | ---- | --------------------------------------------- |
 * | 16   | the number of parties that must arrive        |
 * | 17   | 1 while it is broken                          |
 *
 * The parties that have arrived are those in the queue; a party's number is how many
 * were in it before. The last party does not enter the queue; it grants all others.
 *
 * @module
 */

import { checkNumber } from "../_base/options.ts";
import { LockType, SharedLock } from "./lock.ts";
import { FIELDS } from "./memory.ts";
import {
  capacityFor,
  DEFAULT_THREADS,
  limitsOf,
  type LockMemoryOptions,
  MAX_THREADS,
  syncLimitsOf,
  type SyncWaitOptions,
  type WaitLimits,
  type WaitOptions,
} from "./options.ts";
import { QueuedCore } from "./wait_queue.ts";
import { MUST_WAIT } from "./slots.ts";

const PARTIES = FIELDS;
const BROKEN = FIELDS + 1;

/** The results of a wait; that of the last party is its number. */
const HAS_OPENED = 0;
const IS_BROKEN = -2;

const ACTION = "wait at the barrier";

/**
 * Error thrown by {@linkcode Barrier.wait} and {@linkcode Barrier.waitSync} if
 * the barrier is broken: a waiting call was cancelled, its thread died, or
 * {@linkcode Barrier.abort} was called.
 *
 * @example Usage
 * ```ts
 * import { Barrier, BrokenBarrierError } from "@duplex/ipc/sync";
 * import { assertThrows } from "@std/assert";
 *
 * const barrier = new Barrier({ parties: 2 });
 * barrier.abort();
 * assertThrows(() => barrier.waitSync(), BrokenBarrierError);
 * ```
 */
export class BrokenBarrierError extends Error {
  /**
   * Constructs a new instance.
   *
   * @param message The error message.
   * @param options The cause, if there is one.
   */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "BrokenBarrierError";
  }
}

/** A barrier as one thread uses it. */
class BarrierCore extends QueuedCore {
  get parties(): number {
    return this.words[PARTIES]!;
  }

  get isBroken(): boolean {
    // A waiting party may have died.
    this.checkThreads(ACTION);
    return Atomics.load(this.words, BROKEN) === 1;
  }

  async arrive(limits: WaitLimits): Promise<number> {
    limits.signal?.throwIfAborted();
    const wait = this.begin(limits, 0, false);
    if (typeof wait === "number") return checkResult(wait, wait);
    return checkResult(await this.finish(wait, limits), wait.ahead);
  }

  arriveSync(limits: WaitLimits): number {
    const wait = this.begin(limits, 0, true);
    if (typeof wait === "number") return checkResult(wait, wait);
    return checkResult(this.finishSync(wait, limits), wait.ahead);
  }

  abort(): void {
    this.withLatch("abort the barrier", () => this.#break());
  }

  reset(): void {
    this.withLatch("reset the barrier", () => {
      this.#break();
      // A dead party of this round must not break the next one.
      this.slots.runDeferred();
      Atomics.store(this.words, BROKEN, 0);
    });
  }

  override attempt(): number {
    const { slots, words } = this;
    if (words[BROKEN] === 1) return IS_BROKEN;
    const last = this.parties - 1;
    if (slots.waits < last) return MUST_WAIT;
    // A dead party does not count as arrived; it breaks the barrier.
    slots.sweep();
    if (words[BROKEN] === 1) return IS_BROKEN;
    slots.grantAll(HAS_OPENED);
    return last;
  }

  override revoke(): void {
    // A party that died after the barrier opened had arrived.
  }

  onLeave(): void {
    this.#break();
  }

  #break(): void {
    Atomics.store(this.words, BROKEN, 1);
    this.slots.grantAll(IS_BROKEN);
  }
}

/** Returns the number of a party, or throws if its barrier is broken. */
function checkResult(result: number, number: number): number {
  if (result !== IS_BROKEN) return number;
  throw new BrokenBarrierError(
    `Cannot ${ACTION} as it is broken: a waiting call was cancelled, its thread died, or "abort" was called; "reset" makes it usable again`,
  );
}

const barriers = new LockType(
  "Barrier",
  BarrierCore,
  // A party may be a thread of its own, so the same limit holds for both.
  ({ parties, threads }: BarrierOptions, action) => ({
    fields: [
      checkNumber(`Cannot ${action}`, "parties", parties, {
        min: 1,
        max: MAX_THREADS,
        integer: true,
      }),
      0,
    ],
    capacity: capacityFor(
      action,
      threads === undefined ? Math.max(DEFAULT_THREADS, parties) : threads,
    ),
  }),
);

/** Options for {@linkcode Barrier}. */
export interface BarrierOptions extends LockMemoryOptions {
  /** Number of parties that must arrive, an integer from 1 to 65536. */
  parties: number;
  /**
   * Number of threads that can always wait at the same time, as for other locks.
   *
   * @default {`parties`, at least 64}
   */
  threads?: number;
}

/**
 * Makes a number of parties wait for each other: when the last has arrived, all
 * continue. It can be used any number of times. Threads share it by its `buffer`,
 * sent in a message.
 *
 * - **Numbers:** each wait returns the number of parties that had arrived before: 0
 *   for the first, `parties - 1` for the last.
 * - **Breaking:** without one party the others would wait forever. So the barrier
 *   breaks when a waiting call reaches its timeout or is aborted, when a thread
 *   dies while it waits, or by {@linkcode Barrier.abort}: all waiting and later
 *   calls throw {@linkcode BrokenBarrierError}, until {@linkcode Barrier.reset}.
 * - **Death:** a thread that dies while it waits is detected within 30 ms of its
 *   end. One that dies before it arrives is not, because the barrier does not know
 *   the parties: use a timeout.
 *
 * Requires no permission. See {@linkcode SharedLock} for limits.
 *
 * @example Usage
 * ```ts
 * import { Barrier } from "@duplex/ipc/sync";
 * import { assertEquals } from "@std/assert";
 *
 * const barrier = new Barrier({ parties: 3 });
 * const numbers = [barrier.wait(), barrier.wait(), barrier.waitSync()];
 * assertEquals(await Promise.all(numbers), [0, 1, 2]);
 *
 * barrier.abort();
 * assertEquals(barrier.broken, true);
 * barrier.reset();
 * assertEquals(barrier.broken, false);
 * ```
 */
export class Barrier extends SharedLock {
  readonly #core: BarrierCore;

  /**
   * Creates a barrier, or attaches to one.
   *
   * @param from Options for a new barrier, or the `buffer` of the one to attach to.
   * @throws {TypeError} If the buffer is not that of a barrier, or is a copy of it,
   *   or an option has the wrong type.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(from: BarrierOptions | SharedArrayBuffer) {
    const core = barriers.open(from);
    super(core, from);
    this.#core = core;
  }

  /** The number of parties that must arrive. */
  get parties(): number {
    return this.#core.parties;
  }

  /** Whether the barrier is broken. */
  get broken(): boolean {
    return this.#core.isBroken;
  }

  /**
   * Waits until all parties have arrived. A timeout or abort breaks the barrier.
   *
   * @param options Timeout and signal.
   * @returns A promise for the number of parties that had arrived before.
   * @throws The signal's reason if it aborts.
   * @throws {BrokenBarrierError} If the barrier is broken or breaks.
   * @throws {DOMException} `TimeoutError` at the timeout.
   * @throws {TypeError} If an option has the wrong type.
   * @throws {RangeError} If the timeout is negative or the queue is full.
   */
  async wait(options?: WaitOptions): Promise<number> {
    return await this.#core.arrive(limitsOf(ACTION, options));
  }

  /**
   * Blocks the thread until all parties have arrived. A timeout breaks the barrier.
   *
   * @param options Timeout.
   * @returns The number of parties that had arrived before.
   * @throws What {@linkcode Barrier.wait} rejects with.
   */
  waitSync(options?: SyncWaitOptions): number {
    return this.#core.arriveSync(syncLimitsOf(ACTION, options));
  }

  /**
   * Breaks the barrier: all waiting and later calls throw
   * {@linkcode BrokenBarrierError}.
   */
  abort(): void {
    this.#core.abort();
  }

  /**
   * Makes a broken barrier usable again. Waiting calls throw
   * {@linkcode BrokenBarrierError}.
   */
  reset(): void {
    this.#core.reset();
  }
}
