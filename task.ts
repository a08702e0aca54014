// Copyright 2026 the Duplex authors. MIT license.

/**
 * A function that runs in Web Workers or processes, without a file for the worker.
 *
 * ```ts
 * import { task } from "@duplex/ipc/task";
 * import { assertEquals } from "@std/assert";
 *
 * await using square = task((n: number) => n * n);
 * assertEquals(await square(7), 49);
 * assertEquals(await Array.fromAsync(square.map([1, 2, 3])), [1, 4, 9]);
 * ```
 *
 * @module
 */

import { checkOneOf, checkOptions, checkPositive } from "./_base/options.ts";
import { checkRuntime, MIN_DENO } from "./_base/runtime.ts";
import { checkRunsDeno } from "./_pipe/permissions.ts";
import { grantThread } from "./_thread/permissions.ts";
import { readPoolOptions } from "./_pool/pool_options.ts";
import { taskScript } from "./_task/source.ts";
import { SyncTask } from "./_task/sync.ts";
import { grant, type Permissions } from "./permissions.ts";
import {
  type MapOptions,
  type MapOutcome,
  Pool,
  type PoolEvent,
  type PoolOptions,
  type PoolStats,
  type RunOptions,
} from "./pool.ts";
import { openPipe } from "./pipe.ts";
import type { Remote } from "./rpc.ts";
import { openShm } from "./shm.ts";

export { ClosedError, PeerExitError } from "./_base/errors.ts";

/** Options for {@linkcode task}. */
export interface WorkerTaskOptions extends PoolOptions {
  /**
   * The permissions of the workers, at most those of the caller.
   *
   * @default {"none"}
   */
  permissions?: Permissions;
  /**
   * Maximum bytes of each worker's JavaScript heap and its buffers, as for
   * {@linkcode openShm} and {@linkcode openPipe}.
   *
   * @default {that of openShm, or of openPipe for processes}
   */
  memory?: number;
  /**
   * Whether the function runs in Web Workers or in processes. Processes start more
   * slowly and copy all values, but each can be ended in every case: if the function
   * never returns, and if it fills its heap in one step.
   *
   * @default {"process" if `timeout` is given, else "thread"}
   */
  isolate?: "thread" | "process";
}

/**
 * A function that runs in a pool of Web Workers or processes.
 *
 * @typeParam Args The function's arguments.
 * @typeParam Result The result, awaited.
 */
export interface WorkerTask<Args extends unknown[], Result>
  extends AsyncDisposable {
  /** Runs the function in a worker. */
  (...args: Args): Promise<Result>;
  /** Runs the function in a worker, with a signal or limits: {@linkcode Pool.run}. */
  run(args: Args, options?: RunOptions): Promise<Result>;
  /**
   * Runs the function and blocks this thread until it has ended, also if it is
   * asynchronous. It has a Web Worker of its own, apart from those of the pool, which
   * starts with the first call and keeps the program running until the task is closed.
   * The `timeout` of the task limits each call, with `isolate: "thread"`; the worker is
   * replaced after a timeout, and after it has ended. Other options of the pool do not
   * apply. See {@linkcode remoteSync} for blocking calls.
   *
   * @throws {DOMException} If the call took longer than `timeout`, or the worker has
   *   not started within 10 seconds ("TimeoutError").
   * @throws {PeerExitError} If the worker ended.
   * @throws {ClosedError} If the task is closed.
   * @throws {TypeError} If the function runs in processes, an argument or the result
   *   cannot be sent, or the function is a generator.
   * @throws The error of the function.
   *
   * @example Usage
   * ```ts
   * import { task } from "@duplex/ipc/task";
   * import { assertEquals } from "@std/assert";
   *
   * await using hash = task(async (text: string) => {
   *   const bytes = new TextEncoder().encode(text);
   *   return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
   * });
   * assertEquals(hash.sync("a").slice(0, 8), "ca978112");
   * ```
   */
  sync(...args: Args): Result;
  /** Runs the function once for each item: {@linkcode Pool.map}. */
  map(
    items: Iterable<Args[0]> | AsyncIterable<Args[0]>,
    options?: MapOptions<Args[0]>,
  ): AsyncIterableIterator<Result>;
  /** Runs the function once for each item, and yields outcomes: {@linkcode Pool.mapSettled}. */
  mapSettled(
    items: Iterable<Args[0]> | AsyncIterable<Args[0]>,
    options?: MapOptions<Args[0]>,
  ): AsyncIterableIterator<MapOutcome<Args[0], Result>>;
  /** Waits for room in the queue: {@linkcode Pool.ready}. */
  ready(options?: { signal?: AbortSignal; timeout?: number }): Promise<void>;
  /** Waits for the tasks and ends the workers: {@linkcode Pool.close}. */
  close(options?: { waiting?: "run" | "reject" }): Promise<void>;
  /** Ends the workers now: {@linkcode Pool.abort}. */
  abort(reason?: unknown): Promise<void>;
  /** Starts workers: {@linkcode Pool.warm}. */
  warm(count?: number): Promise<void>;
  /** Lets the program end although workers run: {@linkcode Pool.unref}. */
  unref(): void;
  /** Undoes `unref`: {@linkcode Pool.ref}. */
  ref(): void;
  /** The events of the pool: {@linkcode Pool.events}. */
  events(): AsyncIterableIterator<PoolEvent>;
  /** Statistics: {@linkcode Pool.stats}. */
  readonly stats: PoolStats;
}

