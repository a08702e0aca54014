// Copyright 2026 the Duplex authors. MIT license.

/**
 * A socket as a stream of bytes, with heartbeats in both directions. If the session
 * can be resumed, the stream outlives its connection: bytes that the peer has not
 * acknowledged are kept and sent again on the next connection, from the peer's
 * position. So every byte arrives once and in order, and the session does not
 * notice the change.
 *
 * @module
 */

import type { ByteStream } from "../_wire/byte_stream.ts";
import { ClosedError, PeerExitError, ProtocolError } from "../_base/errors.ts";
import { count } from "../_wire/control_frames.ts";
import {
  type ControlFields,
  encodeControl,
  KIND,
} from "../_wire/frame_layout.ts";
import type { Connection } from "./connection.ts";
import { ReplayLog } from "./replay.ts";
import { reasonText } from "../_base/text.ts";
import { MAX_TIMER, settlesWithin } from "../_base/waiting.ts";

/** Heartbeats without a byte after which a peer counts as dead. */
const MAX_MISSED = 3;

/**
 * Bytes received after which they are acknowledged, so that the peer need not keep
 * them. PROTOCOL.md defines it, since the peer's buffer depends on it.
 */
const ACKNOWLEDGED_SIZE = 128 * 1024;

/**
 * Minimum number of bytes that a side keeps for sending again: the largest write
 * (the last part of a message), what the peer need not have acknowledged, and some
 * in flight. With less, both sides could wait for each other.
 */
export const MIN_REPLAY_SIZE: number = 512 * 1024;

/** Milliseconds for the peer to end its half of a connection. */
const LINGER = 1_000;

/** The same, if only the peer's end shows that the last messages have arrived. */
const MAX_LINGER = 5_000;

/** Keeps a stream whose connection is lost, until it has another one. */
export interface Resumption {
  /** Maximum number of bytes kept for sending again. */
  readonly replayBytes: number;
  /**
   * The connection is lost. The next call must be {@linkcode SocketStream.attach} or
   * {@linkcode SocketStream.abandon}.
   */
  onDetached(cause: unknown): void;
  /** The stream has ended; it needs no other connection. */
  onEnded(): void;
}

/** A socket as a {@linkcode ByteStream}. */
export class SocketStream implements ByteStream {
  readonly #label: string;
  readonly #resumption: Resumption | undefined;
  readonly #log: ReplayLog | undefined;
  #connection: Connection | undefined;
  /** Settles when the stream has a connection, or is abandoned. */
  #attached = Promise.withResolvers<void>();
  /** Why the stream will have no other connection. */
  #abandoned: { readonly cause: unknown } | undefined;
  /** Whether this side has ended the stream. */
  #isEnded = false;
  /** Whether a read has failed. The system reports it once, and then the end. */
  #hasBroken = false;
  /** Bytes of the stream received, and of these the ones acknowledged. */
  #received = 0;
  #acknowledged = 0;
  /** Settles when the peer has acknowledged some bytes. */
  #released: PromiseWithResolvers<void> | undefined;
  /** Whether unacknowledged bytes are being sent again. */
  #isReplaying = false;
  #isWriting = false;
  #pinging: Promise<void> | undefined;
  #isPingDue = false;
  /** Whether both sides have sent goodbye and wait for the last acknowledgement. */
  #isDelivering = false;
  /** Whether a connection keeps the program running. */
  #isRef = true;
  /** Whether anything was written and read since the last heartbeat. */
  #hasWritten = true;
  #hasRead = true;
  #missed = 0;
  #heartbeat: ReturnType<typeof setInterval> | undefined;

  /**
   * @param label The address of the peer, for errors.
   * @param resumption Keeps the stream when its connection is lost.
   */
  constructor(label: string, resumption?: Resumption) {
    this.#label = label;
    this.#resumption = resumption;
    this.#log = resumption === undefined
      ? undefined
      : new ReplayLog(resumption.replayBytes);
  }

  /** Bytes of the stream received, on all connections. */
  get received(): number {
    return this.#received;
  }

  /** Whether the stream has no connection. */
  get isDetached(): boolean {
    return this.#connection === undefined;
  }

