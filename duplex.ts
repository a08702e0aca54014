// Copyright 2026 the Duplex authors. MIT license.

/**
 * The contract: what a {@linkcode Duplex} promises on every transport, and the errors
 * that it rejects with.
 *
 * ```ts
 * import type { Duplex } from "@duplex/ipc/duplex";
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { assertEquals } from "@std/assert";
 *
 * async function greet(duplex: Duplex<string>) {
 *   await duplex.send("Hello!");
 *   return await duplex.receive();
 * }
 *
 * const [main, worker] = duplexPair<string>();
 * assertEquals(await Promise.all([greet(main), greet(worker)]), [
 *   "Hello!",
 *   "Hello!",
 * ]);
 * await Promise.all([main.close(), worker.close()]);
 * ```
 *
 * @module
 */

import type { Codec } from "./codec.ts";

export {
  ClosedError,
  DeadlockError,
  PeerExitError,
  ProtocolError,
} from "./_base/errors.ts";

/** Options for {@linkcode Duplex.send} and {@linkcode Duplex.trySend}. */
export interface SendOptions {
  /**
   * Cancels the send while it waits for room; it then rejects with the signal's
   * reason. A message that was already passed to the transport is still delivered.
   */
  signal?: AbortSignal;
  /**
   * Buffers that are transferred: they are detached here, and moved instead of copied
   * if the peer is a thread. A peer over shared memory, and the opener of a queue, also
   * receive ports and streams.
   *
   * @default {[]}
   */
  transfer?: Transferable[];
}

/**
 * The result of {@linkcode Duplex.tryReceive}. Its `state` distinguishes the
 * message `undefined` from an empty queue.
 *
 * @typeParam T The type of the messages.
 */
export type ReceiveResult<T> =
  | { state: "ok"; value: T }
  | { state: "empty" }
  | { state: "closed" };

/** Counts of a duplex, from {@linkcode Duplex.stats}. */
export interface DuplexStats {
  /** Messages sent. */
  readonly sent: number;
  /** Messages that have arrived, whether or not they were received. */
  readonly arrived: number;
  /** Bytes of the messages sent, without their headers. */
  readonly bytesSent: number;
  /** Bytes of the messages that have arrived, without their headers. */
  readonly bytesArrived: number;
  /** Messages that have arrived and are waiting for a receive. */
  readonly queued: number;
  /** Messages sent that the peer has not acknowledged. */
  readonly inFlight: number;
  /** Milliseconds during which at least one send waited for room. */
  readonly blockedMs: number;
}

/** Limits that every opening function takes. */
export interface DuplexOptions {
  /**
   * The codec of the messages. The peer must support it. By default both `msgpack`
   * and `json` are offered, and `msgpack` is used if both sides support it.
   *
   * @default {msgpack, or else json}
   */
  codec?: Codec;
  /**
   * Receive window in bytes: how much the peer may send before this side has received
   * it. Memory on each side is at most the window plus one message. The default keeps
   * several messages of a megabyte in flight.
   *
   * @default {4194304}
   */
  windowBytes?: number;
  /**
   * Receive window in messages: how many the peer may send before this side has
   * received them. The default keeps both sides busy with small messages.
   *
   * @default {4096}
   */
  windowMessages?: number;
  /**
   * Bytes of the largest message that this side receives, at most 4294967231. Limits
   * the memory that a peer can make this side allocate.
   *
   * @default {268435456}
   */
  maxMessageBytes?: number;
  /**
   * Milliseconds that both sides may wait for the other to receive before their sends
   * reject with {@linkcode DeadlockError}. `Infinity` disables the check.
   *
   * @default {5000}
   */
  deadlockTimeout?: number;
  /**
   * Milliseconds that {@linkcode Duplex.close} waits by default, also at the end of
   * an `await using` block.
   *
   * @default {5000}
   */
  closeTimeout?: number;
}

/**
 * A two-way channel for messages to a peer: another part of the program, a worker, a
 * process, another machine.
 *
 * - **Order:** messages are received in the order sent. A message that arrives before
 *   it is received is kept. Pending sends and receives are served in the order in
 *   which they were called; two readers share the messages.
 * - **Waiting:** `send` waits while the peer's window is full, so the memory of both
 *   sides is bounded if the reader is slow. `undefined` is a message.
 * - **Values:** a message is copied. The peer receives an equal value, as
 *   {@linkcode Codec} describes. Do not change a message before its send settles.
 * - **Goodbye:** after `close`, or the close of `writable`, nothing more can be sent.
 *   The peer receives the messages sent before, and then the end: iteration stops,
 *   `receive` rejects with {@linkcode ClosedError}. The other direction stays open
 *   until the peer sends its goodbye too. Leaving a `for await` loop early does not close
 *   anything: the remaining messages can still be received.
 * - **Life:** an open duplex to a worker, a process or a socket keeps the program
 *   running, whether or not it is used. Close it, or use `await using`.
 * - **Failure:** if the peer dies or breaks the protocol, everything pending rejects
 *   at once. Messages that had arrived can still be received, except after an
 *   `abort`.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 *
 * @example Usage
 * ```ts
 * import type { Duplex } from "@duplex/ipc/duplex";
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { assertEquals } from "@std/assert";
 *
 * async function double(main: Duplex<number>) {
 *   for await (const number of main) await main.send(number * 2);
 *   await main.close();
 * }
 *
 * const [main, worker] = duplexPair<number>();
 * const done = double(worker);
 * await main.send(21);
 * assertEquals(await main.receive(), 42);
 * await main.close();
 * await done;
 * ```
 */
