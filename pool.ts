// Copyright 2026 the Duplex authors. MIT license.

/**
 * A pool of workers that share tasks. It opens workers with an opening function of
 * any transport, gives tasks to free workers, and replaces workers that end.
 *
 * ```ts
 * import { openPipe } from "@duplex/ipc/pipe";
 * import { Pool } from "@duplex/ipc/pool";
 * import type { Methods } from "./examples/hello/methods.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const script = new URL("./examples/hello/methods.ts", import.meta.url);
 * await using pool = new Pool<Methods>(() => openPipe(script), { workers: 2 });
 * const squares = await Array.fromAsync(pool.map([1, 2, 3], "square"));
 * assertEquals(squares, [1, 4, 9]);
 * ```
 *
 * The worker script exposes its methods with `expose` of `@duplex/ipc/rpc`.
 *
 * @module
 */

import {
  checkItems,
  checkKind,
  checkName,
  checkNumber,
  checkOneOf,
  checkOptions,
  checkPositive,
  checkSignal,
} from "./_base/options.ts";
import { type PoolStats, Scheduler } from "./_pool/scheduler.ts";
import {
  type MapOutcome,
  type MapProgress,
  MapRun,
  ValueIterator,
} from "./_pool/map.ts";
import { type EndReason, EventLog, type PoolEvent } from "./_pool/events.ts";
import {
  type BroadcastOptions,
  checkArguments,
  checkOpen,
  type PoolOptions,
  readBroadcast,
  readPoolOptions,
} from "./_pool/pool_options.ts";
import { type RunLimits, RunQueue } from "./_pool/run.ts";
import type { Latency } from "./_pool/latency.ts";
import type { RetryOptions } from "./_pool/retry.ts";
import type { Job } from "./_pool/task.ts";
import {
  jobOf,
  type MapOptions,
  runLimits,
  type RunOptions,
  type TaskDefaults,
  type TaskOptions,
} from "./_pool/task_options.ts";
import { methodProxy } from "./_rpc/methods.ts";
import { quoted } from "./_base/text.ts";
import type { Duplex } from "./duplex.ts";
import type { Remote } from "./rpc.ts";

export type {
  BroadcastOptions,
  EndReason,
  Latency,
  MapOptions,
  MapOutcome,
  MapProgress,
  PoolEvent,
  PoolOptions,
  PoolStats,
  RetryOptions,
  RunOptions,
  TaskOptions,
};
export { ClosedError, PeerExitError } from "./_base/errors.ts";

/**
 * The methods of a pool's workers, from {@linkcode Pool.api}.
 *
 * @typeParam Methods The type of the object that the workers expose.
 */
export type PoolApi<Methods> = {
  readonly [Name in keyof Remote<Methods>]: (
    ...args: Parameters<Remote<Methods>[Name]>
  ) => Promise<Awaited<ReturnType<Remote<Methods>[Name]>>>;
};

const NO_OPTIONS: RunOptions = Object.freeze({});

