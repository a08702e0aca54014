// Copyright 2026 the Duplex authors. MIT license.

/**
 * A session whose messages can also be sent and received by blocking the thread.
 * A blocking call reads and writes what the event loop would, including credit,
 * so both kinds of call keep one order.
 *
 * @module
 */

import { DeadlockError } from "../_base/errors.ts";
import type { SessionOptions } from "../_session/options.ts";
import { checkPositive } from "../_base/options.ts";
import {
  blocking,
  type BlockingReceive,
  Session,
} from "../_session/session.ts";
import type { ShmWire } from "./shm_wire.ts";
import type { Duplex, ReceiveResult, SendOptions } from "../duplex.ts";

/**
 * A {@linkcode Duplex} through shared memory, on both ends: {@linkcode openShm}
 * returns one, and so does {@linkcode parent} in its worker.
 *
 * The blocking methods are for a worker that does not need its event loop. They can
 * be mixed with the asynchronous methods: they share one order and one window. In the
 * program that opened the worker they block everything else. A worker that ends
 * without a goodbye while they block is noticed after up to two seconds; the error has
 * the reason once the event loop runs, as that of `closed`.
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
   *   has shared or transferred memory, or an object such as a `Blob`. Use `receive`
   *   for it.
   * @throws {ClosedError} If the peer has sent its goodbye and no message is left.
   * @throws {PeerExitError} If the peer ended and no message is left.
   * @throws {ProtocolError} If the peer broke the protocol.
   * @throws {DeadlockError} If there is no `timeout`, and the peer blocks until this
   *   side sends.
   * @throws {RangeError} If the timeout is not positive.
   */
  receiveSync(options?: { timeout?: number }): In;
}

/** A blocking send that waits for room. */
interface Blocked {
  /** The count of messages received and acknowledged, and since when it is that. */
  moved: number;
  since: number;
  /** Whether the peer was notified that this side has stalled. */
  isNotified: boolean;
  /** Whether the peer has stalled too. */
  isDeadlock: boolean;
}

/** The hook for blocking calls, declared here as those of {@linkcode Session}. */
export interface ShmSession<In, Out> {
  [blocking]: BlockingReceive;
}

