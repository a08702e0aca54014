// Copyright 2026 the Duplex authors. MIT license.

/**
 * A histogram of the time of tasks. Each bucket is larger than the one before by the
 * same factor, so the memory does not depend on the number of tasks.
 *
 * @module
 */

/** Buckets for each doubling: neighbors differ by 19 %. */
const PER_DOUBLING = 4;

/** The end of the first bucket in milliseconds. */
const LEAST = 2 ** -10;

/** The last bucket begins near 2^22 ms, which is 70 minutes, and has no end. */
const BUCKETS = 32 * PER_DOUBLING + 1;

/** The time of tasks in milliseconds, from their request to their outcome. */
export interface Latency {
  /** Number of tasks. */
  readonly count: number;
  /** The shortest time; 0 if there was no task. */
  readonly min: number;
  /** The longest time. */
  readonly max: number;
  /** The mean. */
  readonly mean: number;
  /** Half of the tasks took at most this time, with an error of at most 19 %. */
  readonly p50: number;
  /** 90 % of the tasks took at most this time, with an error of at most 19 %. */
  readonly p90: number;
  /** 99 % of the tasks took at most this time, with an error of at most 19 %. */
  readonly p99: number;
  /**
   * The buckets that are not empty, the shortest times first: the longest time in
   * the bucket, which is infinite for the last one, and the number of tasks.
   */
  readonly buckets: readonly {
    readonly upTo: number;
    readonly count: number;
  }[];
}

/** A histogram of the time of tasks. */
export class Histogram {
  readonly #counts = new Array<number>(BUCKETS).fill(0);
  #count = 0;
  #sum = 0;
  #min = Infinity;
  #max = 0;

  /** Adds a time in milliseconds. */
  add(ms: number): void {
    this.#counts[bucketIndex(ms)]!++;
    this.#count++;
    this.#sum += ms;
    if (ms < this.#min) this.#min = ms;
    if (ms > this.#max) this.#max = ms;
  }

  /** The distribution so far. */
  read(): Latency {
    const count = this.#count;
    return {
      count,
      min: count === 0 ? 0 : this.#min,
      max: this.#max,
      mean: count === 0 ? 0 : this.#sum / count,
      p50: this.#quantile(0.5),
      p90: this.#quantile(0.9),
      p99: this.#quantile(0.99),
      buckets: this.#counts
        .map((count, index) => ({ upTo: bucketEnd(index), count }))
        .filter(({ count }) => count > 0),
    };
  }

  /** The end of the bucket in which a share of the tasks is reached, at most the longest time. */
  #quantile(share: number): number {
    let rest = Math.ceil(this.#count * share);
    if (rest === 0) return 0;
    const index = this.#counts.findIndex((count) => (rest -= count) <= 0);
    return Math.min(bucketEnd(index), this.#max);
  }
}

function bucketIndex(ms: number): number {
  if (ms <= LEAST) return 0;
  const index = Math.ceil(Math.log2(ms / LEAST) * PER_DOUBLING);
  return Math.min(index, BUCKETS - 1);
}

function bucketEnd(index: number): number {
  return index === BUCKETS - 1 ? Infinity : LEAST * 2 ** (index / PER_DOUBLING);
}