/**
 * A pool of workers that share tasks.
 *
 * - **Tasks:** a task is a call of a method that the workers expose (see `expose`).
 *   It has exactly one outcome, even if its workers end. A worker runs one task at a
 *   time. Functions among the arguments are called back. Web streams among them are
 *   sent to one worker, so such a task is not run again. A method whose result is a
 *   stream cannot run in a pool.
 * - **Batches:** short tasks share messages: as many as take a worker 2 ms together,
 *   up to 256. If a batch takes ten times as long, the tasks of it that were not begun
 *   are given to other workers as soon as its worker returns them. A worker cannot do
 *   that while a task runs that never yields: the tasks behind it then wait for it.
 * - **Order:** tasks of higher `priority` are run first. Within one priority there are
 *   turns: one for all tasks without a key, one for each `key`, and one for each map.
 *   Tasks without a key are run in the order of their calls, those of one key one after
 *   the other in one worker. A worker may take a batch at each turn, so a turn takes
 *   about 2 ms, or one task if that takes longer.
 * - **Workers** are started as tasks wait for them, and replaced when they end. A
 *   task whose worker ended is run again, alone. After `retry.times` further runs it
 *   rejects with the reason ({@linkcode PeerExitError}). So a task may be begun more
 *   than once, unless `retry.times` is 0.
 * - **Failed starts:** if a worker cannot be started, the pool tries again as long as
 *   tasks wait, after 0.1 s at first and at most every 5 s. A task waits at most for
 *   its `waitTimeout`, and for `startTimeout` while no worker runs. An error that
 *   another attempt would not change rejects the waiting tasks at once, if no worker
 *   runs: a script that cannot be loaded, an invalid option (a `TypeError` or a
 *   `RangeError`), or a missing permission. The pool remains usable: each later task
 *   leads to another attempt.
 * - **Life:** workers keep the program running, also if they are idle. Close the pool,
 *   use `await using`, or call {@linkcode Pool.unref}. A pool without workers does not
 *   keep it running.
 * - **Limits** are separate: the tasks that wait (`maxQueue`), the time to wait
 *   (`waitTimeout`), the time to run (`timeout`), the tasks and the memory of a worker
 *   (`maxTasks`, `maxMemory`), and the time without a worker (`startTimeout`).
 *
 * Requires the permissions of the opening function.
 *
 * @typeParam Methods The type of the object that the workers expose.
 *
 * @example A task, and many
 * ```ts
 * import { openPipe } from "@duplex/ipc/pipe";
 * import { Pool } from "@duplex/ipc/pool";
 * import type { Methods } from "./examples/hello/methods.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const script = new URL("./examples/hello/methods.ts", import.meta.url);
 * await using pool = new Pool<Methods>(() => openPipe(script), { workers: 1 });
 * assertEquals(await pool.run("square", [7]), 49);
 *
 * let sum = 0;
 * for await (const square of pool.map([1, 2, 3], "square")) sum += square;
 * assertEquals(sum, 14);
 * assertEquals(pool.stats.done, 4);
 * ```
 *
 * @example Workers that are prepared
 * ```ts
 * import { openPipe } from "@duplex/ipc/pipe";
 * import { Pool } from "@duplex/ipc/pool";
 * import { remote } from "@duplex/ipc/rpc";
 * import type { Methods } from "./examples/hello/methods.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const script = new URL("./examples/hello/methods.ts", import.meta.url);
 * await using pool = new Pool<Methods>(() => openPipe(script), {
 *   workers: 2,
 *   idleTimeout: 60_000,
 *   async init(worker) {
 *     await remote<Methods>(worker).square(1);
 *   },
 * });
 * await pool.warm();
 * assertEquals(await pool.broadcast("square", [7]), [49, 49]);
 * ```
 */
export class Pool<
  Methods extends object = Record<string, (...args: unknown[]) => unknown>,
