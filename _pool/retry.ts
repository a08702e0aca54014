// Copyright 2026 the Duplex authors. MIT license.

/**
 * How often and after which delay a task is run again.
 *
 * @module
 */

import { checkNumber, checkOptions } from "../_base/options.ts";
import { show } from "../_base/text.ts";
import { MAX_TIMER } from "../_base/waiting.ts";

/** How often and when a task is run again. */
export interface RetryOptions {
  /**
   * Maximum number of further runs. With 0, the task is never begun twice and has no
   * batch, which makes small tasks several times slower.
   *
   * @default {2}
   */
  times?: number;
  /**
   * Milliseconds before the second run.
   *
   * @default {0}
   */
  delay?: number;
  /**
   * Factor by which the delay grows with each further run, at least 1.
   *
   * @default {2}
   */
  factor?: number;
  /**
   * The part of each delay that is random, from 0 to 1: the delay is shortened by a
   * random share of this part, so that tasks that failed together do not run again
   * together.
   *
   * @default {0.5}
   */
  jitter?: number;
  /**
   * Maximum milliseconds of a delay.
   *
   * @default {30_000}
   */
  maxDelay?: number;
}

/** Checked and complete options. */
export type Retry = Readonly<Required<RetryOptions>>;

/** Two further runs: one if a neighboring task ended the worker, one for chance. */
export const DEFAULT_RETRY: Retry = {
  times: 2,
  delay: 0,
  factor: 2,
  jitter: 0.5,
  maxDelay: 30_000,
};

/** Checks and completes options; a number is that of the times. */
export function checkRetry(
  action: string,
  retry: number | RetryOptions | undefined,
  defaults: Retry,
): Retry {
  if (retry === undefined) return defaults;
  if (typeof retry === "number") {
    checkNumber(action, "retry", retry, WHOLE);
    return retry === defaults.times ? defaults : { ...defaults, times: retry };
  }
  if (typeof retry !== "object" || retry === null) {
    throw new TypeError(
      `${action} as "retry" must be a number or an object: current value is ${
        show(retry)
      }`,
    );
  }
  checkOptions(action, retry, "retry");
  const {
    times = defaults.times,
    delay = defaults.delay,
    factor = defaults.factor,
    jitter = defaults.jitter,
    maxDelay = defaults.maxDelay,
  } = retry;
  checkNumber(action, "retry.times", times, WHOLE);
  checkNumber(action, "retry.delay", delay, DELAY);
  checkNumber(action, "retry.factor", factor, { min: 1 });
  checkNumber(action, "retry.jitter", jitter, { min: 0, max: 1 });
  checkNumber(action, "retry.maxDelay", maxDelay, DELAY);
  return { times, delay, factor, jitter, maxDelay };
}

const WHOLE = { min: 0, integer: true };
const DELAY = { min: 0, max: MAX_TIMER };

/** Whether tasks with these options can share a message. */
export function isSameRetry(one: Retry, other: Retry): boolean {
  return one === other ||
    one.times === other.times && one.delay === other.delay &&
      one.factor === other.factor && one.jitter === other.jitter &&
      one.maxDelay === other.maxDelay;
}

/** Milliseconds before the next run of a task that was begun so many times. */
export function retryDelay(retry: Retry, attempts: number): number {
  const { delay, factor, jitter, maxDelay } = retry;
  if (delay === 0) return 0;
  const grown = delay * factor ** (attempts - 1);
  return Math.min(grown, maxDelay) * (1 - jitter * Math.random());
}
