// Copyright 2026 the Duplex authors. MIT license.

/**
 * The options of locks and their calls, and the checks of arguments.
 *
 * @module
 */

import {
  checkKind,
  checkNumber,
  checkOptions,
  checkSignal,
} from "../_base/options.ts";
import { show } from "../_base/text.ts";
import { LATCH_GRACE_MS, LATCH_LIMIT_MS } from "./memory.ts";

/** Options for a call that blocks its thread. */
export interface SyncWaitOptions {
  /**
   * Timeout in milliseconds, 0 or more. With 0 the call does not wait.
   *
   * @default {Infinity}
   */
  timeout?: number;
}

/** Options for a call that returns a promise. */
export interface WaitOptions extends SyncWaitOptions {
  /** Cancels the wait; the promise then rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Options for the memory of a lock. */
export interface LockMemoryOptions {
  /**
   * Number of threads that can always wait for the lock at the same time, an
   * integer from 1 to 65536. Each needs 28 bytes of memory. A call in a further
   * thread throws a `RangeError` if the queue is full. The number of waiters in one
   * thread is not limited.
   *
   * @default {64}
   */
  threads?: number;
}

/** Slots in addition to those kept for threads: up to this number of waits in order. */
export const ORDERED = 128;

/** More threads than most machines have the memory for. */
export const DEFAULT_THREADS = 64;

/** The memory of a lock for 65536 threads has 1.8 MB. */
export const MAX_THREADS = 65_536;

/** The number of slots of a lock for this number of threads. */
export function capacityFor(
  action: string,
  threads: unknown = DEFAULT_THREADS,
): number {
  const range = { min: 1, max: MAX_THREADS, integer: true };
  return ORDERED + checkNumber(`Cannot ${action}`, "threads", threads, range);
}

/** The timeout and the signal of one wait. */
export class WaitLimits {
  /** The attempted action, as "Cannot `action`" names it. */
  readonly action: string;
  /** The end of the wait, by `performance.now()`. */
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
  readonly #timeout: number;

  constructor(
    action: string,
    timeout: number = Infinity,
    signal?: AbortSignal,
  ) {
    this.action = action;
    this.deadline = timeout === Infinity
      ? Infinity
      : performance.now() + timeout;
    this.signal = signal;
    this.#timeout = timeout;
  }

  /** Milliseconds to the deadline, 0 if it has passed. */
  get left(): number {
    if (this.deadline === Infinity) return Infinity;
    return Math.max(0, this.deadline - performance.now());
  }

  /** Milliseconds to wait for the latch. */
  get forLatch(): number {
    return Math.min(LATCH_LIMIT_MS, this.left + LATCH_GRACE_MS);
  }

  /** The error of a wait that has reached its deadline. */
  timeoutError(): DOMException {
    return new DOMException(
      `Cannot ${this.action}: ${this.#timeout} ms have passed`,
      "TimeoutError",
    );
  }
}

/** The limits of a call that returns a promise. */
export function limitsOf(
  action: string,
  options: WaitOptions | undefined,
): WaitLimits {
  const signal = options?.signal;
  checkSignal(`Cannot ${action}`, signal);
  return syncLimitsOf(action, options, signal);
}

/** The limits of a call that blocks its thread. */
export function syncLimitsOf(
  action: string,
  options: SyncWaitOptions | undefined,
  signal?: AbortSignal,
): WaitLimits {
  if (options === undefined) return new WaitLimits(action);
  const attempt = `Cannot ${action}`;
  checkOptions(attempt, options);
  const { timeout = Infinity } = options;
  checkNumber(attempt, "timeout", timeout, { min: 0, max: Infinity });
  return new WaitLimits(action, timeout, signal);
}

/** Whether a constructor's argument is options, not a buffer. */
export function isOptions<Options extends object>(
  from: Options | SharedArrayBuffer,
): from is Options {
  if (typeof from !== "object" || from === null) return false;
  try {
    const prototype = Object.getPrototypeOf(from);
    return prototype === Object.prototype || prototype === null;
  } catch {
    // A revoked proxy, or a proxy whose trap throws.
    return false;
  }
}

/** Returns an option that must be a boolean, `false` if it is not set. */
export function checkFlag(
  action: string,
  name: string,
  value: boolean | undefined,
): boolean {
  checkKind(`Cannot ${action}`, name, value, "boolean");
  return value ?? false;
}

/** The error of an argument of the wrong type. */
export function typeError(
  action: string,
  name: string,
  expected: string,
  value: unknown,
): TypeError {
  return new TypeError(
    `Cannot ${action} as "${name}" must be ${expected}: current value is ${
      show(value)
    }`,
  );
}
