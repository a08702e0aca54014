// Copyright 2026 the Duplex authors. MIT license.

/**
 * A queue's way to one of its workers: a thread, a session with it, the messages
 * that it was given, and what it has answered.
 *
 * @module
 */

import { Outbox } from "../_session/credit.ts";
import { PeerExitError } from "../_base/errors.ts";
import { type SessionOptions, unsigned } from "../_session/hello.ts";
import { PortStream } from "../_thread/port_stream.ts";
import { queueCodec, SharedCounts } from "./lease.ts";
import type { StoredMessage } from "./store.ts";
import { Session } from "../_session/session.ts";
import type { Thread } from "../_thread/thread.ts";
import { ThreadWire } from "../_thread/wire.ts";
import { Deque } from "../_base/waiting.ts";
import { type ControlFields, type ControlKind, KIND } from "../_wire/wire.ts";

/**
 * Milliseconds of work that a worker is given ahead where others could do it: it
 * never waits for its next message, and no message waits long behind another.
 */
const AHEAD_MS = 5;

/**
 * Messages that a worker is given ahead at least and at most: it waits for none,
 * and where it is stuck, few wait behind.
 */
const MIN_AHEAD = 2;
const MAX_AHEAD = 256;

/** How much the latest time counts in the mean: ten messages forget the past. */
const SMOOTHING = 0.3;

/** Where a link brings what happens; a queue is one. */
export interface LinkEvents {
  /** Messages were handled, or answers have come, or there is room again. */
  onProgress(link: Link): void;
  /** The worker waits for this side to receive. */
  onStall(link: Link): void;
  /** The link is gone; `error` is why, where it was no goodbye. */
  onEnd(link: Link, error: unknown): void;
}

/** Something that a worker sent, and the message that it handled last. */
export interface Answer {
  readonly message: unknown;
  readonly size: number;
  readonly number: number;
}

/** Tells the link which messages were handled. */
class LinkOutbox extends Outbox {
  onHandled: (count: number) => void = () => {};

  override acknowledge(count: number): boolean {
    const before = this.acknowledged;
    const isNews = super.acknowledge(count);
    if (isNews) this.onHandled(count - before);
    return isNews;
  }
}

/** Posts what bytes cannot carry with its number and its attempts. */
class LinkWire extends ThreadWire {
  override message(
    number: number,
    taken: number,
    message: unknown,
    inFlight: number,
  ): number {
    const { number: queued, attempts, payload, size } =
      message as StoredMessage;
    if (payload.kind === "bytes") {
      return super.message(number, taken, message, inFlight);
    }
    const [value, errors] = payload.parcel;
    this.postParcel(number, [[queued, attempts, value], errors], []);
    this.posted(number, taken, size, inFlight);
    return size;
  }
}

/** Tells the link what comes, after it was taken into account. */
class LinkSession extends Session<unknown, StoredMessage> {
  readonly #outbox: Outbox;
  #received = 0;
  /** Credit that has overtaken answers, which must be here first. */
  #early: { readonly taken: number; readonly sent: number } | undefined;
  /** Called after whatever came; `size` is that of an answer. */
  onFrame: (kind: number, size: number) => void = () => {};
  /** Called when more can be written. */
  onRoom: () => void = () => {};

  constructor(wire: LinkWire, options: SessionOptions, outbox: Outbox) {
    super(wire, options, { outbox });
    this.#outbox = outbox;
  }

