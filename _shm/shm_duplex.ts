// Copyright 2026 the Duplex authors. MIT license.

/**
 * The interface of a duplex through shared memory, on both ends. It is a file of
 * types, so that `parent.ts` can name them without loading the transport.
 *
 * @module
 */

import type { Duplex } from "../duplex.ts";

/**
 * A {@linkcode Duplex} through shared memory, on both ends: {@linkcode openShm}
 * returns one, and so does {@linkcode parent} in its worker.
 *
 * The blocking methods are for a worker that does not need its event loop. They can
 * be mixed with the asynchronous methods: they share one order and one window. In the
 * program that opened the worker they block everything, including the detection of a
 * worker that died, so give them a timeout there.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 */
export interface ShmDuplex<In = unknown, Out = In> extends Duplex<In, Out> {
  /**
   * Sends a message; blocks the thread while the peer's window is full. Sends that
   * are pending are sent first.
   *
   * @param message The message.
   * @param options `timeout`: milliseconds to wait for room, without a limit by
   *   default; `transfer`: buffers that move to the peer, and are detached here.
   * @throws {DOMException} If there was no room in time ("TimeoutError"); the message
   *   was not sent.
   * @throws {ClosedError} If the duplex was closed.
   * @throws {PeerExitError} If the peer ended.
   * @throws {ProtocolError} If the peer broke the protocol.
   * @throws {DeadlockError} If both sides only send.
   * @throws {TypeError} If the message contains a value that cannot be sent.
   * @throws {RangeError} If it is larger than the peer's `maxMessageBytes`, or the
   *   timeout is not positive.
   */
  sendSync(
    message: Out,
    options?: { timeout?: number; transfer?: Transferable[] },
  ): void;
  /**
   * Receives the next message; blocks the thread until there is one. Receives that
   * are pending are served first.
   *
   * @param options `timeout`: milliseconds to wait for a message, without a limit by
   *   default.
   * @returns The message.
   * @throws {DOMException} If no message arrived in time ("TimeoutError"), or if the
   *   next message arrives through the event loop ("InvalidStateError"), because it
   *   has shared or transferred memory, or a cycle. Use `receive` for it.
   * @throws {ClosedError} If the peer has said goodbye and no message is left.
   * @throws {PeerExitError} If the peer ended and no message is left.
   * @throws {ProtocolError} If the peer broke the protocol.
   * @throws {RangeError} If the timeout is not positive.
   */
  receiveSync(options?: { timeout?: number }): In;
}
