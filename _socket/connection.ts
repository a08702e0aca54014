// Copyright 2026 the Duplex authors. MIT license.

/**
 * One connection of a socket: bytes in both directions until it breaks or is shut
 * down.
 *
 * @module
 */

import { settlesWithin } from "../_base/waiting.ts";

/** Bytes of the buffer in which a connection that ends is drained. */
const DRAIN_SIZE = 16 * 1024;

/** A connection, plain, in TLS, or in records. */
export interface Connection {
  /** Reads some bytes into `into`; `null` at the end. */
  read(into: Uint8Array<ArrayBuffer>): Promise<number | null>;
  /** Writes all of `bytes`. Never called while an earlier write is in progress. */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /**
   * Closes the connection so that the peer can still read all that was written:
   * ends this side and reads until the peer has ended its own, or until `timeout`
   * milliseconds have passed.
   *
   * @returns Whether the peer has ended its side.
   */
  shutdown(timeout: number): Promise<boolean>;
  /** Closes the connection at once. */
  close(): void;
  /** Whether a read in progress keeps the program running. */
  setRef(isRef: boolean): void;
}

/** A connection of Deno's. */
export class SystemConnection implements Connection {
  readonly #conn: Deno.Conn;
  #isClosed = false;

  constructor(conn: Deno.Conn) {
    this.#conn = conn;
    // Otherwise a small write waits for the acknowledgement of an earlier one,
    // which the peer's system may delay by 40 ms.
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

  /** Ends the direction to the peer. */
  closeWrite(): Promise<void> {
    return this.#conn.closeWrite();
  }

  setRef(isRef: boolean): void {
    if (isRef) this.#conn.ref();
    else this.#conn.unref();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      this.#conn.close();
    } catch {
      // The system has closed it already.
    }
  }
}

/**
 * Ends this side of a connection and reads until the peer has ended its own. If it
 * were closed with unread bytes, the system would drop what was written.
 *
 * @param connection The connection.
 * @param closeWrite Ends this side.
 * @param timeout Milliseconds for the peer to end its side.
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
  // A connection that breaks is not drained.
  await settlesWithin(drained.catch(() => {}), timeout);
  return isDrained;
}

/** Sends small writes at once. The next read or write reports a broken connection. */
export function setNoDelay(conn: Deno.TcpConn): void {
  try {
    conn.setNoDelay(true);
  } catch {
    // The peer has reset the connection.
  }
}
