// Copyright 2026 the Duplex authors. MIT license.

/**
 * The workers of a pool: starts them while tasks wait for them, retires them, and
 * ends them with the pool. A failed start is repeated after a delay, until too many
 * have failed.
 *
 * @module
 */

import { checkDuplex } from "../_rpc/endpoint.ts";
import { reasonText } from "../_base/text.ts";
import { settlesWithin } from "../_base/waiting.ts";
import type { Duplex } from "../duplex.ts";
import { abort, PoolWorker, type WorkerEvents } from "./worker.ts";

/** Milliseconds before the second attempt to start a worker; doubled for each further one. */
const START_DELAY = 100;
/** Maximum milliseconds between two attempts. */
const MAX_START_DELAY = 10_000;

/** Milliseconds that the end of the pool waits for a worker that is starting. */
const START_TIMEOUT = 5_000;

/** The options of the workers of a pool. */
export interface WorkerSetOptions {
  readonly open: () => Promise<Duplex>;
  readonly workers: number;
  readonly startRetries: number;
}

/** What the workers of a pool need of their scheduler. */
export interface WorkerSetHost extends WorkerEvents {
  /** Whether the pool has ended. */
  readonly isOver: boolean;
  /** Throws if the pool has ended. */
  check(): void;
  /** Number of waiting tasks, up to `most`. */
  countWaiting(most: number): number;
  /** Called when a worker was started or has failed to start, and after a delay. */
  wake(): void;
  /** A worker is no longer used. */
  onRetired(worker: PoolWorker): void;
  /** Ends the pool: no worker can be started. */
  fail(error: unknown): void;
}

/** The workers of a pool. */
export class WorkerSet implements Iterable<PoolWorker> {
  readonly #options: WorkerSetOptions;
  readonly #host: WorkerSetHost;
  readonly #workers = new Set<PoolWorker>();
  /** Workers that are starting. */
  readonly #starts = new Set<Promise<void>>();
  /** Duplexes of ended workers until they are closed. */
  readonly #leaving = new Map<Duplex, Promise<void>>();
  #startFailure: unknown;
  #failures = 0;
  #ended = 0;
  #delay: ReturnType<typeof setTimeout> | undefined;

  constructor(options: WorkerSetOptions, host: WorkerSetHost) {
    this.#options = options;
    this.#host = host;
  }

  /** Iterates over the running workers. The current worker may be retired. */
  [Symbol.iterator](): Iterator<PoolWorker> {
    return this.#workers.values();
  }

  /** Number of running workers. */
  get size(): number {
    return this.#workers.size;
  }

  /** Number of workers that are starting. */
  get starting(): number {
    return this.#starts.size;
  }

  /** Number of workers that have ended. */
  get ended(): number {
    return this.#ended;
  }

  /** Starts as many workers as there are tasks waiting for one. */
  start(): void {
    if (this.#host.isOver || this.#delay !== undefined) return;
    const most = this.#options.workers - this.#workers.size;
    const starting = this.#starts.size;
    if (this.#failures > this.#options.startRetries) {
      if (
        this.#workers.size + starting === 0 && this.#host.countWaiting(1) > 0
      ) this.#host.fail(startError(this.#failures, this.#startFailure));
      return;
    }
    if (most <= starting) return;
    let count = this.#host.countWaiting(most) - starting;
    // After a failure, one at a time.
    if (this.#failures > 0) count = Math.min(count, 1 - starting);
    for (let index = 0; index < count; index++) this.#start();
  }

  /** Removes a worker; another is started when tasks wait. */
  retire(worker: PoolWorker): void {
    if (!this.#workers.delete(worker)) return;
    this.#ended++;
    this.#host.onRetired(worker);
    const { duplex } = worker;
    this.#leaving.set(duplex, this.#leave(duplex));
  }

  /** Starts no more workers and closes all; returns the errors of those that failed. */
  async close(): Promise<unknown[]> {
    this.#stop();
    const results = await Promise.allSettled([
      ...[...this.#workers].map(async ({ duplex }) => await duplex.close()),
      ...this.#leaving.values(),
      this.#started(),
    ]);
    return results.filter(({ status }) => status === "rejected")
      .map((result) => (result as PromiseRejectedResult).reason);
  }

  /** Starts no more workers and ends all. Never rejects. */
  async abort(error: unknown): Promise<void> {
    this.#stop();
    for (const duplex of this.#leaving.keys()) abort(duplex, error);
    const workers = [...this.#workers];
    for (const worker of workers) worker.kill(error);
    await Promise.allSettled([
      ...workers.map(async ({ duplex }) => await duplex.closed),
      ...this.#leaving.values(),
      this.#started(),
    ]);
  }

  #stop(): void {
    clearTimeout(this.#delay);
  }

  #start(): void {
    const started = this.#open();
    this.#starts.add(started);
    started.then(() => {
      this.#starts.delete(started);
      this.#host.wake();
    });
  }

  /** Opens a duplex to a new worker. Never rejects. */
  async #open(): Promise<void> {
    try {
      const duplex = await this.#options.open();
      checkDuplex('Cannot start a worker as "open" must give a duplex', duplex);
      try {
        this.#host.check();
        this.#workers.add(new PoolWorker(duplex, this.#host));
      } catch (error) {
        abort(duplex, error);
        await duplex.closed.catch(() => {});
        throw error;
      }
      this.#failures = 0;
    } catch (error) {
      this.#startFailure = error;
      this.#failures++;
      if (!this.#host.isOver) this.#startLater();
    }
  }

  /** Settles when no worker is starting, or after a timeout. */
  async #started(): Promise<void> {
    if (this.#starts.size === 0) return;
    await settlesWithin(Promise.all(this.#starts), START_TIMEOUT);
  }

  /** Starts the next worker after a delay, which grows with each failure. */
  #startLater(): void {
    if (this.#failures > this.#options.startRetries) return;
    const doubled = START_DELAY * 2 ** (this.#failures - 1);
    const delay = Math.min(doubled, MAX_START_DELAY);
    this.#delay ??= setTimeout(() => {
      this.#delay = undefined;
      this.#host.wake();
    }, delay);
  }

  /** Closes the duplex of a worker. Never rejects. */
  async #leave(duplex: Duplex): Promise<void> {
    try {
      await duplex.close();
    } catch {
      // The tasks of the worker have their outcome, or are run again.
    }
    // `retire` must have added it before it is removed.
    await undefined;
    this.#leaving.delete(duplex);
  }
}

function startError(attempts: number, cause: unknown): Error {
  return new Error(
    `Cannot start a worker: the last ${attempts} attempts failed: ${
      reasonText(cause)
    }`,
    { cause },
  );
}
