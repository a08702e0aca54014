// Copyright 2026 the Duplex authors. MIT license.

/**
 * An event that is set or not. Over the queue of `_sync/queue.ts` it keeps two
 * words:
 *
 * | word | content                                                    |
 * | ---- | ---------------------------------------------------------- |
 * | 16   | 1 while it is set                                          |
 * | 17   | 1 if it resets itself: each `set` lets one go on           |
 *
 * @module
 */

import { checkFlag, isOptions } from "./checks.ts";
import {
  limitsOf,
  syncLimitsOf,
  type SyncWaitOptions,
  type WaitOptions,
} from "./limits.ts";
import { FIELDS, type Memory } from "./memory.ts";
import {
  ALIKE,
  capacityFor,
  EXCHANGEABLE,
  type LockMemoryOptions,
  Queue,
} from "./queue.ts";
import { type Core, Registry } from "./registry.ts";
import { MUST_WAIT, NONE, type Rules } from "./slots.ts";

const IS_SET = FIELDS;
const AUTOMATIC = FIELDS + 1;

/** The result of a wait for an event that was set. */
const WAS_SET = 0;

const ACTION = "wait for the event";

/** What an event does. */
class EventCore implements Core, Rules {
  readonly memory: Memory;
  readonly queue: Queue;
  readonly isAutomatic: boolean;
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(memory: Memory) {
    this.memory = memory;
    this.#words = memory.words;
    this.isAutomatic = memory.words[AUTOMATIC] === 1;
    this.queue = new Queue(
      memory,
      this,
      this.isAutomatic ? EXCHANGEABLE : ALIKE,
    );
  }

  get isSet(): boolean {
    // The event may have been granted to a thread that died.
    this.queue.look(ACTION);
    return Atomics.load(this.#words, IS_SET) === 1;
  }

  attempt(): number {
    if (this.#words[IS_SET] === 0) return MUST_WAIT;
    if (this.isAutomatic) Atomics.store(this.#words, IS_SET, 0);
    return WAS_SET;
  }

  revoke(_result: number, count: number): void {
    if (!this.isAutomatic) return;
    for (let left = count; left > 0; left--) this.#set();
  }

  set(): void {
    this.queue.latched("set the event", () => this.#set());
  }

  reset(): void {
    const words = this.#words;
    this.queue.latched(
      "reset the event",
      () => void Atomics.store(words, IS_SET, 0),
    );
  }

  #set(): void {
    const { slots } = this.queue;
    if (!this.isAutomatic) {
      Atomics.store(this.#words, IS_SET, 1);
      slots.grantAll(WAS_SET);
      return;
    }
    const slot = slots.first();
    if (slot === NONE) Atomics.store(this.#words, IS_SET, 1);
    else slots.grant(slot, WAS_SET);
  }
}

const events: Registry<EventCore> = new Registry(
  "ResetEvent",
  (memory) => new EventCore(memory),
);

/** Options for {@linkcode ResetEvent}. */
export interface ResetEventOptions extends LockMemoryOptions {
  /**
   * Resets the event as soon as one wait ends, so that each `set` ends one wait.
   * Without it the event stays set until it is reset.
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
 * Lets threads wait until something has happened. They share it by its `buffer`,
 * sent in a message.
 *
 * - **Manual:** `set` ends all waits, and later calls return at once, until `reset`.
 * - **Automatic:** `set` ends the longest wait, or the next call returns at once.
 *   Two `set` before the next call are one. A call that blocks its thread goes
 *   before the thread's tasks. With more than 128 waits, those of one thread stay
 *   in order and the threads take turns.
 * - **Limit:** any number of tasks of a thread can wait, and at least
 *   {@linkcode LockMemoryOptions.threads} threads. One more gets a `RangeError`.
 * - **Cancelling and death:** a wait that ends at the moment of its timeout or abort
 *   succeeds, and if a thread dies before its call returned, its turn goes to the
 *   next. No `set` is lost.
 * - **Staying alive:** a thread that waits does not end automatically.
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
  readonly #core: EventCore;
  readonly #buffer: SharedArrayBuffer | undefined;

  /**
   * Makes an event, or attaches to one.
   *
   * @param from Options for a new event, or the `buffer` of the one to attach to.
   * @throws {TypeError} If the buffer is not that of an event, or is a copy of it,
   *   or an option has the wrong type.
   * @throws {RangeError} If the number of threads is out of range.
   */
  constructor(from: ResetEventOptions | SharedArrayBuffer = {}) {
    if (isOptions(from)) {
      const action = "make a ResetEvent";
      const { automatic, set, threads } = from;
      const isAutomatic = checkFlag(action, "automatic", automatic);
      const isSet = checkFlag(action, "set", set);
      const fields = [Number(isSet), Number(isAutomatic)];
      this.#core = events.create(fields, capacityFor(action, threads));
    } else {
      this.#core = events.attach(from);
      this.#buffer = from;
    }
  }

  /**
   * The shared memory of the event, to be sent to other threads. A copy of it is
   * another event.
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
  get buffer(): SharedArrayBuffer {
    return this.#buffer ?? events.share(this.#core);
  }

  /**
   * Whether each `set` ends one wait.
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
    return this.#core.isAutomatic;
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
    return this.#core.isSet;
  }

  /**
   * Waits until the event is set.
   *
   * @param options How long to wait.
   * @returns A promise that settles then.
   * @throws The signal's reason if it aborts.
   * @throws {DOMException} `TimeoutError` if the time is up.
   * @throws {TypeError} If an option has the wrong type.
   * @throws {RangeError} If the timeout is negative, or there is no place for one
   *   more thread.
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
  async wait(options?: WaitOptions): Promise<void> {
    await this.#core.queue.wait(limitsOf(ACTION, options));
  }

  /**
   * Blocks the thread until the event is set.
   *
   * @param options How long to wait.
   * @throws {DOMException} `TimeoutError` if the time is up.
   * @throws {TypeError} If an option has the wrong type.
   * @throws {RangeError} If the timeout is negative, or there is no place for one
   *   more thread.
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
  waitSync(options?: SyncWaitOptions): void {
    this.#core.queue.waitSync(syncLimitsOf(ACTION, options));
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
    this.#core.set();
  }

  /**
   * Resets the event: later calls wait for the next `set`.
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
    this.#core.reset();
  }
}
