// Copyright 2026 the Duplex authors. MIT license.

/**
 * The pace of the tasks of a pool: how long the tasks of each method take, and so
 * how many of them a batch should have.
 *
 * @module
 */

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

/** The pace of a method's tasks. */
interface Pace {
  /** Milliseconds that a task takes. */
  ms: number;
  /** Tasks in the last batch. */
  batch: number;
}

/** The paces of the methods that a pool runs. */
export class Paces {
  readonly #paces = new Map<string, Pace>();

  /** Tasks in the last batch of a method, or 1. */
  last(method: string): number {
    return this.#paces.get(method)?.batch ?? 1;
  }

  /** Tasks in the next batch of a method; each has this timeout. */
  next(method: string, timeout: number): number {
    const pace = this.#paces.get(method);
    if (pace === undefined) return 1;
    const most = Math.min(MAX_BATCH, pace.batch * BATCH_GROWTH);
    const time = Math.min(BATCH_TIME, timeout / BATCHES_PER_TIMEOUT);
    pace.batch = Math.max(1, Math.min(most, Math.floor(time / pace.ms)));
    return pace.batch;
  }

  /** Records a batch of `count` tasks that took `ms` milliseconds. */
  add(method: string, count: number, ms: number): void {
    if (count === 0) return;
    const each = ms / count;
    const pace = this.#paces.get(method);
    if (pace !== undefined) pace.ms += (each - pace.ms) * SMOOTHING;
    else {
      if (this.#paces.size >= MAX_PACES) this.#paces.clear();
      this.#paces.set(method, { ms: each, batch: 1 });
    }
  }
}
