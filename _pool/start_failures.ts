// Copyright 2026 the Duplex authors. MIT license.

/**
 * The failures of a pool to start workers since the last one was started: the delay
 * before the next attempt, and the time after which the tasks that wait are failed.
 *
 * @module
 */

import { reasonText } from "../_base/text.ts";
import { MAX_TIMER, RunningTimer } from "../_base/waiting.ts";

/** Milliseconds before the second attempt; doubled for each further one. */
const START_DELAY = 100;

/**
 * Maximum milliseconds between two attempts: a server that is back is used within this
 * time, and an attempt to start a process every five seconds costs little.
 */
const MAX_START_DELAY = 5_000;

/** Attempts within `startTimeout`, at least, if each of them fails at once. */
const MIN_ATTEMPTS = 4;

/**
 * The random share of a delay: pools that lost the same server do not return to it at
 * the same time.
 */
const JITTER = 0.5;

/** What a pool does about failures. */
export interface StartFailuresHost {
  /** The delay has passed: another attempt may be made. */
  onDelay(): void;
  /** Every attempt has failed for `startTimeout` milliseconds. */
  onTimeout(error: Error): void;
}

/** The failures to start workers since the last one was started. */
export class StartFailures {
  readonly #startTimeout: number;
  readonly #host: StartFailuresHost;
  #count = 0;
  /** Delays since the last success: several attempts at a time share one. */
  #delays = 0;
  #last: unknown;
  /** When the next attempt may be made, and the timer for it. */
  #next = -Infinity;
  #delay: ReturnType<typeof setTimeout> | undefined;
  #limit: RunningTimer | undefined;

  constructor(startTimeout: number, host: StartFailuresHost) {
    this.#startTimeout = startTimeout;
    this.#host = host;
  }

  /** Number of attempts that have failed. */
  get count(): number {
    return this.#count;
  }

  /** The error of the last attempt. */
  get last(): unknown {
    return this.#last;
  }

  /** Adds a failure, after which no attempt is made before a task asks for one. */
  addLasting(error: unknown): void {
    this.#count++;
    this.#last = error;
    this.#skipDelay();
  }

  /** Adds a failure that may pass; returns the milliseconds until the next attempt. */
  add(error: unknown): number {
    this.#count++;
    this.#last = error;
    const left = this.#next - performance.now();
    if (left > 0 || this.#delay !== undefined) return Math.max(0, left);
    const doubled = START_DELAY * 2 ** this.#delays++;
    const most = Math.min(MAX_START_DELAY, this.#startTimeout / MIN_ATTEMPTS);
    const delay = Math.min(doubled, most) * (1 - JITTER * Math.random());
    this.#next = performance.now() + delay;
    this.#startDelay(delay);
    return delay;
  }

  /** Whether a worker may be started now. Otherwise `onDelay` is called later. */
  mayStart(): boolean {
    if (this.#delay === undefined && this.#next > -Infinity) {
      const left = this.#next - performance.now();
      if (left > 0) this.#startDelay(left);
      else this.#next = -Infinity;
    }
    return this.#delay === undefined;
  }

  /** Starts the time limit of tasks that wait, if it has not been started. */
  limit(): void {
    if (this.#count === 0 || this.#startTimeout > MAX_TIMER) return;
    this.#limit ??= new RunningTimer(this.#startTimeout, () => {
      this.#skipDelay();
      const when =
        ` within ${this.#startTimeout} ms: attempt ${this.#count} failed`;
      this.#host.onTimeout(this.error(when));
    });
  }

  /** Stops the timers, so that they do not keep the program running. */
  pause(): void {
    clearTimeout(this.#delay);
    this.#delay = undefined;
    this.unlimit();
  }

  /** Stops the time limit: no task waits, or a worker runs. */
  unlimit(): void {
    this.#limit?.clear();
    this.#limit = undefined;
  }

  /** A worker was started. */
  clear(): void {
    this.#skipDelay();
    this.#count = this.#delays = 0;
    this.#last = undefined;
  }

  /** The error of tasks that cannot be run. */
  error(when = ""): Error {
    return new Error(
      `Cannot start a worker${when}: ${reasonText(this.#last)}`,
      {
        cause: this.#last,
      },
    );
  }

  /** The next task that is added leads to an attempt at once. */
  #skipDelay(): void {
    this.pause();
    this.#next = -Infinity;
  }

  #startDelay(ms: number): void {
    this.#delay = setTimeout(() => {
      this.#delay = undefined;
      this.#next = -Infinity;
      this.#host.onDelay();
    }, ms);
  }
}
