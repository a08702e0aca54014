// Copyright 2026 the Duplex authors. MIT license.

/**
 * A counter. It needs neither the latch nor the queue:
 *
 * | word   | content                                                        |
 * | ------ | -------------------------------------------------------------- |
 * | 16, 17 | the value, a 64-bit integer                                    |
 * | 18     | how often it was changed: the word to sleep on                 |
 *
 * - **To change:** exchange the value, add 1 to word 18, notify all.
 * - **To wait:** read word 18, read the value, and if it is not what is wanted
 *   sleep while word 18 is as it was. A change in between ends the sleep at once.
 *
 * All tasks of a thread that wait for a counter sleep in one `Atomics.waitAsync`.
 * It can be ended by a notification only, which wakes other threads too. So when
 * all tasks have given up it stays for a while, for the next task.
 *
 * @module
 */

import { checkFunction, checkSafe, isOptions } from "./checks.ts";
import {
  limitsOf,
  syncLimitsOf,
  type SyncWaitOptions,
  type WaitLimits,
  type WaitOptions,
} from "./limits.ts";
import { FIELDS, type Memory } from "./memory.ts";
import { type Core, Registry } from "./registry.ts";
import {
  type Abortable,
  aborts,
  hasTimers,
  keep,
  loadTimers,
  unkeep,
} from "./watch.ts";
import { MAX_TIMER } from "../_base/waiting.ts";

const VALUE_BYTES = FIELDS * 4;
const CHANGES = FIELDS + 2;

/** Milliseconds after which a sleep is ended that no task waits in any more. */
const UNUSED_MS = 1000;

/** A word that stays 0: a sleep on it is a timer that keeps no program running. */
const CLOCK = new Int32Array(new SharedArrayBuffer(4));

const ACTION = "wait for the counter";

/** One task that waits for a counter. */
class CounterWait implements Abortable {
  readonly isWanted: (value: number) => boolean;
  readonly promise: Promise<number>;
  readonly #core: CounterCore;
  readonly #limits: WaitLimits;
  readonly #resolvers: PromiseWithResolvers<number>;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    core: CounterCore,
    isWanted: (value: number) => boolean,
    limits: WaitLimits,
  ) {
    this.isWanted = isWanted;
    this.#core = core;
    this.#limits = limits;
    this.#resolvers = Promise.withResolvers();
    this.promise = this.#resolvers.promise;
    if (limits.signal !== undefined) aborts.add(this, limits.signal);
    this.#startTimer();
  }

  abort(reason: unknown): void {
    this.#end();
    this.#resolvers.reject(reason);
  }

  /** Ends the wait if the value is wanted. */
  offer(value: number): void {
    try {
      if (!this.isWanted(value)) return;
    } catch (error) {
      return this.abort(error);
    }
    this.#end();
    this.#resolvers.resolve(value);
  }

  #end(): void {
    clearTimeout(this.#timer);
    const { signal } = this.#limits;
    if (signal !== undefined) aborts.delete(this, signal);
    this.#core.remove(this);
  }

  #startTimer(): void {
    const { left } = this.#limits;
    if (left === Infinity) return;
    const delay = Math.min(Math.ceil(left), MAX_TIMER);
    this.#timer = setTimeout(() => this.#onTime(), delay);
  }

  #onTime(): void {
    if (this.#limits.left > 0) return this.#startTimer();
    this.abort(this.#limits.timeoutError());
  }
}

