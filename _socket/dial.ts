// Copyright 2026 the Duplex authors. MIT license.

/**
 * The opener's way to a connection: connect, greet, and when the connection of a
 * session is lost, connect again.
 *
 * @module
 */

import { formatAddress, type SocketAddress } from "../_base/address.ts";
import { SystemConnection } from "./connection.ts";
import { RefusedError } from "./errors.ts";
import {
  type Established,
  type HandshakeOffer,
  isVerdict,
  openHandshake,
  type OwnSession,
} from "./handshake.ts";
import type { Resumption, SocketLink } from "./link.ts";
import { connectTcp, connectTls, sleep } from "./secure.ts";
import { reasonText } from "../_base/text.ts";
import { MAX_TIMER } from "../_base/waiting.ts";

/** Where to connect to, and what is wanted there. */
export interface Target {
  readonly address: SocketAddress;
  readonly offer: HandshakeOffer;
  /** Certificates in PEM that vouch for the far side's, beside the system's. */
  readonly caCerts: readonly string[];
  /** Milliseconds for one attempt. */
  readonly timeout: number;
}

/** When to connect again, as `retry` of `@std/async` has it. */
export interface Backoff {
  /** Milliseconds after which it is given up. */
  readonly timeout: number;
  readonly minTimeout: number;
  readonly maxTimeout: number;
  readonly multiplier: number;
  readonly jitter: number;
}

/** Connects and greets; an abort ends the attempt with the signal's reason. */
export async function dial(
  target: Target,
  signal: AbortSignal,
  own?: OwnSession,
): Promise<Established> {
  const conn = await connect(target, signal);
  const connection = new SystemConnection(conn);
  const onAbort = () => connection.close();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    signal.throwIfAborted();
    return await openHandshake(connection, target.offer, own);
  } catch (error) {
    connection.close();
    // Kept if the timeout passed while the abort was sent to the peer.
    if (!isVerdict(error)) signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

async function connect(
  { address, caCerts }: Target,
  signal: AbortSignal,
): Promise<Deno.Conn> {
  signal.throwIfAborted();
  if (address.kind === "unix") {
    return await Deno.connect({ transport: "unix", path: address.path });
  }
  const { kind, hostname, port } = address;
  return kind === "tcp"
    ? await connectTcp({ hostname, port }, signal)
    : await connectTls({ hostname, port, caCerts }, signal);
}

/** Connects again whenever a link has lost its connection. */
export class Reconnector implements Resumption {
  readonly replaySize: number;
  readonly #target: Target;
  readonly #backoff: Backoff;
  readonly #ended = new AbortController();
  #link: SocketLink | undefined;
  #session = "";

  constructor(target: Target, backoff: Backoff, replaySize: number) {
    this.#target = target;
    this.#backoff = backoff;
    this.replaySize = replaySize;
  }

  /** Names the link, and the session that it goes on with. */
  watch(link: SocketLink, session: string): void {
    this.#link = link;
    this.#session = session;
  }

  onDetached(cause: unknown): void {
    this.#reconnect(this.#link!, cause);
  }

  onEnded(): void {
    this.#ended.abort();
  }

  async #reconnect(link: SocketLink, lost: unknown): Promise<void> {
    const { timeout } = this.#backoff;
    const deadline = performance.now() + timeout;
    let cause = lost;
    let when = ` within ${timeout} ms`;
    for (let attempt = 0;; attempt++) {
      const left = deadline - performance.now();
      if (left < 1) break;
      // Each attempt has half of the time that is left, at least.
      const delay = Math.min(backoffOf(attempt, this.#backoff), left / 2);
      await sleep(delay, this.#ended.signal);
      if (this.#ended.signal.aborted) return;
      try {
        const { connection, terms } = await this.#attempt(link, left - delay);
        return link.attach(connection, terms.heartbeat, terms.received);
      } catch (error) {
        cause = error;
        if (!isFinal(error)) continue;
        when = "";
        break;
      }
    }
    const address = formatAddress(this.#target.address);
    const reason = cause === undefined ? "" : `: ${reasonText(cause)}`;
    const text = `Cannot resume the session with "${address}"${when}${reason}`;
    link.giveUp(new Error(text, { cause }));
  }

  async #attempt(link: SocketLink, left: number): Promise<Established> {
    const attempt = new AbortController();
    const late = new DOMException("It did not answer in time", "TimeoutError");
    const most = Math.min(left, this.#target.timeout, MAX_TIMER);
    const timer = setTimeout(() => attempt.abort(late), most);
    const onEnded = () => attempt.abort();
    this.#ended.signal.addEventListener("abort", onEnded, { once: true });
    try {
      const own = { session: this.#session, received: link.received };
      return await dial(this.#target, attempt.signal, own);
    } finally {
      clearTimeout(timer);
      this.#ended.signal.removeEventListener("abort", onEnded);
    }
  }
}

/** Whether it is of no use to try again. */
function isFinal(error: unknown): boolean {
  return error instanceof RefusedError &&
    (error.refusal === "session" || error.refusal === "closed");
}

/**
 * Milliseconds before an attempt: growing by the multiplier up to the most, less
 * a random part, so that not everybody comes at once when a listener is back.
 */
function backoffOf(
  attempt: number,
  { minTimeout, maxTimeout, multiplier, jitter }: Backoff,
): number {
  const most = Math.min(maxTimeout, minTimeout * multiplier ** attempt);
  return (1 - jitter * Math.random()) * most;
}