  override onMessage(
    number: number,
    taken: number,
    message: unknown,
    size: number,
  ): void {
    super.onMessage(number, taken, message, size);
    this.#received++;
    this.onFrame(KIND.data, size);
    if (this.#early === undefined || this.#early.sent > this.#received) return;
    const { taken: credit } = this.#early;
    this.#early = undefined;
    super.onControl(KIND.credit, { taken: credit });
    this.onFrame(KIND.credit, 0);
  }

  override onControl(kind: ControlKind, fields: ControlFields): void {
    super.onControl(
      kind,
      kind === KIND.credit ? this.#inTurn(fields) : fields,
    );
    this.onFrame(kind, 0);
  }

  override onDrain(): void {
    super.onDrain();
    this.onRoom();
  }

  /** Credit without its news, if an answer that was sent before it has not come. */
  #inTurn(fields: ControlFields): ControlFields {
    const sent = unsigned(fields, "sent");
    if (sent <= this.#received) return fields;
    this.#early = { taken: unsigned(fields, "taken"), sent };
    return { taken: this.#outbox.acknowledged };
  }
}

/** One worker of a queue. */
export class Link {
  readonly #thread: Thread;
  readonly #events: LinkEvents;
  readonly #session: LinkSession;
  readonly #stream: PortStream;
  readonly #leased = new Deque<StoredMessage>();
  readonly #answers = new Deque<Omit<Answer, "message">>();
  /** What the worker has done, in memory that it shares. */
  #counts: SharedCounts | undefined;
  #received = 0;
  #handled: StoredMessage[] = [];
  #handledCount = 0;
  #lastHandled = 0;
  /** The mean time that a message takes, and since when it is measured. */
  #mean = AHEAD_MS / MIN_AHEAD;
  #since = 0;
  /** Whether the worker waits for this side to receive. */
  isStalled = false;
  /** Whether it was notified, since it last did anything, that this side waits for it. */
  #isNotified = false;
  /** Whether the worker has said goodbye. */
  hasEnded = false;
  /**
   * How many messages it had taken then. The last of them is handled if the
   * script ends well; an error that leaves it says goodbye as well.
   */
  #held = 0;
  /** Whether this side has. */
  isClosing = false;
  /** Whether this link has come to its end, and why, where it was no goodbye. */
  isGone = false;
  error: unknown;
  /** Workers in this one's place that ended in a row, and did nothing before. */
  deaths = 0;
  /** Whether a message was refused: the link is about to end. */
  #isBroken = false;
  #lastGiven = 0;
  /** Answers that came before those of a message with a lower number. */
  #ahead = 0;

  constructor(thread: Thread, options: SessionOptions, events: LinkEvents) {
    this.#thread = thread;
    this.#events = events;
    const own = { ...options, codecs: options.codecs.map(queueCodec) };
    this.#stream = new PortStream(thread.port, {
      diagnose: (cause, unsent) =>
        Promise.resolve(thread.exitError(cause, unsent)),
      close: (timeout, unsent) => thread.close(timeout, unsent),
      destroy: () => thread.destroy(),
    });
    thread.left.then(() => this.#stream.end());
    const outbox = new LinkOutbox();
    outbox.onHandled = (count) => this.#onHandled(count);
    const wire = new LinkWire(this.#stream, own);
    this.#session = new LinkSession(wire, own, outbox);
    this.#session.onFrame = (kind, size) => this.#onFrame(kind, size);
    this.#session.onRoom = () => this.#events.onProgress(this);
  }

  /** Greets the worker; who opens the link bounds the wait. */
  async open(): Promise<void> {
    await this.#session.open();
    this.#session.closed.then(
      () => this.#onEnd(undefined),
      (error) => this.#onEnd(error),
    );
  }

  #onEnd(error: unknown): void {
    this.isGone = true;
    this.error = error;
    this.#events.onEnd(this, error);
  }

  /** Ends the link with an error of this side's. */
  async fail(error: unknown): Promise<void> {
    this.#session.fail(error);
    await this.#session.closed.catch(() => {});
  }

  /** What the worker's hello said. */
  get peer() {
    return this.#session.peer!;
  }

  /** How many messages the worker has and has not handled. */
  get leased(): number {
    return this.#leased.length;
  }

