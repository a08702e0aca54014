// Copyright 2026 the Duplex authors. MIT license.

/**
 * A socket as a stream of bytes. It gives signs of life and looks for the far
 * side's; and where a session can be resumed, the stream outlives its
 * connection: what the far side has not acknowledged is kept, and sent again on
 * the next connection from where the far side has received it. So every byte
 * arrives once and in order, and nothing above has to know.
 *
 * @module
 */

import type { ByteStream } from "../_wire/byte_stream.ts";
import { ClosedError, PeerExitError, ProtocolError } from "../_base/errors.ts";
import {
  type ControlFields,
  encodeControl,
  KIND,
} from "../_wire/frame_layout.ts";
import type { Connection } from "./connection.ts";
import { integer } from "./fields.ts";
import { ReplayLog } from "./replay.ts";
import { reasonText } from "../_base/text.ts";
import { MAX_TIMER, settlesWithin } from "../_base/waiting.ts";

/** Heartbeats without a byte after which a peer is taken for dead. */
const MAX_MISSED = 3;

/**
 * Bytes received after which the far side is told of them, so that it need not
 * keep them. PROTOCOL.md fixes it, since a far side reckons with it.
 */
const ACKNOWLEDGED_SIZE = 128 * 1024;

/**
 * The least bytes that a side may keep for sending again: the largest write, which
 * is a message's last part, what the far side need not have acknowledged, and some
 * that is on its way. With less, both sides could wait for each other.
 */
export const MIN_REPLAY_SIZE = 512 * 1024;

/**
 * Milliseconds that a far side has to end its half of a connection; more where only
 * its end tells that the last messages have arrived.
 */
const LINGER = 1_000;
const MAX_LINGER = 5_000;

/** How a link is kept when its connection is lost. */
export interface Resumption {
  /** Bytes that are kept at most for sending again. */
  readonly replaySize: number;
  /**
   * The connection is lost. From now on either {@linkcode SocketLink.attach} or
   * {@linkcode SocketLink.giveUp} is expected.
   */
  onDetached(cause: unknown): void;
  /** The link has ended; no connection is wanted any more. */
  onEnded(): void;
}

/** A socket as a {@linkcode ByteStream}. */
export class SocketLink implements ByteStream {
  readonly #label: string;
  readonly #resumption: Resumption | undefined;
  readonly #log: ReplayLog | undefined;
  #connection: Connection | undefined;
  /** Settles when there is a connection, or there will be none. */
  #attached = Promise.withResolvers<void>();
  /** Why there is no connection any more, and will be none. */
  #gone: { readonly cause: unknown } | undefined;
  #ended = false;
  /** Whether a read has failed; the system says so once, and then the end. */
  #hasBroken = false;
  /** Bytes of the stream received, and of those what the far side was told. */
  #received = 0;
  #told = 0;
  /** Settles when the far side has acknowledged something. */
  #released: PromiseWithResolvers<void> | undefined;
  /** Whether what the far side lacks is being sent again. */
  #replaying = false;
  #writing = false;
  #pinging: Promise<void> | undefined;
  #isPingDue = false;
  /** Whether both sides have said goodbye and wait for what the other has. */
  #isDelivering = false;
  /** Whether anything went out, and came in, since the last heartbeat. */
  #hasWritten = true;
  #hasRead = true;
  #missed = 0;
  #heartbeat: ReturnType<typeof setInterval> | undefined;

  /**
   * @param label What the far side is called in errors.
   * @param resumption How the link outlives its connection, if it does.
   */
  constructor(label: string, resumption?: Resumption) {
    this.#label = label;
    this.#resumption = resumption;
    this.#log = resumption === undefined
      ? undefined
      : new ReplayLog(resumption.replaySize);
  }

  /** Bytes of the stream received, on all connections. */
  get received(): number {
    return this.#received;
  }

  /** Whether it waits for a connection. */
  get isDetached(): boolean {
    return this.#connection === undefined;
  }

