// Copyright 2026 the Duplex authors. MIT license.

/**
 * The scheduler of a pool. It gives tasks from the sources in turn to free workers:
 * those of the highest priority first.
 *
 * @module
 */

import { ClosedError } from "../_base/errors.ts";
import { Delays } from "./delays.ts";
import { Histogram, type Latency } from "./latency.ts";
import { KeyQueue, Keys } from "./keys.ts";
import type { MapHost, MapRun } from "./map.ts";
import { retryDelay } from "./retry.ts";
import {
  closedError,
  dropSettled,
  endedError,
  type Job,
  type Task,
  type TaskSource,
  type Waiting,
} from "./task.ts";
import { type BatchTimes, Paces } from "./pace.ts";
import { Turns } from "./turns.ts";
import type { PoolWorker } from "./worker.ts";
import {
  WorkerSet,
  type WorkerSetHost,
  type WorkerSetOptions,
} from "./worker_set.ts";
import { AbortGroups, Deque } from "../_base/waiting.ts";

/** Minimum milliseconds between two measurements of a worker's memory. */
const MEMORY_INTERVAL = 100;

/** Read-ahead of a map for each worker: items. */
const READ_AHEAD = 16;
/** Or batches, if that is more. */
const BATCHES_AHEAD = 4;
/**
 * But at most so many items for all workers, unless the first number is more. Quick
 * tasks keep few workers busy, as one thread reads the items and the results. More
 * tasks in flight would only be spread over more workers, which costs time on
 * few cores.
 */
const MAX_READ_AHEAD = 2048;

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
  /**
   * Tasks that wait for a worker, for the tasks before them with their key, or for the
   * delay before they are run again; of a map, those that were read.
   */
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

