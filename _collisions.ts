// Copyright 2026 the Duplex authors. MIT license.

/**
 * Keeps a peer from choosing numbers that all fall into one bucket of a `Map`
 * or a `Set`, where each insertion walks past all earlier ones: 20 000 such
 * keys, in 100 KB, cost half a second, four times as many sixteen times that.
 *
 * V8 hashes strings with a secret seed and objects at random, but numbers and
 * bigints by fixed functions, which are followed here. Should V8 change them,
 * this finds nothing; it never changes what a map holds.
 *
 * @module
 */

/**
 * How many earlier keys the insertions of one message may walk past: some ten
 * milliseconds. Keys that nobody chose walk past one or two each, which is
 * allowed for on top.
 */
const MAX_WALK = 4_000_000;

/** Maps below this size cost nothing worth counting. */
const MIN_COUNTED = 128;

const float64 = new Float64Array(1);
const words = new Uint32Array(float64.buffer);

/** V8's hash of a 32-bit integer. */
function hashInt32(value: number): number {
  let hash = value | 0;
  hash = ~hash + (hash << 15) | 0;
  hash ^= hash >>> 12;
  hash = hash + (hash << 2) | 0;
  hash ^= hash >>> 4;
  hash = Math.imul(hash, 2057);
  return hash ^ hash >>> 16;
}

/** V8's hash of 64 bits, with the arithmetic spelled out in two words. */
function hashInt64(high: number, low: number): number {
  // hash = ~hash + (hash << 18)
  let sum = (~low >>> 0) + (low << 18 >>> 0);
  high = ~high + (high << 18 | low >>> 14) + (sum > 0xffff_ffff ? 1 : 0) | 0;
  low = sum | 0;
  // hash ^= hash >>> 31
  low ^= high << 1 | low >>> 31;
  high ^= high >>> 31;
  // hash *= 21
  const product = (low >>> 0) * 21;
  high = Math.imul(high, 21) + Math.floor(product / 0x1_0000_0000) | 0;
  low = product | 0;
  // hash ^= hash >>> 11
  low ^= high << 21 | low >>> 11;
  high ^= high >>> 11;
  // hash += hash << 6
  sum = (low >>> 0) + (low << 6 >>> 0);
  high = high + (high << 6 | low >>> 26) + (sum > 0xffff_ffff ? 1 : 0) | 0;
  low = sum | 0;
  // hash ^= hash >>> 22
  return low ^ (high << 10 | low >>> 22);
}

/** V8's hash of a number or a bigint. */
function hash(key: number | bigint): number {
  if (typeof key === "bigint") {
    const magnitude = BigInt.asUintN(64, key < 0n ? -key : key);
    return hashInt64(
      Number(magnitude >> 32n),
      Number(magnitude & 0xffff_ffffn),
    );
  }
  if ((key | 0) === key) return hashInt32(key);
  float64[0] = key;
  return hashInt64(words[1]!, words[0]!);
}

/** Counts, over one message, how far insertions have to walk. */
export class CollisionGuard {
  #walked = 0;

  /**
   * Starts a map or a set.
   *
   * @param count How many keys it is going to have at most.
   * @returns The lengths of its buckets, or `undefined` for a small one.
   */
  start(count: number): Uint32Array | undefined {
    if (count < MIN_COUNTED) return undefined;
    // V8 keeps two entries a bucket, in a power of two of buckets.
    return new Uint32Array(2 ** (31 - Math.clz32(count)) / 2);
  }

  /**
   * Counts a key in.
   *
   * @param buckets What {@linkcode CollisionGuard.start} gave.
   * @param key A key of the map.
   * @returns Whether the message may go on.
   */
  admits(buckets: Uint32Array, key: unknown): boolean {
    if (typeof key !== "number" && typeof key !== "bigint") return true;
    const slot = hash(key) & (buckets.length - 1);
    // The first few of a bucket are the ordinary case.
    const walk = buckets[slot]!++;
    if (walk > 8) this.#walked += walk;
    return this.#walked <= MAX_WALK;
  }
}
