// Copyright 2026 the Duplex authors. MIT license.

/**
 * A task of a pool, and the settings that tasks share. A task has exactly one
 * outcome, even if its workers end.
 *
 * @module
 */

import { ClosedError, isInstance, PeerExitError } from "../_base/errors.ts";
import {
  findAll,
  findSlotValues,
  isWebStream,
  Transferred,
} from "../_rpc/slots.ts";
import { quoted, reasonText } from "../_base/text.ts";
import type { TaskOrigin } from "./origin.ts";
import type { Retry } from "./retry.ts";
import type { Listed } from "./turns.ts";
import type { Deque } from "../_base/waiting.ts";

/** The settings of tasks; only tasks of one job share a message. */
export interface Job {
  readonly method: string;
  /** Milliseconds that a task may run. */
  readonly timeout: number;
  /** How often and when a task is run again. */
  readonly retry: Retry;
  /** Whether a task is run again after an error. */
  readonly retryOn: ((error: unknown) => boolean) | undefined;
  /** Tasks of higher priority are run first. */
  readonly priority: number;
}

/** A queue in which a task waits. */
export interface TaskPlace {
  /** Handles a task that was settled while it waits. */
  drop(task: Task): void;
}

/** A task: a call of a method that has one outcome. */
export abstract class Task {
  readonly job: Job;
  readonly args: unknown[];
  /** When the task was added to the pool. */
  readonly since: number;
  /**
   * Whether functions, signals, transferred values or streams are among its arguments;
   * it then has no batch.
   */
  hasSlots: boolean;
  /** Its key, if it has one. */
  key: string | undefined;
  /** The queue in which it waits for a worker. */
  place: TaskPlace | undefined;
  /** Number of workers that may have begun it. */
  attempts = 0;
  /** Whether it has a batch of its own when it is run again. */
  isAlone = false;
  #isSettled = false;

  constructor(job: Job, args: unknown[], since: number) {
    this.job = job;
    this.args = args;
    this.since = since;
    this.hasSlots = this.#has(() => true) !== false;
  }

  /** Searches its arguments, which the codec has refused; returns `hasSlots`. */
  search(): boolean {
    return this.hasSlots ||= this.#has(() => true, findAll) !== false;
  }

  /** Whether a signal among its arguments has aborted. */
  isAborted(find: typeof findAll = findAll): boolean {
    return this.#has(
      (value) => value instanceof AbortSignal && value.aborted,
      find,
    ) === true;
  }

  /** Searches its arguments; `undefined` if a getter throws, as the call will. */
  #has(
    test: (value: unknown) => boolean,
    find: typeof findAll = findSlotValues,
  ): boolean | undefined {
    try {
      return find(this.args)?.some(({ value }) => test(value)) ?? false;
    } catch {
      return undefined;
    }
  }

  /** The error if it has waited too long, to be used when it is returned unbegun. */
  get waitError(): Error | undefined {
    return undefined;
  }

  /** Where it comes from, if its call needs that. */
  abstract get origin(): TaskOrigin | undefined;

  /** Whether it has its outcome, and is not run again. */
  get isSettled(): boolean {
    return this.#isSettled || this.isUnwanted;
  }

  /** Sets the outcome, and returns whether it had none. */
  fulfil(value: unknown): boolean {
    if (this.isSettled) return false;
    this.#isSettled = true;
    this.onFulfilled(value);
    return true;
  }

  /** As {@linkcode fulfil}, for an error. */
  reject(error: unknown): boolean {
    if (this.isSettled) return false;
    this.#isSettled = true;
    this.onRejected(error);
    return true;
  }

  /** Whether its outcome is no longer needed. */
  protected get isUnwanted(): boolean {
    return false;
  }

  /** Handles that it has left its queue: it is given to a worker, or has its outcome. */
  onLeft(): void {
    this.place = undefined;
  }

  protected abstract onFulfilled(value: unknown): void;
  protected abstract onRejected(error: unknown): void;

  /** Whether it may be run again. */
  get mayRetry(): boolean {
    if (this.attempts > this.job.retry.times) return false;
    // What was moved to a worker cannot be sent to another.
    return !this.hasSlots || !hasMoved(this.args);
  }
}

/** Whether a value that is sent only once is among arguments: moved, or a stream. */
export function hasMoved(args: unknown[]): boolean {
  try {
    return findAll(args)?.some(({ value }) =>
      value instanceof Transferred || isWebStream(value)
    ) ?? false;
  } catch {
    // A getter throws, as the call will.
    return false;
  }
}

/** The handling of waiting tasks when a pool is closed. */
export type Waiting = "run" | "reject";

/** A source of tasks. */
export interface TaskSource extends Listed {
  /** Number of waiting tasks. */
  readonly waiting: number;
  /** Reads tasks until `most` wait, if there are so many now; returns how many do. */
  prepare(most: number): number;
  /** Removes tasks of one job, up to the number that `most` returns for it. */
  take(most: (job: Job) => number): Task[];
  /** One or more tasks have an outcome. */
  onReport?(): void;
  /** The pool is closed: no more tasks are read, and waiting tasks are run or rejected. */
  finish(waiting: Waiting): void;
  /** Rejects all tasks: no worker can run them. */
  fail(error: unknown): void;
}

/** Removes settled tasks at the front of a queue. */
export function dropSettled(tasks: Deque<Task>): void {
  while (tasks.length > 0 && tasks.first.isSettled) tasks.shift();
}

/** The error of a task whose workers ended. */
export function endedError({ job, attempts }: Task, cause: unknown): Error {
  const what = attempts === 1
    ? "the task was begun and its worker ended"
    : `the task was begun ${attempts} times and its worker ended each time`;
  const message = `Cannot run ${quoted(job.method)}: ${what}: ${
    reasonText(cause)
  }`;
  if (!isInstance(cause, PeerExitError)) {
    return new ClosedError(message, { cause });
  }
  const { code, signal, stderr } = cause;
  return new PeerExitError(message, { cause, code, signal, stderr });
}

/** The error of a task that is not run, or not run again, because its pool was closed. */
export function closedError({ job, attempts }: Task): ClosedError {
  const when = attempts === 0
    ? "the task was begun"
    : "the task was run again; it was begun before and has no result";
  return new ClosedError(
    `Cannot run ${quoted(job.method)}: the pool was closed before ${when}`,
  );
}

/** The error of a task that ran too long. */
export function timeoutError({ method, timeout }: Job): DOMException {
  return new DOMException(
    `Cannot run ${
      quoted(method)
    }: it took longer than ${timeout} ms and was ended with its worker`,
    "TimeoutError",
  );
}