/**
 * The arguments of a task: those of its function, whose own functions may be
 * asynchronous.
 *
 * @typeParam Fn The type of the function.
 */
export type TaskArgs<Fn> = Remote<{ run: Fn }> extends
  { run: (...args: infer Args) => unknown } ? Args : unknown[];

/**
 * The result of a task: that of its function, awaited.
 *
 * @typeParam Fn The type of the function.
 */
export type TaskResult<Fn> = Fn extends (...args: never[]) => infer Result
  ? Awaited<Result>
  : unknown;

type CloseOptions = Parameters<Pool["close"]>[0];
type ReadyOptions = Parameters<Pool["ready"]>[0];

const ACTION = "Cannot make a task";

/**
 * Runs a function in its own workers: at most one for each core, started as they are
 * needed. They are Web Workers; with `timeout` they are processes, since Deno cannot
 * end a Web Worker that never returns to its event loop. `isolate` chooses.
 *
 * The source of the function is sent to the workers, at most 1 MiB of characters. It
 * must be self-contained: it can use its arguments, modules that it loads with
 * `import()` and full URLs, and the globals of every worker, but not variables of
 * its surroundings, `super` or `import.meta`. It may be asynchronous. Calls of a
 * generator function reject. A call that never returns is ended by the `timeout` of the
 * task. With `isolate: "thread"`, or if only the call has a `timeout`, the call rejects,
 * but its thread continues and keeps the program running. In a process the source, escaped for a URL, may have
 * 131000 bytes, and `console` prints to standard error. A bundle with a task must leave
 * this package external.
 *
 * Requires Deno 2.9.0 or later, every permission that is passed on, and
 *
 * - for Web Workers `--unstable-worker-options` unless `permissions` is `"inherit"`,
 *   and `--allow-read` for the folder of this package if it is local;
 * - for processes `--allow-run` for Deno.
 *
 * @typeParam Fn The type of the function.
 *
 * @param fn The function.
 * @param options Permissions, number of workers, and limits.
 * @returns The function in the workers. Close it, or use `await using`: workers keep
 *   the program running.
 * @throws {TypeError} If `fn` is not a function, if its source cannot run in a
 *   worker, or if an option is of the wrong type.
 * @throws {RangeError} If the source is too long, or an option is out of range.
 * @throws {Deno.errors.NotCapable} If the program passes on a permission that it does
 *   not have, may not read the folder of this package, or may not run Deno.
 *
 * @example Usage
 * ```ts
 * import { task } from "@duplex/ipc/task";
 * import { assertEquals } from "@std/assert";
 *
 * await using sha256 = task(async (text: string) => {
 *   const bytes = new TextEncoder().encode(text);
 *   return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
 * }, { workers: 2 });
 *
 * const sums = await Array.fromAsync(sha256.map(["a", "b", "c"]));
 * assertEquals(sums[0]?.slice(0, 8), "ca978112");
 * ```
 */
