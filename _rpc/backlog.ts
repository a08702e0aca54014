// Copyright 2026 the Duplex authors. MIT license.

/**
 * The calls that arrive at one end, and the backpressure on those who make them.
 *
 * A caller that does not read its answers must not make this end hold them. So no
 * call is begun while many answers wait for room; calls that arrive meanwhile are
 * held here, unbegun. An end that makes no calls then stops reading: the peer has
 * no answers to give, and holds no calls. An end that does reads on, as it must
 * receive the answers to its own calls. It stops when it holds more than a peer
 * sends that keeps to the following rule.
 *
 * **Why two ends that read their answers never wait for each other for ever.** The
 * rule: an end sends calls of its own only while it holds few calls of the peer
 * (`MAX_HELD`, `MAX_HELD_SIZE`). Suppose that both ends, A and B, had stopped
 * reading. Both hold calls then, so both have sent their last call. Let B be the
 * one that did so last. At that moment B held few calls, and after it A sent none.
 * So all that B can come to hold is these few, what A had in flight then, which
 * the window bounds, and one call that waited for room at A. B stops reading only
 * above that, so B has not stopped. And while one of the two reads, the answers of
 * the other leave, its held calls begin, and it reads again.
 *
 * @module
 */

import type { ReceiveWindow } from "../_session/flow.ts";
import { ProtocolError } from "../_base/errors.ts";
import { MAX_PULL, type Message, TAG } from "./messages.ts";
import type { Outlet } from "./outlet.ts";
import { Deque } from "../_base/waiting.ts";

/**
 * Calls of the peer, and their bytes, that this end may hold while it sends calls
 * of its own: a quarter of a window as it is by default. With none, a callback
 * would wait for every call that arrived before it.
 */
const MAX_HELD = 1024;
const MAX_HELD_SIZE = 1024 * 1024;

/**
 * What the peer may have in flight where the duplex is the program's own and does
 * not say so: as many messages as any session of this package. Their sizes are not
 * known then.
 */
const UNKNOWN: ReceiveWindow = {
  windowBytes: Infinity,
  windowMessages: 2 ** 20,
  lastSize: 0,
};

/**
 * Messages that are read without a pause. In a pause, asynchronous methods that
 * have a result send it, which shows whether there is room for more.
 */
export const MESSAGES_PER_TURN = 256;

/** A call that was received and not begun. */
interface Held {
  /** The call; none once it was canceled. */
  message: Message | undefined;
  readonly size: number;
  /** Values of its stream that were asked for already. */
  pulled: number;
}

/** What a backlog needs of its end. */
export interface BacklogEvents {
  /** Runs what a message asks for. */
  handle(message: Message): void;
  /** `handle` threw for a call that was held. */
  onFault(error: unknown): void;
  /** No call is held any more. */
  onEmpty(): void;
}

/** The calls that arrive at one end. */
export class Backlog {
  readonly #outlet: Outlet;
  readonly #window: ReceiveWindow;
  readonly #events: BacklogEvents;
  readonly #held = new Deque<Held>();
  readonly #byId = new Map<number, Held>();
  #size = 0;
  /** The sizes of the two calls that were held last. */
  #lastSizes = [0, 0];
  #lastId = 0;
  #isBeginning = false;
  /** Whether calls are begun at once, whatever waits. */
  #isFlushed = false;
  #room: PromiseWithResolvers<void> | undefined;

  constructor(
    outlet: Outlet,
    window: ReceiveWindow | undefined,
    events: BacklogEvents,
  ) {
    this.#outlet = outlet;
    this.#window = window ?? UNKNOWN;
    this.#events = events;
  }

  /** Whether no call is held. */
  get isEmpty(): boolean {
    return this.#held.length === 0;
  }