  /**
   * Continues on a new connection.
   *
   * @param connection The connection, after the handshake.
   * @param heartbeat Milliseconds between heartbeats.
   * @param received Bytes of the stream that the peer has received.
   */
  attach(connection: Connection, heartbeat: number, received = 0): void {
    const log = this.#log;
    if (this.#isEnded || this.#abandoned) return connection.close();
    this.#connection?.close();
    this.#stopHeartbeat();
    if (log !== undefined && (received < log.start || received > log.end)) {
      connection.close();
      return this.abandon(
        new ProtocolError(
          `Cannot resume a session: the peer has received ${received} bytes, and this side has those from ${log.start} to ${log.end}`,
        ),
      );
    }
    this.#connection = connection;
    if (!this.#isRef) connection.setRef(false);
    this.#acknowledged = this.#received;
    this.#hasRead = this.#hasWritten = true;
    this.#missed = 0;
    if (heartbeat <= MAX_TIMER) {
      this.#heartbeat = setInterval(() => this.#onHeartbeat(), heartbeat);
      Deno.unrefTimer(this.#heartbeat);
    }
    this.#attached.resolve();
    if (log !== undefined) {
      log.release(received);
      this.#onReleased();
      this.#replay(connection, log);
    }
  }

  /** Whether the connection, and each later one, keeps the program running. */
  setRef(isRef: boolean): void {
    this.#isRef = isRef;
    this.#connection?.setRef(isRef);
  }

  /** Drops the connection, because the peer has made another one. */
  detach(): void {
    const connection = this.#connection;
    if (connection !== undefined) this.#drop(connection, undefined);
  }

  /** Ends the stream: it will have no other connection. */
  abandon(cause: unknown): void {
    if (this.#abandoned) return;
    this.#abandoned = { cause };
    this.#attached.resolve();
    this.#onReleased();
    this.#connection?.close();
    this.#stopHeartbeat();
  }

  async read(
    into: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer> | null> {
    for (;;) {
      const connection = this.#connection;
      if (connection === undefined) {
        await this.#attached.promise;
        if (this.#abandoned === undefined) continue;
        const { cause } = this.#abandoned;
        if (this.#isEnded || cause === undefined) return null;
        throw cause;
      }
      let size: number | null = null;
      let cause: unknown;
      try {
        size = await connection.read(into);
      } catch (error) {
        cause = error;
        this.#hasBroken = true;
      }
      // What arrived over a dropped connection is sent again.
      if (connection !== this.#connection) continue;
      if (size !== null) {
        this.#onReceived(size);
        return into.subarray(0, size);
      }
      if (this.#isEnded) return null;
      // The session answers a protocol error, which needs the connection.
      const isFault = cause instanceof ProtocolError;
      if (isFault && this.#resumption === undefined) throw cause;
      this.#drop(connection, cause);
    }
  }

  async write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (this.#log !== undefined) await this.#roomFor(bytes.length, this.#log);
    while (this.#pinging !== undefined) await this.#pinging;
    this.#isWriting = true;
    try {
      await this.#send(bytes);
    } finally {
      this.#isWriting = false;
      if (this.#isPingDue) this.#ping();
    }
  }

  /** Handles a ping of the peer. */
  onPing(fields: ControlFields): void {
    const received = count(fields, "received", "a ping");
    this.#log?.release(received);
    this.#onReleased();
  }

  async delivered(timeout: number): Promise<boolean> {
    const log = this.#log;
    if (log === undefined) return true;
    // The peer waits for the same.
    const end = log.end;
    this.#isDelivering = true;
    this.#ping();
    const deadline = performance.now() + timeout;
    while (log.start < end && !this.#abandoned) {
      const left = deadline - performance.now();
      if (left <= 0) return false;
      await settlesWithin(this.#nextRelease(), left);
    }
    return log.start >= end;
  }

  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error> {
    const reason = cause instanceof Error ? `: ${reasonText(cause)}` : "";
    return Promise.resolve(
      new PeerExitError(
        `The connection to "${this.#label}" ended without a goodbye${reason}`,
        { cause, unsent },
      ),
    );
  }

  async close(timeout: number, unsent: readonly unknown[]): Promise<void> {
    const isOpen = unsent.length > 0 && this.#log === undefined;
    const linger = Math.min(timeout, isOpen ? MAX_LINGER : LINGER);
    if (await this.#end(linger) || !isOpen) return;
    throw new ClosedError(
      `Cannot close the connection to "${this.#label}" cleanly: the peer has not ended it, and the last messages may not have arrived`,
      { unsent },
    );
  }

  async destroy(): Promise<void> {
    await this.#end(LINGER);
  }

  /** Ends the stream; returns whether the peer has ended it as well. */
  async #end(linger: number): Promise<boolean> {
    this.#isEnded = true;
    this.#resumption?.onEnded();
    this.#stopHeartbeat();
    // Otherwise a ping in progress would be truncated.
    if (this.#pinging !== undefined) await settlesWithin(this.#pinging, linger);
    // Without a connection, the peer has ended it or the session reports why.
    const isEnded = await this.#connection?.shutdown(linger) ?? true;
    this.abandon(new PeerExitError("The stream was ended"));
    return isEnded && !this.#hasBroken;
  }

  /** Handles the loss of a connection. */
  #drop(connection: Connection, cause: unknown): void {
    if (connection !== this.#connection) return;
    this.#stopHeartbeat();
    connection.close();
    this.#connection = undefined;
    this.#isReplaying = false;
    if (this.#resumption === undefined || this.#isEnded) {
      return this.abandon(cause);
    }
    this.#attached = Promise.withResolvers();
    this.#resumption.onDetached(cause);
  }

  /** Sends unacknowledged bytes again, and those written meanwhile. */
  async #replay(connection: Connection, log: ReplayLog): Promise<void> {
    this.#isReplaying = true;
    let sent = log.start;
    try {
      while (sent < log.end && connection === this.#connection) {
        for (const piece of log.pieces(sent)) {
          await connection.write(piece);
          sent += piece.length;
        }
      }
    } catch (cause) {
      this.#drop(connection, cause);
    }
    if (connection !== this.#connection) return;
    this.#isReplaying = false;
    if (this.#isPingDue) this.#ping();
  }

  /** Waits while too many bytes are kept for sending again. */
  async #roomFor(size: number, log: ReplayLog): Promise<void> {
    const { replayBytes } = this.#resumption!;
    while (
      log.length > 0 && log.length + size > replayBytes &&
      !this.#abandoned
    ) await this.#nextRelease();
  }

  #nextRelease(): Promise<void> {
    return (this.#released ??= Promise.withResolvers()).promise;
  }

  #onReleased(): void {
    this.#released?.resolve();
    this.#released = undefined;
  }

  async #send(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (this.#abandoned) {
      throw this.#abandoned.cause ??
        new Error("The peer ended the connection");
    }
    this.#hasWritten = true;
    const connection = this.#connection;
    if (this.#log === undefined) return await connection!.write(bytes);
    this.#log.append(bytes);
    // The replay sends them, now or on the next connection.
    if (connection === undefined || this.#isReplaying) return;
    try {
      await connection.write(bytes);
    } catch (cause) {
      this.#drop(connection, cause);
    }
  }

  #onReceived(size: number): void {
    this.#hasRead = true;
    this.#received += size;
    if (this.#log === undefined) return;
    // Credit and pings may follow a goodbye, and the peer waits for their
    // acknowledgement as well.
    const isDue = this.#isDelivering ||
      this.#received - this.#acknowledged >= ACKNOWLEDGED_SIZE;
    if (isDue) this.#ping();
  }

  #onHeartbeat(): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#missed = this.#hasRead ? 0 : this.#missed + 1;
    this.#hasRead = false;
    if (this.#missed >= MAX_MISSED) {
      const cause = new DOMException(
        `it sent nothing for ${MAX_MISSED} heartbeats`,
        "TimeoutError",
      );
      return this.#drop(connection, cause);
    }
    if (!this.#hasWritten && !this.#isWriting) this.#ping();
    this.#hasWritten = false;
    this.#log?.shrink();
  }

  /** Sends a ping, which acknowledges what was received, after a write in progress. */
  #ping(): void {
    this.#isPingDue = this.#isWriting || this.#isReplaying ||
      this.#pinging !== undefined;
    if (this.#isPingDue || this.#connection === undefined) return;
    if (this.#log?.isOverfull) {
      const text = "it does not acknowledge the bytes that it has received";
      return this.abandon(new ProtocolError(text));
    }
    this.#pinging = this.#writePing();
  }

  async #writePing(): Promise<void> {
    this.#acknowledged = this.#received;
    const frame = encodeControl(KIND.ping, { received: this.#received });
    try {
      await this.#send(frame);
    } catch {
      // The read in progress reports the error.
    }
    this.#pinging = undefined;
    if (this.#isPingDue) this.#ping();
  }

  #stopHeartbeat(): void {
    clearInterval(this.#heartbeat);
    this.#heartbeat = undefined;
  }
}
