// Copyright 2026 the Duplex authors. MIT license.

/**
 * Sleeping on a word of shared memory in a task, and the limits of a wait.
 *
 * @module
 */

import { show } from "./_text.ts";
import { MAX_TIMER } from "./_waiting.ts";

/** How long a call that blocks its thread waits. */
export interface SyncWaitOptions {
  /**
   * Milliseconds to wait, 0 or more; with 0 the call does not wait. `Infinity`
   * waits for ever.
   *
   * @default {Infinity}
   */
  timeout?: number;
}

/** How long a call that returns a promise waits. */
export interface WaitOptions extends SyncWaitOptions {
  /** Stops waiting; the promise then rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** The limits of one wait. */
export interface WaitLimits {
  /** When it is over, by `performance.now()`. */
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
  /** What is thrown then. */
  timeoutError(): Error;
}

/**
 * Reads the limits of a wait.
 *
 * @param action What is done, as "Cannot `action`" names it.
 */
export function limitsOf(
  action: string,
  { timeout = Infinity, signal }: WaitOptions,
): WaitLimits {
  if (typeof timeout !== "number") {
    throw new TypeError(
      `Cannot ${action} as "timeout" must be a number: current value is ${
        show(timeout)
      }`,
    );
  }
  if (!(timeout >= 0)) {
    throw new RangeError(
      `Cannot ${action} as "timeout" must be 0 or more: current value is ${timeout}`,
    );
  }
  return {
    deadline: performance.now() + timeout,
    signal,
    timeoutError: () =>
      new DOMException(
        `Cannot ${action}: ${timeout} ms have passed`,
        "TimeoutError",
      ),
  };
}

/**
 * Sleeps until somebody notifies the word, at most `ms`; returns at once if the
 * word is not as expected. A pending `Atomics.waitAsync` does not keep a program
 * running, so a timer does, whatever the limits are.
 *
 * @throws The limits' error or the signal's reason.
 */
export function sleep(
  words: Int32Array<SharedArrayBuffer>,
  word: number,
  expected: number,
  { deadline, signal, timeoutError }: WaitLimits,
  ms = Infinity,
): Promise<void> {
  if (signal?.aborted) return Promise.reject(signal.reason);
  const left = Math.max(0, deadline - performance.now());
  const nap = Math.min(left, ms);
  const asleep = Atomics.waitAsync(words, word, expected, nap);
  if (!asleep.async && asleep.value === "not-equal") return Promise.resolve();
  return new Promise((resolve, reject) => {
    const onAbort = () => settle(() => reject(signal!.reason));
    const onTime = () => {
      if (performance.now() >= deadline) settle(() => reject(timeoutError()));
      else settle(resolve);
    };
    const timer = setTimeout(onTime, Math.min(Math.ceil(nap), MAX_TIMER));
    const settle = (how: () => void) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      how();
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    // Who was notified just as the time was up counts as notified.
    if (asleep.async) {
      asleep.value.then((end) => end === "ok" ? settle(resolve) : undefined);
    }
  });
}
