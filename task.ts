// Copyright 2026 the Duplex authors. MIT license.

/**
 * A function that runs in Web Workers, without a file for the worker: for work in
 * a script, and in a shell.
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

import { checkOptions, checkPositive } from "./_base/options.ts";
import { ALL, checkRuntime } from "./_base/runtime.ts";
import { grantThread } from "./_thread/permissions.ts";
import { scriptOf } from "./_task/source.ts";
import { grant, type Permissions } from "./permissions.ts";
import {
  type MapOptions,
  type MapOutcome,
  Pool,
  type PoolOptions,
  type PoolStats,
  type RunOptions,
} from "./pool.ts";
import { openShm } from "./shm.ts";

/** Options for {@linkcode task}. */
export interface WorkerTaskOptions extends PoolOptions {
  /**
   * What the workers may do. Nothing that the caller may not do itself.
   *
   * @default {"none"}
   */
  permissions?: Permissions;
  /**
   * Bytes of each worker's JavaScript heap, as for {@linkcode openShm}.
   *
   * @default {three quarters of what Deno gives it}
   */
  memory?: number;
}

/**
 * A function that runs in a pool of Web Workers.
 *
 * @typeParam Args The function's arguments.
 * @typeParam Result What it gives in the end.
 */
export interface WorkerTask<Args extends unknown[], Result>
  extends AsyncDisposable {
  /** Runs the function in a worker. */
  (...args: Args): Promise<Result>;
  /** Runs the function in a worker, with a signal or limits: {@linkcode Pool.run}. */
  run(args: Args, options?: RunOptions): Promise<Result>;
  /** Runs the function with each of many items: {@linkcode Pool.map}. */
  map(
    items: Iterable<Args[0]> | AsyncIterable<Args[0]>,
    options?: MapOptions,
  ): AsyncIterableIterator<Result>;
  /** Gives the outcome of each item: {@linkcode Pool.mapSettled}. */
  mapSettled(
    items: Iterable<Args[0]> | AsyncIterable<Args[0]>,
    options?: MapOptions,
  ): AsyncIterableIterator<MapOutcome<Args[0], Result>>;
  /** Waits for what is under way and ends the workers: {@linkcode Pool.close}. */
  close(): Promise<void>;
  /** Ends the workers now: {@linkcode Pool.abort}. */
  abort(reason?: unknown): Promise<void>;
  /** What was done so far. */
  readonly stats: PoolStats;
}

const ACTION = "Cannot make a task";

/**
 * Runs a function in Web Workers of its own: one for each core, started when they
 * are needed.
 *
 * The source of the function is sent to the workers, at most a mebibyte of
 * characters, so it must be self-contained: it sees its arguments, what it imports
 * inside with `import()` and full addresses, and the globals that every worker has,
 * but no variable around it, and neither `super` nor `import.meta`. It may be
 * asynchronous. A generator
 * function cannot be a task: its calls reject. A call that never returns can be
 * abandoned with `timeout`, but its thread goes on and keeps the program running.
 *
 * Requires Deno 2.9.0 or later, `--unstable-worker-options` unless `permissions` is `"inherit"`,
 * `--allow-read` for this package where it is a local folder, and every permission
 * that is passed on.
 *
 * @typeParam Args The function's arguments.
 * @typeParam Result What the function returns.
 *
 * @param fn The function.
 * @param options What the workers may do, how many there are, and limits.
 * @returns The function in the workers. Close it, or let `await using` do so: the
 *   program goes on as long as there are workers.
 * @throws {TypeError} If it is not a function, its source cannot run in a worker,
 *   or an option is of the wrong kind.
 * @throws {RangeError} If its source is too long, or an option is out of range.
 * @throws {Deno.errors.NotCapable} If the program passes on what it may not do
 *   itself, or may not read the folder that this package is in.
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
export function task<Args extends unknown[], Result>(
  fn: (...args: Args) => Result,
  options: WorkerTaskOptions = {},
): WorkerTask<Args, Awaited<Result>> {
  checkRuntime(ACTION, ALL);
  checkOptions(ACTION, options);
  const { permissions = "none", memory, ...limits } = options;
  const script = scriptOf(ACTION, fn);
  if (memory !== undefined) checkPositive(ACTION, "memory", memory);
  grantThread(permissions);
  checkReadable();
  const own = memory === undefined ? {} : { memory };
  const pool = new Pool<{ run: (...args: Args) => Result }>(
    () => openShm(script, { permissions, ...own }),
    limits,
  );
  const run: WorkerTask<Args, Awaited<Result>>["run"] = (args, options) =>
    pool.run("run", args as never, options) as Promise<Awaited<Result>>;
  const members: PropertyDescriptorMap = {
    run: { value: run },
    map: {
      value: (items: Iterable<never>, options?: MapOptions) =>
        pool.map(items, "run", options),
    },
    mapSettled: {
      value: (items: Iterable<never>, options?: MapOptions) =>
        pool.mapSettled(items, "run", options),
    },
    close: { value: () => pool.close() },
    abort: { value: (reason?: unknown) => pool.abort(reason) },
    stats: { get: () => pool.stats },
    [Symbol.asyncDispose]: { value: () => pool.close() },
  };
  return Object.defineProperties(
    (...args: Args) => run(args),
    members,
  ) as WorkerTask<Args, Awaited<Result>>;
}

/**
 * A Web Worker may load only what its parent may read. Without this look Deno would
 * say so in the middle of an uncaught error of the worker's.
 */
function checkReadable(): void {
  const folder = new URL(import.meta.resolve("./"));
  if (folder.protocol === "file:") grant({ read: [folder] });
}
