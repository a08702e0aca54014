// Copyright 2026 the Duplex authors. MIT license.

/**
 * Who does what in a pool: workers are started as tasks wait for them, free ones
 * take tasks from the sources in turn, and those that end are replaced, until too
 * many have failed to start.
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
  type Source,
  type Task,
  type Waiting,
} from "./task.ts";
import { Turns } from "./turns.ts";
import { abort, PoolWorker, type WorkerEvents } from "./worker.ts";
import { reasonText, show } from "../_base/text.ts";
import { AbortGroups, Deque, settlesWithin } from "../_base/waiting.ts";
import type { Duplex } from "../duplex.ts";

/** Milliseconds that the tasks of a message should take together: many times what a message costs. */
const BATCH_TIME = 2;

/** Tasks in a message at most, and by how much more than in the one before. */
const MAX_BATCH = 256;
const BATCH_GROWTH = 4;

/** By how much a batch takes less than one of its tasks may: its time is that of all. */
const TIMEOUT_SHARE = 10;

/** Methods whose tasks were timed, at most: the names may be any. */
const MAX_PACES = 1000;

/** How much of what a batch took goes into what the next is expected to take. */
const NEWS = 0.5;

/** Milliseconds between two looks at the memory of a worker. */
const MEMORY_INTERVAL = 100;

/** Milliseconds before a worker is started again after the first failure; doubled after each. */
const START_DELAY = 100;
/** And at most, whatever the number of attempts. */
const MAX_START_DELAY = 10_000;

/** Milliseconds that the end of the pool waits for a worker that is being started. */
const START_GRACE = 5_000;

/** Items that a map may be ahead of its reader for each worker, where they take long. */
const READ_AHEAD = 16;
/** And in batches for each, where they are quick. */
const BATCHES_AHEAD = 4;

/** What a pool was told. */
export interface CoreOptions {
  readonly open: () => Promise<Duplex>;
  readonly workers: number;
  readonly maxTasks: number;
  readonly maxMemory: number;
  readonly startRetries: number;
}

/** What a pool has done so far, from `Pool.stats`. */
export interface PoolStats {
  /** Workers that are there. */
  readonly workers: number;
  /** Workers that are being started. */
  readonly starting: number;
  /** Workers that have ended and were, or can be, replaced. */
  readonly ended: number;
  /** Tasks that wait for a worker; of a map, those that were read. */
  readonly waiting: number;
  /** Tasks that workers have in hand. */
  readonly inFlight: number;
  /** Tasks that gave a value. */
  readonly done: number;
  /**
   * Tasks that failed, or were taken back. What was at work for a map when it was
   * stopped counts neither here nor in `latency`.
   */
  readonly failed: number;
  /** Runs that were not the first one of their task. */
  readonly retried: number;
  /** How long tasks took. */
  readonly latency: Latency;
}

/** What the tasks of a method take. */
interface Pace {
  /** Milliseconds for one. */
  ms: number;
  /** Tasks in the last message. */
  batch: number;
}

