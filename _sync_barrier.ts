// Copyright 2026 the Duplex authors. MIT license.

/**
 * A barrier. Over the queue of `_sync_queue.ts` it keeps two words:
 *
 * | word | what                                |
 * | ---- | ----------------------------------- |
 * | 10   | the parties: how many must come     |
 * | 11   | 1 while it is broken                |
 *
 * Who has come is who is in the queue; the last one does not get into it, but
 * grants all others their numbers, in the order that they came.
 *
 * @module
 */

import { BrokenBarrierError } from "./_sync_errors.ts";
import { isAlive } from "./_sync_life.ts";
import { FIELDS, isOptions, Memory, SLOTS } from "./_sync_memory.ts";
import { MUST_WAIT, Queue } from "./_sync_queue.ts";
import {
  limitsOf,
  type SyncWaitOptions,
  type WaitOptions,
} from "./_sync_sleep.ts";
import { show } from "./_text.ts";

const PARTIES = FIELDS;
const BROKEN = FIELDS + 1;

const MAX_PARTIES = 65_536;

/** The result of a wait at a barrier that broke; the others are numbers from 0. */
const IS_BROKEN = -2;

const ACTION = "wait at the barrier";

/** Options for {@linkcode Barrier}. */
export interface BarrierOptions {
  /** How many must come before any goes on, a whole number from 1 to 65536. */
  parties: number;
}

/**
 * Holds everybody up until a number of parties have come, then lets all go on
 * together, again and again. Threads share it by its `buffer`, sent in a message.
 *
 * - **Numbers:** each wait gives the number of parties that had come before: 0 for
 *   the first, `parties - 1` for the last.
 * - **Breaking:** the others would wait for ever for one who does not come. So the
 *   barrier breaks when one that waits gives up (its time is up, its signal
 *   aborts), when one that waits dies, or by {@linkcode Barrier.abort}: all who
 *   wait, and all who come later, get {@linkcode BrokenBarrierError}, until
 *   {@linkcode Barrier.reset}.
 * - **Death:** one that dies while it waits is noticed within 20 ms of its end.
 *   One that dies before it comes is not, since nothing says that it was to come:
 *   use a timeout.
 * - **Staying alive:** a thread that waits does not end by itself.
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
  readonly #memory: Memory;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #queue: Queue;
  /**
   * The shared memory of the barrier, to be sent to other threads.
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
  readonly buffer: SharedArrayBuffer;

  /**
   * Makes a barrier, or attaches to one.
   *
   * @param from How many parties a new one has, or the `buffer` of the one to
   *   attach to.
   * @throws {TypeError} If the buffer is not that of a barrier.
   * @throws {RangeError} If the parties are out of range.
   */
  constructor(from: BarrierOptions | SharedArrayBuffer) {
    this.#memory = isOptions(from)
      ? create(from.parties)
      : Memory.attach("Barrier", from);
    this.#words = this.#memory.words;
    this.buffer = this.#words.buffer;
    this.#queue = new Queue(this.#memory, {
      attempt: () => this.#attempt(),
      onLeave: () => this.#break(),
    });
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
    return this.#words[PARTIES]!;
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
    return Atomics.load(this.#words, BROKEN) === 1;
  }

  /**
   * Waits until all parties have come.
   *
   * @param options How long to wait; giving up breaks the barrier.
   * @returns A promise for the number of parties that had come before.
   * @throws The signal's reason if it aborts.
   * @throws {BrokenBarrierError} If the barrier is broken or breaks.
   * @throws {DOMException} `TimeoutError` if the time is up.
   * @throws {RangeError} If the timeout is negative.
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
  async wait(options: WaitOptions = {}): Promise<number> {
    return checkResult(await this.#queue.wait(limitsOf(ACTION, options)));
  }

  /**
   * Blocks the thread until all parties have come.
   *
   * @param options How long to wait; giving up breaks the barrier.
   * @returns The number of parties that had come before.
   * @throws {BrokenBarrierError} If the barrier is broken or breaks.
   * @throws {DOMException} `TimeoutError` if the time is up.
   * @throws {RangeError} If the timeout is negative.
   *
   * @example Usage
   * ```ts
   * import { Barrier } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new Barrier({ parties: 1 }).waitSync(), 0);
   * ```
   */
  waitSync({ timeout = Infinity }: SyncWaitOptions = {}): number {
    return checkResult(this.#queue.waitSync(limitsOf(ACTION, { timeout })));
  }

  /**
   * Breaks the barrier: all who wait and all who come later get
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
    this.#memory.latched(() => this.#break());
  }

  /**
   * Makes the barrier as new. Those who wait get {@linkcode BrokenBarrierError}.
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
    this.#memory.latched(() => {
      this.#break();
      Atomics.store(this.#words, BROKEN, 0);
    });
  }

  #attempt(): number {
    if (this.#words[BROKEN] === 1) return IS_BROKEN;
    const waiting = this.#queue.waiting();
    const last = this.parties - 1;
    if (waiting.length < last) return MUST_WAIT;
    if (!waiting.every(({ thread }) => isAlive(thread))) {
      this.#break();
      return IS_BROKEN;
    }
    for (const [number, who] of waiting.entries()) {
      this.#queue.grant(who, number);
    }
    return last;
  }

  #break(): void {
    Atomics.store(this.#words, BROKEN, 1);
    this.#queue.grantAll(IS_BROKEN);
  }
}

function create(parties: unknown): Memory {
  const count = Number(parties);
  if (!(Number.isInteger(parties) && count >= 1 && count <= MAX_PARTIES)) {
    throw new RangeError(
      `Cannot make a Barrier as "parties" must be a whole number from 1 to ${MAX_PARTIES}: current value is ${
        show(parties)
      }`,
    );
  }
  // One round can wait while another has not left yet.
  return Memory.create("Barrier", [count, 0], Math.max(SLOTS, 2 * count));
}

function checkResult(result: number): number {
  if (result !== IS_BROKEN) return result;
  throw new BrokenBarrierError(
    `Cannot ${ACTION} as it is broken: somebody gave up or died while waiting, or aborted it; "reset" makes it as new`,
  );
}
