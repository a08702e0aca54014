// Copyright 2026 the Duplex authors. MIT license.

/**
 * A barrier. Over the queue of `_sync/queue.ts` it keeps two words:
 *
 * | word | content                                    |
 * | ---- | ------------------------------------------ |
 * | 16   | the parties: how many must come            |
 * | 17   | 1 while it is broken                       |
 *
 * The parties that have come are those in the queue; a party's number is how many
 * were in it before. The last one does not get into it, but grants all others.
 *
 * @module
 */

import { checkWhole, isOptions } from "./checks.ts";
import { BrokenBarrierError } from "./errors.ts";
import {
  limitsOf,
  syncLimitsOf,
  type SyncWaitOptions,
  type WaitLimits,
  type WaitOptions,
} from "./limits.ts";
import { FIELDS, type Memory } from "./memory.ts";
import {
  capacityFor,
  DEFAULT_THREADS,
  DISTINCT,
  type LockMemoryOptions,
  Queue,
} from "./queue.ts";
import { type Core, Registry } from "./registry.ts";
import { MUST_WAIT, type Rules } from "./slots.ts";

const PARTIES = FIELDS;
const BROKEN = FIELDS + 1;

/** As many as threads: each may be a thread of its own. */
const MAX_PARTIES = 65_536;

/** The results of a wait; the one that comes last gets its number. */
const HAS_OPENED = 0;
const IS_BROKEN = -2;

const ACTION = "wait at the barrier";

/** What a barrier does. */
class BarrierCore implements Core, Rules {
  readonly memory: Memory;
  readonly queue: Queue;
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(memory: Memory) {
    this.memory = memory;
    this.#words = memory.words;
    this.queue = new Queue(memory, this, DISTINCT);
  }

  get parties(): number {
    return this.#words[PARTIES]!;
  }