/** The workers of a pool, and who does what. */
export class PoolCore implements WorkerEvents, MapHost {
  readonly #options: CoreOptions;
  readonly #workers = new Set<PoolWorker>();
  readonly #sources = new Set<Source>();
  /** Those that may have tasks, in the order of their turns. */
  readonly #turns = new Turns<Source>();
  /** Those that had outcomes since the last report. */
  readonly #touched = new Set<Source>();
  /** Tasks to be run again, each alone; they go first. */
  readonly #again = new Deque<Task>();
  readonly #paces = new Map<string, Pace>();
  readonly #aborts = new AbortGroups<MapRun>((maps, reason) => {
    for (const map of [...maps]) map.abort(reason);
  });
  readonly #latency = new Histogram();
  /** Workers that are being started. */
  readonly #starts = new Set<Promise<void>>();
  /** Workers that say goodbye or have ended, until nothing is left of them. */
  readonly #leaving = new Map<Duplex, Promise<void>>();
  #startFailure: unknown;
  #failures = 0;
  #ended = 0;
  #done = 0;
  #failed = 0;
  #retried = 0;
  #delay: ReturnType<typeof setTimeout> | undefined;
  /** What becomes of tasks that wait, once the pool is being closed. */
  #closing: Waiting | undefined;
  /** Why no worker can be had any more, once it is so. */
  #failure: { readonly error: unknown } | undefined;
  #isPumping = false;
  /** Whether there may be more to do than when the pumping began. */
  #isWoken = false;
  #onIdle: (() => void) | undefined;

  constructor(options: CoreOptions) {
    this.#options = options;
  }

  /** Whether the pool is being closed, or is. */
  get isClosing(): boolean {
    return this.#closing !== undefined;
  }

  /** Whether no task can be run any more. */
  get isOver(): boolean {
    return this.#failure !== undefined;
  }

  /** Throws if no task can be run any more. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  get stats(): PoolStats {
    const again = this.#again.toArray().filter(({ isSettled }) => !isSettled);
    let [waiting, inFlight] = [again.length, 0];
    for (const source of this.#turns) waiting += source.waiting;
    for (const worker of this.#workers) inFlight += worker.inFlight;
    return {
      workers: this.#workers.size,
      starting: this.#starts.size,
      ended: this.#ended,
      waiting,
      inFlight,
      done: this.#done,
      failed: this.#failed,
      retried: this.#retried,
      latency: this.#latency.read(),
    };
  }

  /** Items that a map may be ahead of its reader: more if they are quick. */
  readAhead({ method }: Job): number {
    const batch = this.#paces.get(method)?.batch ?? 1;
    const each = Math.max(READ_AHEAD, BATCHES_AHEAD * batch);
    return each * this.#options.workers;
  }

  begin(source: Source): void {
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

  /** Does so no longer. */
  unwatch(map: MapRun, signal: AbortSignal): void {
    this.#aborts.delete(map, signal);
  }

  end(source: Source, job: Job, reason: unknown): void {
    this.#sources.delete(source);
    this.#turns.delete(source);
    this.#touched.delete(source);
    // Of a map that came to its end nothing is at work any more.
    this.#cancel(job, reason);
    this.#checkIdle();
  }

  /** Takes back a task that is alone with its job. */
  takeBack(task: Task, reason: unknown): void {
    this.reject(task, reason);
    this.#cancel(task.job, reason);
    this.#checkIdle();
  }

  /** A source has had an outcome. */
  touch(source: Source): void {
    this.#touched.add(source);
  }

  /** There may be something to do, for a source that may have tasks now. */
  wake(source?: Source): void {
    if (source !== undefined) this.#turns.add(source);
    // What is taken may wake: an iterator of the program's own, or an outcome.
    this.#isWoken = true;
    if (this.#isPumping) return;
    this.#isPumping = true;
    try {
      while (this.#isWoken) {
        this.#isWoken = false;
        this.#giveTasks();
        this.#startWorkers();
      }
    } catch (error) {
      // Without an end here every task would wait for ever.
      this.fail(error);
    } finally {
      this.#isPumping = false;
    }
    this.#checkIdle();
  }

  /** Settles when there is nothing to do. */
  async idle(): Promise<void> {
    while (!this.#isIdle) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onIdle = resolve;
      await promise;
    }
  }

  /** Has all workers say goodbye. */
  async close(): Promise<void> {
    this.#failure ??= {
      error: new ClosedError("Cannot run: the pool is closed"),
    };
    clearTimeout(this.#delay);
    const results = await Promise.allSettled([
      ...[...this.#workers].map(async ({ duplex }) => await duplex.close()),
      ...this.#leaving.values(),
      this.#started(),
    ]);
    const errors = results.filter(({ status }) => status === "rejected")
      .map((result) => (result as PromiseRejectedResult).reason);
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1) {
      throw new AggregateError(
        errors,
        `Cannot close the pool in good order: ${errors.length} workers did not end well`,
      );
    }
  }

  /** Fails everything, and ends all workers. Never rejects. */
  async fail(error: unknown): Promise<void> {
    this.#failure ??= { error };
    clearTimeout(this.#delay);
    while (this.#again.length > 0) this.reject(this.#again.shift(), error);
    for (const source of [...this.#sources]) source.fail(error);
    for (const duplex of this.#leaving.keys()) abort(duplex, error);
    const workers = [...this.#workers];
    for (const worker of workers) worker.kill(error);
    await Promise.allSettled([
      ...workers.map(async ({ duplex }) => await duplex.closed),
      ...this.#leaving.values(),
      this.#started(),
    ]);
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
    if (count > 0) {
      const pace = this.#paces.get(method);
      const each = ms / count;
      if (pace === undefined) this.#setPace(method, { ms: each, batch: 1 });
      else pace.ms += (each - pace.ms) * NEWS;
    }
    if (worker.given >= this.#options.maxTasks) this.#retire(worker);
    else if (this.#options.maxMemory < Infinity) this.#checkMemory(worker);
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
    this.#retire(worker);
    this.wake();
  }

  /** A task has failed for good. */
  reject(task: Task, error: unknown): void {
    if (!task.reject(error)) return;
    this.#failed++;
    this.#latency.add(performance.now() - task.since);
  }

  #mayRetry(task: Task): boolean {
    return task.mayRetry && this.#closing !== "reject" && !this.isOver;
  }

  /** Takes back the tasks of a job that are at work. */
  #cancel(job: Job, reason: unknown): void {
    for (const worker of this.#workers) {
      if (worker.has(job)) worker.cancel(reason);
    }
  }

  /** Gives tasks to those that are free. */
  #giveTasks(): void {
    for (const worker of this.#workers) {
      if (!worker.isFree) continue;
      const tasks = this.#take(worker);
      if (tasks.length === 0) return;
      this.#retried += tasks.filter(({ attempts }) => attempts > 0).length;
      worker.run(tasks);
    }
  }

  /** What a free worker does next. */
  #take(worker: PoolWorker): Task[] {
    dropSettled(this.#again);
    if (this.#again.length > 0) return [this.#again.shift()];
    const left = this.#options.maxTasks - worker.given;
    for (;;) {
      const source = this.#turns.first;
      if (source === undefined) return [];
      // It comes back when it wakes the pool, also while it is asked.
      this.#turns.delete(source);
      const tasks = source.take((job) => Math.min(left, this.#batchOf(job)));
      if (tasks.length === 0) continue;
      // Its next turn comes after those of all others.
      if (this.#sources.has(source)) this.#turns.add(source);
      return tasks;
    }
  }

  #setPace(method: string, pace: Pace): void {
    if (this.#paces.size >= MAX_PACES) this.#paces.clear();
    this.#paces.set(method, pace);
  }

  /** How many tasks of a job go into the next message. */
  #batchOf({ method, retries, timeout }: Job): number {
    const pace = this.#paces.get(method);
    // What must not be begun twice must not be in doubt when a worker ends.
    if (pace === undefined || retries === 0) return 1;
    const most = Math.min(MAX_BATCH, pace.batch * BATCH_GROWTH);
    const time = Math.min(BATCH_TIME, timeout / TIMEOUT_SHARE);
    pace.batch = Math.max(1, Math.min(most, Math.floor(time / pace.ms)));
    return pace.batch;
  }

  /** Starts as many workers as there are tasks waiting for one. */
  #startWorkers(): void {
    if (this.#failure !== undefined || this.#delay !== undefined) return;
    const most = this.#options.workers - this.#workers.size;
    const starting = this.#starts.size;
    if (this.#failures > this.#options.startRetries) {
      if (this.#workers.size + starting === 0 && this.#countWaiting(1) > 0) {
        this.fail(startError(this.#failures, this.#startFailure));
      }
      return;
    }
    if (most <= starting) return;
    let count = this.#countWaiting(most) - starting;
    // One at a time, as long as it is in doubt whether there can be any.
    if (this.#failures > 0) count = Math.min(count, 1 - starting);
    for (let index = 0; index < count; index++) this.#start();
  }

  /** How many tasks wait, up to so many. */
  #countWaiting(most: number): number {
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

  #start(): void {
    const started = this.#open();
    this.#starts.add(started);
    started.then(() => {
      this.#starts.delete(started);
      this.wake();
    });
  }

  /** Opens a duplex to a new worker. Never rejects. */
  async #open(): Promise<void> {
    try {
      const duplex = await this.#options.open();
      checkDuplex(duplex);
      try {
        this.check();
        this.#workers.add(new PoolWorker(duplex, this));
      } catch (error) {
        abort(duplex, error);
        await duplex.closed.catch(() => {});
        throw error;
      }
      this.#failures = 0;
    } catch (error) {
      this.#startFailure = error;
      this.#failures++;
      if (!this.isOver) this.#startLater();
    }
  }

  /** Settles when no worker is being started; one that hangs there is not waited for. */
  async #started(): Promise<void> {
    if (this.#starts.size === 0) return;
    await settlesWithin(Promise.all(this.#starts), START_GRACE);
  }

  /** Waits before the next worker is started, longer each time. */
  #startLater(): void {
    if (this.#failures > this.#options.startRetries) return;
    const doubled = START_DELAY * 2 ** (this.#failures - 1);
    const delay = Math.min(doubled, MAX_START_DELAY);
    this.#delay ??= setTimeout(() => {
      this.#delay = undefined;
      this.wake();
    }, delay);
  }

  /** Replaces a worker that has done its part, as soon as there is need. */
  #retire(worker: PoolWorker): void {
    if (!this.#workers.delete(worker)) return;
    this.#ended++;
    const { duplex } = worker;
    this.#leaving.set(duplex, this.#leave(duplex));
  }

  /** Closes the duplex of a worker. Never rejects. */
  async #leave(duplex: Duplex): Promise<void> {
    try {
      await duplex.close();
    } catch {
      // All tasks of the worker have their outcome, or are run again.
    }
    // Not before it was added.
    await undefined;
    this.#leaving.delete(duplex);
  }

  /** Replaces a worker whose memory has grown too large. */
  async #checkMemory(worker: PoolWorker): Promise<void> {
    const memory = await worker.memory(MEMORY_INTERVAL);
    const isTooLarge = memory > this.#options.maxMemory;
    if (isTooLarge && worker.isIdle) this.#retire(worker);
    this.wake();
  }

  get #isIdle(): boolean {
    dropSettled(this.#again);
    if (this.#again.length > 0) return false;
    for (const source of this.#turns) if (source.waiting > 0) return false;
    for (const worker of this.#workers) if (!worker.isIdle) return false;
    return true;
  }

  #checkIdle(): void {
    if (this.#onIdle === undefined || !this.#isIdle) return;
    this.#onIdle();
    this.#onIdle = undefined;
  }
}

/** Checks what an opening function gave, which is the program's own. */
function checkDuplex(duplex: Duplex): void {
  const names = ["send", "trySend", "receive", "tryReceive", "close", "abort"];
  const isDuplex = typeof duplex === "object" && duplex !== null &&
    names.every((name) => typeof duplex[name as "send"] === "function");
  if (isDuplex) return;
  throw new TypeError(
    `Cannot start a worker as "open" must give a duplex: current value is ${
      show(duplex)
    }`,
  );
}

function startError(attempts: number, cause: unknown): Error {
  return new Error(
    `Cannot start a worker: the last ${attempts} attempts failed: ${
      reasonText(cause)
    }`,
    { cause },
  );
}
