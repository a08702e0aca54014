// Copyright 2026 the Duplex authors. MIT license.

/**
 * The opener's side: connects, makes the handshake and opens the duplex. If a
 * session loses its connection, it connects again.
 *
 * @module
 */

import { formatAddress } from "../_base/address.ts";
import { SystemConnection } from "./connection.ts";
import { inContext, RefusedError } from "./errors.ts";
import {
  type Established,
  isVerdict,
  openHandshake,
  type OwnSession,
} from "./handshake.ts";
import type { Backoff, OpenerOptions, Target } from "./options.ts";
import { connectTcp, connectTls, sleep } from "./secure.ts";
import { SocketSession } from "./session.ts";
import { type Resumption, SocketStream } from "./stream.ts";
import { reasonText } from "../_base/text.ts";
import { MAX_TIMER } from "../_base/waiting.ts";

/** A duplex that is being opened. */
export class SocketOpener<In, Out> {
  readonly #address: string;
  readonly #options: OpenerOptions;
  readonly #dialing = new AbortController();
  /** The duplex, once the handshake is done. */
  duplex: SocketSession<In, Out> | undefined;

  constructor(options: OpenerOptions) {
    this.#address = formatAddress(options.target.address);
    this.#options = options;
  }

  /** The attempt, for errors. */
  get attempt(): string {
    return `Cannot open a socket to "${this.#address}"`;
  }

  async open(): Promise<void> {
    const { target, limits, backoff, replayBytes } = this.#options;
    const { connection, terms } = await this.#dial();
    const resumption = terms.session === undefined
      ? undefined
      : new ReconnectingResumption(target, backoff, replayBytes);
    const stream = new SocketStream(this.#address, resumption);
    resumption?.watch(stream, terms.session!);
    const duplex = new SocketSession<In, Out>(stream, limits, this.#address);
    this.duplex = duplex;
    stream.attach(connection, terms.heartbeat);
    try {
      await duplex.open();
    } catch (error) {
      await duplex.closed.catch(() => {});
      throw error;
    }
  }

  fail(error: unknown): void {
    this.#dialing.abort(error);
    this.duplex?.fail(error);
  }

  async #dial(): Promise<Established> {
    const { signal } = this.#dialing;
    try {
      return await dial(this.#options.target, signal);
    } catch (error) {
      if (error === signal.reason) throw error;
      throw inContext(this.attempt, error);
    }
  }
}

/** Connects and makes the handshake; rejects with the signal's reason if it aborts. */
async function dial(
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
    // The timeout may have passed while the error was sent to the peer.
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

/** Connects again when a session has lost its connection. */
class ReconnectingResumption implements Resumption {
  readonly replayBytes: number;
  readonly #target: Target;
  readonly #backoff: Backoff;
  readonly #ended = new AbortController();
  #stream: SocketStream | undefined;
  #session = "";

  constructor(target: Target, backoff: Backoff, replayBytes: number) {
    this.#target = target;
    this.#backoff = backoff;
    this.replayBytes = replayBytes;
  }

  /** Sets the stream, and the name of its session. */
  watch(stream: SocketStream, session: string): void {
    this.#stream = stream;
    this.#session = session;
  }

  onDetached(cause: unknown): void {
    this.#reconnect(this.#stream!, cause);
  }

  onEnded(): void {
    this.#ended.abort();
  }

  async #reconnect(stream: SocketStream, lost: unknown): Promise<void> {
    const { timeout } = this.#backoff;
    const deadline = performance.now() + timeout;
    let cause = lost;
    let when = ` within ${timeout} ms`;
    for (let attempt = 0;; attempt++) {
      const left = deadline - performance.now();
      if (left < 1) break;
      // An attempt has at least half of the remaining time.
      const delay = Math.min(delayBefore(attempt, this.#backoff), left / 2);
      await sleep(delay, this.#ended.signal);
      if (this.#ended.signal.aborted) return;
      try {
        const { connection, terms } = await this.#dial(stream, left - delay);
        return stream.attach(connection, terms.heartbeat, terms.received);
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
    stream.abandon(new Error(text, { cause }));
  }

  async #dial(stream: SocketStream, left: number): Promise<Established> {
    const attempt = new AbortController();
    const late = new DOMException("It did not answer in time", "TimeoutError");
    const timeout = Math.min(left, this.#target.timeout, MAX_TIMER);
    const timer = setTimeout(() => attempt.abort(late), timeout);
    const onEnded = () => attempt.abort();
    this.#ended.signal.addEventListener("abort", onEnded, { once: true });
    try {
      const own = { session: this.#session, received: stream.received };
      return await dial(this.#target, attempt.signal, own);
    } finally {
      clearTimeout(timer);
      this.#ended.signal.removeEventListener("abort", onEnded);
    }
  }
}

/** Whether another attempt would fail with the same error. */
function isFinal(error: unknown): boolean {
  return error instanceof RefusedError &&
    (error.refusal === "session" || error.refusal === "closed");
}

/**
 * Milliseconds before an attempt. They grow by the multiplier up to the maximum,
 * less a random part, so that not all openers connect at once to a listener that was
 * restarted.
 */
function delayBefore(
  attempt: number,
  { minDelay, maxDelay, multiplier, jitter }: Backoff,
): number {
  const most = Math.min(maxDelay, minDelay * multiplier ** attempt);
  return (1 - jitter * Math.random()) * most;
}
