// Copyright 2026 the Duplex authors. MIT license.

/**
 * The scheduler of a pool. It gives tasks from the sources in turn to free workers.
 *
 * @module
 */

import { ClosedError } from "../_base/errors.ts";
import type { MapHost, MapRun } from "./map.ts";
import { Histogram, type Latency } from "./latency.ts";
import {
  closedError,
  dropSettled,
  endedError,
  type Job,
  type Task,
  type TaskSource,
  type Waiting,
} from "./task.ts";
import { Turns } from "./turns.ts";
import type { PoolWorker } from "./worker.ts";
import {
  WorkerSet,
  type WorkerSetHost,
  type WorkerSetOptions,
} from "./worker_set.ts";
import { AbortGroups, Deque } from "../_base/waiting.ts";

/** Milliseconds that a batch should take: many times the cost of its message. */
const BATCH_TIME = 2;

/** Maximum tasks in a batch, and the factor by which one may exceed the batch before. */
const MAX_BATCH = 256;
const BATCH_GROWTH = 4;

/** Batches that fit into the timeout of a task: the limit includes a whole batch. */
const BATCHES_PER_TIMEOUT = 10;

/** Maximum number of methods whose tasks are timed: names may be of any number. */
const MAX_PACES = 1000;

/** Weight of the latest batch in the moving average of a task's time. */
const SMOOTHING = 0.5;

/** Minimum milliseconds between two measurements of a worker's memory. */
const MEMORY_INTERVAL = 100;

/** Read-ahead of a map for each worker: items. */
const READ_AHEAD = 16;
/** Or batches, if that is more. */
const BATCHES_AHEAD = 4;

/** The options of a pool. */
export interface SchedulerOptions extends WorkerSetOptions {
  readonly maxTasks: number;
  readonly maxMemory: number;
}

/** Statistics of a pool, from `Pool.stats`. */
export interface PoolStats {
  /** Running workers. */
  readonly workers: number;
  /** Workers that are starting. */
  readonly starting: number;
  /** Workers that have ended. */
  readonly ended: number;
  /** Tasks that wait for a worker; of a map, those that were read. */
  readonly waiting: number;
  /** Tasks that were given to workers and have no outcome. */
  readonly inFlight: number;
  /** Tasks that returned a value. */
  readonly done: number;
  /**
   * Tasks that failed or were cancelled. Tasks of a map that ran when it was stopped
   * count neither here nor in `latency`.
   */
  readonly failed: number;
  /** Runs that were not the first run of their task. */
  readonly retried: number;
  /** How long tasks took. */
  readonly latency: Latency;
}

/** The pace of a method's tasks. */
interface Pace {
  /** Milliseconds that a task takes. */
  ms: number;
  /** Tasks in the last batch. */
  batch: number;
}

