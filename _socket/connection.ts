// Copyright 2026 the Duplex authors. MIT license.

/**
 * One connection of a socket: bytes both ways until it breaks, and an end that
 * loses nothing that was written.
 *
 * @module
 */

import { settlesWithin } from "../_base/waiting.ts";

/** Bytes of what is read away while a connection ends. */
const DRAIN_SIZE = 16 * 1024;

/** A connection, as it is or in records. */
export interface Connection {
  /** Reads some bytes into `into`; `null` at the end. */
  read(into: Uint8Array<ArrayBuffer>): Promise<number | null>;
  /** Writes all of `bytes`. Never called while an earlier write is under way. */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /**
   * Ends it so that the far side can still read all that was written: says that
   * nothing more comes, and reads until the far side says so too, or until
   * `timeout` milliseconds are over.
   *
   * @returns Whether the far side has said so.
   */
  shutdown(timeout: number): Promise<boolean>;
  /** Ends it now. */
  close(): void;
}

/** A connection of Deno's. */
export class SystemConnection implements Connection {
  readonly #conn: Deno.Conn;
  #closed = false;

  constructor(conn: Deno.Conn) {
    this.#conn = conn;
    // A small write must not wait until an earlier one is acknowledged, which
    // the far side's system may put off for 40 ms.
    if ("setNoDelay" in conn) setNoDelay(conn as Deno.TcpConn);
  }

  read(into: Uint8Array<ArrayBuffer>): Promise<number | null> {
    return this.#conn.read(into);
  }

  async write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    let start = await this.#conn.write(bytes);
    while (start < bytes.length) {
      start += await this.#conn.write(bytes.subarray(start));
    }
  }

  async shutdown(timeout: number): Promise<boolean> {
    const isDrained = await drain(this, () => this.closeWrite(), timeout);
    this.close();
    return isDrained;
  }

  /** Says that nothing more comes. */
  closeWrite(): Promise<void> {
    return this.#conn.closeWrite();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.#conn.close();
    } catch {
      // The system has closed it already.
    }
  }
}

/**
 * Ends this side of a connection and reads until the peer has ended its own: to
 * close with bytes unread would have the system drop what was written.
 *
 * @param connection The connection.
 * @param closeWrite Ends this side.
 * @param timeout Milliseconds that the peer has.
 * @returns Whether the peer has ended its side.
 */
export async function drain(
  connection: Connection,
  closeWrite: () => Promise<void>,
  timeout: number,
): Promise<boolean> {
  let isDrained = false;
  const drained = (async () => {
    await closeWrite();
    const bytes = new Uint8Array(DRAIN_SIZE);
    while (await connection.read(bytes) !== null);
    isDrained = true;
  })();
  // A connection that breaks meanwhile has not been drained.
  await settlesWithin(drained.catch(() => {}), timeout);
  return isDrained;
}

/** Has small writes leave at once; a connection that is gone tells so later. */
export function setNoDelay(conn: Deno.TcpConn): void {
  try {
    conn.setNoDelay(true);
  } catch {
    // The far side has reset it.
  }
}
