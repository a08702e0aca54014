// Copyright 2026 the Duplex authors. MIT license.

/**
 * A counter. It needs neither the latch nor the queue:
 *
 * | word   | content                                                        |
 * | ------ | -------------------------------------------------------------- |
 * | 16, 17 | the value, a 64-bit integer                                    |
 * | 18     | the number of changes: the word to sleep on                    |
 *
 * - **To change:** exchange the value, add 1 to word 18, notify all.
 * - **To wait:** read word 18, then the value, and if that is not the wanted one
 *   sleep while word 18 is unchanged. A change in between ends the sleep at once.
 *
 * All waiting tasks of a thread share one `Atomics.waitAsync`. Only a notification
 * can end it, which wakes other threads as well. So when no task waits any more it
 * stays for a while, for the next task.
 *
 * @module
 */

import { checkNumber } from "../_base/options.ts";
import { type Core, LockType, SharedLock } from "./lock.ts";
import { FIELDS, type Memory } from "./memory.ts";
import {
  limitsOf,
  syncLimitsOf,
  type SyncWaitOptions,
  typeError,
  type WaitLimits,
  type WaitOptions,
} from "./options.ts";
import {
  areTimersLoaded,
  loadTimers,
  refProgram,
  TaskWait,
  unrefProgram,
} from "./timers.ts";

const VALUE_BYTES = FIELDS * 4;
const CHANGES = FIELDS + 2;

/** Milliseconds after which a sleep without waiting tasks is ended. */
const UNUSED_MS = 1000;

/** A word that stays 0: a sleep on it is a timer that keeps no program running. */
const CLOCK = new Int32Array(new SharedArrayBuffer(4));

const ACTION = "wait for the counter";

type Predicate = (value: number) => boolean;

/** One task that waits for a counter. */
class CounterWait extends TaskWait<number> {
  readonly #isWanted: Predicate;
  readonly #core: CounterCore;

  constructor(core: CounterCore, isWanted: Predicate) {
    super();
    this.#core = core;
    this.#isWanted = isWanted;
  }

  /** Ends the wait if the value is the wanted one. */
  check(value: number): void {
    try {
      if (!this.#isWanted(value)) return;
    } catch (error) {
      return this.onLimit(error);
    }
    this.#core.remove(this);
    this.resolve(value);
  }

  protected override onLimit(reason: unknown): void {
    this.#core.remove(this);
    this.reject(reason);
  }
}

/** A counter as one thread uses it. */
class CounterCore implements Core {
  readonly memory: Memory;
  readonly value: BigInt64Array<SharedArrayBuffer>;
  readonly #words: Int32Array<SharedArrayBuffer>;
  /** The waiting tasks of this thread. */
  readonly #waits = new Set<CounterWait>();
  /** Whether a promise of `Atomics.waitAsync` is pending. */
  #isAsleep = false;
  /** Whether the end of a sleep is scheduled. */
  #isEnding = false;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(memory: Memory) {
    this.memory = memory;
    this.#words = memory.words;
    this.value = new BigInt64Array(memory.words.buffer, VALUE_BYTES, 1);
  }

