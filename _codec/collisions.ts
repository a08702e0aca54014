// Copyright 2026 the Duplex authors. MIT license.

/**
 * Protects hash tables from keys that a peer chose to collide. Such a key is
 * compared with all the others when it is added, so that 40 000 of them in a
 * `Set` take seconds.
 *
 * V8 hashes numbers, bigints and strings that are indexes without a seed, and
 * the seed for other strings is the same in every process of a Deno release: a
 * peer can choose any of them. This check knows nothing of how keys are hashed.
 * It measures: when the last keys took longer than ordinary keys do, it looks up
 * a sample of them again. A key is slow if it takes many times as long as a key
 * that is not in the table, each of several times. A pause of the thread is not
 * taken for a slow key, since it does not return at the same key each time, nor
 * for waste of slow keys, which is estimated from the sample.
 *
 * @module
 */

/**
 * One key in as many, at random, is taken for the sample. A peer that knew which
 * ones could choose the others to collide.
 */
const STRIDE = 16;

/** Keys of the sample between two looks at the clock: some 256 keys. */
const LOOK_INTERVAL = 16;

/**
 * Milliseconds between two looks that ordinary keys stay below: a third of a
 * microsecond for each key of a map or a set, a microsecond for a property's
 * name. What they take beyond that is wasted.
 */
const ORDINARY_KEY_TIME = 0.08;
const ORDINARY_NAME_TIME = 0.25;

/**
 * Milliseconds that the keys of one message may waste before they are measured.
 * Strings such as "65536", "131072" and so on collide although nobody chose them
 * for that: 3000 of them take as long, and are no harm.
 */
const MAX_WASTE = 25;

/** Keys of a map or a set in the sample. A power of two. */
const SAMPLE_SIZE = 64;

/** How often a key is looked up before it is slow. The shortest time counts. */
const ROUNDS = 4;

/**
 * How much longer than another key a key may take. An ordinary one takes up to
 * twice as long, one that collides with 500 others ten times as long.
 */
const MAX_RATIO = 8;

/** Milliseconds below which a lookup is fast on any machine. */
const MIN_SLOW_TIME = 0.001;

/**
 * A message is refused only if at least so many keys are slow. An ordinary key can be slow by chance, where
 * its hash is the one that another message's keys share.
 */
const MIN_SLOW_KEYS = 4;

/** And only if at least one in so many measured keys is slow. */
const MIN_SLOW_SHARE = 256;

/**
 * How much more keys may have wasted than is estimated from the sample, which may
 * have few of the slow ones.
 */
const MAX_ESTIMATE_RATIO = 4;

/**
 * Characters of a property's name from which on it is not measured: to receive
 * it takes as long as to compare its hash with a thousand others.
 */
const MAX_NAME_LENGTH = 4096;

/** The clock, as it was before a program could replace it. */
const now = performance.now.bind(performance);

/** Keys that are in no table of a message; V8 gives an object a random hash. */
const STRANGERS: readonly object[] = [{}, {}, {}, {}];

// An object has no hash before it is looked up or added somewhere.
new Set(STRANGERS);

/** Makes a property's name one that no peer knows. */
const SUFFIX: string = crypto.randomUUID();

/** How many keys to skip, at random, to take one in `stride`. */
export function randomStride(stride: number): number {
  return 1 + Math.floor(Math.random() * (2 * stride - 1));
}

/** A hash table. */
export type KeyTable = Map<unknown, unknown> | Set<unknown>;

/** What the keys of one message have wasted so far, in milliseconds. */
export interface Waste {
  time: number;
}

/** Counts the keys of a table, or of objects, and measures them if they are slow. */
export class CollisionGuard {
  readonly #waste: Waste;
  /** Keys until the next is taken for the sample. */
  #next = STRIDE;
  #taken = 0;
  #since = now();
  readonly #sample: unknown[] = [];
  /** What its keys have wasted by the clock, which runs on in a pause. */
  #wasted = 0;
  #measured = 0;
  #slow = 0;
  /** How much longer the slow keys took than others. */
  #excess = 0;

  /**
   * @param waste Of the message that the keys are in.
   */
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
    // A key is added in front of those that it collides with, so an old one is
    // slow. Each key of the table is equally likely to be in the sample.
    this.#take(key, Math.floor(Math.random() * (this.#taken + 1)));
    return this.#isLookDue(ORDINARY_KEY_TIME) && this.#measure(table);
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
    // A name is found behind those that it collides with, so a new one is slow.
    this.#take(name, this.#taken % LOOK_INTERVAL);
    return this.#isLookDue(ORDINARY_NAME_TIME) &&
      this.#measureNames(record);
  }

  /** Measures the sample; returns whether its keys collide. */
  #measure(table: KeyTable): boolean {
    for (const [index, key] of this.#sample.entries()) {
      const stranger = STRANGERS[index % STRANGERS.length];
      this.#count(() => table.has(key), () => table.has(stranger));
    }
    return this.#areMany();
  }

  #measureNames(record: object): boolean {
    for (const name of this.#sample) {
      if (typeof name !== "string" || name.length > MAX_NAME_LENGTH) continue;
      const stranger = name + SUFFIX;
      // V8 keeps where a string was found: each lookup takes a new string.
      this.#count(
        () => Object.hasOwn(record, copyOf(name)),
        () => Object.hasOwn(record, copyOf(stranger)),
      );
    }
    return this.#areMany();
  }

  #take(key: unknown, slot: number): void {
    this.#next = randomStride(STRIDE);
    this.#taken++;
    if (slot < SAMPLE_SIZE) this.#sample[slot] = key;
  }

  /** Whether it is time to measure, and the last keys took long. */
  #isLookDue(ordinaryTime: number): boolean {
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
    // Most keys are fast the first time.
    if (fastest(lookUp, 1) <= MIN_SLOW_TIME) return;
    const excess = excessOf(lookUp, lookUpStranger);
    if (excess === 0) return;
    this.#slow++;
    this.#excess += excess;
  }

  #areMany(): boolean {
    if (
      this.#slow < MIN_SLOW_KEYS ||
      this.#slow * MIN_SLOW_SHARE < this.#measured
    ) return false;
    // To add a key takes as long as to look one up. What is beyond that was a pause.
    const estimate = this.#excess / this.#measured * this.#taken * STRIDE;
    const pause = this.#wasted - estimate * MAX_ESTIMATE_RATIO;
    if (pause > 0) {
      this.#wasted -= pause;
      this.#waste.time -= pause;
    }
    return this.#waste.time > MAX_WASTE;
  }
}

/** Counts what lookups found: V8 leaves out a lookup whose result is not used. */
let found = 0;

/**
 * How many milliseconds longer one lookup takes than another; 0 unless it takes
 * many times as long.
 */
function excessOf(
  lookUp: () => boolean,
  lookUpStranger: () => boolean,
): number {
  const before = fastest(lookUp, ROUNDS);
  const reference = fastest(lookUpStranger, ROUNDS);
  // Once more: V8 may have gone over to slower code in between.
  const after = fastest(lookUp, ROUNDS);
  const limit = Math.max(MIN_SLOW_TIME, reference * MAX_RATIO);
  const time = Math.min(before, after);
  return time > limit ? time - reference : 0;
}

/** Milliseconds that the fastest of several lookups takes. */
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
