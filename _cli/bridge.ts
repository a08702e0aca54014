// Copyright 2026 the Duplex authors. MIT license.

/**
 * The bridge between a peer and its worker. It passes on messages, backpressure,
 * goodbyes and failures in both directions, as if the two were connected directly.
 *
 * @module
 */

import { withoutStack } from "../_base/errors.ts";
import { messageOf } from "../_base/text.ts";
import { settlesWithin } from "../_base/waiting.ts";
import {
  ClosedError,
  DeadlockError,
  type Duplex,
  PeerExitError,
  ProtocolError,
} from "../duplex.ts";

/** The two ends of a bridge. */
export type Side = "peer" | "worker";

/** The failure that ended a bridge. */
export interface Collapse {
  /** The side that failed. */
  readonly side: Side;
  readonly error: unknown;
}

/**
 * Milliseconds for passing on the last messages of a side that has ended, and for the
 * other side to close: the time that `close` waits by default.
 */
const DRAIN_TIMEOUT = 5_000;

/**
 * The limit on the characters of a worker's standard error in the reason that its
 * peer receives; the reason of an abort has at most 3 KiB.
 */
const MAX_STDERR_LENGTH = 400;

/**
 * Connects a peer and its worker until both have ended. If one ends, so does the
 * other.
 *
 * @param peer The duplex to the peer.
 * @param worker The duplex to the worker.
 * @param drainTimeout Milliseconds for a side to end after the other one.
 * @returns The failure; `undefined` if both sent a goodbye. Never rejects.
 */
export function bridge(
  peer: Duplex,
  worker: Duplex,
  drainTimeout: number = DRAIN_TIMEOUT,
): Promise<Collapse | undefined> {
  return new Bridge(peer, worker, drainTimeout).ended;
}

class Bridge {
  readonly #peer: Duplex;
  readonly #worker: Duplex;
  readonly #drainTimeout: number;
  readonly #toWorker: Promise<void>;
  readonly #toPeer: Promise<void>;
  #collapse: Collapse | undefined;
  /** Whether the peer has sent its goodbye. */
  #isLeaving = false;
  readonly ended: Promise<Collapse | undefined>;

  constructor(peer: Duplex, worker: Duplex, drainTimeout: number) {
    this.#peer = peer;
    this.#worker = worker;
    this.#drainTimeout = drainTimeout;
    this.#toWorker = this.#pass("peer", "worker");
    this.#toPeer = this.#pass("worker", "peer");
    const parts = [
      this.#toWorker,
      this.#toPeer,
      this.#watchPeer(),
      this.#watchWorker(),
    ];
    this.ended = Promise.all(parts).then(() => this.#collapse);
  }

  /** Passes on the messages of a side, and its goodbye. Never rejects. */
  async #pass(from: Side, to: Side): Promise<void> {
    const source = this.#duplex(from);
    const target = this.#duplex(to);
    const messages = source[Symbol.asyncIterator]();
    for (;;) {
      let next: IteratorResult<unknown>;
      try {
        next = await messages.next();
      } catch (error) {
        return this.#fail(from, error);
      }
      if (next.done) break;
      try {
        await send(target, next.value);
      } catch (error) {
        return await this.#onUnsent(to, error);
      }
    }
    if (from === "peer") this.#isLeaving = true;
    else if (this.#isLeaving && !await this.#endsWell()) return;
    // The other direction stays open. `closed` reports a failure.
    await target.writable.close().catch(() => {});
  }

  /**
   * Whether a worker ends without an error after both goodbyes. The goodbye is not
   * passed on before, so that the peer can still receive the error.
   */
  async #endsWell(): Promise<boolean> {
    try {
      await this.#worker.closed;
      return true;
    } catch (error) {
      this.#fail("worker", error);
      return false;
    }
  }

  /** A message could not be sent: its receiver has ended or cannot receive it. */
  async #onUnsent(to: Side, error: unknown): Promise<void> {
    // Messages that a dead worker sent before may still arrive.
    if (to === "worker" && error instanceof PeerExitError) {
      await settlesWithin(this.#toPeer, this.#drainTimeout);
    }
    this.#fail(to, error);
  }

  async #watchPeer(): Promise<void> {
    try {
      await this.#peer.closed;
    } catch (error) {
      this.#fail("peer", error);
      return;
    }
    await settlesWithin(this.#toWorker, this.#drainTimeout);
    const closed = this.#worker.close({ timeout: this.#drainTimeout });
    await closed.catch((error) => this.#fail("worker", error));
  }

  async #watchWorker(): Promise<void> {
    try {
      await this.#worker.closed;
    } catch (error) {
      if (error instanceof PeerExitError) {
        await settlesWithin(this.#toPeer, this.#drainTimeout);
      }
      this.#fail("worker", error);
      return await this.#peer.closed.catch(() => {});
    }
    await this.#toPeer;
    // The worker has exited before the goodbye of the peer, if there is none yet.
    const closed = this.#peer.close({ timeout: this.#drainTimeout });
    await closed.catch((error) => this.#fail("peer", error));
  }

  /** Ends both sides with the first failure. */
  #fail(side: Side, error: unknown): void {
    if (this.#collapse !== undefined) return;
    this.#collapse = { side, error };
    const reason = reasonOf(side, error);
    this.#peer.abort(reason);
    this.#worker.abort(reason);
  }

  #duplex(side: Side): Duplex {
    return side === "peer" ? this.#peer : this.#worker;
  }
}

/**
 * Sends a message. A deadlock between the peer and the worker is also detected by
 * the one that waits in `send`, which must resolve it; the bridge sends again.
 */
async function send(target: Duplex, message: unknown): Promise<void> {
  for (;;) {
    try {
      return await target.send(message);
    } catch (error) {
      if (!(error instanceof DeadlockError)) throw error;
    }
  }
}

/**
 * The reason that the other side receives for a failure. The reason of an abort is
 * passed on; another error is sent without the details of this program.
 *
 * @param side The side that failed.
 * @param error The failure.
 * @returns The reason of an abort.
 */
export function reasonOf(side: Side, error: unknown): unknown {
  const isOwn = error instanceof ClosedError ||
    error instanceof PeerExitError || error instanceof ProtocolError;
  if (!isOwn) return error;
  const message = error instanceof ProtocolError
    ? `The ${side} broke the protocol: ${messageOf(error)}`
    : messageOf(error);
  const exit = error instanceof PeerExitError ? error : undefined;
  const reason = new PeerExitError(message, {
    code: exit?.code ?? null,
    signal: exit?.signal ?? null,
    stderr: exit?.stderr.slice(-MAX_STDERR_LENGTH) ?? "",
  });
  return withoutStack(reason);
}