  until(isWanted: Predicate, limits: WaitLimits): Promise<number> | number {
    limits.signal?.throwIfAborted();
    let changes = Atomics.load(this.#words, CHANGES);
    let value = this.#read();
    if (isWanted(value)) return value;
    if (!areTimersLoaded) {
      loadTimers();
      changes = Atomics.load(this.#words, CHANGES);
      value = this.#read();
      if (isWanted(value)) return value;
    }
    // The predicate, or a microtask, may have aborted it.
    limits.signal?.throwIfAborted();
    const wait = new CounterWait(this, isWanted);
    const promise = wait.start(limits);
    this.#waits.add(wait);
    refProgram();
    this.#sleepIfNeeded(changes);
    return promise;
  }

  untilSync(isWanted: Predicate, limits: WaitLimits): number {
    for (;;) {
      const changes = Atomics.load(this.#words, CHANGES);
      const value = this.#read();
      if (isWanted(value)) return value;
      const { left } = limits;
      if (left === 0) throw limits.timeoutError();
      Atomics.wait(this.#words, CHANGES, changes, left);
    }
  }

  exchange(before: bigint, after: number): boolean {
    const found = Atomics.compareExchange(this.value, 0, before, BigInt(after));
    if (found !== before) return false;
    this.notify();
    return true;
  }

  notify(): void {
    Atomics.add(this.#words, CHANGES, 1);
    Atomics.notify(this.#words, CHANGES);
  }

  /** Removes a wait that ends. */
  remove(wait: CounterWait): void {
    if (!this.#waits.delete(wait)) return;
    unrefProgram();
    if (this.#waits.size > 0) return;
    clearTimeout(this.#retry);
    if (this.#isAsleep) this.#endSleep();
  }

  #read(): number {
    return Number(Atomics.load(this.value, 0));
  }

  /** Sleeps until the next change, if any task waits and no sleep is pending. */
  #sleepIfNeeded(changes: number): void {
    if (this.#waits.size === 0 || this.#isAsleep) return;
    clearTimeout(this.#retry);
    const asleep = Atomics.waitAsync(this.#words, CHANGES, changes);
    if (!asleep.async) {
      // Other threads may change the value faster than this one can check it, so
      // other tasks run in between.
      this.#retry = setTimeout(() => this.#checkAll(), 0);
      return;
    }
    this.#isAsleep = true;
    asleep.value.then(() => {
      this.#isAsleep = false;
      this.#checkAll();
    });
  }

  /** Ends the sleep unless a task waits within the next second. */
  #endSleep(): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    const timer = Atomics.waitAsync(CLOCK, 0, 0, UNUSED_MS);
    Promise.resolve(timer.value).then(() => {
      this.#isEnding = false;
      if (this.#waits.size > 0 || !this.#isAsleep) return;
      Atomics.notify(this.#words, CHANGES);
    });
  }

  #checkAll(): void {
    if (this.#waits.size === 0) return;
    const changes = Atomics.load(this.#words, CHANGES);
    const value = this.#read();
    for (const wait of this.#waits) wait.check(value);
    this.#sleepIfNeeded(changes);
  }
}

const counters = new LockType(
  "AtomicCounter",
  CounterCore,
  ({ value = 0 }: AtomicCounterOptions, action) => {
    checkSafeInteger(action, "value", value);
    // The low and the high word: `|` computes modulo 2 ** 32.
    return { fields: [value | 0, Math.floor(value / 2 ** 32)], capacity: 0 };
  },
);

/** Options for {@linkcode AtomicCounter}. */
export interface AtomicCounterOptions {
  /**
   * The value at first, a safe integer.
   *
   * @default {0}
   */
  value?: number;
}

/**
 * An integer that threads change without losing a change, and wait for. Threads
 * share it by its `buffer`, sent in a message. It holds safe integers, up to
 * 9007199254740991 in either direction; a change beyond that throws and never wraps.
 * Any number of threads and tasks can wait.
 *
 * No thread holds a counter, so the death of a thread has no effect on it. A thread
 * that waits does not end automatically.
 *
 * Requires no permission.
 *
 * @example Usage
 * ```ts
 * import { AtomicCounter } from "@duplex/ipc/sync";
 * import { assertEquals } from "@std/assert";
 *
 * const left = new AtomicCounter({ value: 2 });
 * const done = left.until((value) => value === 0, { timeout: 1000 });
 * left.add(-1);
 * assertEquals(left.add(-1), 0);
 * assertEquals(await done, 0);
 * assertEquals(left.untilSync((value) => value < 5), 0);
 * assertEquals(left.set(7), 0);
 * assertEquals(left.compareExchange(7, 8), true);
 * assertEquals(left.value, 8);
 * ```
 */
export class AtomicCounter extends SharedLock {
  readonly #core: CounterCore;

  /**
   * Creates a counter, or attaches to one.
   *
   * @param from Options for a new counter, or the `buffer` of the one to attach to.
   * @throws {TypeError} If the buffer is not that of a counter, or is a copy of it,
   *   or the value is not a number.
   * @throws {RangeError} If the value is not a safe integer.
   */
  constructor(from: AtomicCounterOptions | SharedArrayBuffer = {}) {
    const core = counters.open(from);
    super(core, from);
    this.#core = core;
  }

  /** The value. */
  get value(): number {
    return Number(Atomics.load(this.#core.value, 0));
  }

  /**
   * Adds to the value.
   *
   * @param amount What to add, a safe integer; negative to subtract.
   * @returns The new value.
   * @throws {TypeError} If the amount is not a number.
   * @throws {RangeError} If the amount or the sum is not a safe integer; the value
   *   is then unchanged.
   */
  add(amount = 1): number {
    checkSafeInteger("add to the counter", "amount", amount);
    for (;;) {
      const before = Atomics.load(this.#core.value, 0);
      const after = Number(before) + amount;
      if (!Number.isSafeInteger(after)) {
        throw new RangeError(
          `Cannot add ${amount} to the counter as the sum must be a safe integer: current value is ${before}`,
        );
      }
      if (this.#core.exchange(before, after)) return after;
    }
  }

  /**
   * Sets the value.
   *
   * @param value The new value, a safe integer.
   * @returns The previous value.
   * @throws {TypeError} If the value is not a number.
   * @throws {RangeError} If the value is not a safe integer.
   */
  set(value: number): number {
    checkSafeInteger("set the counter", "value", value);
    const before = Atomics.exchange(this.#core.value, 0, BigInt(value));
    this.#core.notify();
    return Number(before);
  }

  /**
   * Sets the value if it is the expected one.
   *
   * @param expected The value that it must have.
   * @param value The value to set, a safe integer.
   * @returns Whether it was set.
   * @throws {TypeError} If a value is not a number.
   * @throws {RangeError} If a value is not a safe integer.
   */
  compareExchange(expected: number, value: number): boolean {
    checkSafeInteger("set the counter", "expected", expected);
    checkSafeInteger("set the counter", "value", value);
    return this.#core.exchange(BigInt(expected), value);
  }

  /**
   * Waits until the value is a wanted one. A value that lasts only for a moment may
   * be missed.
   *
   * @param isWanted Returns whether a value is a wanted one.
   * @param options Timeout and signal.
   * @returns A promise for the wanted value.
   * @throws What `isWanted` throws, and the signal's reason if it aborts.
   * @throws {DOMException} `TimeoutError` at the timeout.
   * @throws {TypeError} If an argument or option has the wrong type.
   * @throws {RangeError} If the timeout is negative.
   */
  async until(
    isWanted: (value: number) => boolean,
    options?: WaitOptions,
  ): Promise<number> {
    checkPredicate(isWanted);
    return await this.#core.until(isWanted, limitsOf(ACTION, options));
  }

  /**
   * Blocks the thread until the value is a wanted one. A value that lasts only for a
   * moment may be missed.
   *
   * @param isWanted Returns whether a value is a wanted one.
   * @param options Timeout.
   * @returns The wanted value.
   * @throws What {@linkcode AtomicCounter.until} rejects with.
   */
  untilSync(
    isWanted: (value: number) => boolean,
    options?: SyncWaitOptions,
  ): number {
    checkPredicate(isWanted);
    return this.#core.untilSync(isWanted, syncLimitsOf(ACTION, options));
  }
}

function checkSafeInteger(action: string, name: string, value: number): void {
  checkNumber(`Cannot ${action}`, name, value, {
    min: Number.MIN_SAFE_INTEGER,
    max: Number.MAX_SAFE_INTEGER,
    integer: true,
  });
}

function checkPredicate(value: unknown): void {
  if (typeof value === "function") return;
  throw typeError(ACTION, "isWanted", "a function", value);
}
