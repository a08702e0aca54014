// Copyright 2026 the Duplex authors. MIT license.

/**
 * What calls ask of the duplex below them, without knowing which it is.
 *
 * Where the far side of a duplex may change while it is open, as that of a queue
 * does whose worker is replaced, they ask it not to: an answer could come from one
 * who never heard the question, and a call must not be made twice unasked. Where
 * one says goodbye by itself, as a worker thread's end does, they ask it to leave
 * that to them.
 *
 * @module
 */

const claims = new WeakMap<object, () => void>();

const servers = new WeakMap<object, () => void>();

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

/**
 * Says how a duplex that says goodbye by itself leaves that to whoever answers
 * calls, since some may be under way.
 *
 * @param duplex The duplex.
 * @param leave Called when methods are exposed over it.
 */
export function onServe(duplex: object, leave: () => void): void {
  servers.set(duplex, leave);
}

/** Says goodbye from now on, once there is nothing to answer any more. */
export function serveCalls(duplex: object): void {
  servers.get(duplex)?.();
}

/** What a duplex says of the messages that it receives. */
export interface Receipts {
  /** Bytes that the peer may have sent and this end has not received. */
  readonly window: number;
  /** Messages that the peer may have sent and this end has not received. */
  readonly windowMessages: number;
  /** Bytes of the message that was received last. */
  readonly size: number;
}

const receipts = new WeakMap<object, Receipts>();

/**
 * Says how much may be on the way to a duplex, and how large a message was.
 *
 * @param duplex The duplex.
 * @param known What it says, kept up to date.
 */
export function onReceipts(duplex: object, known: Receipts): void {
  receipts.set(duplex, known);
}

/** What a duplex says of the messages that it receives, if it does. */
export function receiptsOf(duplex: object): Receipts | undefined {
  return receipts.get(duplex);
}

const closings = new WeakMap<object, () => void>();

/**
 * Has a duplex call a function before it says goodbye, while it can still send.
 *
 * @param duplex The duplex.
 * @param flush Sends what waits.
 */
export function onClosing(duplex: object, flush: () => void): void {
  closings.set(duplex, flush);
}

/** Has what waits sent, before a duplex says goodbye. */
export function announceClosing(duplex: object): void {
  closings.get(duplex)?.();
}
