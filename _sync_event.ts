// Copyright 2026 the Duplex authors. MIT license.

/**
 * An event that is set or not. Over the queue of `_sync_queue.ts` it keeps two
 * words:
 *
 * | word | what                                                       |
 * | ---- | ---------------------------------------------------------- |
 * | 10   | 1 while it is set                                          |
 * | 11   | 1 if it resets itself: each `set` lets one go on           |
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

const IS_SET = FIELDS;
const AUTOMATIC = FIELDS + 1;

/** The result of a wait for an event that was set. */
const WAS_SET = 0;

const ACTION = "wait for the event";

/** Options for {@linkcode ResetEvent}. */
export interface ResetEventOptions {
  /**
   * Resets the event as soon as one who waits goes on, so that each `set` lets
   * one go on. Without it the event stays set until it is reset.
   *
   * @default {false}
   */
  automatic?: boolean;
  /**
   * Whether the event is set at first.
   *
   * @default {false}
   */
  set?: boolean;
}

/**
 * Lets others wait until something has happened. Threads share it by its
 * `buffer`, sent in a message.
 *
 * - **Manual:** `set` lets all who wait go on, and all who come, until `reset`.
 * - **Automatic:** `set` lets the one go on who has waited longest, or the next
 *   who comes. Two `set` before anybody comes are one. The first 128 who wait are
 *   kept in order; a call that blocks its thread goes before the thread's tasks.
 * - **Cancelling and death:** who is let go in the moment in which its time is up
 *   or its signal aborts has not waited in vain, and a thread that died before it
 *   went on leaves its turn to the next. No `set` is lost.
 * - **Staying alive:** a thread that waits does not end by itself.
 *
 * Requires no permission.
 *
 * @example Usage
 * ```ts
 * import { ResetEvent } from "@duplex/ipc/sync";
 * import { assertEquals } from "@std/assert";
 *
 * const event = new ResetEvent();
 * const waiting = event.wait();
 * event.set();
 * await waiting;
 * event.waitSync();
 * event.reset();
 * assertEquals(event.isSet, false);
 * ```
 */
export class ResetEvent {
  readonly #memory: Memory;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #queue: Queue;
  /**
   * The shared memory of the event, to be sent to other threads.
   *
   * @example Usage
   * ```ts
   * import { ResetEvent } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * const first = new ResetEvent();
   * assertEquals(new ResetEvent(first.buffer).buffer, first.buffer);
   * ```
   */
  readonly buffer: SharedArrayBuffer;

  /**
   * Makes an event, or attaches to one.
   *
   * @param from What a new one is like, or the `buffer` of the one to attach to.
   * @throws {TypeError} If the buffer is not that of an event.
   */
  constructor(from: ResetEventOptions | SharedArrayBuffer = {}) {
    this.#memory = isOptions(from) ? create(from) : Memory.attach(
      "ResetEvent",
      from,
    );
    this.#words = this.#memory.words;
    this.buffer = this.#words.buffer;
    this.#queue = new Queue(this.#memory, {
      attempt: () => this.#attempt(),
      revoke: () => this.automatic && this.#set(),
      exchangeable: this.automatic,
    });
  }

  /**
   * Whether each `set` lets one go on.
   *
   * @example Usage
   * ```ts
   * import { ResetEvent } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new ResetEvent({ automatic: true }).automatic, true);
   * ```
   */
  get automatic(): boolean {
    return this.#words[AUTOMATIC] === 1;
  }

  /**
   * Whether the event is set at the moment.
   *
   * @example Usage
   * ```ts
   * import { ResetEvent } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new ResetEvent({ set: true }).isSet, true);
   * ```
   */
  get isSet(): boolean {
    return Atomics.load(this.#words, IS_SET) === 1;
  }

  /**
   * Waits until the event is set.
   *
   * @param options How long to wait.
   * @returns A promise that settles then.
   * @throws The signal's reason if it aborts.
   * @throws {DOMException} `TimeoutError` if the time is up.
   * @throws {RangeError} If the timeout is negative.
   *
   * @example Giving up
   * ```ts
   * import { ResetEvent } from "@duplex/ipc/sync";
   * import { assertRejects } from "@std/assert";
   *
   * const event = new ResetEvent();
   * await assertRejects(() => event.wait({ timeout: 10 }), DOMException);
   * ```
   */
  async wait(options: WaitOptions = {}): Promise<void> {
    await this.#queue.wait(limitsOf(ACTION, options));
  }

  /**
   * Blocks the thread until the event is set.
   *
   * @param options How long to wait.
   * @throws {DOMException} `TimeoutError` if the time is up.
   * @throws {RangeError} If the timeout is negative.
   *
   * @example Usage
   * ```ts
   * import { ResetEvent } from "@duplex/ipc/sync";
   * import { assertThrows } from "@std/assert";
   *
   * const event = new ResetEvent({ automatic: true, set: true });
   * event.waitSync();
   * assertThrows(() => event.waitSync({ timeout: 0 }), DOMException);
   * ```
   */
  waitSync({ timeout = Infinity }: SyncWaitOptions = {}): void {
    this.#queue.waitSync(limitsOf(ACTION, { timeout }));
  }

  /**
   * Sets the event.
   *
   * @example Usage
   * ```ts
   * import { ResetEvent } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * const event = new ResetEvent();
   * event.set();
   * assertEquals(event.isSet, true);
   * ```
   */
  set(): void {
    this.#memory.latched(() => this.#set());
  }

  /**
   * Resets the event: who comes now waits for the next `set`.
   *
   * @example Usage
   * ```ts
   * import { ResetEvent } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * const event = new ResetEvent({ set: true });
   * event.reset();
   * assertEquals(event.isSet, false);
   * ```
   */
  reset(): void {
    this.#memory.latched(() => Atomics.store(this.#words, IS_SET, 0));
  }

  #attempt(): number {
    if (this.#words[IS_SET] === 0) return MUST_WAIT;
    if (this.automatic) Atomics.store(this.#words, IS_SET, 0);
    return WAS_SET;
  }

  #set(): void {
    if (!this.automatic) {
      Atomics.store(this.#words, IS_SET, 1);
      return this.#queue.grantAll(WAS_SET);
    }
    const who = this.#queue.first();
    if (who === undefined) Atomics.store(this.#words, IS_SET, 1);
    else this.#queue.grant(who, WAS_SET);
  }
}

function create({ automatic = false, set = false }: ResetEventOptions): Memory {
  return Memory.create("ResetEvent", [Number(set), Number(automatic)]);
}