  /**
   * Goes on over a new connection.
   *
   * @param connection The connection, both sides of which are greeted.
   * @param heartbeat Milliseconds between signs of life.
   * @param received Bytes of the stream that the far side has received.
   */
  attach(connection: Connection, heartbeat: number, received = 0): void {
    const log = this.#log;
    if (this.#ended || this.#gone !== undefined) return connection.close();
    this.#connection?.close();
    this.#stopHeartbeat();
    if (log !== undefined && (received < log.start || received > log.end)) {
      connection.close();
      return this.giveUp(
        new ProtocolError(
          `Cannot resume a session: the far side says that it has received ${received} bytes, and those from ${log.start} to ${log.end} are kept`,
        ),
      );
    }
    this.#connection = connection;
    this.#told = this.#received;
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

  /** Takes the connection away, since the far side has made another. */
  detach(): void {
    const connection = this.#connection;
    if (connection !== undefined) this.#drop(connection, undefined);
  }

  /** There will be no connection any more. */
  giveUp(cause: unknown): void {
    if (this.#gone !== undefined) return;
    this.#gone = { cause };
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
        if (this.#gone === undefined) continue;
        if (this.#ended || this.#gone.cause === undefined) return null;
        throw this.#gone.cause;
      }
      let size: number | null = null;
      let cause: unknown;
      try {
        size = await connection.read(into);
      } catch (error) {
        cause = error;
        this.#hasBroken = true;
      }
      // What came over a connection that was taken away comes again.
      if (connection !== this.#connection) continue;
      if (size !== null) {
        this.#onReceived(size);
        return into.subarray(0, size);
      }
      if (this.#ended) return null;
      // What breaks the protocol is answered, while the connection stands.
      const isFault = cause instanceof ProtocolError;
      if (isFault && this.#resumption === undefined) throw cause;
      this.#drop(connection, cause);
    }
  }

  async write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (this.#log !== undefined) await this.#roomFor(bytes.length, this.#log);
    while (this.#pinging !== undefined) await this.#pinging;
    this.#writing = true;
    try {
      await this.#send(bytes);
    } finally {
      this.#writing = false;
      if (this.#isPingDue) this.#ping();
    }
  }

  /** Takes the far side's ping. */
  onPing(fields: ControlFields): void {
    const received = integer("a ping", fields, "received");
    this.#log?.release(received);
    this.#onReleased();
  }

  async delivered(timeout: number): Promise<boolean> {
    const log = this.#log;
    if (log === undefined) return true;
    // The far side waits for the same.
    const end = log.end;
    this.#isDelivering = true;
    this.#ping();
    const deadline = performance.now() + timeout;
    while (log.start < end && this.#gone === undefined) {
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
      `Cannot close the connection to "${this.#label}" in good order: the far side has not ended it, and what was sent last may not have arrived`,
      { unsent },
    );
  }

  async destroy(): Promise<void> {
    await this.#end(LINGER);
  }

  /** Ends the link; whether the far side has ended it, too. */
  async #end(linger: number): Promise<boolean> {
    this.#ended = true;
    this.#resumption?.onEnded();
    this.#stopHeartbeat();
    // A ping that is being written would be cut off.
    if (this.#pinging !== undefined) await settlesWithin(this.#pinging, linger);
    // Without a connection the far side has ended it, or it is told elsewhere.
    const isEnded = await this.#connection?.shutdown(linger) ?? true;
    this.giveUp(new PeerExitError("The link was ended"));
    return isEnded && !this.#hasBroken;
  }

  /** The connection is lost, or was taken away. */
  #drop(connection: Connection, cause: unknown): void {
    if (connection !== this.#connection) return;
    this.#stopHeartbeat();
    connection.close();
    this.#connection = undefined;
    this.#replaying = false;
    if (this.#resumption === undefined || this.#ended) {
      return this.giveUp(cause);
    }
    this.#attached = Promise.withResolvers();
    this.#resumption.onDetached(cause);
  }

  /** Sends again what the far side lacks, and what is written meanwhile. */
  async #replay(connection: Connection, log: ReplayLog): Promise<void> {
    this.#replaying = true;
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
    this.#replaying = false;
    if (this.#isPingDue) this.#ping();
  }

  /** Waits while too much is kept that the far side has not acknowledged. */
  async #roomFor(size: number, log: ReplayLog): Promise<void> {
    const { replaySize } = this.#resumption!;
    while (
      log.length > 0 && log.length + size > replaySize &&
      this.#gone === undefined
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
    if (this.#gone !== undefined) {
      throw this.#gone.cause ?? new Error("The far side ended the connection");
    }
    this.#hasWritten = true;
    const connection = this.#connection;
    if (this.#log === undefined) return await connection!.write(bytes);
    this.#log.append(bytes);
    // Without a connection they are sent with all that the far side lacks.
    if (connection === undefined || this.#replaying) return;
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
    // Credit and pings may follow a goodbye, and the far side waits for those, too.
    const isDue = this.#isDelivering ||
      this.#received - this.#told >= ACKNOWLEDGED_SIZE;
    if (isDue) this.#ping();
  }

  #onHeartbeat(): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#missed = this.#hasRead ? 0 : this.#missed + 1;
    this.#hasRead = false;
    if (this.#missed >= MAX_MISSED) {
      const cause = new DOMException(
        `nothing was heard from it for ${MAX_MISSED} heartbeats`,
        "TimeoutError",
      );
      return this.#drop(connection, cause);
    }
    if (!this.#hasWritten && !this.#writing) this.#ping();
    this.#hasWritten = false;
    this.#log?.shrink();
  }

  /**
   * Gives a sign of life, which says what was received; behind a write that is
   * under way.
   */
  #ping(): void {
    this.#isPingDue = this.#writing || this.#replaying ||
      this.#pinging !== undefined;
    if (this.#isPingDue || this.#connection === undefined) return;
    if (this.#log?.isOverfull) {
      const text = "it does not acknowledge what it has received";
      return this.giveUp(new ProtocolError(text));
    }
    this.#pinging = this.#writePing();
  }

  async #writePing(): Promise<void> {
    this.#told = this.#received;
    const frame = encodeControl(KIND.ping, { received: this.#received });
    try {
      await this.#send(frame);
    } catch {
      // The read that is under way tells what is wrong.
    }
    this.#pinging = undefined;
    if (this.#isPingDue) this.#ping();
  }

  #stopHeartbeat(): void {
    clearInterval(this.#heartbeat);
    this.#heartbeat = undefined;
  }
}
