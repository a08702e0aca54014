// Copyright 2026 the Duplex authors. MIT license.

/**
 * The contract: what a {@linkcode Duplex} promises, whatever lies between its
 * two ends, and the errors that it rejects with.
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
  type ClosedErrorOptions,
  DeadlockError,
  PeerExitError,
  type PeerExitErrorOptions,
  ProtocolError,
} from "./_base/errors.ts";

/** Options for {@linkcode Duplex.send} and {@linkcode Duplex.trySend}. */
export interface SendOptions {
  /**
   * Takes the message back while it still waits for room; the send then rejects
   * with the signal's reason. What was handed over is not taken back.
   */
  signal?: AbortSignal;
  /**
   * Buffers that are given up: they are detached here, and moved rather than
   * copied where the far side is a thread.
   *
   * @default {[]}
   */
  transfer?: Transferable[];
}

/** Options for {@linkcode Duplex.receive}. */
export interface ReceiveOptions {
  /** Stops waiting; the receive then rejects with the signal's reason. */
  signal?: AbortSignal;
}

/**
 * What {@linkcode Duplex.tryReceive} found, told apart by `state`, so that
 * `undefined` stays a message.
 *
 * @typeParam T The type of the messages.
 */
export type ReceiveResult<T> =
  | { state: "ok"; value: T }
  | { state: "empty" }
  | { state: "closed" };

/** Options for {@linkcode Duplex.close}. */
export interface CloseOptions {
  /**
   * Milliseconds to wait for the far side's goodbye, and for a worker to exit,
   * before the duplex is ended without it. `Infinity` waits for ever.
   *
   * @default {5000}
   */
  timeout?: number;
}

/** What has gone through a duplex, from {@linkcode Duplex.stats}. */
export interface DuplexStats {
  /** Messages sent. */
  readonly sent: number;
  /** Messages that have arrived, whether or not they were received. */
  readonly received: number;
  /** Bytes of the messages sent, without their headers. */
  readonly bytesSent: number;
  /** Bytes of the messages that have arrived, without their headers. */
  readonly bytesReceived: number;
  /** Messages that have arrived and wait for a receive. */
  readonly queued: number;
  /** Messages sent that the far side is not known to have taken. */
  readonly inFlight: number;
  /** Milliseconds in which at least one send waited for room. */
  readonly blockedMs: number;
}

/** Limits that every opening function takes. */
export interface DuplexOptions {
  /**
   * What messages look like as bytes. The far side must speak it. Without it both
   * `msgpack` and `json` are offered, and `msgpack` is taken where both sides have
   * it.
   *
   * @default {msgpack, or else json}
   */
  codec?: Codec;
  /**
   * Bytes that the far side may have on their way here before this side takes
   * some. With one message more, this bounds the memory that a slow reader costs
   * on either side. The default keeps several messages of a megabyte moving.
   *
   * @default {4194304}
   */
  windowBytes?: number;
  /**
   * Messages that the far side may have on their way here before this side
   * takes some. The default keeps both sides busy with small messages.
   *
   * @default {4096}
   */
  windowMessages?: number;
  /**
   * Bytes of the largest message that is taken from the far side, at most
   * 4294967231. A peer cannot make this side set aside more.
   *
   * @default {268435456}
   */
  maxMessageBytes?: number;
  /**
   * Milliseconds that both sides may wait for the other to receive before their
   * sends reject with {@linkcode DeadlockError}. Longer than a busy program is
   * silent, shorter than a person's patience. `Infinity` switches it off.
   *
   * @default {5000}
   */
  deadlockTimeout?: number;
  /**
   * Milliseconds that {@linkcode Duplex.close} waits when it is not told, and
   * that the end of an `await using` block waits.
   *
   * @default {5000}
   */
  closeTimeout?: number;
}

