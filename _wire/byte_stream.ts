// Copyright 2026 the Duplex authors. MIT license.

/**
 * The interface of a transport that carries bytes.
 *
 * @module
 */

/** Messages that were posted separately from the stream, by their numbers. */
export interface Posts {
  /** Whether the message with this number has arrived. */
  has(number: number): boolean;
  /** Takes a message out. It must have arrived. */
  take(number: number): unknown;
  /** Settles when a message has arrived; with `false` if none will arrive any more. */
  arrival(): Promise<boolean>;
}

/** The two-way stream of bytes that a transport offers. */
export interface ByteStream {
  /**
   * Reads some bytes into `into` and returns the part that was filled, in the
   * same memory though perhaps under another buffer; `null` at the end. Never
   * called while an earlier read is under way.
   */
  read(into: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer> | null>;
  /** Writes all of `bytes`. Never called while an earlier write is under way. */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /**
   * Writes all of `bytes` before it returns, if the transport can. Called only
   * while so little is in flight that the link's own buffer holds it, so that it
   * does not wait for the peer.
   */
  writeSync?(bytes: Uint8Array<ArrayBuffer>): void;
  /** Messages that were posted separately from the stream and arrived here. */
  readonly posts?: Posts;
  /** Stops reading, or goes on, if reading would keep the process alive. */
  pauseReading?(isPaused: boolean): void;
  /**
   * Waits until the peer has all that was written, if the stream may have to send
   * it again. What arrives meanwhile is still read.
   *
   * @returns Whether it has, within `timeout` milliseconds.
   */
  delivered?(timeout: number): Promise<boolean>;
  /** Returns the error that says how the peer ended, after a read returned the end or failed. */
  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error>;
  /**
   * Ends the stream after both goodbyes, within `timeout` milliseconds.
   *
   * @param unsent Messages that the peer has not acknowledged.
   * @throws {ClosedError} If they may not have arrived, as far as the stream knows.
   */
  close(timeout: number, unsent: readonly unknown[]): Promise<void>;
  /** Ends the stream now; settles when nothing of it is left. */
  destroy(): Promise<void>;
}
