// Copyright 2026 the Duplex authors. MIT license.

/**
 * The options of the tasks of a pool, and their checks.
 *
 * @module
 */

import {
  checkFinite,
  checkKind,
  checkName,
  checkPositive,
  checkSignal,
} from "../_base/options.ts";
import type { MapProgress } from "./map.ts";
import { checkRetry, type Retry, type RetryOptions } from "./retry.ts";
import type { RunLimits } from "./run.ts";
import type { Job } from "./task.ts";

/** Options for {@linkcode Pool.run}, and for each task of a map. */
export interface TaskOptions {
  /**
   * Cancels the task: it rejects with the signal's reason at once. If it is running,
   * the signal of a method made with `withSignal` aborts. The worker is replaced if
   * the task has not ended after one second, or at once if its arguments include
   * functions or signals.
   *
   * @default {none}
   */
  signal?: AbortSignal;
  /**
   * Milliseconds that the task may run. After that it rejects with a
   * "TimeoutError" and its worker is replaced: a process is killed, a Web Worker is
   * terminated. Deno terminates a Web Worker only when it reaches its event loop. One
   * that never does continues to run and keeps the program from ending: call
   * `Deno.exit` then, or use processes for tasks that may never end, as {@linkcode task}
   * does if it is made with a `timeout`.
   *
   * @default {the pool's}
   */
  timeout?: number;
  /**
   * How often and when the task is run again if its worker ends while it may have been
   * running, or if it throws an error for which `retryOn` is true. A number is that of
   * further runs; members that are missing are the pool's. A task that waits for the
   * delay holds no worker; its time limits do not apply meanwhile. A task with buffers
   * that `transfer` moves, or with web streams, is not run again.
   *
   * @default {the pool's}
   */
  retry?: number | RetryOptions;
  /**
   * Whether a task that threw this error is run again, within `retry`.
   *
   * @default {() => false}
   */
  retryOn?: (error: unknown) => boolean;
  /**
   * Tasks with a higher number are run first, with any finite number. A task waits as
   * long as tasks of higher priority do, however long that is. A task without a key
   * that is run again runs before all others.
   *
   * @default {0}
   */
  priority?: number;
}

/** Options for {@linkcode Pool.run}. */
export interface RunOptions extends TaskOptions {
  /**
   * Milliseconds that the task may wait for a worker. After that it rejects with a
   * "TimeoutError" and is not run. A task in a batch behind one that never yields
   * waits for it, regardless of this limit.
   *
   * @default {the pool's}
   */
  waitTimeout?: number;
  /**
   * Tasks with the same key run in the order of their calls, one at a time, and in one
   * worker until it ends. A later task also waits while an earlier one is run again, and
   * its `priority` counts once it is the first of its key. Keys take turns with each
   * other, with the tasks without key, and with maps, so that many tasks of one key do
   * not delay another key by more than a turn. A new key is given to the free worker
   * with the fewest keys, and the pool starts further workers for new keys. It remembers
   * the worker of at most 10,000 keys without tasks.
   *
   * @default {none}
   */
  key?: string;
}

/**
 * Options for {@linkcode Pool.map} and {@linkcode Pool.mapSettled}.
 *
 * @typeParam Item The type of the items.
 */
export interface MapOptions<Item = unknown> extends TaskOptions {
  /**
   * Whether results are in the order of the items. Otherwise they are in the order of
   * arrival.
   *
   * @default {true}
   */
  ordered?: boolean;
  /**
   * Maximum number of items that were read and whose results were not received. The
   * default for each worker is 16, or four batches if that is more, up to 2048 for all
   * workers together.
   *
   * @default {16 for each worker, for quick tasks up to 2048}
   */
  readAhead?: number;
  /**
   * The key of an item, as for {@linkcode RunOptions.key}. The map then reads up to
   * `readAhead` items, as their keys decide which may run. An error that it throws ends
   * the map after the results of the items before.
   *
   * @default {none}
   */
  key?: (item: Item) => string;
  /**
   * Called with the progress of the map after results arrive. An error that it throws
   * ends the map.
   *
   * @default {none}
   */
  onProgress?: (progress: MapProgress) => void;
}

/** The defaults of tasks, which are options of their pool. */
export interface TaskDefaults {
  readonly timeout: number;
  readonly waitTimeout: number;
  readonly retry: Retry;
}

/** Checks the options of a task. */
export function jobOf(
  action: string,
  method: string,
  options: TaskOptions,
  defaults: TaskDefaults,
): Job {
  const { timeout = defaults.timeout, retryOn, signal, priority = 0 } = options;
  checkPositive(action, "timeout", timeout);
  const retry = checkRetry(action, options.retry, defaults.retry);
  checkKind(action, "retryOn", retryOn, "function");
  checkSignal(action, signal);
  checkFinite(action, "priority", priority);
  return { method, timeout, retry, retryOn, priority };
}

/** Checks the options of `Pool.run` that `jobOf` does not. */
export function runLimits(
  action: string,
  options: RunOptions,
  defaults: TaskDefaults,
): RunLimits {
  const { signal, waitTimeout = defaults.waitTimeout, key } = options;
  checkPositive(action, "waitTimeout", waitTimeout);
  if (key !== undefined) checkName(action, "key", key);
  return { signal, waitTimeout, key };
}
