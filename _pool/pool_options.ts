// Copyright 2026 the Duplex authors. MIT license.

/**
 * The options of pools and of broadcasts, and their checks.
 *
 * @module
 */

import {
  checkKind,
  checkName,
  checkNumber,
  checkOptions,
  checkPositive,
  checkSignal,
} from "../_base/options.ts";
import { quoted, show } from "../_base/text.ts";
import type { Duplex } from "../duplex.ts";
import type { Broadcast } from "./broadcasts.ts";
import { checkRetry, DEFAULT_RETRY, type RetryOptions } from "./retry.ts";
import { hasMoved } from "./task.ts";
import type { TaskDefaults } from "./task_options.ts";

/** Options for {@linkcode Pool.broadcast}. */
export interface BroadcastOptions {
  /**
   * Whether the method is called in later workers as well, before their first task: if
   * it fails there, the start of the worker has failed. A later call of the same method
   * with `later` replaces it. Streams and transferred values cannot be among its
   * arguments, as they are sent only once.
   *
   * @default {false}
   */
  later?: boolean;
  /**
   * Milliseconds for each worker to answer. A worker that does not is not ended.
   *
   * @default {Infinity}
   */
  timeout?: number;
  /**
   * Cancels the calls in the workers that run now.
   *
   * @default {none}
   */
  signal?: AbortSignal;
}

/** Options for {@linkcode Pool}. */
export interface PoolOptions {
  /**
   * Maximum number of workers. They are started as tasks wait for them.
   *
   * @default {navigator.hardwareConcurrency}
   */
  workers?: number;
  /**
   * Number of tasks after which a worker is replaced.
   *
   * @default {Infinity}
   */
  maxTasks?: number;
  /**
   * Bytes of a worker's JavaScript heap above which the worker is replaced, between
   * two tasks. The heap is measured at most ten times a second; a worker that does not
   * report within five seconds is ended. The option `memory` of the opening function also
   * applies during a task.
   *
   * @default {Infinity}
   */
  maxMemory?: number;
  /**
   * Number of workers that are kept although no task waits. They are started when the
   * pool is created, and replaced when they end. Of an unreferenced pool
   * ({@linkcode Pool.unref}) they are not replaced before a task waits.
   *
   * @default {0}
   */
  minWorkers?: number;
  /**
   * Milliseconds after which an idle worker is closed, except for `minWorkers`.
   *
   * @default {Infinity}
   */
  idleTimeout?: number;
  /**
   * Milliseconds that tasks wait while no worker runs and every attempt to start one
   * fails, counted from the first failure. Then all tasks that wait reject, with the
   * last failure as the cause. Later tasks wait for further attempts.
   *
   * It is also the time that a worker has to answer the pool after it was opened,
   * which shows that it has called `expose`.
   *
   * @default {30000}
   */
  startTimeout?: number;
  /**
   * Called with the duplex of each new worker before its first task, for example to
   * load a model with a call. If it throws or rejects, the start has failed. It has
   * no time limit: tasks wait for it for their `waitTimeout`. The pool receives all
   * messages after this function has returned.
   *
   * @default {none}
   */
  init?: (worker: Duplex) => Promise<void> | void;
  /**
   * The default of {@linkcode TaskOptions.timeout}.
   *
   * @default {Infinity}
   */
  timeout?: number;
  /**
   * The default of {@linkcode RunOptions.waitTimeout}.
   *
   * @default {Infinity}
   */
  waitTimeout?: number;
  /**
   * Maximum number of tasks of `run` that wait for their first run. More reject with a
   * `RangeError`; {@linkcode Pool.ready} waits for room. Tasks that are run again do not
   * count, and the items of a map do not either: `readAhead` limits these.
   *
   * @default {Infinity}
   */
  maxQueue?: number;
  /**
   * The default of {@linkcode TaskOptions.retry}. A task that is run again runs
   * alone, so a task that ends its workers does not reject others.
   *
   * @default {2}
   */
  retry?: number | RetryOptions;
}

const ACTION = "Cannot make a pool";

/**
 * Default of `startTimeout`: a server that is restarted, or a machine that is short of
 * memory for a moment, is back by then.
 */
const DEFAULT_START_TIMEOUT = 30_000;

/** The options of a pool with their defaults. */
export interface CompletePoolOptions
  extends Required<Omit<PoolOptions, DefaultName | "init">> {
  readonly init: PoolOptions["init"];
  /** The defaults of tasks. */
  readonly defaults: TaskDefaults;
}

type DefaultName = "timeout" | "waitTimeout" | "retry";

/** Checks the options of a pool, or of a task, and adds the defaults. */
export function readPoolOptions(
  options: PoolOptions,
  action: string = ACTION,
): CompletePoolOptions {
  checkOptions(action, options);
  const {
    workers = navigator.hardwareConcurrency,
    minWorkers = 0,
    idleTimeout = Infinity,
    startTimeout = DEFAULT_START_TIMEOUT,
    maxTasks = Infinity,
    maxMemory = Infinity,
    init,
    timeout = Infinity,
    waitTimeout = Infinity,
    maxQueue = Infinity,
  } = options;
  const limits = {
    workers,
    minWorkers,
    idleTimeout,
    startTimeout,
    maxTasks,
    maxMemory,
    maxQueue,
  };
  checkCounts(action, { workers, minWorkers, maxTasks, maxQueue });
  const limited = {
    idleTimeout,
    startTimeout,
    maxMemory,
    timeout,
    waitTimeout,
  };
  for (const [name, value] of Object.entries(limited)) {
    checkPositive(action, name, value);
  }
  const retry = checkRetry(action, options.retry, DEFAULT_RETRY);
  const defaults = { timeout, waitTimeout, retry };
  checkKind(action, "init", init, "function");
  return { ...limits, init, defaults };
}

function checkCounts(
  action: string,
  { workers, minWorkers, ...most }: Pick<
    Required<PoolOptions>,
    "workers" | "minWorkers" | "maxTasks" | "maxQueue"
  >,
): void {
  checkPositive(action, "workers", workers, { integer: true });
  const range = { min: 0, max: workers, integer: true };
  checkNumber(action, "minWorkers", minWorkers, range);
  for (const [name, value] of Object.entries(most)) {
    if (value === Infinity) continue;
    checkPositive(action, name, value, { integer: true });
  }
}

/** Throws unless the opening function of a pool is a function. */
export function checkOpen(open: unknown): void {
  if (typeof open === "function") return;
  throw new TypeError(
    `${ACTION} as "open" must be a function that opens a duplex: current value is ${
      show(open)
    }`,
  );
}

/** Checks the arguments of a broadcast. */
export function readBroadcast(
  method: string,
  args: unknown[],
  options: BroadcastOptions,
): { action: string; limits: Broadcast; later: boolean } {
  checkName("Cannot broadcast", "method", method);
  const action = `Cannot broadcast ${quoted(method)}`;
  checkArguments(action, args);
  checkOptions(action, options);
  const { later = false, timeout = Infinity, signal } = options;
  checkKind(action, "later", later, "boolean");
  if (later && hasMoved(args)) {
    throw new TypeError(
      `${action} as "later" must be false if a stream or a transferred value is among the arguments: it can be sent only once`,
    );
  }
  checkPositive(action, "timeout", timeout);
  checkSignal(action, signal);
  return { action, limits: { method, args, timeout, signal }, later };
}

/** Throws unless the arguments of a method are an array. */
export function checkArguments(action: string, args: unknown): void {
  if (Array.isArray(args)) return;
  throw new TypeError(
    `${action} as its arguments must be an array: current value is ${
      show(args)
    }`,
  );
}
