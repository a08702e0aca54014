// Copyright 2026 the Duplex authors. MIT license.

/**
 * The queue of tasks of `Pool.run`.
 *
 * @module
 */

import { Tracing } from "../_rpc/trace.ts";
import { TaskOrigin } from "./origin.ts";
import type { Scheduler } from "./scheduler.ts";
import {
  closedError,
  dropSettled,
  type Job,
  Task,
  type TaskSource,
  type Waiting,
} from "./task.ts";
import { quoted } from "../_base/text.ts";
import { AbortGroups, Deque, MAX_TIMER } from "../_base/waiting.ts";

/** Tasks in a queue above which settled ones are removed from its middle. */
const MIN_COMPACTED = 64;

/** A `DOMException` has a cause only if it is defined. */
function causedBy(error: DOMException, cause: unknown): DOMException {
  return Object.defineProperty(error, "cause", {
    value: cause,
    configurable: true,
    writable: true,
  });
}

class RunTask extends Task {
  readonly #queue: RunQueue;
  readonly #settle: PromiseWithResolvers<unknown>;
  readonly #waitTimeout: number;
  readonly origin: TaskOrigin | undefined;
  /** Releases the signal and the timer. */
  release: (() => void) | undefined;
  /** Whether it is in the queue. */
  isWaiting = true;
  /** Whether it has waited longer than `waitTimeout`. */
  isLate = false;
  /** Why no worker could be started meanwhile, if none runs. */
  startError: Error | undefined;

  constructor(
    queue: RunQueue,
    job: Job,
    args: unknown[],
    settle: PromiseWithResolvers<unknown>,
    waitTimeout: number,
  ) {
    super(job, args, performance.now());
    this.origin = TaskOrigin.of(queue.tracing, job.method);
    this.#queue = queue;
    this.#settle = settle;
    this.#waitTimeout = waitTimeout;
  }

  override get waitError(): Error | undefined {
    // The limit is for the first run only.
    if (!this.isLate || this.attempts > 0) return undefined;
    const text = `Cannot run ${
      quoted(this.job.method)
    }: no worker was free within ${this.#waitTimeout} ms`;
    if (this.startError === undefined) {
      return new DOMException(text, "TimeoutError");
    }
    const { message, cause } = this.startError;
    return causedBy(
      new DOMException(`${text}: ${message}`, "TimeoutError"),
      cause,
    );
  }

  protected override onFulfilled(value: unknown): void {
    this.origin?.end();
    this.#settle.resolve(value);
    this.#onSettled();
  }

  protected override onRejected(error: unknown): void {
    this.origin?.fail(error);
    this.#settle.reject(error);
    this.#onSettled();
  }

  #onSettled(): void {
    this.release?.();
    if (this.isWaiting) this.#queue.drop(this);
  }
}

/** The queue of tasks of `Pool.run`. */
export class RunQueue implements TaskSource {
  turn: TaskSource["turn"];
  /** Makes spans of tasks, if the program is traced. */
  readonly tracing: Tracing | undefined = Tracing.get();
  readonly #scheduler: Scheduler;
  readonly #tasks = new Deque<RunTask>();
  readonly #aborts = new AbortGroups<RunTask>((tasks, reason) => {
    for (const task of [...tasks]) this.#scheduler.cancelTask(task, reason);
  });
  /** The job of the last task that can share a message with the next task. */
  #shared: Job | undefined;
  #isListed = false;
  /** Waiting tasks without an outcome. */
  #waiting = 0;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** Runs a task; settles with its outcome. */
  run(
    job: Job,
    args: unknown[],
    signal: AbortSignal | undefined,
    waitTimeout: number,
  ): Promise<unknown> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const settle = Promise.withResolvers<unknown>();
    const isShared = signal === undefined && job.retryOn === undefined;
    const task = new RunTask(
      this,
      isShared ? this.#share(job) : job,
      args,
      settle,
      waitTimeout,
    );
    this.#watch(task, signal, waitTimeout);
    this.#tasks.push(task);
    this.#waiting++;
    if (this.#isListed) this.#scheduler.wake(this);
    else {
      this.#isListed = true;
      this.#scheduler.begin(this);
    }
    return settle.promise;
  }

  /** A task leaves the queue. */
  leave(task: RunTask): void {
    task.isWaiting = false;
    this.#waiting--;
  }

  /** Handles a waiting task that was settled; such tasks are removed together. */
  drop(task: RunTask): void {
    this.leave(task);
    const { length } = this.#tasks;
    if (length < MIN_COMPACTED || this.#waiting * 2 > length) return;
    const rest = this.#tasks.toArray().filter((task) => !task.isSettled);
    this.#tasks.clear();
    for (const task of rest) this.#tasks.push(task);
  }

  get waiting(): number {
    dropSettled(this.#tasks);
    return this.#waiting;
  }

  prepare(): number {
    return this.waiting;
  }

  take(mostOf: (job: Job) => number): Task[] {
    dropSettled(this.#tasks);
    if (this.#tasks.length === 0) return [];
    const { job } = this.#tasks.first;
    const most = mostOf(job);
    const tasks: Task[] = [];
    while (tasks.length < most && this.#tasks.length > 0) {
      const task = this.#tasks.first;
      if (task.job !== job) break;
      if (task.hasSlots && tasks.length > 0) break;
      this.#tasks.shift();
      if (task.isSettled) continue;
      this.leave(task);
      tasks.push(task);
      if (task.hasSlots) break;
    }
    return tasks;
  }

  finish(waiting: Waiting): void {
    if (waiting === "run") return;
    while (this.#tasks.length > 0) {
      const task = this.#tasks.shift();
      this.#scheduler.reject(task, closedError(task));
    }
  }

  fail(error: unknown): void {
    while (this.#tasks.length > 0) {
      this.#scheduler.reject(this.#tasks.shift(), error);
    }
  }

  /** The job of the last task if it is equal, so that both can share a message. */
  #share(job: Job): Job {
    const last = this.#shared;
    const isEqual = last?.method === job.method &&
      last.timeout === job.timeout && last.retries === job.retries;
    return isEqual ? last : this.#shared = job;
  }

  #watch(
    task: RunTask,
    signal: AbortSignal | undefined,
    waitTimeout: number,
  ): void {
    const timer = waitTimeout > MAX_TIMER ? undefined : setTimeout(
      () => this.#onWaitTimeout(task),
      waitTimeout,
    );
    if (timer === undefined && signal === undefined) return;
    if (signal !== undefined) this.#aborts.add(task, signal);
    task.release = () => {
      clearTimeout(timer);
      if (signal !== undefined) this.#aborts.delete(task, signal);
    };
  }

  #onWaitTimeout(task: RunTask): void {
    task.isLate = true;
    task.startError = this.#scheduler.workers.startError;
    const { waitError } = task;
    if (waitError === undefined) return;
    this.#scheduler.reject(task, waitError);
    this.#scheduler.wake();
  }
}
