// Copyright 2026 the Duplex authors. MIT license.

/**
 * Protects hash tables from keys that a peer chose to collide. A colliding key is
 * compared with all others when it is added, so that 40 000 of them in a `Set` take
 * seconds.
 *
 * V8 hashes numbers, bigints and strings that are indexes without a seed
 * (`ComputeUnseededHash`), and the seed for other strings
 * is the same in every process of a Deno release. So a peer can choose keys of any
 * of these kinds. This check does not depend on how keys are hashed; it measures. If
 * the last keys took longer than ordinary keys, it looks up a sample of them again.
 * A key is slow if several lookups all take many times as long as those of a key
 * that is not in the table. A pause of the thread does not count: it does not recur
 * at the same key, and the wasted time is bounded by an estimate from the sample.
 *
 * @module
 */

/**
 * One key in 16 is added to the sample, at random: a peer could exempt keys at known
 * positions.
 */
const STRIDE = 16;

/** Keys of the sample between two readings of the clock: some 256 keys in all. */
const LOOK_INTERVAL = 16;

/**
 * Maximum milliseconds between two readings for ordinary keys: a third of a
 * microsecond for each key of a map or a set, a microsecond for each property's
 * name. Further time counts as wasted.
 */
const ORDINARY_KEY_TIME = 0.08;
const ORDINARY_NAME_TIME = 0.25;

/**
 * Milliseconds that the keys of one message may waste before they are measured. It
 * allows for innocent collisions, such as 3000 strings "65536", "131072" and so on.
 */
const MAX_WASTE = 25;

/** Maximum keys in the sample. A power of two. */
const SAMPLE_SIZE = 64;

/** Number of lookups of a key. The shortest time counts. */
const ROUNDS = 4;

/**
 * Factor from which on a key is slow, compared with another key. An ordinary key
 * takes up to twice as long, a key that collides with 500 others ten times.
 */
const MAX_RATIO = 8;

/** Milliseconds up to which a lookup is fast on any machine. */
const MIN_SLOW_TIME = 0.001;

/**
 * Minimum number of slow keys in a message that is refused. An ordinary key can be
 * slow by chance, if it collides with the keys of another message.
 */
const MIN_SLOW_KEYS = 4;

/** Minimum share of slow keys: one in 256 measured keys. */
const MIN_SLOW_SHARE = 256;

/**
 * Maximum ratio of the wasted time to its estimate, as the sample may have few of
 * the slow keys.
 */
const MAX_ESTIMATE_RATIO = 4;

/**
 * Characters of a name above which it is not measured: receiving it takes as long as
 * comparing its hash with a thousand others.
 */
const MAX_NAME_LENGTH = 4096;

/** The clock, even if a program replaces it later. */
const now = performance.now.bind(performance);

/** Keys that are not in any table of a message. V8 gives objects random hashes. */
const ABSENT_KEYS: readonly object[] = [{}, {}, {}, {}];

// V8 gives an object its hash when it is first added.
new Set(ABSENT_KEYS);

/** Appended to a name, makes one that a peer cannot know. */
const SUFFIX: string = crypto.randomUUID();

/** A random number of keys until the next sample, `stride` on average. */
export function randomStride(stride: number): number {
  return 1 + Math.floor(Math.random() * (2 * stride - 1));
}

/** A hash table. */
export type KeyTable = Map<unknown, unknown> | Set<unknown>;

/** The time that the keys of one message have wasted so far, in milliseconds. */
export interface Waste {
  time: number;
}

/** Samples the keys of a table, or of objects, and measures them if they are slow. */
export class CollisionGuard {
  readonly #waste: Waste;
  /** Keys until the next sample. */
  #next = STRIDE;
  #taken = 0;
  #since = now();
  readonly #sample: unknown[] = [];
  /** The time that its keys have wasted, including pauses of the thread. */
  #wasted = 0;
  #measured = 0;
  #slow = 0;
  /** The additional time of the slow keys. */
  #excess = 0;

  /** @param waste The wasted time of the message. */
  constructor(waste: Waste) {
    this.#waste = waste;
  }

