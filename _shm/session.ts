// Copyright 2026 the Duplex authors. MIT license.

/**
 * A session whose messages can also be sent and received by blocking the thread.
 * A blocking call brings in and out what the event loop would, credit among it,
 * so both kinds of call keep one order.
 *
 * @module
 */

import { Inbox, Outbox } from "../_session/credit.ts";
import { DeadlockError } from "../_base/errors.ts";
import type { SessionOptions } from "../_session/hello.ts";
import { checkPositive } from "../_base/options.ts";
import { Session } from "../_session/session.ts";
import type { ShmWire } from "./shm_wire.ts";
import { type ControlFields, type ControlKind, KIND } from "../_wire/wire.ts";
import type { ReceiveResult, SendOptions } from "../duplex.ts";
import type { ShmDuplex } from "./shm_duplex.ts";

/** A blocking send that waits for room. */
interface Blocked {
  /** What had gone through when something last did, and when that was. */
  moved: number;
  since: number;
  /** Whether the far side was told that this one waits in vain. */
  told: boolean;
  /** Whether the far side did so too. */
  isDeadlock: boolean;
}

/** A {@linkcode ShmDuplex}. */
export class ShmSession<In = unknown, Out = In> extends Session<In, Out>
  implements ShmDuplex<In, Out> {
  readonly #wire: ShmWire;
  readonly #inbox: Inbox;
  readonly #outbox: Outbox;
  readonly #options: SessionOptions;
  /** Whether the far side waits in vain for this one to receive. */
  #isPeerStalled = false;
  #blocked: Blocked | undefined;

  /**
   * @param wire What carries the frames.
   * @param options Names, codecs and limits.
   */
  constructor(wire: ShmWire, options: SessionOptions) {
    const inbox = new Inbox(options.windowBytes, options.windowMessages);
    const outbox = new Outbox();
    super(wire, options, { inbox, outbox });
    this.#wire = wire;
    this.#inbox = inbox;
    this.#outbox = outbox;
    this.#options = options;
  }

  override trySend(message: Out, options?: SendOptions): boolean {
    return super.trySend(message, options) ||
      this.#wire.poll() && super.trySend(message, options);
  }

  override receive(options?: { signal?: AbortSignal }): Promise<In> {
    if (this.#inbox.length === 0 && this.#wire.isInTurn) this.#wire.poll();
    return super.receive(options);
  }

  override tryReceive(): ReceiveResult<In> {
    if (this.#inbox.length === 0) this.#wire.poll();
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
      // Before anything is sent, although there may be room again: the far side
      // has given up its own sends for it.
      if (this.#blocked?.isDeadlock) throw this.#deadlockError();
      if (super.trySend(message, { transfer })) break;
      if (this.isSendClosed()) throw this.sendError();
      this.#throwIfLost();
      if (this.#wire.poll()) continue;
      const patience = this.#watchStall();
      const left = deadline - performance.now();
      if (left <= 0) {
        this.#blocked = undefined;
        throw new DOMException(
          `Cannot send: the far side has not made room within ${timeout} ms`,
          "TimeoutError",
        );
      }
      this.#wire.waitSync(Math.min(left, patience));
    }
    this.#blocked = undefined;
    // It is sent; what of it is not in the ring yet goes there now, since the
    // event loop may not come to do it.
    while (this.#wire.isPending && !this.#wire.hasEnded) {
      if (this.#wire.poll()) continue;
      const left = deadline - performance.now();
      if (left <= 0 || !this.#wire.waitSync(left)) return;
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
      this.#throwIfLost();
      if (this.#wire.awaitsPost) {
        throw new DOMException(
          "Cannot receive the next message without an event loop: it shares memory, or refers to itself, or moved here, and so was posted; use receive",
          "InvalidStateError",
        );
      }
      const left = deadline - performance.now();
      if (left <= 0) {
        throw new DOMException(
          `Cannot receive: nothing has come within ${timeout} ms`,
          "TimeoutError",
        );
      }
      this.#wire.waitSync(left);
    }
  }

  override onControl(kind: ControlKind, fields: ControlFields): void {
    super.onControl(kind, fields);
    if (kind === KIND.stall) {
      this.#isPeerStalled = fields.taken === this.#inbox.credited;
      // At once: it may take it back in the next frame, having noticed first.
      if (this.#isPeerStalled && this.#blocked?.told) {
        this.#blocked.isDeadlock = true;
      }
    } else if (kind === KIND.credit) {
      this.#isPeerStalled = false;
    }
  }

  /** A link that is lost says why in the event loop, which may never turn. */
  #throwIfLost(): void {
    const { loss } = this.#wire;
    if (loss === undefined) return;
    this.fail(loss);
    throw this.sendError();
  }

  /**
   * Tells the far side that this one waits in vain, once it has for long enough.
   * Returns milliseconds until it is to be asked again.
   */
  #watchStall(): number {
    const { deadlockTimeout } = this.#options;
    const now = performance.now();
    const moved = this.#outbox.acknowledged + this.#inbox.taken;
    const blocked = this.#blocked ??= {
      moved,
      since: now,
      told: false,
      isDeadlock: false,
    };
    if (moved !== blocked.moved) {
      Object.assign(blocked, { moved, since: now, told: false });
    }
    const left = blocked.since + deadlockTimeout - now;
    if (left > 0) return left;
    if (this.peer !== undefined && !blocked.told) {
      blocked.told = true;
      blocked.isDeadlock = this.#isPeerStalled;
      this.notifyStall();
    }
    if (blocked.isDeadlock) throw this.#deadlockError();
    return Infinity;
  }

  /** A blocked send is given up, and so is that of the far side. */
  #deadlockError(): DeadlockError {
    const { name } = this.#options;
    this.#isPeerStalled = false;
    this.#blocked = undefined;
    return new DeadlockError(
      `Cannot send: "${name}" and "${this.peer?.name}" both wait for the other to receive, ${this.#outbox.length} messages are in flight; receive while sending, or take turns`,
    );
  }
}
