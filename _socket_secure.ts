// Copyright 2026 the Duplex authors. MIT license.

/**
 * TLS on the opener's side, by `Deno.startTls`.
 *
 * Deno keeps the file of a connection open until its TLS handshake has ended,
 * also after `close`. Against a server that stays silent an attempt that has
 * timed out would keep one each. So an address that has been silent once is tried
 * first over a connection that can be closed, and how many handshakes may be
 * abandoned is limited.
 *
 * @module
 */

import { setNoDelay, SystemConnection } from "./_socket_connection.ts";
import { clientHello } from "./_socket_tls.ts";
import { MAX_TIMER } from "./_waiting.ts";

/**
 * Handshakes with an address that may be abandoned one after the other. A server
 * that answers the first attempt of two and not the second causes them: an
 * attacker, or a network that loses most of what is sent.
 */
const MAX_ABANDONED = 8;

/**
 * Milliseconds between two attempts once so many handshakes were abandoned. An
 * attempt that waits ends by its timeout, as it would if the server is silent.
 */
const ABANDONED_PAUSE = 60_000;

/** Where to connect to, and which certificates are trusted. */
export interface SecureTarget {
  readonly hostname: string;
  readonly port: number;
  /** Certificates in PEM that are trusted in addition to the system's. */
  readonly caCerts: readonly string[];
}

/** Handshakes with an address that were abandoned since one was completed. */
interface Abandoned {
  count: number;
  /** When the last one was, in milliseconds of `performance.now`. */
  since: number;
}

/** By host and port. An entry goes when a handshake is completed. */
const abandoned = new Map<string, Abandoned>();

/** Connects with TLS; an abort ends the attempt with the signal's reason. */
export async function connectTls(
  target: SecureTarget,
  signal: AbortSignal,
): Promise<Deno.TlsConn> {
  const key = `${target.hostname}:${target.port}`;
  const earlier = abandoned.get(key);
  if (earlier !== undefined) await awaitAnswer(earlier, target, signal);
  const conn = await connectTcp(target, signal);
  const secured = await startTls(conn, target);
  const onAbort = () => secured.close();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    signal.throwIfAborted();
    await secured.handshake();
    abandoned.delete(key);
    return secured;
  } catch (error) {
    if (!signal.aborted) {
      secured.close();
      throw error;
    }
    const count = (abandoned.get(key)?.count ?? 0) + 1;
    abandoned.set(key, { count, since: performance.now() });
    throw signal.reason;
  } finally {
    signal.removeEventListener("abort", onAbort);
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
 * that is closed then. A server that ends the connection has answered, too.
 */
async function awaitAnswer(
  { count, since }: Abandoned,
  target: SecureTarget,
  signal: AbortSignal,
): Promise<void> {
  if (count >= MAX_ABANDONED) {
    await sleep(since + ABANDONED_PAUSE - performance.now(), signal);
    signal.throwIfAborted();
  }
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