  /** Whether the worker can be given a message, with others who could take it. */
  hasRoom(isShared: boolean): boolean {
    if (!this.#session.hasRoom) return false;
    if (!isShared || this.#leased.length < MIN_AHEAD) return true;
    return this.#leased.length < Math.min(MAX_AHEAD, AHEAD_MS / this.#mean);
  }

  /** Whether messages can be given to the worker. */
  get isOpen(): boolean {
    return !this.isClosing && !this.#isBroken;
  }

  /** Whether the worker has a message that was tried before, and no other. */
  get isTrying(): boolean {
    return this.#leased.length > 0 && this.#leased.first.attempts > 0;
  }

  /** Whether a message is older than one that the worker was given before. */
  isBehind(message: StoredMessage): boolean {
    return message.number < this.#lastGiven;
  }

  /**
   * Whether the worker is through with every message that was acknowledged, and
   * all that it has to say to them has come. Where it is not, it tells when it is.
   */
  askIfDone(): boolean {
    const counts = this.#counts;
    if (counts === undefined || this.hasEnded || this.isGone) return true;
    if (((counts.asked - this.#handledCount) | 0) < 0) {
      counts.wanted = this.#handledCount;
      // It may have asked meanwhile, and have seen nothing of the wish.
      if (((counts.asked - this.#handledCount) | 0) < 0) return false;
    }
    return ((counts.sent - this.#received) | 0) === 0;
  }

  /** Gives the worker a message; `false` if it takes none any more. */
  give(message: StoredMessage): boolean {
    this.#isBroken = !this.#session.trySend(message);
    if (this.#isBroken) return false;
    if (this.#leased.length === 0) this.#since = performance.now();
    if (this.isBehind(message)) this.#ahead = this.#answers.length;
    this.#lastGiven = message.number;
    this.#leased.push(message);
    return true;
  }

  /** Whether the answers that are here come in the order of their messages. */
  get isInOrder(): boolean {
    return this.#ahead === 0;
  }

  /** The answer that came first and was not taken, but for its message. */
  get firstAnswer(): Omit<Answer, "message"> | undefined {
    return this.#answers.length > 0 ? this.#answers.first : undefined;
  }

  /** Takes the first answer. There must be one. */
  takeAnswer(): Answer {
    const { number, size } = this.#answers.shift();
    if (this.#ahead > 0) this.#ahead--;
    const result = this.#session.tryReceive();
    return {
      number,
      size,
      message: result.state === "ok" ? result.value : undefined,
    };
  }

  /** Takes the messages that were handled since it was last asked. */
  takeHandled(): StoredMessage[] {
    const handled = this.#handled;
    this.#handled = [];
    return handled;
  }

  /**
   * Takes back what was not handled from a worker that is gone. What it had in
   * hand counts one attempt more, and was the cause, if there was one.
   */
  takeBack(): { unhandled: StoredMessage[]; inHand: number } {
    if (this.error === undefined && this.isHolding) {
      this.#onHandled((this.#held - this.#handledCount) | 0);
    }
    let taken = this.#handledCount;
    if (this.#counts !== undefined) {
      const { asked, sent } = this.#counts;
      const more = (asked - this.#handledCount) | 0;
      // What it asked past is handled, unless an answer did not leave.
      if (more > 0 && ((sent - this.#received) | 0) === 0) {
        this.#onHandled(Math.min(more, this.#leased.length));
      }
      taken = this.#counts.taken;
    }
    const unhandled = this.#leased.toArray();
    this.#leased.clear();
    const inHand = Math.max(0, (taken - this.#handledCount) | 0);
    for (const message of unhandled.slice(0, inHand)) message.attempts++;
    return { unhandled, inHand };
  }

  /** Whether the worker said goodbye with a message in hand. */
  get isHolding(): boolean {
    return ((this.#held - this.#handledCount) | 0) > 0;
  }

  /** Lets a worker end that said goodbye with a message in hand, to see how. */
  #hold(): void {
    this.#held = this.#counts?.taken ?? 0;
    if (this.isHolding) this.close().catch(() => {});
  }

  /** Notifies the worker, once, that this side waits for it to receive. */
  notifyStall(): void {
    if (this.#isNotified) return;
    this.#isNotified = true;
    this.#session.notifyStall();
  }

  /** Notifies the worker that this side does not wait any more. */
  endStall(): void {
    if (!this.#isNotified) return;
    this.#isNotified = false;
    this.#session.giveCredit();
  }

  /** Says goodbye and waits for the worker's. */
  close(): Promise<void> {
    if (!this.isClosing) {
      this.isClosing = true;
      this.#session.close({ timeout: Infinity }).catch(() => {});
    }
    return this.#session.closed;
  }

  /** Ends the link and tells the worker why. */
  async abort(reason: unknown): Promise<void> {
    this.#session.abort(reason);
    await this.#session.closed.catch(() => {});
  }

  #onHandled(count: number): void {
    for (let left = count; left > 0; left--) {
      const message = this.#leased.shift();
      this.#handled.push(message);
      this.#lastHandled = message.number;
    }
    this.#handledCount += count;
    const now = performance.now();
    const mean = (now - this.#since) / count;
    this.#mean += (mean - this.#mean) * SMOOTHING;
    this.#since = now;
  }

  #onFrame(kind: number, size: number): void {
    if (kind === KIND.data) {
      this.#received++;
      this.#answers.push({ size, number: this.#lastHandled });
    } else if (kind === KIND.hello) {
      this.#counts = this.#readCounts();
    } else if (kind === KIND.goodbye) {
      this.hasEnded = true;
      this.#hold();
    } else if (kind === KIND.abort) {
      // The session has dropped them.
      this.#answers.clear();
    }
    this.isStalled = kind === KIND.stall;
    if (!this.isStalled) this.#isNotified = false;
    if (this.isStalled) this.#events.onStall(this);
    else if (kind !== KIND.hello) this.#events.onProgress(this);
  }

  #readCounts(): SharedCounts {
    const { posts } = this.#stream;
    return new SharedCounts(posts.has(0) ? posts.take(0) : null);
  }
}

/** Whether a link ended because its worker died. */
export function isDeath(error: unknown): error is PeerExitError {
  return error instanceof PeerExitError;
}
