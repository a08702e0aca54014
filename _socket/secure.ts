// Copyright 2026 the Duplex authors. MIT license.

/**
 * TLS on the opener's side, by `Deno.startTls`.
 *
 * Deno keeps the file of a connection open until its TLS handshake has ended, even
 * after `close`. If a server stalls, every attempt that times out keeps a file. So
 * the number of handshakes with an address at a time is limited. Further attempts,
 * and those after an abandoned handshake, send a probe first: the start of a
 * handshake over a connection that can be closed.
 *
 * @module
 */

import { setNoDelay, SystemConnection } from "./connection.ts";
import { clientHello } from "./tls.ts";
import { MAX_TIMER } from "../_base/waiting.ts";

/**
 * Maximum number of handshakes with an address at a time without a probe. Enough for
 * most programs to open all their sockets, since a listener reports a probe as a
 * peer that failed.
 */
const MAX_DIRECT = 32;

/** Maximum number of handshakes with an address at a time after a probe. */
const MAX_PROBED = 8;

/**
 * Number of handshakes in a row, abandoned although a probe was answered, after
 * which there is a pause. The cause is an attacker, or a network that loses most
 * packets.
 */
const MAX_STALLED = 8;

/** Milliseconds between two handshakes in the pause: each may keep a file. */
const STALLED_PAUSE = 60_000;

/** Maximum number of addresses recorded; the oldest one is dropped for a new one. */
const MAX_ADDRESSES = 1_000;

/** The server to connect to, and the trusted certificates. */
export interface SecureTarget {
  readonly hostname: string;
  readonly port: number;
  /** Certificates in PEM that are trusted in addition to the system's. */
  readonly caCerts: readonly string[];
}

/** The handshakes with one address. */
class Handshakes {
  /** Number in progress, by whether a probe was answered before. */
  readonly #running = { direct: 0, probed: 0 };
  /** Number abandoned since the last one was completed. */
  #abandoned = 0;
  /** Of these, the number abandoned after a probe was answered. */
  #stalled = 0;
  /** When the last stalled one began or was abandoned, by `performance.now`. */
  #latest = 0;
  /** Resolves when a handshake ends. */
  #ended = Promise.withResolvers<void>();

