// Copyright 2026 the Duplex authors. MIT license.

/**
 * The seam between a session, which knows messages, and what carries them. A
 * link of bytes comes in through `FrameWire`; a link that clones values has a
 * wire of its own. Nothing above this line knows a byte, nothing below it an
 * application.
 *
 * @module
 */

import type { Codec } from "../codec.ts";

/** What a control frame says, under names that PROTOCOL.md lists. */
export type ControlFields = Record<string, unknown>;

/** The kinds of frame; the first byte of a frame's body. */
export const KIND = {
  hello: 0x01,
  data: 0x02,
  first: 0x03,
  next: 0x04,
  credit: 0x05,
  stall: 0x06,
  ping: 0x08,
  goodbye: 0x09,
  abort: 0x0a,
  posted: 0x0b,
  greeting: 0x0c,
  ready: 0x0d,
} as const;

/** The kinds of frame between two links, of which no session knows. */
export type LinkKind =
  | typeof KIND.ping
  | typeof KIND.greeting
  | typeof KIND.ready;

/** The kinds of frame between two sessions that carry fields and no message. */
export type ControlKind = Exclude<
  typeof KIND[keyof typeof KIND],
  | LinkKind
  | typeof KIND.data
  | typeof KIND.first
  | typeof KIND.next
  | typeof KIND.posted
>;

/** What both hellos agreed on. */
export interface Agreement {
  /** The codec of every message, both ways. */
  readonly codec: Codec;
  /** Bytes of the largest message that the far side takes. */
  readonly maxMessageBytes: number;
}

/** Where a wire brings what arrives; a session is one. */
export interface WireEvents {
  /** A message arrived. The wire never calls it before both hellos. */
  onMessage(
    number: number,
    taken: number,
    message: unknown,
    size: number,
  ): void;
  /** A control frame arrived. */
  onControl(kind: ControlKind, fields: ControlFields): void;
  /** The far side sent what the protocol does not allow. */
  onFault(error: Error): void;
  /** A wire that was full has room again. */
  onDrain(): void;
  /** The link ended or broke; `cause` is what it said, if it said anything. */
  onLost(cause: unknown): void;
}

/** What carries a session's frames to the far side and back. */
export interface Wire {
  /** Starts delivering what arrives. */
  start(events: WireEvents): void;
  /**
   * Whether enough waits to be written that the session should let it leave
   * before it adds more. Until `onDrain`.
   */
  readonly isFull: boolean;
  /** From now on messages travel as both hellos agreed. */
  agree(agreement: Agreement): void;
  /**
   * Queues a message and returns its size in bytes.
   *
   * @param inFlight Bytes sent and not taken yet, before this message.
   * @param transfer Buffers that the caller gives up.
   * @throws {TypeError} If the message holds a value that cannot be sent.
   * @throws {RangeError} If it is larger than the far side takes.
   */
  message(
    number: number,
    taken: number,
    message: unknown,
    inFlight: number,
    transfer?: readonly Transferable[],
  ): number;
  /**
   * Whether nothing is expected any more but credit that nobody waits for. A
   * wire whose reading would keep its process alive does not read meanwhile.
   */
  hold?(held: boolean): void;
  /** Queues a control frame; a goodbye keeps its place behind the messages, every other kind goes first. */
  control(kind: ControlKind, fields: ControlFields, inFlight: number): void;
  /** Settles when everything queued so far was handed over. */
  flushed(): Promise<void>;
  /** Says how the far side ended, after `onLost`. */
  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error>;
  /**
   * Ends the link after both goodbyes, within `timeout` milliseconds.
   *
   * @param unsent Messages that the far side is not known to have taken.
   * @throws {ClosedError} If they may not have arrived.
   */
  close(timeout: number, unsent: readonly unknown[]): Promise<void>;
  /** Ends the link now; settles when nothing of it is left. */
  destroy(): Promise<void>;
}
