// Copyright 2026 the Duplex authors. MIT license.

/**
 * The bridge between two duplexes: a peer's and that of its worker. Each gets
 * what the other sends, with its waiting, its goodbye and its failure, as if they
 * were joined without anything in between.
 *
 * @module
 */

import { withoutStack } from "../_socket/errors.ts";
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

/** How a bridge ended that did not end with two goodbyes. */
export interface Collapse {
  /** Whose failure it was. */
  readonly side: Side;
  readonly error: unknown;
}

/**
 * Milliseconds in which the last messages of a side that is gone can still be
 * passed on, and in which the other one can end in good order. As long as `close`
 * waits by default.
 */
const LAST_WORDS = 5_000;

/**
 * Characters of a worker's last words that cross beside the error's message; an
 * abort's reason has room for 3 KiB.
 */
const MAX_STDERR_LENGTH = 400;

/**
 * Joins a peer and its worker until both have ended. Neither outlives the other.
 *
 * @param peer The duplex to the peer.
 * @param worker The duplex to the worker.
 * @param lastWords Milliseconds that a side has when the other one is gone.
 * @returns How it ended, `undefined` if both have said goodbye. Never rejects.
 */
export function bridge(
  peer: Duplex,
  worker: Duplex,
  lastWords: number = LAST_WORDS,
): Promise<Collapse | undefined> {
  return new Bridge(peer, worker, lastWords).ended;
}

class Bridge {
  readonly #peer: Duplex;
  readonly #worker: Duplex;
  readonly #lastWords: number;
  readonly #toWorker: Promise<void>;
  readonly #toPeer: Promise<void>;
  #collapse: Collapse | undefined;
  /** Whether the peer has said goodbye, so that its worker ends with its own. */
  #isLeaving = false;
  readonly ended: Promise<Collapse | undefined>;

  constructor(peer: Duplex, worker: Duplex, lastWords: number) {
    this.#peer = peer;
    this.#worker = worker;
    this.#lastWords = lastWords;
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

  /** Passes on what a side sends, and its goodbye. Never rejects. */
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
    // The other direction stays open. A failure is told by the duplex itself.
    await target.writable.close().catch(() => {});
  }

  /**
   * Whether a worker that has heard and said goodbye ends well. The peer is told
   * if it does not, as long as it has not heard the goodbye.
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

  /** A message could not be sent: its receiver is gone, or cannot take it. */
  async #onUnsent(to: Side, error: unknown): Promise<void> {
    // What a worker that died had sent before may still be on its way.
    if (to === "worker" && error instanceof PeerExitError) {
      await settlesWithin(this.#toPeer, this.#lastWords);
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
    await settlesWithin(this.#toWorker, this.#lastWords);
    const closed = this.#worker.close({ timeout: this.#lastWords });
    await closed.catch((error) => this.#fail("worker", error));
  }

  async #watchWorker(): Promise<void> {
    try {
      await this.#worker.closed;
    } catch (error) {
      if (error instanceof PeerExitError) {
        await settlesWithin(this.#toPeer, this.#lastWords);
      }
      this.#fail("worker", error);
      return await this.#peer.closed.catch(() => {});
    }
    await this.#toPeer;
    // It is gone before the peer said goodbye only if it exited by itself.
    const closed = this.#peer.close({ timeout: this.#lastWords });
    await closed.catch((error) => this.#fail("peer", error));
  }

  /** Ends both sides; the first failure stays. */
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
 * Sends a message. A deadlock that is noticed on one side of a bridge is noticed
 * by whoever sends there as well, and is theirs to resolve.
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
 * What the other side is told of a failure: the reason of an abort as it came,
 * anything else without what only this program can use.
 *
 * @param side Whose failure it was.
 * @param error The failure.
 * @returns The reason for an abort.
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
