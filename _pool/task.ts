// Copyright 2026 the Duplex authors. MIT license.

/**
 * A task of a pool, and what tasks that came together have in common. A task has
 * exactly one outcome, whatever becomes of its workers.
 *
 * @module
 */

import { ClosedError, isInstance, PeerExitError } from "../_base/errors.ts";
import { findPlaced } from "../_rpc/places.ts";
import { quoted, reasonText } from "../_base/text.ts";
import type { Listed } from "./turns.ts";
import type { Deque } from "../_base/waiting.ts";

/** What tasks that came together have in common; only these share a message. */
export interface Job {
  readonly method: string;
  /** Milliseconds that one may run. */
  readonly timeout: number;
  /** How often one is run again. */
  readonly retries: number;
  /** Whether a task that threw this is run again. */
  readonly retryOn: ((error: unknown) => boolean) | undefined;
}

/** A task: a method, its arguments, and who waits for the outcome. */
export abstract class Task {
  readonly job: Job;
  readonly args: unknown[];
  /** When it was asked for. */
  readonly since: number;
  /** Whether it cannot go with others: a function is to be called back. */
  readonly callsBack: boolean;
  /** How often it was given to a worker that may have begun it. */
  attempts = 0;
  #isSettled = false;

  constructor(job: Job, args: unknown[], since: number) {
    this.job = job;
    this.args = args;
    this.since = since;
    this.callsBack = isPlacedIn(args);
  }

  /** What it is rejected with if it is given back now, as it has waited too long. */
  get waitError(): Error | undefined {
    return undefined;
  }

  /** Whether it has its outcome; it is then not run any more. */
  get isSettled(): boolean {
    return this.#isSettled || this.isUnwanted;
  }

  /** Gives the outcome, the first time. Says whether it was. */
  fulfil(value: unknown): boolean {
    if (this.isSettled) return false;
    this.#isSettled = true;
    this.onFulfilled(value);
    return true;
  }

  /** As {@linkcode fulfil}, with an error. */
  reject(error: unknown): boolean {
    if (this.isSettled) return false;
    this.#isSettled = true;
    this.onRejected(error);
    return true;
  }

  /** Whether nobody waits for the outcome any more. */
  protected get isUnwanted(): boolean {
    return false;
  }

  protected abstract onFulfilled(value: unknown): void;
  protected abstract onRejected(error: unknown): void;

  /** Whether it may be run once more. */
  get mayRetry(): boolean {
    return this.attempts <= this.job.retries;
  }
}

/** What becomes of tasks that wait when a pool is closed. */
export type Waiting = "run" | "reject";

/** Where tasks come from. */
export interface Source extends Listed {
  /** Tasks that wait to be taken. */
  readonly waiting: number;
  /** Makes sure that so many wait, if there are so many now; says how many do. */
  prepare(most: number): number;
  /** Takes tasks of one job, up to as many as there may be of it; none if there are none now. */
  take(most: (job: Job) => number): Task[];
  /** Several outcomes have come. */
  onReport?(): void;
  /** The pool is closed: no more tasks are read, and those that wait are run or rejected. */
  finish(waiting: Waiting): void;
  /** No more workers can be had. */
  fail(error: unknown): void;
}

/** Whether a function or a signal is among arguments. */
function isPlacedIn(args: unknown[]): boolean {
  try {
    return findPlaced(args) !== undefined;
  } catch {
    // A getter threw, which the call will tell of.
    return true;
  }
}

/** Drops tasks that have their outcome, as far as they are next. */
export function dropSettled(tasks: Deque<Task>): void {
  while (tasks.length > 0 && tasks.first.isSettled) tasks.shift();
}

/** What a task is rejected with whose workers ended. */
export function endedError(
  { job, attempts: runs }: Task,
  cause: unknown,
): Error {
  const what = runs === 1
    ? "the task was begun and its worker ended"
    : `the task was begun ${runs} times and its worker ended each time`;
  const message = `Cannot run ${quoted(job.method)}: ${what}: ${
    reasonText(cause)
  }`;
  if (!isInstance(cause, PeerExitError)) {
    return new ClosedError(message, { cause });
  }
  const { code, signal, stderr } = cause;
  return new PeerExitError(message, { cause, code, signal, stderr });
}

/** Error of a task that is not run, or not run again, since its pool was closed. */
export function closedError({ job, attempts }: Task): ClosedError {
  const when = attempts === 0
    ? "the task was begun"
    : "the task was run again; it was begun before and has no result";
  return new ClosedError(
    `Cannot run ${quoted(job.method)}: the pool was closed before ${when}`,
  );
}

/** What a task is rejected with that took too long. */
export function timeoutError({ method, timeout }: Job): DOMException {
  return new DOMException(
    `Cannot run ${
      quoted(method)
    }: it took longer than ${timeout} ms and was ended with its worker`,
    "TimeoutError",
  );
}
