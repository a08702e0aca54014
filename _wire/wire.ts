// Copyright 2026 the Duplex authors. MIT license.

/**
 * The interface between a session and the carrier of its messages. The session
 * knows messages and counts; the wire knows frames and bytes. A stream of bytes
 * becomes a wire through `FrameWire`; a transport that carries values has a wire
 * of its own.
 *
 * A wire checks everything that a peer sends, and calls its session only with
 * what the protocol allows at that moment.
 *
 * @module
 */

import type { Codec } from "../codec.ts";

/** The limits and the name that a session states in its hello. */
export interface OwnHello {
  /** The opener's first codec that the acceptor has too is the one agreed on. */
  readonly role: "opener" | "acceptor";
  /** The name of this side in errors of both sides. */
  readonly name: string;
  /** The codecs of this side, the preferred one first. */
  readonly codecs: readonly Codec[];
  /** Bytes that the peer may send before this side has received some. */
  readonly windowBytes: number;
  /** Messages that the peer may send before this side has received some. */
  readonly windowMessages: number;
  /** Bytes of the largest message that this side receives. */
  readonly maxMessageBytes: number;
}

/** The peer's hello, checked. */
export interface PeerHello {
  readonly name: string;
  /** The codec that both sides agreed on, for both directions. */
  readonly codec: Codec;
  /** Whether it reads graph form. */
  readonly graph: boolean;
  readonly windowBytes: number;
  readonly windowMessages: number;
  readonly maxMessageBytes: number;
}

/** The counts of a session that its wire writes into frames and checks frames by. */
export interface FlowCounts {
  /** Messages sent. */
  readonly sent: number;
  /** How many of these the peer has acknowledged. */
  readonly acknowledgedByPeer: number;
  /** Bytes of those that it has not acknowledged. */
  readonly bytesInFlight: number;
  /** Messages that have arrived. */
  readonly arrived: number;
  /** How many of these may be acknowledged now. */
  readonly acknowledgeable: number;
  /** How many of these this side has acknowledged. */
  readonly acknowledgedToPeer: number;
  /** Whether the peer has used up its window. */
  readonly isWindowFull: boolean;
}

/** The reports of a wire; a session implements them. */
export interface WireEvents {
  /** The counts of the session, always up to date. */
  readonly flow: FlowCounts;
  /** The peer's hello arrived. */
  onHello(peer: PeerHello): void;
  /**
   * A message arrived. Never called before the peer's hello.
   *
   * @param size Bytes of the message.
   * @param acknowledged How many messages the peer has acknowledged with it.
   */
  onMessage(message: unknown, size: number, acknowledged: number): void;
  /** The peer has acknowledged so many messages, perhaps as many as before. */
  onAcknowledged(count: number): void;
  /**
   * The peer waits for this side to receive.
   *
   * @param acknowledged How many of its messages it knows to be acknowledged.
   * @param isAnswer Whether it answers the same from this side.
   */
  onStall(acknowledged: number, isAnswer: boolean): void;
  /** The peer sends no more messages. All that it sent have arrived. */
  onGoodbye(acknowledged: number): void;
  /** The peer has ended the duplex. */
  onAbort(reason: unknown): void;
  /** The peer sent what the protocol does not allow. */
  onFault(error: Error): void;
  /** A wire that was full has room again. */
  onDrain(): void;
  /** The link ended or broke; `cause` is the error, if there was one. */
  onLost(cause: unknown): void;
}

/** Carries the messages of a session to the peer and back. */
export interface Wire {
  /** Sends the hello and starts to report what arrives. */
  start(events: WireEvents, hello: OwnHello): void;
  /**
   * Whether so much waits to be written that the session should wait for
   * `onDrain` before it adds more.
   */
  readonly isFull: boolean;
  /**
   * Sends a message and returns its size in bytes. It acknowledges what was
   * received.
   *
   * @param transfer Buffers that move with the message.
   * @throws {TypeError} If the message holds a value that cannot be sent.
   * @throws {RangeError} If it is larger than the peer receives.
   */
  message(message: unknown, transfer?: readonly Transferable[]): number;
  /** Acknowledges what was received, also if nothing is new. */
  credit(): void;
  /** Reports that this side waits for the peer to receive. */
  stall(isAnswer: boolean): void;
  /** Sends a goodbye, behind all messages. */
  goodbye(): void;
  /** Reports why this side ends the duplex. The session then calls `destroy`. */
  abort(reason: unknown): void;
  /**
   * Stops reading, or goes on, if reading would keep the process alive. The
   * session pauses when nothing but unneeded credit can arrive.
   */
  pauseReading?(isPaused: boolean): void;
  /**
   * Keeps to the peer that there is, for calls over the session.
   *
   * @throws {TypeError} If there are several peers.
   */
  pinPeer?(): void;
  /** Settles when everything sent so far was handed over. */
  flushed(): Promise<void>;
  /** Returns the error that says how the peer ended, after `onLost`. */
  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error>;
  /**
   * Ends the link after both goodbyes, within `timeout` milliseconds.
   *
   * @param unsent Messages that the peer has not acknowledged.
   * @throws {ClosedError} If they may not have arrived.
   */
  close(timeout: number, unsent: readonly unknown[]): Promise<void>;
  /** Ends the link now; settles when nothing of it is left. */
  destroy(): Promise<void>;
}
