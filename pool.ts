// Copyright 2026 the Duplex authors. MIT license.

/**
 * Workers that share the work: a pool opens them with whatever opening function
 * it is given, hands tasks to those that are free, and replaces those that end.
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

import { ClosedError } from "./_base/errors.ts";
import {
  checkItems,
  checkKind,
  checkName,
  checkOptions,
  checkPool,
  checkPositive,
  checkRetries,
  checkSignal,
} from "./_base/options.ts";
import { PoolCore, type PoolStats } from "./_pool/scheduler.ts";
import {
  type MapOutcome,
  type MapProgress,
  MapRun,
  ValueIterator,
} from "./_pool/map.ts";
import { RunQueue } from "./_pool/run.ts";
import type { Latency, LatencyBucket } from "./_pool/latency.ts";
import type { Job, Waiting } from "./_pool/task.ts";
import { quoted, show } from "./_base/text.ts";
import type { Duplex } from "./duplex.ts";

export type { Latency, LatencyBucket, MapOutcome, MapProgress, PoolStats };

/** Options for {@linkcode Pool.run}, and for each task of a map. */
export interface TaskOptions {
  /**
   * Takes the task back: it rejects with the signal's reason at once. Where it is
   * at work, methods made with `withSignal` see their own signal abort; a worker
   * that has not done with it a second later is replaced. So is one at once that
   * was given functions or signals, since it does not tell when it has done.
   */
  signal?: AbortSignal;
  /**
   * Milliseconds that the task may run. After that it rejects with a
   * "TimeoutError" and its worker is ended and replaced: a process is killed; a
   * Web Worker is terminated, which Deno can do only when the worker comes to its
   * event loop. One that never does goes on computing, with nobody to talk to,
   * and keeps the program from ending by itself: call `Deno.exit` then, or take
   * processes for what may never end.
   *
   * @default {the pool's}
   */
  timeout?: number;
  /**
   * How often the task is run again when its worker ended while it may have been
   * at work. With 0 it is never begun twice; such tasks share no messages, which
   * makes small ones several times slower.
   *
   * @default {the pool's}
   */
  retries?: number;
  /**
   * Whether a task that threw this is run again too, within `retries`.
   *
   * @default {() => false}
   */
  retryOn?: (error: unknown) => boolean;
}

/** Options for {@linkcode Pool.run}. */
export interface RunOptions extends TaskOptions {
  /**
   * Milliseconds that the task may wait for a worker. After that it rejects with a
   * "TimeoutError" and is not run. What shares a message with a task that computes
   * without a pause waits for that one, however long: its worker hears nothing
   * meanwhile.
   *
   * @default {the pool's}
   */
  waitTimeout?: number;
}

/** Options for {@linkcode Pool.map} and {@linkcode Pool.mapSettled}. */
export interface MapOptions extends TaskOptions {
  /**
   * Whether results come in the order of the items. Otherwise each comes when it
   * is there.
   *
   * @default {true}
   */
  ordered?: boolean;
  /**
   * Items that may have been read and whose results were not taken, at most. The
   * default is 16 for each worker, and more of items that are quick: what four
   * messages hold for each.
   *
   * @default {16 for each worker, up to 1024}
   */
  readAhead?: number;
  /**
   * Told how far the map has come, whenever results have come. An error that it
   * throws ends the map.
   */
  onProgress?: (progress: MapProgress) => void;
}

/** Options for {@linkcode Pool}. */
export interface PoolOptions {
  /**
   * How many workers there are at most. They are started as tasks wait for them.
   *
   * @default {navigator.hardwareConcurrency}
   */
  workers?: number;
  /**
   * Tasks after which a worker is replaced.
   *
   * @default {Infinity}
   */
  maxTasks?: number;
  /**
   * Bytes that a worker's JavaScript heap may hold before it is replaced, between
   * two tasks. It is asked at most ten times a second, and ended if it has not
   * answered five seconds later. The `memory` of the opening function ends a worker
   * in the middle of a task.
   *
   * @default {Infinity}
   */
  maxMemory?: number;
  /**
   * How often starting a worker is tried again after a failure. If it fails once more
   * and no worker is left, all tasks reject with the last failure as the cause, and
   * so does every later one.
   *
   * @default {2}
   */
  startRetries?: number;
  /**
   * As {@linkcode TaskOptions.timeout}, where a task has none of its own.
   *
   * @default {Infinity}
   */
  timeout?: number;
  /**
   * As {@linkcode RunOptions.waitTimeout}, where a task has none of its own.
   *
   * @default {Infinity}
   */
  waitTimeout?: number;
  /**
   * As {@linkcode TaskOptions.retries}, where a task has none of its own. The
   * default tells a task that ends its workers from one that was beside it: what
   * was lost with others is run alone.
   *
   * @default {2}
   */
  retries?: number;
}

