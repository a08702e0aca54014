// Copyright 2026 the Duplex authors. MIT license.

/**
 * How long tasks took, counted in buckets that grow by the same factor, so that
 * any number of tasks takes the same memory.
 *
 * @module
 */

/** Buckets for each doubling: neighbours differ by 19 %. */
const PER_DOUBLING = 4;

/** Milliseconds up to which all is in the first bucket. */
const LEAST = 2 ** -10;

/** The last bucket ends at 2^22 ms, 70 minutes, and takes what is longer, too. */
const BUCKETS = 32 * PER_DOUBLING + 1;

/** A bucket of a {@linkcode Latency}. */
export interface LatencyBucket {
  /** Milliseconds that those in it took at most; the last one has no bound. */
  readonly upTo: number;
  /** How many are in it. */
  readonly count: number;
}

/** How long tasks took, from being asked for to their outcome, in milliseconds. */
export interface Latency {
  /** How many tasks there were. */
  readonly count: number;
  /** The shortest; 0 where there was none. */
  readonly min: number;
  /** The longest. */
  readonly max: number;
  /** The mean. */
  readonly mean: number;
  /** Half of them took no longer, within 19 %. */
  readonly p50: number;
  /** Nine of ten took no longer, within 19 %. */
  readonly p90: number;
  /** 99 of a hundred took no longer, within 19 %. */
  readonly p99: number;
  /** Those that are not empty, the shortest first. */
  readonly buckets: readonly LatencyBucket[];
}

/** Counts how long tasks took. */
export class Histogram {
  readonly #counts = new Array<number>(BUCKETS).fill(0);
  #count = 0;
  #sum = 0;
  #min = Infinity;
  #max = 0;

  /** Counts one that took so many milliseconds. */
  add(ms: number): void {
    this.#counts[bucketOf(ms)]!++;
    this.#count++;
    this.#sum += ms;
    if (ms < this.#min) this.#min = ms;
    if (ms > this.#max) this.#max = ms;
  }

  /** What was counted so far. */
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
        .map((count, index) => ({ upTo: endOf(index), count }))
        .filter(({ count }) => count > 0),
    };
  }

  /** The end of the bucket in which the share is reached, but not beyond the longest. */
  #quantile(share: number): number {
    let rest = Math.ceil(this.#count * share);
    if (rest === 0) return 0;
    const index = this.#counts.findIndex((count) => (rest -= count) <= 0);
    return Math.min(endOf(index), this.#max);
  }
}

function bucketOf(ms: number): number {
  if (ms <= LEAST) return 0;
  const index = Math.ceil(Math.log2(ms / LEAST) * PER_DOUBLING);
  return Math.min(index, BUCKETS - 1);
}

function endOf(index: number): number {
  return index === BUCKETS - 1 ? Infinity : LEAST * 2 ** (index / PER_DOUBLING);
}