/** A {@linkcode ShmDuplex}. */
export class ShmSession<In = unknown, Out = In> extends Session<In, Out>
  implements ShmDuplex<In, Out> {
  readonly #wire: ShmWire;
  readonly #options: SessionOptions;
  #isPeerStalled = false;
  #blocked: Blocked | undefined;

  constructor(wire: ShmWire, options: SessionOptions) {
    super(wire, options);
    this.#wire = wire;
    this.#options = options;
    this[blocking] = {
      receiveWith: (resolve, reject) => this.receiveWith(resolve, reject),
      poll: () => void this.#wire.poll(),
      hasWaitingSends: () => this.hasWaitingSends(),
      block: (timeout, isSending) => this.#block(timeout, true, isSending),
    };
  }

  /**
   * Opens the session and blocks until the peer's hello.
   *
   * @returns Whether it has arrived; `false` after `timeout` milliseconds.
   */
  openSync(timeout: number): boolean {
    const deadline = performance.now() + timeout;
    // `closed` reports its error as well.
    this.open().catch(() => {});
    while (this.peer === undefined) {
      if (this.#wire.poll()) continue;
      const left = deadline - performance.now();
      if (left <= 0) return false;
      this.#block(left, false, false);
    }
    return true;
  }

  override trySend(message: Out, options?: SendOptions): boolean {
    return super.trySend(message, options) ||
      this.#wire.poll() && super.trySend(message, options);
  }

  override receive(options?: { signal?: AbortSignal }): Promise<In> {
    if (this.flow.queued === 0 && this.#wire.isInTurn) this.#wire.poll();
    return super.receive(options);
  }

  override tryReceive(): ReceiveResult<In> {
    if (this.flow.queued === 0) this.#wire.poll();
    return super.tryReceive();
  }

  sendSync(
    message: Out,
    options: { timeout?: number; transfer?: Transferable[] } = {},
  ): void {
    const { timeout = Infinity, transfer = [] } = options;
    checkPositive("Cannot send", "timeout", timeout);
    const deadline = performance.now() + timeout;
    this.#throwIfLost();
    for (;;) {
      // Before anything is sent, although there may be room again: the peer has
      // rejected its own sends because of the deadlock.
      if (this.#blocked?.isDeadlock) throw this.#deadlockError();
      if (super.trySend(message, { transfer })) break;
      if (this.isSendClosed) throw this.sendError();
      this.#throwIfLost();
      if (this.#wire.poll()) continue;
      const patience = this.#watchStall();
      const left = deadline - performance.now();
      if (left <= 0) {
        this.#blocked = undefined;
        throw new DOMException(
          `Cannot send: the peer has not made room within ${timeout} ms`,
          "TimeoutError",
        );
      }
      this.#wire.waitSync(Math.min(left, patience));
    }
    this.#blocked = undefined;
    // It was sent. The part that is not in the ring yet is written now, since the
    // event loop may not run.
    while (this.#wire.isPending && !this.#wire.hasEnded) {
      if (this.#wire.poll()) continue;
      const left = deadline - performance.now();
      if (left <= 0 || this.#wire.waitSync(left) === "timeout") return;
    }
  }

  receiveSync(options: { timeout?: number } = {}): In {
    const { timeout = Infinity } = options;
    checkPositive("Cannot receive", "timeout", timeout);
    const deadline = performance.now() + timeout;
    for (;;) {
      const result = this.tryReceive();
      if (result.state === "ok") return result.value;
      if (result.state === "closed") throw this.receiveError();
      const left = deadline - performance.now();
      if (left <= 0) {
        throw new DOMException(
          `Cannot receive: nothing has arrived within ${timeout} ms`,
          "TimeoutError",
        );
      }
      // A short timeout may be a pause, after which the peer gets its message.
      this.#block(left, timeout === Infinity, false);
    }
  }

  /** See {@linkcode BlockingReceive.block}. */
  #block(timeout: number, isPeerAwaited: boolean, isSending: boolean): boolean {
    this.#throwIfLost();
    if (this.#wire.awaitsPost) {
      throw new DOMException(
        "Cannot receive the next message without an event loop: it has shared or transferred memory, or an object such as a Blob, and so was posted; receive it asynchronously",
        "InvalidStateError",
      );
    }
    if (isSending && this.isSendClosed) throw this.sendError();
    const blocked = this.#wire.waitSync(timeout, isPeerAwaited);
    if (blocked !== "deadlock") return blocked === "ready";
    throw new DeadlockError(
      `Cannot receive: "${this.#options.name}" and "${this.peer?.name}" both block their threads until the other sends`,
    );
  }

  override onStall(acknowledged: number, isAnswer: boolean): void {
    super.onStall(acknowledged, isAnswer);
    this.#isPeerStalled = acknowledged === this.flow.acknowledgedToPeer;
    // At once, since the next frame of the peer may take it back.
    if (this.#isPeerStalled && this.#blocked?.isNotified) {
      this.#blocked.isDeadlock = true;
    }
  }

  override onAcknowledged(count: number): void {
    super.onAcknowledged(count);
    this.#isPeerStalled = false;
  }

  /** Throws if the link is lost: the event loop, which finds out why, may not run. */
  #throwIfLost(): void {
    const { loss } = this.#wire;
    if (loss !== undefined) throw this.lossError(loss);
  }

  /**
   * Notifies the peer when this side has stalled.
   *
   * @returns Milliseconds until this must be called again.
   */
  #watchStall(): number {
    const { deadlockTimeout } = this.#options;
    const now = performance.now();
    const moved = this.flow.acknowledgedByPeer + this.flow.received;
    const blocked = this.#blocked ??= {
      moved,
      since: now,
      isNotified: false,
      isDeadlock: false,
    };
    if (moved !== blocked.moved) {
      Object.assign(blocked, { moved, since: now, isNotified: false });
    }
    const left = blocked.since + deadlockTimeout - now;
    if (left > 0) return left;
    if (this.peer !== undefined && !blocked.isNotified) {
      blocked.isNotified = true;
      blocked.isDeadlock = this.#isPeerStalled;
      this.notifyStall();
    }
    if (blocked.isDeadlock) throw this.#deadlockError();
    return Infinity;
  }

  /** Ends the blocked send; the peer ends its own as well. */
  #deadlockError(): DeadlockError {
    const { name } = this.#options;
    this.#isPeerStalled = false;
    this.#blocked = undefined;
    return new DeadlockError(
      `Cannot send: "${name}" and "${this.peer?.name}" both wait for the other to receive, ${this.flow.inFlight} messages are in flight; receive while sending, or take turns`,
    );
  }
}