/** Options for {@linkcode Pool.close}. */
export interface PoolCloseOptions {
  /**
   * What happens to tasks that wait for a worker, and to items that a map has
   * read ahead: `"run"` runs them, `"reject"` does not. See
   * {@linkcode Pool.close}.
   *
   * @default {"run"}
   */
  waiting?: "run" | "reject";
}

/** Any methods, where the worker's are not known. */
export type AnyMethods = Record<string, (...args: unknown[]) => unknown>;

/**
 * The names of the functions among an object's properties.
 *
 * @typeParam Methods The type of the object.
 */
export type MethodName<Methods> =
  & {
    [Name in keyof Methods]: Methods[Name] extends (
      ...args: never[]
    ) => unknown ? Name
      : never;
  }[keyof Methods]
  & string;

/**
 * The arguments of a method.
 *
 * @typeParam Methods The type of the object that has it.
 * @typeParam Name Its name.
 */
export type MethodArgs<Methods, Name extends keyof Methods> =
  Methods[Name] extends (...args: infer Args) => unknown ? Args : never;

/**
 * What a method gives in the end.
 *
 * @typeParam Methods The type of the object that has it.
 * @typeParam Name Its name.
 */
export type MethodResult<Methods, Name extends keyof Methods> =
  Methods[Name] extends (...args: never[]) => infer Result ? Awaited<Result>
    : never;

const ACTION = "Cannot make a pool";

/** As {@linkcode PoolOptions.startRetries}: two in addition to the first attempt. */
const DEFAULT_START_RETRIES = 2;

/** As {@linkcode PoolOptions.retries}: once beside the one that ends workers, once by chance. */
const DEFAULT_RETRIES = 2;

/**
 * Workers that share the work.
 *
 * - **Tasks:** a task is a call of a method that the workers expose (see
 *   `expose`). It has exactly one outcome, whatever becomes of its workers. A
 *   worker does one task at a time. Functions among the arguments are called
 *   back; a method that gives many values cannot be run in a pool.
 * - **Batches:** tasks that turn out to be quick go many to a message, so that
 *   the cost of a message is shared: as many as take 2 ms, up to 256. Those of a
 *   batch that takes far longer are given to others, once their worker hears of
 *   it. While a task computes without a pause it does not, and those behind it in
 *   the message wait: at most what was expected to take 2 ms together.
 * - **Workers** are started as there is work for them, and replaced when they
 *   end. A task whose worker ended is run again, alone; after `retries` it rejects
 *   with the reason ({@linkcode PeerExitError}). So it may be begun more than
 *   once, unless `retries` is 0.
 * - **Limits:** time to wait and time to run, tasks and memory of a worker, and
 *   attempts to start one are bounded apart from each other.
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
 */
