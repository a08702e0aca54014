// Copyright 2026 the Duplex authors. MIT license.

/**
 * Where the far side of a duplex may change while it is open, as that of a queue
 * does whose worker is replaced, calls ask it not to: an answer could come from
 * one who never heard the question, and a call must not be made twice unasked.
 *
 * @module
 */

const claims = new WeakMap<object, () => void>();

/**
 * Says how a duplex keeps to the far side that it has.
 *
 * @param duplex The duplex.
 * @param claim Called before the first call is made; throws a `TypeError` where
 *   there are several far sides.
 */
export function onClaim(duplex: object, claim: () => void): void {
  claims.set(duplex, claim);
}

/** Has a duplex keep to the far side that it has. */
export function claim(duplex: object): void {
  claims.get(duplex)?.();
}
