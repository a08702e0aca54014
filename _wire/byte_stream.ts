// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a byte transport offers, and all that it has to.
 *
 * @module
 */

/** Messages that were posted beside the stream, by their numbers, until they are taken out. */
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
   * Writes all of `bytes` before it returns, where the transport can. Called
   * only while little enough is in flight that the link's own buffer holds it,
   * so that it does not wait for the far side.
   */
  writeSync?(bytes: Uint8Array<ArrayBuffer>): void;
  /**
   * Posts a message beside the stream, to a thread: what no bytes can carry. A
   * frame with its number keeps its place in the stream.
   */
  post?(number: number, message: unknown, transfer: Transferable[]): void;
  /** What was posted beside the stream and came here. */
  readonly posts?: Posts;
  /**
   * Whether nothing is expected any more but credit that nobody waits for. A
   * stream whose reading would keep its process alive does not read meanwhile.
   */
  hold?(held: boolean): void;
  /**
   * Waits until the far side has all that was written, where the stream may have
   * to send it again. What comes meanwhile is still read.
   *
   * @returns Whether it has, within `timeout` milliseconds.
   */
  delivered?(timeout: number): Promise<boolean>;
  /** Says how the far side ended, after a read brought the end or failed. */
  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error>;
  /**
   * Ends the stream after both goodbyes, within `timeout` milliseconds.
   *
   * @param unsent Messages that the far side is not known to have taken.
   * @throws {ClosedError} If they may not have arrived, where the stream can tell.
   */
  close(timeout: number, unsent: readonly unknown[]): Promise<void>;
  /** Ends the stream now; settles when nothing of it is left. */
  destroy(): Promise<void>;
}