// A type with parameters would be that of a parameter with only a default value.
// deno-lint-ignore ban-types
export function task<Fn extends Function>(
  fn: Fn,
  options: WorkerTaskOptions = {},
): WorkerTask<TaskArgs<Fn>, TaskResult<Fn>> {
  type Args = TaskArgs<Fn>;
  type Result = TaskResult<Fn>;
  checkRuntime(ACTION, MIN_DENO);
  checkOptions(ACTION, options);
  const { permissions = "none", memory, isolate, ...limits } = options;
  // Before the permissions are checked, as the pool starts workers at once.
  readPoolOptions(limits, ACTION);
  const isThread = isolate === undefined
    ? (limits.timeout ?? Infinity) === Infinity
    : isolate === "thread";
  const script = taskScript(ACTION, fn, isThread);
  if (memory !== undefined) checkPositive(ACTION, "memory", memory);
  if (isolate !== undefined) {
    checkOneOf(ACTION, "isolate", isolate, ["thread", "process"]);
  }
  const own = { permissions, ...(memory === undefined ? {} : { memory }) };
  if (isThread) {
    grantThread(permissions);
    checkReadable();
  } else {
    grant(permissions);
    checkRunsDeno(ACTION, 'set isolate: "thread"');
  }
  const pool = new Pool(
    () => isThread ? openShm(script, own) : openPipe(script, own),
    limits,
  );
  const sync = isThread
    ? new SyncTask(script, own, limits.timeout ?? Infinity)
    : undefined;
  return taskFunction<Args, Result>(pool, sync);
}

/** A function that runs tasks in a pool, with the members of a {@linkcode WorkerTask}. */
function taskFunction<Args extends unknown[], Result>(
  pool: Pool,
  sync: SyncTask | undefined,
): WorkerTask<Args, Result> {
  const run: WorkerTask<Args, Result>["run"] = (args, options) =>
    pool.run("run", args, options) as Promise<Result>;
  const close = async (options?: CloseOptions) => {
    await Promise.all([pool.close(options), sync?.close()]);
  };
  const members: PropertyDescriptorMap = {
    run: { value: run },
    sync: { value: (...args: Args) => callSync(sync, args) },
    map: {
      value: (items: Iterable<never>, options?: MapOptions<Args[0]>) =>
        pool.map(items, "run", options),
    },
    mapSettled: {
      value: (items: Iterable<never>, options?: MapOptions<Args[0]>) =>
        pool.mapSettled(items, "run", options),
    },
    ready: { value: (options?: ReadyOptions) => pool.ready(options) },
    close: { value: close },
    abort: {
      value: async (reason?: unknown) => {
        await Promise.all([pool.abort(reason), sync?.abort(reason)]);
      },
    },
    warm: { value: (count?: number) => pool.warm(count) },
    ref: { value: () => pool.ref() },
    unref: { value: () => pool.unref() },
    events: { value: () => pool.events() },
    stats: { get: () => pool.stats },
    [Symbol.asyncDispose]: { value: () => close() },
  };
  return Object.defineProperties(
    (...args: Args) => run(args),
    members,
  ) as WorkerTask<Args, Result>;
}

function callSync(sync: SyncTask | undefined, args: unknown[]): unknown {
  if (sync !== undefined) return sync.call(args);
  throw new TypeError(
    'Cannot call a task in a blocked thread as it runs in processes, which share no memory with it; make the task with isolate: "thread"',
  );
}

/**
 * Throws unless the program may read the folder of this package, which its workers
 * load. Otherwise an uncaught error of a worker would report that.
 */
function checkReadable(): void {
  const folder = new URL(import.meta.resolve("./"));
  if (folder.protocol === "file:") grant({ read: [folder] });
}
