// Copyright 2026 the Duplex authors. MIT license.

/**
 * The limits of a wait: a timeout and a signal.
 *
 * @module
 */

import { checkOptions, hasType } from "./checks.ts";
import { LATCH_GRACE_MS, LATCH_LIMIT_MS } from "./memory.ts";
import { show } from "../_base/text.ts";

/** Options for a call that blocks its thread. */
export interface SyncWaitOptions {
  /**
   * Milliseconds to wait, 0 or more; with 0 the call does not wait. `Infinity`
   * waits without a limit.
   *
   * @default {Infinity}
   */
  timeout?: number;
}

/** Options for a call that returns a promise. */
export interface WaitOptions extends SyncWaitOptions {
  /** Stops waiting; the promise then rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** The limits of one wait. */
export class WaitLimits {
  /** What is done, as "Cannot `action`" names it. */
  readonly action: string;
  /** The end of the wait, by `performance.now()`. */
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
  readonly #timeout: number;

  constructor(
    action: string,
    timeout: number,
    signal: AbortSignal | undefined,
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

  /** Milliseconds for which the latch may be waited for. */
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
  if (options === undefined) return new WaitLimits(action, Infinity, undefined);
  checkOptions(action, options);
  const { timeout, signal } = options;
  if (signal !== undefined && !hasType(signal, AbortSignal)) {
    throw new TypeError(
      `Cannot ${action} as "signal" must be an AbortSignal: current value is ${
        show(signal)
      }`,
    );
  }
  return new WaitLimits(action, checkTimeout(action, timeout), signal);
}

/** The limits of a call that blocks its thread. */
export function syncLimitsOf(
  action: string,
  options: SyncWaitOptions | undefined,
): WaitLimits {
  if (options === undefined) return new WaitLimits(action, Infinity, undefined);
  checkOptions(action, options);
  return new WaitLimits(
    action,
    checkTimeout(action, options.timeout),
    undefined,
  );
}

function checkTimeout(action: string, timeout: unknown = Infinity): number {
  if (typeof timeout !== "number") {
    throw new TypeError(
      `Cannot ${action} as "timeout" must be a number: current value is ${
        show(timeout)
      }`,
    );
  }
  if (timeout >= 0) return timeout;
  throw new RangeError(
    `Cannot ${action} as "timeout" must be 0 or more: current value is ${timeout}`,
  );
}