> implements AsyncDisposable {
  readonly #scheduler: Scheduler;
  readonly #queue: RunQueue;
  readonly #defaults: TaskDefaults;
  readonly #api = methodProxy(
    (name) => (...args: never[]) => this.run(name as never, args as never),
  ) as PoolApi<Methods>;
  readonly #events = new EventLog();
  readonly #workers: number;
  readonly #minWorkers: number;
  #closing: Promise<void> | undefined;
  /** The last method, the beginning of its errors, and its job without options. */
  #lastMethod: string | undefined;
  #lastAction = "";
  #plainJob!: Job;
  readonly #plainLimits: RunLimits;

  /**
   * Creates a pool, and starts `minWorkers`.
   *
   * @param open Opens a duplex to a new worker at each call.
   * @param options Number of workers, and limits.
   * @throws {RangeError} If an option is out of range.
   * @throws {TypeError} If an option is of the wrong type.
   */
  constructor(open: () => Promise<Duplex>, options: PoolOptions = {}) {
    checkOpen(open);
    const { defaults, ...limits } = readPoolOptions(options);
    this.#defaults = defaults;
    this.#plainLimits = runLimits("", {}, defaults);
    const events = this.#events;
    this.#scheduler = new Scheduler({ open, events, ...limits });
    this.#queue = new RunQueue(this.#scheduler, limits.maxQueue);
    this.#minWorkers = limits.minWorkers;
    this.#workers = limits.workers;
    if (limits.minWorkers > 0) this.#scheduler.wake();
  }

  /**
   * Runs a method in one of the workers.
   *
   * @typeParam Name The method's name.
   *
   * @param method The method.
   * @param args Its arguments.
   * @param options A signal, and limits.
   * @returns A promise for its result.
   * @throws What the method throws, as `remote` does.
   * @throws The signal's reason, if it aborts.
   * @throws {PeerExitError} If its worker ended without a goodbye, more than
   *   `retry.times` times.
   * @throws {DOMException} If it waited or ran too long ("TimeoutError").
   * @throws {ClosedError} If the pool was closed; or if its worker ended in another
   *   way, more than `retry.times` times: with a goodbye or an abort. The `cause` is the
   *   reason, for example the error of a worker behind `cli serve` that died.
   * @throws {Error} If no worker could be started within `startTimeout`, or the reason
   *   would not pass; the reason is its `cause`.
   * @throws {RangeError} If `maxQueue` tasks wait, or an option is out of range.
   * @throws {TypeError} If the arguments cannot be sent.
   *
   * @example Usage
   * ```ts
   * import { openPipe } from "@duplex/ipc/pipe";
   * import { Pool } from "@duplex/ipc/pool";
   * import { assertEquals } from "@std/assert";
   *
   * const script = new URL("./examples/hello/methods.ts", import.meta.url);
   * await using pool = new Pool(() => openPipe(script), { workers: 1 });
   * assertEquals(await pool.run("square", [7], { timeout: 10_000 }), 49);
   * ```
   */
  async run<Name extends string & keyof Remote<Methods>>(
    method: Name,
    args: Parameters<Remote<Methods>[Name]>,
    options: RunOptions = NO_OPTIONS,
  ): Promise<Awaited<ReturnType<Remote<Methods>[Name]>>> {
    const action = this.#runAction(method);
    checkOptions(action, options);
    this.#scheduler.checkAccepts(action);
    checkArguments(action, args);
    // The checks of options take a microsecond.
    const isPlain = options === NO_OPTIONS;
    const job = isPlain
      ? this.#plainJob
      : jobOf(action, method, options, this.#defaults);
    const limits = isPlain
      ? this.#plainLimits
      : runLimits(action, options, this.#defaults);
    const result = this.#queue.run(job, args, limits);
    return await result as Awaited<ReturnType<Remote<Methods>[Name]>>;
  }

  /**
   * Calls a method once for each item and yields the results. The first error ends
   * the map, after the results before it were received.
   *
   * Items are read as workers can take them, at most `readAhead` ahead of the results
   * that were received. Leaving `for await` early cancels the running tasks. If the
   * iterable throws, the map ends with its error, after the results of its items.
   *
   * @typeParam Name The method's name.
   *
   * @param items The arguments, one for each call.
   * @param method The method.
   * @param options Order, read-ahead, progress, a signal, and limits.
   * @returns The results. The map begins when the first result is requested.
   *   `next` rejects as {@linkcode Pool.run} does.
   * @throws {ClosedError} If the pool was closed.
   * @throws {RangeError} If an option is out of range.
   * @throws {TypeError} If an option is of the wrong type.
   *
   * @example Usage
   * ```ts
   * import { openPipe } from "@duplex/ipc/pipe";
   * import { Pool } from "@duplex/ipc/pool";
   * import { assertEquals } from "@std/assert";
   *
   * const script = new URL("./examples/hello/methods.ts", import.meta.url);
   * await using pool = new Pool(() => openPipe(script), { workers: 1 });
   * const squares = pool.map([1, 2, 3], "square", { ordered: false });
   * assertEquals((await Array.fromAsync(squares)).length, 3);
   * ```
   */
  map<Name extends string & keyof Remote<Methods>>(
    items:
      | Iterable<Parameters<Remote<Methods>[Name]>[0]>
      | AsyncIterable<Parameters<Remote<Methods>[Name]>[0]>,
    method: Name,
    options: MapOptions<Parameters<Remote<Methods>[Name]>[0]> = {},
  ): AsyncIterableIterator<Awaited<ReturnType<Remote<Methods>[Name]>>> {
    return new ValueIterator(
      this.#map(items, method, options),
    ) as AsyncIterableIterator<Awaited<ReturnType<Remote<Methods>[Name]>>>;
  }

  /**
   * Calls a method once for each item and yields the outcome of each: a value or an
   * error, and the number of workers that may have begun it. The error of an item does
   * not end the map. The map ends if the iterable or `onProgress` throws, by the
   * signal, by `close` or `abort`, or if no worker can be started.
   *
   * @typeParam Name The method's name.
   *
   * @param items The arguments, one for each call.
   * @param method The method.
   * @param options As for {@linkcode Pool.map}.
   * @returns The outcomes.
   * @throws {ClosedError} If the pool was closed.
   * @throws {RangeError} If an option is out of range.
   * @throws {TypeError} If an option is of the wrong type.
   *
   * @example Usage
   * ```ts
   * import { openPipe } from "@duplex/ipc/pipe";
   * import { Pool } from "@duplex/ipc/pool";
   * import { assertEquals } from "@std/assert";
   *
   * const script = new URL("./examples/hello/methods.ts", import.meta.url);
   * await using pool = new Pool(() => openPipe(script), { workers: 1 });
   * for await (const { status, index, attempts } of pool.mapSettled([7], "square")) {
   *   assertEquals({ status, index, attempts }, {
   *     status: "fulfilled",
   *     index: 0,
   *     attempts: 1,
   *   });
   * }
   * ```
   */
  mapSettled<Name extends string & keyof Remote<Methods>>(
    items:
      | Iterable<Parameters<Remote<Methods>[Name]>[0]>
      | AsyncIterable<Parameters<Remote<Methods>[Name]>[0]>,
    method: Name,
    options: MapOptions<Parameters<Remote<Methods>[Name]>[0]> = {},
  ): AsyncIterableIterator<
    MapOutcome<
      Parameters<Remote<Methods>[Name]>[0],
      Awaited<ReturnType<Remote<Methods>[Name]>>
    >
  > {
    return this.#map(items, method, options) as AsyncIterableIterator<
      MapOutcome<
        Parameters<Remote<Methods>[Name]>[0],
        Awaited<ReturnType<Remote<Methods>[Name]>>
      >
    >;
  }

  /**
   * Waits until there is room for a task in the queue, that is, fewer than `maxQueue`
   * tasks of `run` wait. Calls are served in their order. The room is kept for the
   * caller for a few microtasks: call `run` right after `await`. A program that waits
   * before each `run` is never refused.
   *
   * @param options A signal, and milliseconds to wait, `Infinity` by default.
   * @returns A promise that resolves when there is room; at once without `maxQueue`.
   * @throws The signal's reason, if it aborts; the reason of `abort`.
   * @throws {ClosedError} If the pool was closed.
   * @throws {DOMException} If there was no room within `timeout` ("TimeoutError").
   * @throws {RangeError} If the timeout is not positive.
   * @throws {TypeError} If an option is of the wrong type.
   *
   * @example Usage
   * ```ts
   * import { openPipe } from "@duplex/ipc/pipe";
   * import { Pool } from "@duplex/ipc/pool";
   * import { assertEquals } from "@std/assert";
   *
   * const script = new URL("./examples/hello/methods.ts", import.meta.url);
   * await using pool = new Pool(() => openPipe(script), { workers: 1, maxQueue: 2 });
   * const squares = [];
   * for (const n of [1, 2, 3, 4]) {
   *   await pool.ready({ timeout: 10_000 });
   *   squares.push(pool.run("square", [n]));
   * }
   * assertEquals(await Promise.all(squares), [1, 4, 9, 16]);
   * ```
   */
  async ready(
    options: { signal?: AbortSignal; timeout?: number } = {},
  ): Promise<void> {
    const action = "Cannot wait for room in the queue";
    checkOptions(action, options);
    const { signal, timeout = Infinity } = options;
    checkSignal(action, signal);
    checkPositive(action, "timeout", timeout);
    this.#scheduler.checkAccepts(action);
    await this.#queue.room.ready(signal, timeout);
  }

  /**
   * The methods of the workers: `pool.api.name(...args)` is `pool.run("name", args)`.
   * For options use {@linkcode Pool.run}.
   *
   * @returns An object with a method for every name but `then`.
   *
   * @example Usage
   * ```ts
   * import { openPipe } from "@duplex/ipc/pipe";
   * import { Pool } from "@duplex/ipc/pool";
   * import type { Methods } from "./examples/hello/methods.ts";
   * import { assertEquals } from "@std/assert";
   *
   * const script = new URL("./examples/hello/methods.ts", import.meta.url);
   * await using pool = new Pool<Methods>(() => openPipe(script), { workers: 1 });
   * assertEquals(await pool.api.square(7), 49);
   * ```
   */
  get api(): PoolApi<Methods> {
    return this.#api;
  }

  /**
   * Calls a method in all running workers, next to their tasks.
   *
   * @typeParam Name The method's name.
   *
   * @param method The method.
   * @param args Its arguments.
   * @param options Whether it is called in later workers as well, and limits.
   * @returns The results of the running workers. It is empty if no worker runs.
   * @throws What the method throws in one of the workers, or the reason of the end of
   *   a worker that has not answered. `later` has no effect then.
   * @throws The signal's reason, if it aborts.
   * @throws {DOMException} If a worker did not answer in time ("TimeoutError").
   * @throws {ClosedError} If the pool was closed.
   * @throws {TypeError} If the arguments cannot be sent, or an option is of the wrong
   *   type.
   *
   * @example Usage
   * ```ts
   * import { openPipe } from "@duplex/ipc/pipe";
   * import { Pool } from "@duplex/ipc/pool";
   * import { assertEquals } from "@std/assert";
   *
   * const script = new URL("./examples/hello/methods.ts", import.meta.url);
   * await using pool = new Pool(() => openPipe(script), { workers: 2 });
   * await pool.warm();
   * assertEquals(await pool.broadcast("square", [7]), [49, 49]);
   * ```
   */
  async broadcast<Name extends string & keyof Remote<Methods>>(
    method: Name,
    args: Parameters<Remote<Methods>[Name]>,
    options: BroadcastOptions = {},
  ): Promise<Awaited<ReturnType<Remote<Methods>[Name]>>[]> {
    const { action, limits, later } = readBroadcast(method, args, options);
    this.#scheduler.checkAccepts(action);
    const results = await this.#scheduler.workers.broadcast(limits, later);
    return results as Awaited<ReturnType<Remote<Methods>[Name]>>[];
  }

  /**
   * Starts workers, so that the first tasks need not wait for them.
   *
   * @param count Number of workers; by default `minWorkers`, or `workers` if that is 0.
   * @returns A promise that settles when so many run.
   * @throws {Error} If so many could not be started within `startTimeout` since the
   *   first failure, or the reason would not pass; the reason is its `cause`.
   * @throws {ClosedError} If the pool is closed.
   * @throws {RangeError} If `count` is not an integer from 1 to `workers`.
   * @throws {TypeError} If `count` is not a number.
   *
   * @example Usage
   * ```ts
   * import { openPipe } from "@duplex/ipc/pipe";
   * import { Pool } from "@duplex/ipc/pool";
   * import { assertEquals } from "@std/assert";
   *
   * const script = new URL("./examples/hello/methods.ts", import.meta.url);
   * await using pool = new Pool(() => openPipe(script), { workers: 2 });
   * await pool.warm();
   * assertEquals(pool.stats.workers, 2);
   * ```
   */
  async warm(count: number = this.#minWorkers || this.#workers): Promise<void> {
    const action = "Cannot warm the pool";
    const range = { min: 1, max: this.#workers, integer: true };
    checkNumber(action, "count", count, range);
    this.#scheduler.checkAccepts(action);
    await this.#scheduler.workers.warm(count);
  }

  /**
   * Lets the program end although workers run, if they have no tasks. Workers that are
   * processes end with the program. A Web Worker always keeps the program running, so
   * an idle one is closed after 100 ms, and started again for the next task.
   *
   * @example Usage
   * ```ts
   * import { openPipe } from "@duplex/ipc/pipe";
   * import { Pool } from "@duplex/ipc/pool";
   * import { assertEquals } from "@std/assert";
   *
   * const script = new URL("./examples/hello/methods.ts", import.meta.url);
   * await using pool = new Pool(() => openPipe(script), { workers: 1 });
   * pool.unref();
   * assertEquals(await pool.run("square", [7]), 49);
   * ```
   */
  unref(): void {
    this.#scheduler.workers.setRef(false);
  }

  /**
   * Undoes {@linkcode Pool.unref}.
   *
   * @example Usage
   * ```ts
   * import { openPipe } from "@duplex/ipc/pipe";
   * import { Pool } from "@duplex/ipc/pool";
   *
   * await using pool = new Pool(() => openPipe("worker.ts"));
   * pool.unref();
   * pool.ref();
   * ```
   */
  ref(): void {
    this.#scheduler.workers.setRef(true);
  }

  /**
   * The events of the pool from now on: workers that were started, have ended, or
   * failed to start, and tasks that are run again. The iteration ends with the pool. A
   * reader may be at most 1000 events behind: then the oldest events are dropped, and
   * it receives an event of type "dropped" with their number.
   *
   * @returns The events. Each call returns a reader with a buffer of its own.
   *
   * @example Usage
   * ```ts
   * import { openPipe } from "@duplex/ipc/pipe";
   * import { Pool } from "@duplex/ipc/pool";
   * import { assertEquals } from "@std/assert";
   *
   * const script = new URL("./examples/hello/methods.ts", import.meta.url);
   * const pool = new Pool(() => openPipe(script), { workers: 1 });
   * const events = pool.events();
   * await pool.warm();
   * await pool.close();
   * assertEquals(await Array.fromAsync(events), [
   *   { type: "started", worker: 1 },
   *   { type: "ended", worker: 1, reason: "closed" },
   * ]);
   * ```
   */
  events(): AsyncIterableIterator<PoolEvent> {
    return this.#events.read();
  }

  /** Statistics of the pool. */
  get stats(): PoolStats {
    return this.#scheduler.stats;
  }

  /**
   * Accepts no more tasks, waits until those that it has are done, and closes the
   * workers. A map reads no more items, gives the results of those that it has
   * read, and then rejects with a {@linkcode ClosedError}.
   *
   * With `waiting: "reject"` only the running tasks are finished, and no other is
   * begun: those that wait reject with a
   * {@linkcode ClosedError}, a map drops the items that no worker was given, and a
   * task whose worker ends is not run again. A map gives the outcomes of all items
   * that were begun before it rejects. Quick tasks that were sent to a worker in
   * one message count as running together; if the first ones take long, the worker
   * returns others, which are not begun.
   *
   * Calling it again returns the same promise; `waiting: "reject"` then applies to
   * the tasks that still wait.
   *
   * @param options What happens to tasks that wait; `"run"` by default.
   * @returns A promise that settles when no worker is left, as for
   *   {@linkcode Pool.abort}.
   * @throws What the `close` of a worker's duplex rejects with; an
   *   `AggregateError` if there are several.
   * @throws {TypeError} If an option is of the wrong kind.
   *
   * @example Usage
   * ```ts
   * import { openPipe } from "@duplex/ipc/pipe";
   * import { Pool } from "@duplex/ipc/pool";
   * import { assertEquals } from "@std/assert";
   *
   * const script = new URL("./examples/hello/methods.ts", import.meta.url);
   * const pool = new Pool(() => openPipe(script), { workers: 1 });
   * const square = pool.run("square", [7]);
   * await pool.close();
   * assertEquals(await square, 49);
   * ```
   *
   * @example Finish what runs, and begin nothing new
   * ```ts
   * import { ClosedError } from "@duplex/ipc/duplex";
   * import { openPipe } from "@duplex/ipc/pipe";
   * import { Pool } from "@duplex/ipc/pool";
   * import { assertEquals, assertRejects } from "@std/assert";
   *
   * const script = new URL("./examples/hello/methods.ts", import.meta.url);
   * const pool = new Pool(() => openPipe(script), { workers: 1 });
   * function* numbers() {
   *   for (let number = 0;; number++) yield number;
   * }
   * const squares: unknown[] = [];
   * await assertRejects(async () => {
   *   for await (const square of pool.map(numbers(), "square")) {
   *     squares.push(square);
   *     if (squares.length === 3) pool.close({ waiting: "reject" });
   *   }
   * }, ClosedError);
   * // All that was begun has its result.
   * assertEquals(squares, squares.map((_, number) => number ** 2));
   * await pool.close();
   * ```
   */
  close(options: { waiting?: "run" | "reject" } = {}): Promise<void> {
    const action = "Cannot close the pool";
    checkOptions(action, options);
    const { waiting = "run" } = options;
    checkOneOf(action, "waiting", waiting, ["run", "reject"]);
    // Before tasks that are rejected give back their room.
    this.#queue.finish();
    this.#scheduler.finish(waiting);
    return this.#closing ??= this.#close();
  }

  /**
   * Ends the pool now: all tasks and maps reject with the reason, and the workers
   * are ended.
   *
   * @param reason The reason; an `AbortError` by default.
   * @returns A promise that resolves when no worker is left. It waits at most five
   *   seconds for a worker that is starting, which is ended once it has started.
   *   Never rejects.
   *
   * @example Usage
   * ```ts
   * import { openPipe } from "@duplex/ipc/pipe";
   * import { Pool } from "@duplex/ipc/pool";
   * import { assertRejects } from "@std/assert";
   *
   * const script = new URL("./examples/hello/methods.ts", import.meta.url);
   * const pool = new Pool(() => openPipe(script), { workers: 1 });
   * const square = pool.run("square", [7]);
   * await Promise.all([
   *   assertRejects(() => square, Error, "no need"),
   *   pool.abort(new Error("There is no need any more")),
   * ]);
   * ```
   */
  async abort(reason?: unknown): Promise<void> {
    reason ??= new DOMException("The pool was aborted", "AbortError");
    this.#queue.room.fail(reason);
    const failing = this.#scheduler.fail(reason);
    this.#closing ??= failing;
    await failing;
  }

  /**
   * Closes the pool, at the end of an `await using` block.
   *
   * @example Usage
   * ```ts
   * import { openPipe } from "@duplex/ipc/pipe";
   * import { Pool } from "@duplex/ipc/pool";
   *
   * await using _pool = new Pool(() => openPipe("worker.ts"));
   * ```
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    await this.#scheduler.idle();
    await this.#scheduler.close();
  }

  #map(
    items: Iterable<unknown> | AsyncIterable<unknown>,
    method: string,
    options: MapOptions,
  ): MapRun {
    checkName("Cannot map", "method", method);
    const action = `Cannot map ${quoted(method)}`;
    checkOptions(action, options);
    this.#scheduler.checkAccepts(action);
    checkItems(action, items);
    const { ordered = true, readAhead, key, onProgress, signal } = options;
    checkKind(action, "ordered", ordered, "boolean");
    checkKind(action, "key", key, "function");
    checkKind(action, "onProgress", onProgress, "function");
    if (readAhead !== undefined) {
      checkPositive(action, "readAhead", readAhead, { integer: true });
    }
    const job = jobOf(action, method, options, this.#defaults);
    const limits = { job, ordered, readAhead, key, signal, onProgress };
    return new MapRun(this.#scheduler, items, limits);
  }

  /** The beginning of errors, created once for consecutive tasks of one method. */
  #runAction(method: string): string {
    if (method !== this.#lastMethod || method === undefined) {
      checkName("Cannot run a task", "method", method);
      this.#lastMethod = method;
      this.#lastAction = `Cannot run ${quoted(method)}`;
      this.#plainJob = jobOf(this.#lastAction, method, {}, this.#defaults);
    }
    return this.#lastAction;
  }
}
