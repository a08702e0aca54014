// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a duplex through shared memory has beside the contract, at both its ends:
 * types alone, so that a worker's own end can name them without the transport.
 *
 * @module
 */

import type { Duplex } from "../duplex.ts";

/**
 * A {@linkcode Duplex} through shared memory. Both ends have it: a worker that
 * was opened with {@linkcode openShm} gets one from {@linkcode parent}.
 *
 * The blocking methods are for a worker that has no use for its event loop. They
 * keep one order with the others, keep to the same window, and can be mixed with
 * them. On the side that opened the worker they hold up the whole program and
 * everything in it that waits, its notice of a worker's death among it, so give
 * them a timeout there.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 */
export interface ShmDuplex<In = unknown, Out = In> extends Duplex<In, Out> {
  /**
   * Sends a message, and blocks the thread while the far side's window is full.
   * Sends that wait already go first.
   *
   * @param message The message.
   * @param options `timeout`: milliseconds to wait for room, without a limit by
   *   default; `transfer`: buffers that move to the peer, and are detached here.
   * @throws {DOMException} If there was no room in time ("TimeoutError"). The
   *   message was not sent then.
   * @throws {ClosedError} If the duplex was closed.
   * @throws {PeerExitError} If the peer ended.
   * @throws {ProtocolError} If the peer broke the protocol.
   * @throws {DeadlockError} If both sides only send.
   * @throws {TypeError} If the message holds what cannot be sent.
   * @throws {RangeError} If it is larger than the far side takes, or the timeout
   *   is not positive.
   */
  sendSync(
    message: Out,
    options?: { timeout?: number; transfer?: Transferable[] },
  ): void;
  /**
   * Takes the next message, and blocks the thread until there is one. Receives
   * that wait already are served first.
   *
   * @param options `timeout`: milliseconds to wait for a message, without a limit by
   *   default.
   * @returns The message.
   * @throws {DOMException} If nothing came in time ("TimeoutError"), or if the
   *   next message comes through the event loop ("InvalidStateError"): one that
   *   shares memory, refers to itself or was transferred. `receive` gets it.
   * @throws {ClosedError} If the far side has said goodbye and nothing is left.
   * @throws {PeerExitError} If the peer ended and nothing is left.
   * @throws {ProtocolError} If the peer broke the protocol.
   * @throws {RangeError} If the timeout is not positive.
   */
  receiveSync(options?: { timeout?: number }): In;
}
