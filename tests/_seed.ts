// Copyright 2026 the Duplex authors. MIT license.

/**
 * Reproducible random numbers. The seed is printed. It is the same in every run
 * unless `DUPLEX_SEED` is another number or `random`.
 *
 * @module
 */

const DEFAULT_SEED = 20_261_123;

/** The seed of this run. Requires `--allow-env=DUPLEX_SEED`. */
export function seed(): number {
  const given = Deno.env.get("DUPLEX_SEED") ?? DEFAULT_SEED;
  const chosen = given === "random"
    ? Math.floor(Math.random() * 2 ** 31)
    : Number(given);
  console.log(`DUPLEX_SEED=${chosen}`);
  return chosen;
}

/**
 * Numbers from 0 to below 1 that depend only on the seed: mulberry32, by Tommy
 * Ettinger (2017, public domain).
 */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
