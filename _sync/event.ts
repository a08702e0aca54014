// Copyright 2026 the Duplex authors. MIT license.

/**
 * An event that is set or not. In addition to the queue of `_sync/wait_queue.ts` it has
 * two words:
 *
 * | word | content                                                    |
 * | ---- | ---------------------------------------------------------- |
 * | 16   | 1 while it is set                                          |
 * | 17   | 1 if it is automatic: each `set` ends one wait             |
 *
 * @module
 */

import { LockType, SharedLock } from "./lock.ts";
import { FIELDS, type Memory } from "./memory.ts";
import {
  capacityFor,
  checkFlag,
  limitsOf,
  type LockMemoryOptions,
  syncLimitsOf,
  type SyncWaitOptions,
  type WaitOptions,
} from "./options.ts";
import { QueuedCore } from "./wait_queue.ts";
import { MUST_WAIT, NONE } from "./slots.ts";

const IS_SET = FIELDS;
const AUTOMATIC = FIELDS + 1;

/** The result of a wait for an event that was set. */
const WAS_SET = 0;

const ACTION = "wait for the event";

/** An event as one thread uses it. */
class EventCore extends QueuedCore {
  readonly isAutomatic: boolean;

  constructor(memory: Memory) {
    const isAutomatic = memory.words[AUTOMATIC] === 1;
    super(memory, { isUniform: true, isExchangeable: isAutomatic });
    this.isAutomatic = isAutomatic;
  }

  get isSet(): boolean {
    // A set may have been granted to a thread that died.
    this.checkThreads(ACTION);
    return Atomics.load(this.words, IS_SET) === 1;
  }

  override attempt(): number {
    if (this.words[IS_SET] === 0) return MUST_WAIT;
    if (this.isAutomatic) Atomics.store(this.words, IS_SET, 0);
    return WAS_SET;
  }

  override revoke(_result: number, count: number): void {
    if (!this.isAutomatic) return;
    for (let left = count; left > 0; left--) this.#set();
  }

  set(): void {
    this.withLatch("set the event", () => this.#set());
  }

  reset(): void {
    this.withLatch("reset the event", () => {
      Atomics.store(this.words, IS_SET, 0);
    });
  }

  #set(): void {
    const { slots, words } = this;
    if (!this.isAutomatic) {
      Atomics.store(words, IS_SET, 1);
      slots.grantAll(WAS_SET);
      return;
    }
    const slot = slots.first();
    if (slot === NONE) Atomics.store(words, IS_SET, 1);
    else slots.grant(slot, WAS_SET);
  }
}

const events = new LockType(
  "ResetEvent",
  EventCore,
  ({ automatic, set, threads }: ResetEventOptions, action) => ({
    fields: [
      Number(checkFlag(action, "set", set)),
      Number(checkFlag(action, "automatic", automatic)),
    ],
    capacity: capacityFor(action, threads),
  }),
);

/** Options for {@linkcode ResetEvent}. */
export interface ResetEventOptions extends LockMemoryOptions {
  /**
   * Resets the event automatically when a wait ends, so that each `set` ends one
   * wait. Without it the event stays set until `reset`.
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
 * An event that threads wait for. They share it by its `buffer`, sent in a message.
 *
 * - **Manual:** `set` ends all waits, and later calls return at once, until `reset`.
 * - **Automatic:** `set` ends the longest wait, or the next call returns at once.
 *   A second `set` before the next call has no effect. A call that blocks its thread
 *   goes before the thread's waiting tasks. With more than 128 waiters, those of one
 *   thread stay in order and the threads take turns.
 * - **Cancelling and death:** a call whose wait ends at the moment of its timeout or
 *   abort succeeds. If a thread dies before its call returned, the next wait ends in
 *   its place. No `set` is lost.
 *
 * Requires no permission. See {@linkcode SharedLock} for limits.
 *
 * @example Usage
 * ```ts
 * import { ResetEvent } from "@duplex/ipc/sync";
 * import { assertEquals, assertThrows } from "@std/assert";
 *
 * const event = new ResetEvent();
 * const waiting = event.wait();
 * event.set();
 * await waiting;
 * event.waitSync();
 * event.reset();
 * assertEquals(event.isSet, false);
 * assertThrows(() => event.waitSync({ timeout: 0 }), DOMException);
 * ```
 */
export class ResetEvent extends SharedLock {
  readonly #core: EventCore;

  /**
   * Creates an event, or attaches to one.
   *
   * @param from Options for a new event, or the `buffer` of the one to attach to.
   * @throws {TypeError} If the buffer is not that of an event, or is a copy of it,
   *   or an option has the wrong type.
   * @throws {RangeError} If the number of threads is out of range.
   */
  constructor(from: ResetEventOptions | SharedArrayBuffer = {}) {
    const core = events.open(from);
    super(core, from);
    this.#core = core;
  }

  /** Whether each `set` ends one wait. */
  get automatic(): boolean {
    return this.#core.isAutomatic;
  }

  /** Whether the event is set. Other threads may change it at any time. */
  get isSet(): boolean {
    return this.#core.isSet;
  }

  /**
   * Waits until the event is set.
   *
   * @param options Timeout and signal.
   * @returns A promise that settles then.
   * @throws The signal's reason if it aborts.
   * @throws {DOMException} `TimeoutError` at the timeout.
   * @throws {TypeError} If an option has the wrong type.
   * @throws {RangeError} If the timeout is negative or the queue is full.
   */
  async wait(options?: WaitOptions): Promise<void> {
    await this.#core.wait(limitsOf(ACTION, options));
  }

  /**
   * Blocks the thread until the event is set.
   *
   * @param options Timeout.
   * @throws What {@linkcode ResetEvent.wait} rejects with.
   */
  waitSync(options?: SyncWaitOptions): void {
    this.#core.waitSync(syncLimitsOf(ACTION, options));
  }

  /** Sets the event. */
  set(): void {
    this.#core.set();
  }

  /** Resets the event: later calls wait for the next `set`. */
  reset(): void {
    this.#core.reset();
  }
}