/**
 * A channel with somebody else at the far end: another part of the program, a
 * worker, a process, a machine.
 *
 * - **Order:** messages are received in the order sent. What arrives before
 *   anybody listens is kept. Waiting sends and receives are served in the order
 *   that they came; two readers share the messages.
 * - **Waiting:** `send` waits while the far side's window is full, so a slow
 *   reader bounds the memory of both sides. `undefined` is a message.
 * - **Values:** a message is copied. The far side gets a value that is equal, as
 *   {@linkcode Codec} lays down. Do not change a message before its send settles.
 * - **Goodbye:** after `close`, or the close of `writable`, nothing more can be
 *   sent, and the far side receives what was sent and then the end: iteration
 *   stops, `receive` rejects with {@linkcode ClosedError}. The other direction
 *   goes on until the far side says goodbye too. Leaving a `for await` early ends
 *   nothing: what is left can still be received.
 * - **Failure:** when the peer dies or breaks the protocol, everything pending
 *   rejects at once; what had arrived can still be received. After an `abort`
 *   it cannot.
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
   * Accepts a message; waits while the far side's window is full.
   *
   * @param message The message.
   * @param options A signal that takes it back, buffers to give up.
   * @returns A promise that settles when the message was accepted.
   * @throws The signal's reason if it aborts, or that of an `abort` on either side.
   * @throws {ClosedError} If the duplex was closed; `unsent` has what was
   *   accepted earlier and not delivered.
   * @throws {PeerExitError} If the peer ended.
   * @throws {ProtocolError} If the peer broke the protocol.
   * @throws {DeadlockError} If both sides only send.
   * @throws {TypeError} If the message holds what cannot be sent; it names where.
   * @throws {RangeError} If the message is larger than the far side takes.
   */
  send(message: Out, options?: SendOptions): Promise<void>;
  /**
   * Sends a message if there is room now.
   *
   * @param message The message.
   * @param options Buffers to give up; a signal that has aborted already.
   * @returns Whether it was sent. `false` when the window is full, much waits to
   *   be written, the duplex has ended or the far side has not said hello yet.
   * @throws The signal's reason, if it has aborted.
   * @throws {TypeError} If the message holds what cannot be sent; it names where.
   * @throws {RangeError} If the message is larger than the far side takes.
   */
  trySend(message: Out, options?: SendOptions): boolean;
  /**
   * Takes the next message; waits for one.
   *
   * @param options A signal that stops the waiting.
   * @returns A promise for the message.
   * @throws The signal's reason if it aborts, or that of an `abort` on either side.
   * @throws {ClosedError} If the far side has said goodbye and nothing is left.
   * @throws {PeerExitError} If the peer ended and nothing is left.
   * @throws {ProtocolError} If the peer broke the protocol.
   */
  receive(options?: ReceiveOptions): Promise<In>;
  /**
   * Takes the next message if one has arrived.
   *
   * @returns The message, or why there is none.
   */
  tryReceive(): ReceiveResult<In>;
  /**
   * The messages as a stream, made on first use. Cancelling it aborts the duplex.
   */
  readonly readable: ReadableStream<In>;
  /**
   * A stream whose chunks are sent, made on first use, so that
   * `input.pipeThrough(duplex)` works. Closing it says goodbye and leaves the
   * other direction open; aborting it aborts the duplex.
   */
  readonly writable: WritableStream<Out>;
  /**
   * Sends what waits, says goodbye, and waits for the far side to do the same.
   * What the far side still sends can be received meanwhile. Calling it again
   * gives the same promise.
   *
   * @param options How long to wait.
   * @returns A promise that settles when the link is gone.
   * @throws {ClosedError} If the far side does not say goodbye in time; the link
   *   is then ended all the same, and `unsent` has what was not delivered.
   * @throws {PeerExitError} If the peer ended without a goodbye, or with an exit
   *   code that tells of an error.
   * @throws {RangeError} If the timeout is not positive.
   */
  close(options?: CloseOptions): Promise<void>;
  /**
   * Ends the duplex now: everything pending rejects with the reason, here and
   * on the far side. The first reason stays.
   *
   * @param reason The reason; an `AbortError` by default.
   */
  abort(reason?: unknown): void;
  /**
   * Fulfilled when both sides have said goodbye and the link is gone, rejected
   * when it ended otherwise. Never an unhandled rejection.
   */
  readonly closed: Promise<void>;
  /** What has gone through so far. */
  readonly stats: DuplexStats;
}