export interface Duplex<In = unknown, Out = In>
  extends AsyncIterable<In>, AsyncDisposable {
  /**
   * Sends a message; waits while the peer's window is full.
   *
   * @param message The message; the README lists what it may contain. A getter in it
   *   may be read twice: if an object occurs again, or for a thread or JSON.
   * @param options A signal that cancels the send, buffers to transfer.
   * @returns A promise that settles when the message was passed to the transport.
   * @throws The signal's reason if it aborts, or that of an `abort` on either side.
   * @throws {ClosedError} If the duplex was closed; `unsent` has the earlier messages
   *   that were not delivered.
   * @throws {PeerExitError} If the peer ended.
   * @throws {ProtocolError} If the peer broke the protocol.
   * @throws {DeadlockError} If both sides only send.
   * @throws {TypeError} If the message contains a value that cannot be sent; the
   *   error names its path.
   * @throws {RangeError} If the message is larger than the peer's `maxMessageBytes`.
   */
  send(message: Out, options?: SendOptions): Promise<void>;
  /**
   * Sends a message if there is room now.
   *
   * @param message The message.
   * @param options Buffers to transfer; a signal, which is only checked.
   * @returns Whether it was sent. `false` if the peer's window or the write buffer is
   *   full, the duplex has ended, or the peer has not sent its hello yet.
   * @throws The signal's reason, if it has aborted.
   * @throws {TypeError} If the message contains a value that cannot be sent; the
   *   error names its path.
   * @throws {RangeError} If the message is larger than the peer's `maxMessageBytes`.
   */
  trySend(message: Out, options?: SendOptions): boolean;
  /**
   * Receives the next message; waits for one.
   *
   * @param options A signal that stops the waiting; the receive then rejects with its reason.
   * @returns A promise for the message.
   * @throws The signal's reason if it aborts, or that of an `abort` on either side.
   * @throws {ClosedError} If the peer has sent its goodbye and no message is left.
   * @throws {PeerExitError} If the peer ended and no message is left.
   * @throws {ProtocolError} If the peer broke the protocol.
   */
  receive(options?: { signal?: AbortSignal }): Promise<In>;
  /**
   * Receives the next message if one has arrived.
   *
   * @returns The message, or the reason why there is none.
   */
  tryReceive(): ReceiveResult<In>;
  /**
   * The messages as a stream, created on first use. Cancelling it aborts the duplex.
   */
  readonly readable: ReadableStream<In>;
  /**
   * A stream whose chunks are sent, created on first use, so that
   * `input.pipeThrough(duplex)` works. Closing it sends goodbye and leaves the other
   * direction open; aborting it aborts the duplex.
   */
  readonly writable: WritableStream<Out>;
  /**
   * Sends the pending messages and a goodbye, and waits for the peer's goodbye.
   * Messages that the peer still sends can be received meanwhile. Calling it again
   * returns the same promise.
   *
   * A worker ends when both ends have closed. A Web Worker is terminated then. A
   * process exits by itself, at the latest a second after its script has been run to
   * its end, so a timer or a server does not keep it running; what the script awaits
   * at its top level is completed first. A process that has not exited within the
   * timeout is ended. That is no error if it has received all messages.
   *
   * @param options `timeout`: milliseconds to wait for the peer's goodbye, and for a
   *   process to exit, before the duplex is ended without it; `closeTimeout` by
   *   default, `Infinity` waits without limit.
   * @returns A promise that settles when the link is closed.
   * @throws {ClosedError} If the peer does not send its goodbye in time; the link is
   *   closed anyway, and `unsent` has the messages that were not delivered.
   * @throws {PeerExitError} If the peer ended without a goodbye, or with an exit code
   *   other than 0, or had to be ended and has not received all messages.
   * @throws {RangeError} If the timeout is not positive.
   */
  close(options?: { timeout?: number }): Promise<void>;
  /**
   * Ends the duplex now: everything pending rejects with the reason, on this side and
   * at the peer. Only the first call has an effect.
   *
   * @param reason The reason; an `AbortError` by default.
   */
  abort(reason?: unknown): void;
  /**
   * Fulfilled when both sides have sent their goodbyes and the link is closed, rejected if
   * it ended otherwise. Never causes an unhandled rejection.
   */
  readonly closed: Promise<void>;
  /** Counts of messages and bytes so far. */
  readonly stats: DuplexStats;
}
