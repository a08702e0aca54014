// Copyright 2026 the Duplex authors. MIT license.

/**
 * Randomness that can be repeated: the seed is printed, and taken from
 * `DUPLEX_SEED` where that is set and may be read.
 *
 * @module
 */

/** The seed of this run. */
export function seed(): number {
  const { state } = Deno.permissions.querySync({
    name: "env",
    variable: "DUPLEX_SEED",
  });
  const given = state === "granted" ? Deno.env.get("DUPLEX_SEED") : undefined;
  const chosen = given === undefined
    ? Math.floor(Math.random() * 2 ** 31)
    : Number(given);
  console.log(`DUPLEX_SEED=${chosen}`);
  return chosen;
}

/**
 * Numbers from 0 to below 1 that depend on the seed alone: mulberry32, by Tommy
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
