// Copyright 2026 the Duplex authors. MIT license.

/**
 * The queue of tasks of `Pool.run`.
 *
 * @module
 */

import { Tracing } from "../_rpc/trace.ts";
import { TaskOrigin } from "./origin.ts";
import { isSameRetry } from "./retry.ts";
import { Room } from "./room.ts";
import type { Scheduler } from "./scheduler.ts";
import { type Job, Task } from "./task.ts";
import { TaskQueue, type TaskQueueOwner } from "./task_queue.ts";
import { ClosedError } from "../_base/errors.ts";
import { quoted } from "../_base/text.ts";
import { AbortGroups, MAX_TIMER } from "../_base/waiting.ts";

/** What a task of `Pool.run` has besides its job. */
export interface RunLimits {
  readonly signal: AbortSignal | undefined;
  readonly waitTimeout: number;
  readonly key: string | undefined;
}

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
  /** Whether it takes room in the queue. */
  #hasRoom = true;
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

  override onLeft(): void {
    super.onLeft();
    // A task that is run again takes no room.
    if (!this.#hasRoom) return;
    this.#hasRoom = false;
    this.#queue.room.give();
  }

  #onSettled(): void {
    this.release?.();
    this.place?.drop(this);
  }
}

/** The tasks of `Pool.run`: a queue for each priority, and the keys of the pool. */
export class RunQueue implements TaskQueueOwner {
  /** The room for tasks that wait for their first run. */
  readonly room: Room;
  readonly #max: number;
  /** Makes spans of tasks, if the program is traced. */
  readonly tracing: Tracing | undefined = Tracing.get();
  readonly #scheduler: Scheduler;
  readonly #queues = new Map<number, TaskQueue>();
  readonly #aborts = new AbortGroups<RunTask>((tasks, reason) => {
    for (const task of [...tasks]) this.#scheduler.cancelTask(task, reason);
  });
  /** The job of the last task that can share a message with the next task. */
  #shared: Job | undefined;

  constructor(scheduler: Scheduler, maxQueue: number = Infinity) {
    this.#scheduler = scheduler;
    this.#max = maxQueue;
    this.room = new Room(maxQueue);
  }

  /** Number of priorities with a queue. */
  get priorities(): number {
    return this.#queues.size;
  }

  /** Runs a task; settles with its outcome. */
  run(job: Job, args: unknown[], limits: RunLimits): Promise<unknown> {
    const { signal, waitTimeout, key } = limits;
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (!this.room.take()) return Promise.reject(fullError(job, this.#max));
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
    if (key !== undefined) this.#scheduler.pushKeyed(task, key);
    else this.#push(task);
    return settle.promise;
  }

  /** Ends the waiting for room: the pool is closed. */
  finish(): void {
    this.room.fail(
      new ClosedError("Cannot wait for room in the queue: the pool is closed"),
    );
  }

  reject(task: Task, error: unknown): void {
    this.#scheduler.reject(task, error);
  }

  onEmpty(queue: TaskQueue): void {
    // There may be any number of priorities; most tasks have the default.
    if (queue.priority === 0) return;
    this.#queues.delete(queue.priority);
    this.#scheduler.remove(queue);
  }

  #push(task: RunTask): void {
    const { priority } = task.job;
    const queue = this.#queues.get(priority);
    if (queue !== undefined) {
      queue.push(task);
      return this.#scheduler.wakeFor(task.job, queue);
    }
    const added = new TaskQueue(this, priority);
    this.#queues.set(priority, added);
    added.push(task);
    this.#scheduler.begin(added);
  }

  /** The job of the last task if it is equal, so that both can share a message. */
  #share(job: Job): Job {
    const last = this.#shared;
    if (last === job) return job;
    const isEqual = last?.method === job.method &&
      last.timeout === job.timeout && last.priority === job.priority &&
      isSameRetry(last.retry, job.retry);
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

function fullError({ method }: Job, max: number): RangeError {
  return new RangeError(
    `Cannot run ${
      quoted(method)
    } as the queue of the pool is full: "maxQueue" is ${max}; wait for room with "ready"`,
  );
}