/** Assigns the tasks of a pool to its workers. */
export class Scheduler implements WorkerSetHost, MapHost {
  readonly #options: SchedulerOptions;
  /** The workers. */
  readonly workers: WorkerSet;
  readonly #sources = new Set<TaskSource>();
  /** Sources that may have tasks, in the order of their turns. */
  readonly #turns = new Turns<TaskSource>();
  /** Sources with outcomes since the last report. */
  readonly #touched = new Set<TaskSource>();
  /** Tasks to run again, each alone, before all others. */
  readonly #again = new Deque<Task>();
  readonly #paces = new Map<string, Pace>();
  readonly #aborts = new AbortGroups<MapRun>((maps, reason) => {
    for (const map of [...maps]) map.abort(reason);
  });
  readonly #latency = new Histogram();
  #done = 0;
  #failed = 0;
  #retried = 0;
  /** The handling of waiting tasks, once the pool is being closed. */
  #closing: Waiting | undefined;
  /** Why no task can be run, if the pool has ended. */
  #failure: { readonly error: unknown } | undefined;
  #isPumping = false;
  /** Whether `wake` was called since the last round. */
  #isWoken = false;
  #onIdle: (() => void) | undefined;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.workers = new WorkerSet(options, this);
  }

  /** Whether the pool is being closed, or is closed. */
  get isClosing(): boolean {
    return this.#closing !== undefined;
  }

  /** Whether the pool has ended. */
  get isOver(): boolean {
    return this.#failure !== undefined;
  }

  /** Throws if the pool has ended. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  get stats(): PoolStats {
    const again = this.#again.toArray().filter(({ isSettled }) => !isSettled);
    let [waiting, inFlight] = [again.length, 0];
    for (const source of this.#turns) waiting += source.waiting;
    for (const worker of this.workers) inFlight += worker.inFlight;
    return {
      workers: this.workers.size,
      starting: this.workers.starting,
      ended: this.workers.ended,
      waiting,
      inFlight,
      done: this.#done,
      failed: this.#failed,
      retried: this.#retried,
      latency: this.#latency.read(),
    };
  }

  /** Read-ahead of a map in items: more for quick tasks. */
  readAhead({ method }: Job): number {
    const batch = this.#paces.get(method)?.batch ?? 1;
    const each = Math.max(READ_AHEAD, BATCHES_AHEAD * batch);
    return each * this.#options.workers;
  }

  begin(source: TaskSource): void {
    this.#sources.add(source);
    if (this.#failure !== undefined) source.fail(this.#failure.error);
    else if (this.#closing === undefined) this.wake(source);
    else source.finish(this.#closing);
  }

  /** Lets no source, also one that begins later, give more than it has read. */
  finish(waiting: Waiting): void {
    if (this.#closing === waiting || this.#closing === "reject") return;
    this.#closing = waiting;
    for (const source of [...this.#sources]) source.finish(waiting);
    if (waiting === "run") return;
    while (this.#again.length > 0) {
      const task = this.#again.shift();
      this.reject(task, closedError(task));
    }
    // The maps of tasks that were rejected may be at their end now.
    this.onReport();
  }

  /** Aborts a map with a signal. */
  watch(map: MapRun, signal: AbortSignal): void {
    this.#aborts.add(map, signal);
  }

  /** Stops watching the signal. */
  unwatch(map: MapRun, signal: AbortSignal): void {
    this.#aborts.delete(map, signal);
  }

  end(source: TaskSource, job: Job, reason: unknown): void {
    this.#sources.delete(source);
    this.#turns.delete(source);
    this.#touched.delete(source);
    // After a regular end of a map none of its tasks is running.
    this.#cancel(job, reason);
    this.#checkIdle();
  }

  /** Cancels a task that does not share its job. */
  cancelTask(task: Task, reason: unknown): void {
    this.reject(task, reason);
    this.#cancel(task.job, reason);
    this.#checkIdle();
  }

  /** Marks a source that has an outcome to report. */
  touch(source: TaskSource): void {
    this.#touched.add(source);
  }

  /** Assigns tasks; the source, if any, may have tasks now. */
  wake(source?: TaskSource): void {
    if (source !== undefined) this.#turns.add(source);
    // Taking tasks may call `wake`: an iterator of the program, or an outcome.
    this.#isWoken = true;
    if (this.#isPumping) return;
    this.#isPumping = true;
    try {
      while (this.#isWoken) {
        this.#isWoken = false;
        this.#giveTasks();
        this.workers.start();
      }
    } catch (error) {
      // Otherwise every task would wait forever.
      this.fail(error);
    } finally {
      this.#isPumping = false;
    }
    this.#checkIdle();
  }

  /** Settles when no task waits or runs. */
  async idle(): Promise<void> {
    while (!this.#isIdle) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onIdle = resolve;
      await promise;
    }
  }

  /** Closes all workers. */
  async close(): Promise<void> {
    this.#failure ??= {
      error: new ClosedError("Cannot run: the pool is closed"),
    };
    const errors = await this.workers.close();
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1) {
      throw new AggregateError(
        errors,
        `Cannot close the pool: ${errors.length} workers failed while they closed`,
      );
    }
  }

  /** Rejects the tasks that wait, and the maps that have some. */
  failWaiting(error: unknown): void {
    while (this.#again.length > 0) this.reject(this.#again.shift(), error);
    for (const source of [...this.#sources]) {
      if (source.prepare(1) > 0) source.fail(error);
    }
    this.onReport();
  }

  /** Rejects all tasks and ends all workers. Never rejects. */
  async fail(error: unknown): Promise<void> {
    this.#failure ??= { error };
    while (this.#again.length > 0) this.reject(this.#again.shift(), error);
    for (const source of [...this.#sources]) source.fail(error);
    await this.workers.abort(error);
    this.#checkIdle();
  }

  onFulfilled(task: Task, value: unknown): void {
    if (!task.fulfil(value)) return;
    this.#done++;
    this.#latency.add(performance.now() - task.since);
  }

  onRejected(task: Task, error: unknown): void {
    const { retryOn } = task.job;
    try {
      if (this.#mayRetry(task) && !task.isSettled && retryOn?.(error)) {
        return this.#again.push(task);
      }
    } catch (cause) {
      return this.reject(task, cause);
    }
    this.reject(task, error);
  }

  onReturned(tasks: Task[]): void {
    for (const task of tasks) {
      if (task.isSettled) continue;
      const waitError = this.#closing === "reject"
        ? closedError(task)
        : task.waitError;
      if (waitError === undefined) this.#again.push(task);
      else this.reject(task, waitError);
    }
  }

  onLost(tasks: Task[], error: unknown): void {
    for (const task of tasks) {
      if (task.isSettled) continue;
      if (this.#failure !== undefined) this.reject(task, this.#failure.error);
      else if (this.#mayRetry(task)) this.#again.push(task);
      else this.reject(task, endedError(task, error));
    }
    this.onReport();
  }

  onIdle(worker: PoolWorker, method: string, count: number, ms: number): void {
    this.workers.onIdle(worker);
    if (count > 0) {
      const pace = this.#paces.get(method);
      const each = ms / count;
      if (pace === undefined) this.#setPace(method, { ms: each, batch: 1 });
      else pace.ms += (each - pace.ms) * SMOOTHING;
    }
    if (worker.given >= this.#options.maxTasks) {
      this.workers.retire(worker, "maxTasks");
    } else if (this.#options.maxMemory < Infinity) this.#checkMemory(worker);
  }

  onReport(): void {
    if (this.#touched.size > 0) {
      const touched = [...this.#touched];
      this.#touched.clear();
      for (const source of touched) {
        source.onReport?.();
        // Its outcomes may have made room for more tasks.
        if (this.#sources.has(source)) this.#turns.add(source);
      }
    }
    this.wake();
  }

  onEnded(worker: PoolWorker): void {
    this.workers.retire(worker, worker.killed ? "aborted" : "exited");
    this.wake();
  }

  /** Settles a task with an error. */
  reject(task: Task, error: unknown): void {
    if (!task.reject(error)) return;
    this.#failed++;
    this.#latency.add(performance.now() - task.since);
  }

  #mayRetry(task: Task): boolean {
    return task.mayRetry && this.#closing !== "reject" && !this.isOver;
  }

  /** Cancels the running tasks of a job. */
  #cancel(job: Job, reason: unknown): void {
    for (const worker of this.workers) {
      if (worker.has(job)) worker.cancel(reason);
    }
  }

  /** Gives tasks to free workers. */
  #giveTasks(): void {
    for (const worker of this.workers) {
      if (!worker.isFree) continue;
      const tasks = this.#take(worker);
      if (tasks.length === 0) return;
      this.#retried += tasks.filter(({ attempts }) => attempts > 0).length;
      this.workers.onBusy(worker);
      worker.run(tasks);
    }
  }

  /** The next tasks of a free worker. */
  #take(worker: PoolWorker): Task[] {
    dropSettled(this.#again);
    if (this.#again.length > 0) return [this.#again.shift()];
    const left = this.#options.maxTasks - worker.given;
    for (;;) {
      const source = this.#turns.first;
      if (source === undefined) return [];
      // It is added again if it wakes the pool, even within `take`.
      this.#turns.delete(source);
      const tasks = source.take((job) => Math.min(left, this.#batchSize(job)));
      if (tasks.length === 0) continue;
      // Its next turn is after all other sources.
      if (this.#sources.has(source)) this.#turns.add(source);
      return tasks;
    }
  }

  #setPace(method: string, pace: Pace): void {
    if (this.#paces.size >= MAX_PACES) this.#paces.clear();
    this.#paces.set(method, pace);
  }

  /** The size of the next batch of a job. */
  #batchSize({ method, retries, timeout }: Job): number {
    const pace = this.#paces.get(method);
    // A task of a batch may or may not have been begun when its worker ends.
    if (pace === undefined || retries === 0) return 1;
    const most = Math.min(MAX_BATCH, pace.batch * BATCH_GROWTH);
    const time = Math.min(BATCH_TIME, timeout / BATCHES_PER_TIMEOUT);
    pace.batch = Math.max(1, Math.min(most, Math.floor(time / pace.ms)));
    return pace.batch;
  }

  countWaiting(most: number): number {
    dropSettled(this.#again);
    let count = this.#again.length;
    for (const source of this.#turns) {
      if (count >= most) break;
      const waiting = source.prepare(most - count);
      count += waiting;
      if (waiting === 0 && !this.#isWoken) this.#turns.delete(source);
    }
    return Math.min(count, most);
  }

  /** Replaces a worker whose memory is too large. */
  async #checkMemory(worker: PoolWorker): Promise<void> {
    const memory = await worker.memory(MEMORY_INTERVAL);
    const isTooLarge = memory > this.#options.maxMemory;
    if (isTooLarge && worker.isIdle) {
      this.workers.retire(worker, "maxMemory");
    }
    this.wake();
  }

  get #isIdle(): boolean {
    dropSettled(this.#again);
    if (this.#again.length > 0) return false;
    for (const source of this.#turns) if (source.waiting > 0) return false;
    for (const worker of this.workers) if (!worker.isIdle) return false;
    return true;
  }

  #checkIdle(): void {
    if (this.#onIdle === undefined || !this.#isIdle) return;
    this.#onIdle();
    this.#onIdle = undefined;
  }
}
