// Copyright 2026 the Duplex authors. MIT license.

/**
 * A counter. It needs neither latch nor queue:
 *
 * | word   | what                                                           |
 * | ------ | -------------------------------------------------------------- |
 * | 10, 11 | the value, a 64-bit integer                                    |
 * | 12     | how often it was changed, to sleep on                          |
 *
 * - **To change:** exchange the value, add 1 to word 12, wake all.
 * - **To wait:** read word 12, read the value, and if it is not what is wanted
 *   sleep while word 12 is as it was. A change in between ends the sleep at once.
 *
 * @module
 */

import { FIELDS, isOptions, Memory } from "./_sync_memory.ts";
import {
  limitsOf,
  sleep,
  type SyncWaitOptions,
  type WaitOptions,
} from "./_sync_sleep.ts";
import { show } from "./_text.ts";

const VALUE_BYTES = FIELDS * 4;
const CHANGES = FIELDS + 2;

const ACTION = "wait for the counter";

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
 * and never wraps.
 *
 * Nothing is held, so a thread that dies leaves nothing behind. A thread that
 * waits does not end by itself.
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
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #value: BigInt64Array<SharedArrayBuffer>;
  /**
   * The shared memory of the counter, to be sent to other threads.
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
  readonly buffer: SharedArrayBuffer;

  /**
   * Makes a counter, or attaches to one.
   *
   * @param from The value of a new one, or the `buffer` of the one to attach to.
   * @throws {TypeError} If the buffer is not that of a counter.
   * @throws {RangeError} If the value is no safe integer.
   */
  constructor(from: AtomicCounterOptions | SharedArrayBuffer = {}) {
    const isNew = isOptions(from);
    const { value = 0 } = isNew ? from : {};
    if (isNew) checkInteger("make an AtomicCounter", "value", value);
    const memory = isNew
      ? Memory.create("AtomicCounter", [], 0)
      : Memory.attach("AtomicCounter", from);
    this.#words = memory.words;
    this.buffer = this.#words.buffer;
    this.#value = new BigInt64Array(this.buffer, VALUE_BYTES, 1);
    if (isNew) this.#value[0] = BigInt(value);
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
    return Number(Atomics.load(this.#value, 0));
  }

  /**
   * Adds to the value.
   *
   * @param amount What to add, a safe integer; less than 0 to subtract.
   * @returns The value afterwards.
   * @throws {RangeError} If the amount or the sum is no safe integer; the value
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
    checkInteger("add to the counter", "amount", amount);
    for (;;) {
      const before = Atomics.load(this.#value, 0);
      const after = Number(before) + amount;
      if (!Number.isSafeInteger(after)) {
        throw new RangeError(
          `Cannot add ${amount} to the counter as the sum must be a safe integer: current value is ${before}`,
        );
      }
      if (this.#exchange(before, after)) return after;
    }
  }

  /**
   * Sets the value.
   *
   * @param value The value, a safe integer.
   * @returns The value before.
   * @throws {RangeError} If the value is no safe integer.
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
    checkInteger("set the counter", "value", value);
    const before = Atomics.exchange(this.#value, 0, BigInt(value));
    this.#announce();
    return Number(before);
  }

  /**
   * Sets the value if it is as expected.
   *
   * @param expected The value that it must have.
   * @param value The value to set, a safe integer.
   * @returns Whether it was set.
   * @throws {RangeError} If a value is no safe integer.
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
    checkInteger("set the counter", "expected", expected);
    checkInteger("set the counter", "value", value);
    return this.#exchange(BigInt(expected), value);
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
    options: WaitOptions = {},
  ): Promise<number> {
    const limits = limitsOf(ACTION, options);
    limits.signal?.throwIfAborted();
    for (;;) {
      const changes = Atomics.load(this.#words, CHANGES);
      const { value } = this;
      if (isWanted(value)) return value;
      await sleep(this.#words, CHANGES, changes, limits);
    }
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
    { timeout = Infinity }: SyncWaitOptions = {},
  ): number {
    const { deadline, timeoutError } = limitsOf(ACTION, { timeout });
    for (;;) {
      const changes = Atomics.load(this.#words, CHANGES);
      const { value } = this;
      if (isWanted(value)) return value;
      const left = deadline - performance.now();
      if (left <= 0) throw timeoutError();
      Atomics.wait(this.#words, CHANGES, changes, left);
    }
  }

  #exchange(before: bigint, after: number): boolean {
    const found = Atomics.compareExchange(
      this.#value,
      0,
      before,
      BigInt(after),
    );
    if (found !== before) return false;
    this.#announce();
    return true;
  }

  #announce(): void {
    Atomics.add(this.#words, CHANGES, 1);
    Atomics.notify(this.#words, CHANGES);
  }
}

function checkInteger(action: string, name: string, value: unknown): void {
  if (Number.isSafeInteger(value)) return;
  throw new RangeError(
    `Cannot ${action} as "${name}" must be a safe integer: current value is ${
      show(value)
    }`,
  );
}