/** Assigns the tasks of a pool to its workers. */
export class Scheduler implements WorkerSetHost, MapHost {
  readonly #options: SchedulerOptions;
  /** The workers. */
  readonly workers: WorkerSet;
  readonly #sources = new Set<TaskSource>();
  /** Sources that may have tasks, in the order of their turns. */
  readonly #turns = new Turns<TaskSource>();
  readonly #keys: Keys;
  /** Sources with outcomes since the last report. */
  readonly #touched = new Set<TaskSource>();
  /**
   * Tasks without a key that were returned, and such tasks to run again, each alone;
   * before all others.
   */
  readonly #again = new Deque<Task>();
  readonly #delays = new Delays((task) => this.#onDelayed(task));
  readonly #paces = new Paces();
  readonly #aborts = new AbortGroups<MapRun>((maps, reason) => {
    for (const map of [...maps]) map.abort(reason);
  });
  readonly #latency = new Histogram();
  #done = 0;
  #failed = 0;
  #retried = 0;
  /** The handling of waiting tasks, once the pool is being closed. */
  #closing: Waiting | undefined;
  /** Whether the pool has ended because it was closed. */
  #isClosed = false;
  /** Why no task can be run, if the pool has ended. */
  #failure: { readonly error: unknown } | undefined;
  #isPumping = false;
  /** Whether `wake` was called since the last round. */
  #isWoken = false;
  /** Whether `wake` is called at the end of the turn. */
  #isWakeDue = false;
  #onIdle: (() => void) | undefined;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.workers = new WorkerSet(options, this);
    this.#keys = new Keys(
      this,
      options.workers,
      this.#turns,
      this.#sources,
    );
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

  /** Throws if the pool accepts no more tasks. */
  checkAccepts(action: string): void {
    if (!this.#isClosed) this.check();
    if (!this.isClosing) return;
    throw new ClosedError(`${action}: the pool is closed`);
  }

  get stats(): PoolStats {
    const again = this.#again.toArray().filter(({ isSettled }) => !isSettled);
    let [waiting, inFlight] = [again.length, 0];
    waiting += this.#delays.withoutKey + this.#keys.waiting;
    for (const source of this.#turns) {
      if (!(source instanceof KeyQueue)) waiting += source.waiting;
    }
    for (const worker of this.workers) inFlight += worker.needed;
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
  readAhead(job: Job): number {
    const { workers } = this.#options;
    const inBatches = BATCHES_AHEAD * this.batchSize(job) * workers;
    return Math.max(READ_AHEAD * workers, Math.min(MAX_READ_AHEAD, inBatches));
  }

  batchSize({ method }: Job): number {
    return this.#paces.last(method);
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
    this.#delays.clear();
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

  /** Adds a task with a key. */
  pushKeyed(task: Task, key: string): void {
    this.#keys.push(key, task);
    this.wakeFor(task.job);
  }

  /** Removes the tasks of maps that were stopped from the queues of the keys. */
  cleanKeys(): void {
    this.#keys.clean();
    this.#checkIdle();
  }

  /** Removes a source. */
  remove(source: TaskSource): void {
    this.#sources.delete(source);
    this.#turns.delete(source);
    this.#touched.delete(source);
  }

  end(source: TaskSource, job: Job, reason: unknown): void {
    this.remove(source);
    this.#delays.deleteJob(job);
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

  /**
   * As {@linkcode wake}, for a new task. If its method is quick, the tasks that are
   * added in the same turn are given together: with idle workers each would have a
   * batch of its own. While more workers may be started, the tasks start them first.
   */
  wakeFor(job: Job, source?: TaskSource): void {
    const workers = this.workers.size + this.workers.starting;
    if (workers < this.#options.workers || this.batchSize(job) === 1) {
      return this.wake(source);
    }
    if (source !== undefined) this.#turns.add(source);
    if (this.#isWakeDue) return;
    this.#isWakeDue = true;
    queueMicrotask(() => {
      this.#isWakeDue = false;
      this.wake();
    });
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
    this.#isClosed = this.#failure === undefined;
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
    // A map that reads items with keys adds the queues of these.
    for (const source of this.#sources) {
      if (source.prepare(1) > 0) source.fail(error);
    }
    this.onReport();
  }

  /** Rejects all tasks and ends all workers. Never rejects. */
  async fail(error: unknown): Promise<void> {
    this.#failure ??= { error };
    this.#delays.clear();
    while (this.#again.length > 0) this.reject(this.#again.shift(), error);
    for (const source of [...this.#sources]) source.fail(error);
    await this.workers.abort(error);
    this.#checkIdle();
  }

  onFulfilled(task: Task, value: unknown, now: number): void {
    if (!task.fulfil(value)) return;
    this.#done++;
    this.#latency.add(now - task.since);
  }

  onRejected(task: Task, error: unknown): void {
    const { retryOn } = task.job;
    try {
      if (this.#mayRetry(task) && retryOn?.(error)) {
        // The function may have ended the task, or the pool.
        if (this.#mayRetry(task)) return this.#retry([task], error);
      }
    } catch (cause) {
      return this.reject(task, cause);
    }
    this.reject(task, error);
  }

  onReturned(tasks: Task[]): void {
    const again = tasks.filter((task) => {
      if (task.isSettled) return false;
      const error = this.#closing === "reject"
        ? closedError(task)
        : task.waitError;
      if (error !== undefined) this.reject(task, error);
      return error === undefined;
    });
    this.#putBack(again);
  }

  onLost(tasks: Task[], error: unknown): void {
    const again = tasks.filter((task) => {
      if (task.isSettled) return false;
      if (this.#failure !== undefined) this.reject(task, this.#failure.error);
      else if (this.#mayRetry(task)) return true;
      else this.reject(task, endedError(task, error));
      return false;
    });
    this.#retry(again, error);
    this.onReport();
  }

  onTimes(times: BatchTimes): void {
    this.#paces.add(times);
  }

  onIdle(worker: PoolWorker): void {
    this.#keys.onFree(worker);
    this.workers.onIdle(worker);
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

  onRetired(worker: PoolWorker): void {
    this.#keys.onRetired(worker);
  }

  onEnded(worker: PoolWorker): void {
    this.workers.retire(worker, worker.killed ? "aborted" : "exited");
    this.wake();
  }

  /** Settles a task with an error. */
  reject(task: Task, error: unknown): void {
    if (!task.reject(error)) return;
    this.#delays.delete(task);
    this.#failed++;
    this.#latency.add(performance.now() - task.since);
  }

  /**
   * Runs tasks again that were begun before, after their delays: each alone, as it may
   * have ended its worker.
   */
  #retry(tasks: readonly Task[], error: unknown): void {
    const ready: Task[] = [];
    for (const task of tasks) {
      task.isAlone = true;
      const { key, attempts, job: { method, retry } } = task;
      const delay = retryDelay(retry, attempts);
      this.#options.events.emit({
        type: "retried",
        method,
        ...key !== undefined && { key },
        attempts,
        delay,
        error,
      });
      if (key !== undefined || delay === 0) ready.push(task);
      // Later tasks of its key wait as well.
      const isDelayed = delay > 0 &&
        (key === undefined || this.#keys.hold(task));
      if (isDelayed) this.#delays.add(task, delay);
    }
    this.#putBack(ready);
  }

  /** Adds tasks that were given to a worker to those that wait. */
  #putBack(tasks: readonly Task[]): void {
    this.#keys.putBack(tasks);
    for (const task of tasks) {
      if (task.key === undefined) this.#again.push(task);
    }
  }

  /** Handles the end of the delay of a task, which may have its outcome. */
  #onDelayed(task: Task): void {
    if (task.key !== undefined) this.#keys.release(task);
    else if (!task.isSettled) this.#again.push(task);
    if (this.#closing !== "reject" && !this.isOver) this.wake();
  }

  #mayRetry(task: Task): boolean {
    return !task.isSettled && task.mayRetry && this.#closing !== "reject" &&
      !this.isOver;
  }

  /** Cancels the running tasks of a job. */
  #cancel(job: Job, reason: unknown): void {
    for (const worker of this.workers) {
      if (worker.has(job)) worker.cancel(reason);
    }
  }

  /** Gives tasks to free workers. */
  #giveTasks(): void {
    this.#keys.isCrowded = false;
    for (const worker of this.workers) {
      let given: PoolWorker | undefined;
      // Tasks of a new key may go to another worker.
      while (worker.isFree && given !== worker) {
        given = this.#give(worker);
        if (given !== undefined) continue;
        // Tasks of other keys may wait for the workers behind it.
        if (!this.#keys.isUsed) return;
        break;
      }
    }
  }

  /** Gives the next tasks to a free worker; returns the worker that got them. */
  #give(worker: PoolWorker): PoolWorker | undefined {
    dropSettled(this.#again);
    if (this.#again.length > 0) {
      return this.#run(this.#takeAgain(this.#left(worker)), worker);
    }
    for (;;) {
      const source = this.#keys.first(worker);
      if (source === undefined) return undefined;
      const key = source instanceof KeyQueue ? source : undefined;
      // Another free worker may have fewer keys.
      const target = key === undefined
        ? worker
        : this.#keys.workerFor(key, worker, this.workers);
      // It is added again if it wakes the pool, even within `take`.
      source.turn!.list!.delete(source);
      const left = this.#left(target);
      let most = left;
      const tasks = source.take((job) =>
        most = Math.min(left, this.#nextBatch(job))
      );
      if (tasks.length === 0) continue;
      if (key !== undefined) {
        this.#keys.onGiven(key, target);
        this.#keys.join(tasks, most, target);
        // Its next turn is after all other sources.
      } else if (this.#sources.has(source)) this.#turns.add(source);
      return this.#run(tasks, target);
    }
  }

  #run(tasks: Task[], worker: PoolWorker): PoolWorker {
    this.#retried += tasks.filter(({ attempts }) => attempts > 0).length;
    this.workers.onBusy(worker);
    worker.run(tasks, this.#paces.recallAfter);
    return worker;
  }

  /** Tasks that a worker may still be given. */
  #left({ given }: PoolWorker): number {
    return this.#options.maxTasks - given;
  }

  /** The first of the tasks to run again, with those that may share its batch. */
  #takeAgain(left: number): Task[] {
    const first = this.#again.shift();
    const tasks = [first];
    if (first.isAlone) return tasks;
    const most = Math.min(left, this.#nextBatch(first.job));
    while (tasks.length < most && this.#again.length > 0) {
      const task = this.#again.first;
      if (task.job !== first.job || task.isAlone) break;
      this.#again.shift();
      if (!task.isSettled) tasks.push(task);
    }
    return tasks;
  }

  /** The size of the next batch of a job. */
  #nextBatch({ method, retry, timeout }: Job): number {
    // A task of a batch may or may not have been begun when its worker ends.
    return retry.times === 0 ? 1 : this.#paces.next(method, timeout);
  }

  countWaiting(most: number): number {
    dropSettled(this.#again);
    const others = this.#again.length + (this.#keys.isCrowded ? 1 : 0);
    for (;;) {
      let [count, removed] = [others, 0];
      // Each has a task or is removed, so it need not search through all.
      for (const source of this.#turns.some(most)) {
        if (count >= most) return most;
        const waiting = source.prepare(most - count);
        count += waiting;
        if (waiting > 0 || this.#isWoken) continue;
        this.#turns.delete(source);
        removed++;
      }
      if (removed === 0) return Math.min(count, most);
    }
  }

  /** Replaces a worker whose memory is too large. */
  async #checkMemory(worker: PoolWorker): Promise<void> {
    const memory = await worker.memory(MEMORY_INTERVAL);
    const isTooLarge = memory > this.#options.maxMemory;
    if (isTooLarge && worker.isIdle) {
      this.workers.retire(worker, "maxMemory");
    }
    this.wake();
    // While it was measured it counted as used.
    if (worker.isUnused) this.workers.onIdle(worker);
  }

  get #isIdle(): boolean {
    dropSettled(this.#again);
    if (this.#again.length + this.#delays.size > 0) return false;
    if (this.#keys.hasWaiting) return false;
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
