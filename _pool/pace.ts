// Copyright 2026 the Duplex authors. MIT license.

/**
 * The pace of the tasks of a pool: how long the tasks of each method take, and so
 * how many of them a batch should have.
 *
 * The time that counts is that of the worker, which reports it with its answers. The
 * time until the answers arrive contains the wait for a core: with more workers than
 * cores it grows with their number, and batches by that time would become smaller as
 * the machine becomes busier. It is used for a peer that reports no time, and for
 * the timeout of tasks, which includes the wait.
 *
 * @module
 */

/** Milliseconds that a batch should take: many times the cost of its message. */
const BATCH_TIME = 2;

/** Maximum tasks in a batch, and the factor by which one may exceed the batch before. */
const MAX_BATCH = 256;
const BATCH_GROWTH = 4;

/** Milliseconds of a task below which batches have the maximum anyway. */
const MIN_TIME = BATCH_TIME / MAX_BATCH;

/** Batches that fit into the timeout of a task: the limit includes a whole batch. */
const BATCHES_PER_TIMEOUT = 10;

/** Maximum number of methods whose tasks are timed: names may be of any number. */
const MAX_PACES = 1000;

/** Weight of the latest batch in the moving averages. */
const SMOOTHING = 0.5;

/**
 * Maximum factor by which a sample exceeds the average of a task's time. If threads
 * wait for a core, the time of a few batches contains such a wait, which is many times
 * their own. With this limit they count less than the batches without one.
 */
const MAX_EXCESS = 2;

/**
 * Milliseconds after which the rest of a batch is recalled: ten times its expected
 * time. Its tasks take longer than expected, and another worker could run those
 * that wait.
 */
const RECALL_AFTER = 10 * BATCH_TIME;

/** Waits for a core by which a recall is later: a batch that waits has not begun. */
const DELAYS_PER_RECALL = 4;

/** Maximum milliseconds by which a recall is later: a peer may report wrong times. */
const MAX_RECALL_DELAY = 1_000;

/** A finished batch. */
export interface BatchTimes {
  readonly method: string;
  /** Number of tasks that were run. */
  readonly count: number;
  /** Milliseconds from sending the batch to its last answer. */
  readonly total: number;
  /** Milliseconds that the tasks took, if the worker reported them. */
  readonly own: number | undefined;
  /** Whether tasks of the batch were returned unbegun. */
  readonly isRecalled: boolean;
}

/** The pace of a method's tasks. */
interface Pace {
  /** Milliseconds that a task takes in its worker. */
  own: number;
  /** Milliseconds that a task takes of its batch, with all waits. */
  total: number;
  /** Tasks in the last batch. */
  batch: number;
}

/** The paces of the methods that a pool runs. */
export class Paces {
  readonly #paces = new Map<string, Pace>();
  /** Milliseconds of a batch that are not spent by its tasks. */
  #delay = 0;

  /** Milliseconds after which the rest of a batch is recalled. */
  get recallAfter(): number {
    const delay = this.#delay * DELAYS_PER_RECALL;
    return RECALL_AFTER + Math.min(MAX_RECALL_DELAY, delay);
  }

  /** Tasks in the last batch of a method, or 1. */
  last(method: string): number {
    return this.#paces.get(method)?.batch ?? 1;
  }

  /** Tasks in the next batch of a method; each has this timeout. */
  next(method: string, timeout: number): number {
    const pace = this.#paces.get(method);
    if (pace === undefined) return 1;
    const most = Math.min(
      MAX_BATCH,
      pace.batch * BATCH_GROWTH,
      Math.floor(BATCH_TIME / pace.own),
      Math.floor(timeout / BATCHES_PER_TIMEOUT / pace.total),
    );
    return pace.batch = Math.max(1, most);
  }

  /** Records a finished batch. */
  add({ method, count, total, own = total, isRecalled }: BatchTimes): void {
    if (count === 0) return;
    own = Math.min(own, total);
    this.#delay += (total - own - this.#delay) * SMOOTHING;
    const pace = this.#paces.get(method);
    if (pace === undefined) {
      if (this.#paces.size >= MAX_PACES) this.#paces.clear();
      const pace = { own: least(own / count), total: total / count, batch: 1 };
      this.#paces.set(method, pace);
      return;
    }
    // A recalled batch has shown that its tasks are slow.
    const most = isRecalled ? Infinity : pace.own * MAX_EXCESS;
    const sample = Math.min(least(own / count), most);
    pace.own += (sample - pace.own) * SMOOTHING;
    pace.total += (total / count - pace.total) * SMOOTHING;
  }
}

/** The least time that makes a difference: one of 0 could not grow by a factor. */
function least(ms: number): number {
  return Math.max(MIN_TIME, ms);
}