  /** Waits until a handshake may begin, and counts it as running. */
  async begin(target: SecureTarget, signal: AbortSignal): Promise<Kind> {
    const running = this.#running;
    let probedAt: number | undefined;
    for (;;) {
      signal.throwIfAborted();
      if (this.#abandoned === 0 && running.direct < MAX_DIRECT) {
        running.direct++;
        return "direct";
      }
      // The answer holds until another handshake is abandoned.
      if (probedAt !== this.#abandoned) {
        probedAt = this.#abandoned;
        await probe(target, signal);
      }
      if (this.#mayBegin()) {
        running.probed++;
        return "probed";
      }
      await unlessAborted(this.#ended.promise, signal);
    }
  }

  /** Whether a handshake may begin after a probe; throws in the pause. */
  #mayBegin(): boolean {
    if (this.#stalled < MAX_STALLED) {
      return this.#stalled + this.#running.probed < MAX_PROBED;
    }
    const now = performance.now();
    const left = this.#latest + STALLED_PAUSE - now;
    if (left > 0) throw stalledError(this.#stalled, left);
    this.#latest = now;
    return true;
  }

  /** Records how a handshake has ended. */
  end(kind: Kind, how: "completed" | "abandoned" | "failed"): void {
    this.#running[kind]--;
    if (how === "completed") {
      this.#abandoned = 0;
      this.#stalled = 0;
    } else if (how === "abandoned") {
      this.#abandoned++;
      if (kind === "probed") {
        this.#stalled++;
        this.#latest = performance.now();
      }
    }
    this.#ended.resolve();
    this.#ended = Promise.withResolvers();
  }

  /** Whether the record can be dropped. */
  get isIdle(): boolean {
    const { direct, probed } = this.#running;
    return direct + probed + this.#abandoned === 0;
  }
}

/** Whether a handshake began without a probe or after one. */
type Kind = "direct" | "probed";

/** By host and port. */
const records = new Map<string, Handshakes>();

function recordOf(key: string): Handshakes {
  let record = records.get(key);
  if (record === undefined) {
    record = new Handshakes();
    records.set(key, record);
    for (const oldest of records.keys()) {
      if (records.size <= MAX_ADDRESSES) break;
      records.delete(oldest);
    }
  }
  return record;
}

/** The error of a server that answers probes and does not finish handshakes. */
function stalledError(count: number, left: number): DOMException {
  return new DOMException(
    `the server did not finish ${count} TLS handshakes in a row: the next attempt is possible in ${
      Math.ceil(left / 1_000)
    } s`,
    "TimeoutError",
  );
}

/** Connects with TLS; rejects with the signal's reason if it aborts. */
export async function connectTls(
  target: SecureTarget,
  signal: AbortSignal,
): Promise<Deno.TlsConn> {
  const key = `${target.hostname}:${target.port}`;
  const record = recordOf(key);
  try {
    const kind = await record.begin(target, signal);
    return await handshake(target, signal, (how) => record.end(kind, how));
  } finally {
    if (record.isIdle && records.get(key) === record) records.delete(key);
  }
}

/** Connects and makes the TLS handshake; `onEnd` is called with its result. */
async function handshake(
  target: SecureTarget,
  signal: AbortSignal,
  onEnd: (how: "completed" | "abandoned" | "failed") => void,
): Promise<Deno.TlsConn> {
  let secured: Deno.TlsConn | undefined;
  const onAbort = () => secured?.close();
  let how: "completed" | "abandoned" | "failed" = "failed";
  try {
    const conn = await connectTcp(target, signal);
    secured = await startTls(conn, target);
    signal.addEventListener("abort", onAbort, { once: true });
    // The signal may have aborted before the listener was added.
    if (signal.aborted) secured.close();
    signal.throwIfAborted();
    await secured.handshake();
    how = "completed";
    return secured;
  } catch (error) {
    if (!signal.aborted) {
      secured?.close();
      throw error;
    }
    if (secured !== undefined) how = "abandoned";
    throw signal.reason;
  } finally {
    signal.removeEventListener("abort", onAbort);
    onEnd(how);
  }
}

/** Connects; rejects with the signal's reason if it aborts. */
export async function connectTcp(
  { hostname, port }: Pick<SecureTarget, "hostname" | "port">,
  signal: AbortSignal,
): Promise<Deno.TcpConn> {
  signal.throwIfAborted();
  // If the signal aborts while the connection is made, Deno throws and leaves the
  // connection open. With a signal that does not throw it returns the connection.
  const cancel = new AbortController();
  cancel.signal.throwIfAborted = () => {};
  const onAbort = () => cancel.abort();
  signal.addEventListener("abort", onAbort, { once: true });
  let conn: Deno.TcpConn;
  try {
    conn = await Deno.connect({ hostname, port, signal: cancel.signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
  if (signal.aborted) {
    conn.close();
    throw signal.reason;
  }
  setNoDelay(conn);
  return conn;
}

async function startTls(
  conn: Deno.TcpConn,
  { hostname, caCerts }: SecureTarget,
): Promise<Deno.TlsConn> {
  try {
    return await Deno.startTls(conn, { hostname, caCerts: [...caCerts] });
  } catch (error) {
    try {
      conn.close();
    } catch {
      // Deno closes it itself after some errors.
    }
    throw error;
  }
}

/**
 * Waits until the server answers a TLS handshake, over a separate connection that is
 * then closed. The end of the connection is an answer as well.
 */
async function probe(
  target: SecureTarget,
  signal: AbortSignal,
): Promise<void> {
  const hello = await clientHello(target.hostname);
  const conn = await connectTcp(target, signal);
  const connection = new SystemConnection(conn);
  const onAbort = () => connection.close();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await connection.write(hello);
    await connection.read(new Uint8Array(1));
  } catch {
    // The attempt after it reports the error.
  } finally {
    signal.removeEventListener("abort", onAbort);
    connection.close();
  }
  signal.throwIfAborted();
}

/** Waits for a promise that never rejects; throws the signal's reason if it aborts. */
async function unlessAborted(
  promise: Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  const { promise: aborted, resolve } = Promise.withResolvers<void>();
  const onAbort = () => resolve();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
  signal.throwIfAborted();
}

/** Waits for `delay` milliseconds, or until the signal aborts. */
export function sleep(delay: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted || delay <= 0) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, Math.min(delay, MAX_TIMER));
    signal.addEventListener("abort", done, { once: true });
  });
}