  get broken(): boolean {
    // A party that waits may have died.
    this.queue.look(ACTION);
    return Atomics.load(this.#words, BROKEN) === 1;
  }

  async wait(limits: WaitLimits): Promise<number> {
    limits.signal?.throwIfAborted();
    const wait = this.queue.begin(limits, 0, false);
    if (typeof wait === "number") return check(wait, wait);
    return check(await this.queue.finish(wait, limits), wait.ahead);
  }

  waitSync(limits: WaitLimits): number {
    const wait = this.queue.begin(limits, 0, true);
    if (typeof wait === "number") return check(wait, wait);
    return check(this.queue.finishSync(wait, limits), wait.ahead);
  }

  abort(): void {
    this.queue.latched("abort the barrier", () => this.#break());
  }

  reset(): void {
    this.queue.latched("reset the barrier", () => {
      this.#break();
      // A dead party of this round must not break the next one.
      this.queue.slots.pay();
      Atomics.store(this.#words, BROKEN, 0);
    });
  }

  attempt(): number {
    if (this.#words[BROKEN] === 1) return IS_BROKEN;
    const { slots } = this.queue;
    const last = this.parties - 1;
    if (slots.waits < last) return MUST_WAIT;
    // A party that died has not come.
    slots.sweep();
    if (this.#words[BROKEN] === 1) return IS_BROKEN;
    slots.grantAll(HAS_OPENED);
    return last;
  }

  revoke(): void {
    // A party that died after the barrier had opened has come all the same.
  }

  onLeave(): void {
    this.#break();
  }

  #break(): void {
    Atomics.store(this.#words, BROKEN, 1);
    this.queue.slots.grantAll(IS_BROKEN);
  }
}

const barriers: Registry<BarrierCore> = new Registry(
  "Barrier",
  (memory) => new BarrierCore(memory),
);

/** Options for {@linkcode Barrier}. */
export interface BarrierOptions extends LockMemoryOptions {
  /** How many must come before any goes on, a whole number from 1 to 65536. */
  parties: number;
  /**
   * How many threads can always wait at the same time, as of the other locks.
   *
   * @default {`parties`, at least 64}
   */
  threads?: number;
}

/**
 * Lets calls wait until a number of parties have come, then lets all go on
 * together, again and again. Threads share it by its `buffer`, sent in a message.
 *
 * - **Numbers:** each wait gives the number of parties that had come before: 0 for
 *   the first, `parties - 1` for the last.
 * - **Breaking:** without one party the others would wait for ever. So the barrier
 *   breaks when a call that waits reaches its timeout or is aborted, when a thread
 *   dies while it waits, or by {@linkcode Barrier.abort}: all calls that wait, and
 *   all later ones, throw {@linkcode BrokenBarrierError}, until
 *   {@linkcode Barrier.reset}.
 * - **Death:** a thread that dies while it waits is noticed within 30 ms of its
 *   end. One that dies before it comes is not, because the barrier does not know
 *   that it was to come: use a timeout.
 * - **Limit:** any number of tasks of a thread can wait, and at least
 *   {@linkcode BarrierOptions.threads} threads. One more gets a `RangeError`.
 * - **Staying alive:** a thread that waits does not end automatically.
 *
 * Requires no permission.
 *
 * @example Usage
 * ```ts
 * import { Barrier } from "@duplex/ipc/sync";
 * import { assertEquals } from "@std/assert";
 *
 * const barrier = new Barrier({ parties: 3 });
 * const numbers = [barrier.wait(), barrier.wait(), barrier.waitSync()];
 * assertEquals(await Promise.all(numbers), [0, 1, 2]);
 * ```
 */
export class Barrier {
  readonly #core: BarrierCore;
  readonly #buffer: SharedArrayBuffer | undefined;

  /**
   * Makes a barrier, or attaches to one.
   *
   * @param from Options for a new barrier, or the `buffer` of the one to attach to.
   * @throws {TypeError} If the buffer is not that of a barrier, or is a copy of it,
   *   or an option has the wrong type.
   * @throws {RangeError} If an option is out of range.
   */
  constructor(from: BarrierOptions | SharedArrayBuffer) {
    if (isOptions(from)) {
      const action = "make a Barrier";
      const { parties, threads } = from;
      checkWhole(action, "parties", parties, 1, MAX_PARTIES);
      const capacity = capacityFor(
        action,
        threads === undefined ? Math.max(DEFAULT_THREADS, parties) : threads,
      );
      this.#core = barriers.create([parties, 0], capacity);
    } else {
      this.#core = barriers.attach(from);
      this.#buffer = from;
    }
  }

  /**
   * The shared memory of the barrier, to be sent to other threads. A copy of it is
   * another barrier.
   *
   * @example Usage
   * ```ts
   * import { Barrier } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * const first = new Barrier({ parties: 2 });
   * assertEquals(new Barrier(first.buffer).buffer, first.buffer);
   * ```
   */
  get buffer(): SharedArrayBuffer {
    return this.#buffer ?? barriers.share(this.#core);
  }

  /**
   * How many must come.
   *
   * @example Usage
   * ```ts
   * import { Barrier } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new Barrier({ parties: 2 }).parties, 2);
   * ```
   */
  get parties(): number {
    return this.#core.parties;
  }

  /**
   * Whether the barrier is broken.
   *
   * @example Usage
   * ```ts
   * import { Barrier } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new Barrier({ parties: 2 }).broken, false);
   * ```
   */
  get broken(): boolean {
    return this.#core.broken;
  }

  /**
   * Waits until all parties have come.
   *
   * @param options How long to wait; giving up breaks the barrier.
   * @returns A promise for the number of parties that had come before.
   * @throws The signal's reason if it aborts.
   * @throws {BrokenBarrierError} If the barrier is broken or breaks.
   * @throws {DOMException} `TimeoutError` if the time is up.
   * @throws {TypeError} If an option has the wrong type.
   * @throws {RangeError} If the timeout is negative, or there is no place for one
   *   more thread.
   *
   * @example Giving up
   * ```ts
   * import { Barrier } from "@duplex/ipc/sync";
   * import { assert, assertRejects } from "@std/assert";
   *
   * const barrier = new Barrier({ parties: 2 });
   * await assertRejects(() => barrier.wait({ timeout: 10 }), DOMException);
   * assert(barrier.broken);
   * ```
   */
  async wait(options?: WaitOptions): Promise<number> {
    return await this.#core.wait(limitsOf(ACTION, options));
  }

  /**
   * Blocks the thread until all parties have come.
   *
   * @param options How long to wait; giving up breaks the barrier.
   * @returns The number of parties that had come before.
   * @throws {BrokenBarrierError} If the barrier is broken or breaks.
   * @throws {DOMException} `TimeoutError` if the time is up.
   * @throws {TypeError} If an option has the wrong type.
   * @throws {RangeError} If the timeout is negative, or there is no place for one
   *   more thread.
   *
   * @example Usage
   * ```ts
   * import { Barrier } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new Barrier({ parties: 1 }).waitSync(), 0);
   * ```
   */
  waitSync(options?: SyncWaitOptions): number {
    return this.#core.waitSync(syncLimitsOf(ACTION, options));
  }

  /**
   * Breaks the barrier: all calls that wait and all later ones throw
   * {@linkcode BrokenBarrierError}.
   *
   * @example Usage
   * ```ts
   * import { Barrier, BrokenBarrierError } from "@duplex/ipc/sync";
   * import { assertRejects } from "@std/assert";
   *
   * const barrier = new Barrier({ parties: 2 });
   * const waiting = barrier.wait();
   * barrier.abort();
   * await assertRejects(() => waiting, BrokenBarrierError);
   * ```
   */
  abort(): void {
    this.#core.abort();
  }

  /**
   * Makes the barrier as new. Calls that wait throw {@linkcode BrokenBarrierError}.
   *
   * @example Usage
   * ```ts
   * import { Barrier } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * const barrier = new Barrier({ parties: 1 });
   * barrier.abort();
   * barrier.reset();
   * assertEquals(barrier.waitSync(), 0);
   * ```
   */
  reset(): void {
    this.#core.reset();
  }
}

/** The number of a party, or the error that its wait throws. */
function check(result: number, number: number): number {
  if (result !== IS_BROKEN) return number;
  throw new BrokenBarrierError(
    `Cannot ${ACTION} as it is broken: a call gave up or its thread died while it waited, or "abort" was called; "reset" makes it as new`,
  );
}