  /**
   * Counts a key of a map or a set.
   *
   * @param table The table, which has the key.
   * @param key The key.
   * @returns Whether the keys collide.
   */
  collides(table: KeyTable, key: unknown): boolean {
    if (--this.#next > 0) return false;
    // V8 finds the newest of colliding keys first, so old keys are slow. Each key is
    // in the sample with the same probability.
    this.#take(key, Math.floor(Math.random() * (this.#taken + 1)));
    return this.#isDue(ORDINARY_KEY_TIME) && this.#measure(table);
  }

  /**
   * Counts a property's name.
   *
   * @param record The object, which has the property.
   * @param name The name.
   * @returns Whether the names collide.
   */
  collidesIn(record: object, name: string): boolean {
    if (--this.#next > 0) return false;
    // V8 finds the oldest of colliding names first, so new names are slow.
    this.#take(name, this.#taken % LOOK_INTERVAL);
    return this.#isDue(ORDINARY_NAME_TIME) &&
      this.#measureNames(record);
  }

  /** Measures the sample; returns whether its keys collide. */
  #measure(table: KeyTable): boolean {
    for (const [index, key] of this.#sample.entries()) {
      const absent = ABSENT_KEYS[index % ABSENT_KEYS.length];
      this.#count(() => table.has(key), () => table.has(absent));
    }
    return this.#areMany();
  }

  #measureNames(record: object): boolean {
    for (const name of this.#sample) {
      if (typeof name !== "string" || name.length > MAX_NAME_LENGTH) continue;
      const absent = name + SUFFIX;
      // V8 caches where a string was found, so each lookup needs a new string.
      this.#count(
        () => Object.hasOwn(record, copyOf(name)),
        () => Object.hasOwn(record, copyOf(absent)),
      );
    }
    return this.#areMany();
  }

  #take(key: unknown, slot: number): void {
    this.#next = randomStride(STRIDE);
    this.#taken++;
    if (slot < SAMPLE_SIZE) this.#sample[slot] = key;
  }

  /** Whether to measure: the last keys took long. */
  #isDue(ordinaryTime: number): boolean {
    if (this.#taken % LOOK_INTERVAL !== 0) return false;
    const since = this.#since;
    this.#since = now();
    const wasted = this.#since - since - ordinaryTime;
    if (wasted <= 0) return false;
    this.#wasted += wasted;
    this.#waste.time += wasted;
    return this.#waste.time > MAX_WASTE;
  }

  #count(lookUp: () => boolean, lookUpStranger: () => boolean): void {
    this.#measured++;
    // Most keys are fast at the first lookup.
    if (fastest(lookUp, 1) <= MIN_SLOW_TIME) return;
    const excess = excessTime(lookUp, lookUpStranger);
    if (excess === 0) return;
    this.#slow++;
    this.#excess += excess;
  }

  #areMany(): boolean {
    if (
      this.#slow < MIN_SLOW_KEYS ||
      this.#slow * MIN_SLOW_SHARE < this.#measured
    ) return false;
    // Adding a key takes as long as a lookup. Further time was a pause of the thread.
    const estimate = this.#excess / this.#measured * this.#taken * STRIDE;
    const pause = this.#wasted - estimate * MAX_ESTIMATE_RATIO;
    if (pause > 0) {
      this.#wasted -= pause;
      this.#waste.time -= pause;
    }
    return this.#waste.time > MAX_WASTE;
  }
}

/** Uses the results of lookups, which V8 would optimize away otherwise. */
let found = 0;

/** The additional milliseconds of a lookup; 0 unless it takes many times as long. */
function excessTime(
  lookUp: () => boolean,
  lookUpStranger: () => boolean,
): number {
  const before = fastest(lookUp, ROUNDS);
  const reference = fastest(lookUpStranger, ROUNDS);
  // Again, because V8 may have switched to slower code in between.
  const after = fastest(lookUp, ROUNDS);
  const limit = Math.max(MIN_SLOW_TIME, reference * MAX_RATIO);
  const time = Math.min(before, after);
  return time > limit ? time - reference : 0;
}

/** Milliseconds of the fastest of several lookups. */
function fastest(lookUp: () => boolean, rounds: number): number {
  let shortest = Infinity;
  for (let round = 0; round < rounds; round++) {
    const start = now();
    if (lookUp()) found = found + 1 | 0;
    shortest = Math.min(shortest, now() - start);
  }
  return shortest;
}

/** A new string with the same characters. */
function copyOf(text: string): string {
  return `${text} `.slice(0, -1);
}