  /**
   * Whether the peer must not be read any further. Two more than what is in flight
   * may come from a peer that keeps to the rule: the message with which it goes
   * beyond the window, and a call that waited for room.
   */
  get isFull(): boolean {
    if (this.isEmpty) return false;
    if (!this.#outlet.hasAsked) return true;
    const { windowBytes, windowMessages } = this.#window;
    const [last, secondLast] = this.#lastSizes as [number, number];
    return this.#held.length > MAX_HELD + windowMessages + 1 ||
      this.#size - last - secondLast > MAX_HELD_SIZE + windowBytes;
  }

  /** Settles when the peer may be read further. */
  room(): Promise<void> {
    this.#room ??= Promise.withResolvers();
    return this.#room.promise;
  }

  /** Takes a call of the peer's. */
  takeCall(message: Message): void {
    if (message[0] !== TAG.notice) this.#checkId(message[1] as number);
    if (this.#held.length === 0 && this.#mayBegin) this.#begin(message);
    else this.#hold(message);
  }

  /** Takes a message that belongs to a call of the peer's. */
  take(message: Message): void {
    const held = this.isEmpty
      ? undefined
      : this.#byId.get(message[1] as number);
    if (held === undefined) this.#events.handle(message);
    else this.#onHeld(held, message);
  }

  /** Answers have gone: begins calls that are held, as far as may be. Never rejects. */
  async begin(): Promise<void> {
    if (this.#isBeginning) return;
    this.#isBeginning = true;
    let begun = 0;
    while (!this.isEmpty && this.#mayBegin) {
      this.#beginFirst();
      // What was begun may have an answer that is waiting already.
      if (++begun % MESSAGES_PER_TURN === 0) await undefined;
    }
    this.#isBeginning = false;
    this.#onBegun();
  }

  /**
   * This end can send no more answers, or sends its last ones now. Begins all that
   * is held, and from now on every call at once. Batches are dropped, as their
   * answers may be many more than the messages.
   */
  flush(): void {
    this.#isFlushed = true;
    while (!this.isEmpty) this.#beginFirst();
    this.#onBegun();
  }

  get #mayBegin(): boolean {
    return this.#isFlushed || this.#outlet.mayBegin;
  }

  #begin(message: Message): void {
    if (this.#isFlushed && message[0] === TAG.batch) return;
    this.#outlet.onBegin();
    this.#events.handle(message);
  }

  #hold(message: Message): void {
    const size = this.#window.lastSize;
    const held = { message, size, pulled: 0 };
    this.#held.push(held);
    if (message[0] !== TAG.notice) this.#byId.set(message[1] as number, held);
    this.#lastSizes = [size, this.#lastSizes[0]!];
    this.#addSize(size);
  }

  /** Counts what is held; own calls are sent only below the limits. */
  #addSize(size: number): void {
    this.#size += size;
    this.#outlet.mayAsk = this.#held.length <= MAX_HELD &&
      this.#size <= MAX_HELD_SIZE;
  }

  #beginFirst(): void {
    const { message, size, pulled } = this.#held.shift();
    this.#addSize(-size);
    if (message === undefined) return;
    try {
      const id = message[1] as number;
      if (message[0] !== TAG.notice) this.#byId.delete(id);
      this.#begin(message);
      if (pulled > 0) this.#events.handle([TAG.pull, id, pulled]);
    } catch (error) {
      this.#events.onFault(error);
    }
  }

  /** Lets the peer be read if there is room. */
  checkRoom(): void {
    if (this.#room === undefined || this.isFull) return;
    this.#room.resolve();
    this.#room = undefined;
  }

  #onBegun(): void {
    this.checkRoom();
    if (this.isEmpty) this.#events.onEmpty();
    this.#outlet.pump();
  }

  /** Takes what concerns a call that is held. */
  #onHeld(held: Held, message: Message): void {
    const id = message[1] as number;
    if (message[0] === TAG.pull) {
      held.pulled += message[2];
      if (held.pulled <= MAX_PULL) return;
      throw new ProtocolError(
        `Cannot give ${held.pulled} values ahead: at most ${MAX_PULL} may be asked for`,
      );
    }
    // Begun calls of a batch are counted in the answer, and here there are none.
    if (held.message![0] === TAG.batch) {
      this.#outlet.answer([TAG.recalled, id, 0]);
    } else if (message[0] !== TAG.cancel) return;
    held.message = undefined;
    this.#byId.delete(id);
  }

  /** A number is used once, and numbers grow. */
  #checkId(id: number): void {
    if (id <= this.#lastId) {
      throw new ProtocolError(
        `Cannot take call ${id}: call ${this.#lastId} has come before`,
      );
    }
    this.#lastId = id;
  }
}