export class Pool<Methods extends object = AnyMethods>
  implements AsyncDisposable {
  readonly #core: PoolCore;
  readonly #queue: RunQueue;
  readonly #defaults: Required<
    Pick<RunOptions, "timeout" | "waitTimeout" | "retries">
  >;
  #closing: Promise<void> | undefined;
  /** The method that was run last, and how errors name it. */
  #lastMethod: string | undefined;
  #lastAction = "";

  /**
   * Makes a pool; no worker is started yet.
   *
   * @param open Opens a duplex to a new worker, each time it is called.
   * @param options How many workers there are, and limits.
   * @throws {RangeError} If an option is out of range.
   * @throws {TypeError} If an option is of the wrong kind.
   */
  constructor(open: () => Promise<Duplex>, options: PoolOptions = {}) {
    checkOptions(ACTION, options);
    const {
      workers = navigator.hardwareConcurrency,
      maxTasks = Infinity,
      maxMemory = Infinity,
      startRetries: startRetries = DEFAULT_START_RETRIES,
      timeout = Infinity,
      waitTimeout = Infinity,
      retries = DEFAULT_RETRIES,
    } = options;
    if (typeof open !== "function") {
      throw new TypeError(
        `${ACTION} as "open" must be a function that opens a duplex: current value is ${
          show(open)
        }`,
      );
    }
    const limits = { workers, maxTasks, maxMemory, startRetries };
    this.#defaults = { timeout, waitTimeout, retries };
    checkPool(ACTION, { ...limits, ...this.#defaults });
    this.#core = new PoolCore({ open, ...limits });
    this.#queue = new RunQueue(this.#core);
  }

  /**
   * Runs a method in one of the workers.
   *
   * @typeParam Name The method's name.
   *
   * @param method The method.
   * @param args Its arguments.
   * @param options A signal, and limits.
   * @returns A promise for what it gives.
   * @throws What the method throws, as `remote` does.
   * @throws The signal's reason, if it aborts.
   * @throws {ClosedError} If the task's workers ended, more than `retries` times: a
   *   {@linkcode PeerExitError} where it is known how, as of all but a socket's.
   * @throws {DOMException} If it waited or ran too long ("TimeoutError").
   * @throws {ClosedError} If the pool was closed.
   * @throws {Error} If no worker can be started; the reason is its `cause`.
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
  async run<Name extends MethodName<Methods>>(
    method: Name,
    args: MethodArgs<Methods, Name>,
    options: RunOptions = {},
  ): Promise<MethodResult<Methods, Name>> {
    const action = this.#actionOf(method);
    checkOptions(action, options);
    this.#check(action);
    if (!Array.isArray(args)) {
      throw new TypeError(
        `${action} as its arguments must be an array: current value is ${
          show(args)
        }`,
      );
    }
    const job = this.#job(action, method, options);
    const { signal, waitTimeout = this.#defaults.waitTimeout } = options;
    checkPositive(action, "waitTimeout", waitTimeout);
    const result = this.#queue.run(job, args, signal, waitTimeout);
    return await result as MethodResult<Methods, Name>;
  }

  /**
   * Calls a method with each of many items, and gives the results. The first that
   * fails ends the map with its error, once those before have been taken.
   *
   * Items are read as workers can take them, and not too far ahead of whoever
   * takes the results. Leaving `for await` early takes back what is at work. An
   * iterable that throws ends the map with its error, after the results of all
   * that it gave before.
   *
   * @typeParam Name The method's name.
   *
   * @param items What the method is called with, one after the other.
   * @param method The method.
   * @param options Order, read-ahead, progress, a signal, and limits.
   * @returns The results; nothing begins before the first is asked for. Asking
   *   rejects as {@linkcode Pool.run} does.
   * @throws {ClosedError} If the pool was closed.
   * @throws {RangeError} If an option is out of range.
   * @throws {TypeError} If an option is of the wrong kind.
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
  map<Name extends MethodName<Methods>>(
    items:
      | Iterable<MethodArgs<Methods, Name>[0]>
      | AsyncIterable<MethodArgs<Methods, Name>[0]>,
    method: Name,
    options: MapOptions = {},
  ): AsyncIterableIterator<MethodResult<Methods, Name>> {
    return new ValueIterator(
      this.#map(items, method, options),
    ) as AsyncIterableIterator<MethodResult<Methods, Name>>;
  }

  /**
   * Calls a method with each of many items, and gives the outcome of each: a value
   * or the reason why there is none, and how often the item was given to a worker
   * that may have begun it. No failure of an item ends it. An iterable or an
   * `onProgress` that throws does, and the signal, `close`, `abort`, and workers
   * that cannot be started.
   *
   * @typeParam Name The method's name.
   *
   * @param items What the method is called with, one after the other.
   * @param method The method.
   * @param options As for {@linkcode Pool.map}.
   * @returns The outcomes.
   * @throws {ClosedError} If the pool was closed.
   * @throws {RangeError} If an option is out of range.
   * @throws {TypeError} If an option is of the wrong kind.
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
  mapSettled<Name extends MethodName<Methods>>(
    items:
      | Iterable<MethodArgs<Methods, Name>[0]>
      | AsyncIterable<MethodArgs<Methods, Name>[0]>,
    method: Name,
    options: MapOptions = {},
  ): AsyncIterableIterator<
    MapOutcome<MethodArgs<Methods, Name>[0], MethodResult<Methods, Name>>
  > {
    return this.#map(items, method, options) as AsyncIterableIterator<
      MapOutcome<MethodArgs<Methods, Name>[0], MethodResult<Methods, Name>>
    >;
  }

  /**
   * What the pool has done so far.
   *
   * @example Usage
   * ```ts
   * import { openPipe } from "@duplex/ipc/pipe";
   * import { Pool } from "@duplex/ipc/pool";
   * import { assertEquals } from "@std/assert";
   *
   * await using pool = new Pool(() => openPipe("worker.ts"));
   * assertEquals(pool.stats.workers, 0);
   * ```
   */
  get stats(): PoolStats {
    return this.#core.stats;
  }

  /**
   * Accepts no more tasks, waits until those that it has are done, and closes the
   * workers. A map reads no more items, gives the results of those that it has
   * read, and then rejects with a {@linkcode ClosedError}.
   *
   * With `waiting: "reject"` only the tasks that workers have in hand are finished.
   * From then on no task is begun: those that wait reject with a
   * {@linkcode ClosedError}, a map drops the items that no worker was given, and a
   * task whose worker ends is not run again. A map gives the outcomes of all items
   * that were begun before it rejects. Quick tasks that were sent to a worker in
   * one message count as in hand together; if the worker returns some of them, as
   * the first ones take long, those are not begun.
   *
   * Calling it again returns the same promise; `waiting: "reject"` then applies to
   * the tasks that still wait.
   *
   * @param options What happens to tasks that wait.
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
  close(options: PoolCloseOptions = {}): Promise<void> {
    const action = "Cannot close the pool";
    checkOptions(action, options);
    const { waiting = "run" } = options;
    checkWaiting(action, waiting);
    this.#core.finish(waiting);
    return this.#closing ??= this.#close();
  }

  /**
   * Ends the pool now: all tasks and maps reject with the reason, and the workers
   * are ended.
   *
   * @param reason The reason; an `AbortError` by default.
   * @returns A promise that settles when no worker is left, but waits no longer
   *   than five seconds for one that is being started, which is ended when it is
   *   there. Never rejects.
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
    const failing = this.#core.fail(reason);
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
    await this.#core.idle();
    await this.#core.close();
  }

  #check(action: string): void {
    this.#core.check();
    if (!this.#core.isClosing) return;
    throw new ClosedError(`${action}: the pool is closed`);
  }

  #map(
    items: Iterable<unknown> | AsyncIterable<unknown>,
    method: string,
    options: MapOptions,
  ): MapRun {
    checkName("Cannot map", "method", method);
    const action = `Cannot map ${quoted(method)}`;
    checkOptions(action, options);
    this.#check(action);
    checkItems(action, items);
    const { ordered = true, readAhead, onProgress, signal } = options;
    checkKind(action, "ordered", ordered, "boolean");
    checkKind(action, "onProgress", onProgress, "function");
    if (readAhead !== undefined) {
      checkPositive(action, "readAhead", readAhead, { whole: true });
    }
    const job = this.#job(action, method, options);
    const limits = { job, ordered, readAhead, signal, onProgress };
    return new MapRun(this.#core, items, limits);
  }

  /** What a run attempts, made once for tasks of one method. */
  #actionOf(method: string): string {
    if (method !== this.#lastMethod || method === undefined) {
      checkName("Cannot run a task", "method", method);
      this.#lastMethod = method;
      this.#lastAction = `Cannot run ${quoted(method)}`;
    }
    return this.#lastAction;
  }

  #job(action: string, method: string, options: TaskOptions): Job {
    const { timeout = this.#defaults.timeout, retryOn, signal } = options;
    const { retries = this.#defaults.retries } = options;
    checkPositive(action, "timeout", timeout);
    checkRetries(action, "retries", retries);
    checkKind(action, "retryOn", retryOn, "function");
    checkSignal(action, signal);
    return { method, timeout, retries, retryOn };
  }
}

function checkWaiting(action: string, waiting: Waiting): void {
  if (waiting === "run" || waiting === "reject") return;
  throw new TypeError(
    `${action} as "waiting" must be "run" or "reject": current value is ${
      show(waiting)
    }`,
  );
}
