// Copyright 2026 the Duplex authors. MIT license.

/**
 * The calls that arrive at one end, and the backpressure on the peer.
 *
 * A peer that does not read its answers must not make this end store many of them.
 * So no call is begun while many answers wait for room; calls that arrive
 * meanwhile are held here. An end that makes no calls then stops reading: it waits
 * for no answers. An end that makes calls continues to read, because it must
 * receive the answers. It stops if it holds more calls than a peer can send that
 * follows this rule:
 *
 * **An end sends calls only while it holds few calls of the peer** (`MAX_HELD`,
 * `MAX_HELD_SIZE`). The rule prevents a deadlock between two ends that read their
 * answers. Suppose that both ends, A and B, have stopped reading. Then both hold
 * calls, so each has sent its last call. Let B be the end whose last call was the
 * later one. At that moment B held few calls, and A has sent none since. So B can
 * hold at most these calls, those that A had in flight, which the window bounds,
 * and one call that waited for room at A. B stops reading only above that, so B has
 * not stopped. While B reads, the answers of A are sent, the calls that A holds
 * begin, and A reads again.
 *
 * @module
 */

import type { ReceiveWindow } from "../_session/flow.ts";
import { ProtocolError } from "../_base/errors.ts";
import { MAX_PULL, type Message, TAG } from "./messages.ts";
import type { Outlet } from "./outlet.ts";
import { Deque } from "../_base/waiting.ts";

/**
 * Maximum held calls of the peer, and their bytes, while this end sends calls: a
 * quarter of the default window. With 0, a callback would wait for every call that
 * arrived before it.
 */
const MAX_HELD = 1024;
const MAX_HELD_SIZE = 1024 * 1024;

/**
 * The window of a duplex that is not of this package: as many messages as any
 * session of this package allows, of unknown sizes.
 */
const UNKNOWN: ReceiveWindow = {
  windowBytes: Infinity,
  windowMessages: 2 ** 20,
  lastSize: 0,
};

/**
 * Messages that are read before a pause. In the pause, asynchronous methods that
 * have finished send their results, which shows whether there is room for more.
 */
export const MESSAGES_PER_TURN = 256;

/** A call or a release that was received and not begun. */
interface Held {
  /** The message, or `undefined` after it was cancelled. */
  message: Message | undefined;
  readonly size: number;
  /** Values of its stream that were requested. */
  pulled: number;
}

/** The end that a backlog belongs to. */
export interface BacklogEvents {
  /** Handles a message. */
  handle(message: Message): void;
  /** `handle` threw for a held call. */
  onFault(error: unknown): void;
  /** A held call was cancelled, and is not begun. */
  onDropped(message: Message): void;
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
  /** The sizes of the two newest held calls. */
  #lastSizes = [0, 0];
  #lastId = 0;
  #isBeginning = false;
  /** Whether calls are begun at once, however many answers wait. */
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
   * Whether to stop reading. A peer that follows the rule can send two messages in
   * addition to those in flight: the one that exceeds the window, and a call that
   * waited for room.
   */
  get isFull(): boolean {
    if (this.isEmpty) return false;
    if (!this.#outlet.hasCalled) return true;
    const { windowBytes, windowMessages } = this.#window;
    const [last, secondLast] = this.#lastSizes as [number, number];
    return this.#held.length > MAX_HELD + windowMessages + 1 ||
      this.#size - last - secondLast > MAX_HELD_SIZE + windowBytes;
  }

  /** Settles when reading may continue. */
  room(): Promise<void> {
    this.#room ??= Promise.withResolvers();
    return this.#room.promise;
  }

  /** Handles a call of the peer: begins or holds it. */
  onCall(message: Message): void {
    if (hasId(message)) this.#checkId(message[1] as number);
    if (this.#held.length === 0 && this.#mayBegin) this.#begin(message);
    else this.#hold(message);
  }

  /**
   * Handles a release of the peer. It is held behind held calls, since these may use
   * what is released; the peer sends it by the rule for calls.
   */
  onRelease(message: Message): void {
    if (this.isEmpty) this.#events.handle(message);
    else this.#hold(message);
  }

  /** Handles a message for a call of the peer. */
  onFollowUp(message: Message): void {
    const held = this.isEmpty
      ? undefined
      : this.#byId.get(message[1] as number);
    if (held === undefined) this.#events.handle(message);
    else this.#onHeld(held, message);
  }

  /** Begins held calls after answers were sent, as many as may be begun. Never rejects. */
  async begin(): Promise<void> {
    if (this.#isBeginning) return;
    this.#isBeginning = true;
    let begun = 0;
    while (!this.isEmpty && this.#mayBegin) {
      this.#beginFirst();
      // The begun calls may have answers that wait.
      if (++begun % MESSAGES_PER_TURN === 0) await undefined;
    }
    this.#isBeginning = false;
    this.#onBegun();
  }

  /** As {@linkcode Backlog.begin}, while the thread is blocked; returns whether any was begun. */
  beginSync(): boolean {
    const before = this.#held.length;
    this.begin();
    return this.#held.length < before;
  }

  /**
   * Begins all held calls, and from now on every call at once: this end sends its
   * last answers, or cannot send any. Batches are dropped, because their answers may
   * be many more than their messages.
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
    if (hasId(message)) this.#byId.set(message[1] as number, held);
    this.#lastSizes = [size, this.#lastSizes[0]!];
    this.#addSize(size);
  }

  /** Adds to the size of held calls; own calls are sent only below the limits. */
  #addSize(size: number): void {
    this.#size += size;
    this.#outlet.mayCall = this.#held.length <= MAX_HELD &&
      this.#size <= MAX_HELD_SIZE;
  }

  #beginFirst(): void {
    const { message, size, pulled } = this.#held.shift();
    this.#addSize(-size);
    if (message === undefined) return;
    try {
      const id = message[1] as number;
      if (hasId(message)) this.#byId.delete(id);
      this.#begin(message);
      if (pulled > 0) this.#events.handle([TAG.pull, id, pulled]);
    } catch (error) {
      this.#events.onFault(error);
    }
  }

  /** Continues reading if there is room. */
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

  /** Handles a message for a held call. */
  #onHeld(held: Held, message: Message): void {
    const id = message[1] as number;
    if (message[0] === TAG.pull) {
      held.pulled += message[2];
      if (held.pulled <= MAX_PULL) return;
      throw new ProtocolError(
        `Cannot send ${held.pulled} values ahead: at most ${MAX_PULL} may be requested`,
      );
    }
    // No call of the batch was begun.
    if (held.message![0] === TAG.batch) {
      this.#outlet.answer([TAG.recalled, id, 0]);
    } else if (message[0] !== TAG.cancel) return;
    this.#events.onDropped(held.message!);
    held.message = undefined;
    this.#byId.delete(id);
  }

  /** Throws unless the numbers of calls increase. */
  #checkId(id: number): void {
    if (id <= this.#lastId) {
      throw new ProtocolError(
        `Cannot run call ${id}: call ${this.#lastId} came before it`,
      );
    }
    this.#lastId = id;
  }
}

/** Whether a message has the number of a call. */
function hasId(message: Message): boolean {
  return message[0] === TAG.call || message[0] === TAG.batch;
}
