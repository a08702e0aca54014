// Copyright 2026 the Duplex authors. MIT license.

/**
 * TLS on the opener's side, by `Deno.startTls`.
 *
 * Deno keeps the file of a connection open until its TLS handshake has ended,
 * also after `close`. Against a server that stalls, every attempt that times out
 * would keep a file. So few handshakes with an address are under way at a time.
 * An attempt beyond these, or after an abandoned handshake, sends a probe first:
 * the start of a handshake over a connection that can be closed.
 *
 * @module
 */

import { setNoDelay, SystemConnection } from "./connection.ts";
import { clientHello } from "./tls.ts";
import { MAX_TIMER } from "../_base/waiting.ts";

/**
 * Handshakes with an address that are under way at a time without a probe: enough
 * for most programs to open all their sockets, as a listener reports each probe as
 * a peer that failed.
 */
const MAX_DIRECT = 32;

/** Handshakes with an address that are under way at a time after a probe. */
const MAX_PROBED = 8;

/**
 * Handshakes with an address in a row that are abandoned although a probe was
 * answered, before there is a pause. An attacker causes them, or a network that
 * loses most packets.
 */
const MAX_STALLED = 8;

/** Milliseconds between two handshakes then: each may keep a file. */
const STALLED_PAUSE = 60_000;

/** Addresses that are recorded; the oldest record is dropped for a new one. */
const MAX_ADDRESSES = 1_000;

/** Where to connect to, and which certificates are trusted. */
export interface SecureTarget {
  readonly hostname: string;
  readonly port: number;
  /** Certificates in PEM that are trusted in addition to the system's. */
  readonly caCerts: readonly string[];
}

/** The handshakes with one address. */
class Handshakes {
  /** How many are under way, by whether a probe was answered before. */
  readonly #underWay = { direct: 0, probed: 0 };
  /** How many were abandoned since the last one was completed. */
  #abandoned = 0;
  /** Those of them that were abandoned after a probe was answered. */
  #stalled = 0;
  /** When the last of these began or was abandoned, by `performance.now`. */
  #latest = 0;
  /** Resolves when a handshake ends. */
  #ended = Promise.withResolvers<void>();

  /** Waits until a handshake may begin, and counts it as under way. */
  async begin(target: SecureTarget, signal: AbortSignal): Promise<Kind> {
    const underWay = this.#underWay;
    let probedAt: number | undefined;
    for (;;) {
      signal.throwIfAborted();
      if (this.#abandoned === 0 && underWay.direct < MAX_DIRECT) {
        underWay.direct++;
        return "direct";
      }
      // The answer holds until another handshake is abandoned.
      if (probedAt !== this.#abandoned) {
        probedAt = this.#abandoned;
        await probe(target, signal);
      }
      if (this.#mayBegin()) {
        underWay.probed++;
        return "probed";
      }
      await unlessAborted(this.#ended.promise, signal);
    }
  }

  /** Whether a handshake may begin after a probe; throws in the pause. */
  #mayBegin(): boolean {
    if (this.#stalled < MAX_STALLED) {
      return this.#stalled + this.#underWay.probed < MAX_PROBED;
    }
    const now = performance.now();
    const left = this.#latest + STALLED_PAUSE - now;
    if (left > 0) throw stalledError(this.#stalled, left);
    this.#latest = now;
    return true;
  }

  /** Notes how a handshake has ended. */
  end(kind: Kind, how: "completed" | "abandoned" | "failed"): void {
    this.#underWay[kind]--;
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

  /** Whether there is nothing to remember. */
  get isIdle(): boolean {
    const { direct, probed } = this.#underWay;
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

/** An error about a server that answers probes, but finishes no handshake. */
function stalledError(count: number, left: number): DOMException {
  return new DOMException(
    `the server did not finish ${count} TLS handshakes in a row: the next attempt is possible in ${
      Math.ceil(left / 1_000)
    } s`,
    "TimeoutError",
  );
}

/** Connects with TLS; an abort ends the attempt with the signal's reason. */
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

/** Connects and makes the handshake; `onEnd` gets how it has ended. */
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
    // An abort up to here has reached no listener.
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

/** Connects; an abort ends the attempt with the signal's reason. */
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
      // Deno has closed it, if it failed late.
    }
    throw error;
  }
}

/**
 * Waits until the server answers a TLS handshake, over a connection of its own
 * that is then closed. A server that ends the connection has answered, too.
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
    // What is wrong is found out by the attempt itself.
  } finally {
    signal.removeEventListener("abort", onAbort);
    connection.close();
  }
  signal.throwIfAborted();
}

/** Waits for a promise that cannot reject; an abort throws the signal's reason. */
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