/** What a counter does. */
class CounterCore implements Core {
  readonly memory: Memory;
  readonly value: BigInt64Array<SharedArrayBuffer>;
  readonly #words: Int32Array<SharedArrayBuffer>;
  /** The tasks of this thread that wait. */
  readonly #waits = new Set<CounterWait>();
  /** Whether a promise of `Atomics.waitAsync` is pending. */
  #isAsleep = false;
  /** Whether a sleep is to be ended. */
  #isEnding = false;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(memory: Memory) {
    this.memory = memory;
    this.#words = memory.words;
    this.value = new BigInt64Array(memory.words.buffer, VALUE_BYTES, 1);
  }

  until(
    isWanted: (value: number) => boolean,
    limits: WaitLimits,
  ): Promise<number> | number {
    limits.signal?.throwIfAborted();
    let changes = Atomics.load(this.#words, CHANGES);
    let value = this.#read();
    if (isWanted(value)) return value;
    if (!hasTimers()) {
      loadTimers();
      changes = Atomics.load(this.#words, CHANGES);
      value = this.#read();
      if (isWanted(value)) return value;
    }
    // It may have aborted meanwhile.
    limits.signal?.throwIfAborted();
    const wait = new CounterWait(this, isWanted, limits);
    this.#waits.add(wait);
    keep();
    this.#rest(changes);
    return wait.promise;
  }

  untilSync(isWanted: (value: number) => boolean, limits: WaitLimits): number {
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
    this.announce();
    return true;
  }

  announce(): void {
    Atomics.add(this.#words, CHANGES, 1);
    Atomics.notify(this.#words, CHANGES);
  }

  /** Notes that a wait has ended. */
  remove(wait: CounterWait): void {
    if (!this.#waits.delete(wait)) return;
    unkeep();
    if (this.#waits.size > 0) return;
    clearTimeout(this.#retry);
    if (this.#isAsleep) this.#endSleep();
  }

  #read(): number {
    return Number(Atomics.load(this.value, 0));
  }

  /** Sleeps until the next change. */
  #sleep(changes: number): void {
    const asleep = Atomics.waitAsync(this.#words, CHANGES, changes);
    if (!asleep.async) {
      // Another thread may change the value faster than this one can look at it,
      // so other tasks get their turn in between.
      this.#retry = setTimeout(() => this.#check(), 0);
      return;
    }
    this.#isAsleep = true;
    asleep.value.then(() => {
      this.#isAsleep = false;
      this.#check();
    });
  }

  /** Ends the sleep if no task waits in it in the next second. */
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

  #check(): void {
    if (this.#waits.size === 0) return;
    const changes = Atomics.load(this.#words, CHANGES);
    const value = this.#read();
    for (const wait of this.#waits) wait.offer(value);
    this.#rest(changes);
  }

  /** Sleeps, if any task waits and none has begun to sleep. */
  #rest(changes: number): void {
    if (this.#waits.size === 0 || this.#isAsleep) return;
    clearTimeout(this.#retry);
    this.#sleep(changes);
  }
}

const counters: Registry<CounterCore> = new Registry(
  "AtomicCounter",
  (memory) => new CounterCore(memory),
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
 * A whole number that threads change without losing a change, and wait for.
 * Threads share it by its `buffer`, sent in a message. It holds safe integers,
 * up to 9007199254740991 either way; a change that would leave them is refused
 * and never wraps. Any number of threads and tasks can wait.
 *
 * Nothing is held, so a thread that dies leaves nothing behind. A thread that
 * waits does not end automatically.
 *
 * Requires no permission.
 *
 * @example Usage
 * ```ts
 * import { AtomicCounter } from "@duplex/ipc/sync";
 * import { assertEquals } from "@std/assert";
 *
 * const left = new AtomicCounter({ value: 2 });
 * const done = left.until((value) => value === 0);
 * left.add(-1);
 * left.add(-1);
 * assertEquals(await done, 0);
 * ```
 */
export class AtomicCounter {
  readonly #core: CounterCore;
  readonly #buffer: SharedArrayBuffer | undefined;

  /**
   * Makes a counter, or attaches to one.
   *
   * @param from Options for a new counter, or the `buffer` of the one to attach to.
   * @throws {TypeError} If the buffer is not that of a counter, or is a copy of it,
   *   or the value is not a number.
   * @throws {RangeError} If the value is not a safe integer.
   */
  constructor(from: AtomicCounterOptions | SharedArrayBuffer = {}) {
    if (isOptions(from)) {
      const { value = 0 } = from;
      checkSafe("make an AtomicCounter", "value", value);
      this.#core = counters.create([], 0);
      this.#core.value[0] = BigInt(value);
    } else {
      this.#core = counters.attach(from);
      this.#buffer = from;
    }
  }

  /**
   * The shared memory of the counter, to be sent to other threads. A copy of it is
   * another counter.
   *
   * @example Usage
   * ```ts
   * import { AtomicCounter } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * const first = new AtomicCounter();
   * assertEquals(new AtomicCounter(first.buffer).buffer, first.buffer);
   * ```
   */
  get buffer(): SharedArrayBuffer {
    return this.#buffer ?? counters.share(this.#core);
  }

  /**
   * The value.
   *
   * @example Usage
   * ```ts
   * import { AtomicCounter } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new AtomicCounter({ value: 5 }).value, 5);
   * ```
   */
  get value(): number {
    return Number(Atomics.load(this.#core.value, 0));
  }

  /**
   * Adds to the value.
   *
   * @param amount What to add, a safe integer; less than 0 to subtract.
   * @returns The value afterwards.
   * @throws {TypeError} If the amount is not a number.
   * @throws {RangeError} If the amount or the sum is not a safe integer; the value
   *   stays as it was.
   *
   * @example Usage
   * ```ts
   * import { AtomicCounter } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new AtomicCounter({ value: 5 }).add(-2), 3);
   * ```
   */
  add(amount = 1): number {
    checkSafe("add to the counter", "amount", amount);
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
   * @param value The value, a safe integer.
   * @returns The value before.
   * @throws {TypeError} If the value is not a number.
   * @throws {RangeError} If the value is not a safe integer.
   *
   * @example Usage
   * ```ts
   * import { AtomicCounter } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * const counter = new AtomicCounter();
   * assertEquals(counter.set(7), 0);
   * assertEquals(counter.value, 7);
   * ```
   */
  set(value: number): number {
    checkSafe("set the counter", "value", value);
    const before = Atomics.exchange(this.#core.value, 0, BigInt(value));
    this.#core.announce();
    return Number(before);
  }

  /**
   * Sets the value if it is as expected.
   *
   * @param expected The value that it must have.
   * @param value The value to set, a safe integer.
   * @returns Whether it was set.
   * @throws {TypeError} If a value is not a number.
   * @throws {RangeError} If a value is not a safe integer.
   *
   * @example Usage
   * ```ts
   * import { AtomicCounter } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * const counter = new AtomicCounter({ value: 1 });
   * assertEquals(counter.compareExchange(1, 2), true);
   * assertEquals(counter.compareExchange(1, 3), false);
   * ```
   */
  compareExchange(expected: number, value: number): boolean {
    checkSafe("set the counter", "expected", expected);
    checkSafe("set the counter", "value", value);
    return this.#core.exchange(BigInt(expected), value);
  }

  /**
   * Waits until the value is as wanted. Values that are there only for a moment
   * may be missed.
   *
   * @param isWanted Says whether a value is as wanted.
   * @param options How long to wait.
   * @returns A promise for the value that was.
   * @throws What `isWanted` throws, and the signal's reason if it aborts.
   * @throws {DOMException} `TimeoutError` if the time is up.
   * @throws {TypeError} If an argument or option has the wrong type.
   * @throws {RangeError} If the timeout is negative.
   *
   * @example Giving up
   * ```ts
   * import { AtomicCounter } from "@duplex/ipc/sync";
   * import { assertRejects } from "@std/assert";
   *
   * const counter = new AtomicCounter();
   * await assertRejects(
   *   () => counter.until((value) => value > 0, { timeout: 10 }),
   *   DOMException,
   *   "10 ms have passed",
   * );
   * ```
   */
  async until(
    isWanted: (value: number) => boolean,
    options?: WaitOptions,
  ): Promise<number> {
    checkFunction(ACTION, "isWanted", isWanted);
    return await this.#core.until(isWanted, limitsOf(ACTION, options));
  }

  /**
   * Blocks the thread until the value is as wanted. Values that are there only for
   * a moment may be missed.
   *
   * @param isWanted Says whether a value is as wanted.
   * @param options How long to wait.
   * @returns The value that was.
   * @throws What `isWanted` throws.
   * @throws {DOMException} `TimeoutError` if the time is up.
   * @throws {TypeError} If an argument or option has the wrong type.
   * @throws {RangeError} If the timeout is negative.
   *
   * @example Usage
   * ```ts
   * import { AtomicCounter } from "@duplex/ipc/sync";
   * import { assertEquals } from "@std/assert";
   *
   * const counter = new AtomicCounter({ value: 3 });
   * assertEquals(counter.untilSync((value) => value > 2), 3);
   * ```
   */
  untilSync(
    isWanted: (value: number) => boolean,
    options?: SyncWaitOptions,
  ): number {
    checkFunction(ACTION, "isWanted", isWanted);
    return this.#core.untilSync(isWanted, syncLimitsOf(ACTION, options));
  }
}
