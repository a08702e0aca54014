// Copyright 2026 the Duplex authors. MIT license.

/**
 * A queue's way to one of its workers: a thread, a session with it, the messages
 * that it was given, and what it has answered.
 *
 * @module
 */

import { Outbox } from "./_credit.ts";
import { PeerExitError, ProtocolError } from "./_errors.ts";
import type { SessionOptions } from "./_hello.ts";
import { PortStream } from "./_port.ts";
import { queueCodec } from "./_queue_lease.ts";
import type { StoredMessage } from "./_queue_store.ts";
import { Session } from "./_session.ts";
import type { Thread } from "./_thread.ts";
import { ThreadWire } from "./_thread_wire.ts";
import { Deque } from "./_waiting.ts";
import { type ControlFields, type ControlKind, KIND } from "./_wire.ts";

/**
 * Milliseconds of work that a worker is given ahead where others could do it: it
 * never waits for its next message, and no message waits long behind another.
 */
const AHEAD_MS = 5;

/** Messages that a worker is given ahead at least. */
const MIN_AHEAD = 2;

/** How much the latest time counts in the mean time of a message. */
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
  /** Called after whatever came; `size` is that of an answer. */
  onFrame: (kind: number, size: number) => void = () => {};

  override onMessage(
    number: number,
    taken: number,
    message: unknown,
    size: number,
  ): void {
    super.onMessage(number, taken, message, size);
    this.onFrame(KIND.data, size);
  }

  override onControl(kind: ControlKind, fields: ControlFields): void {
    super.onControl(kind, fields);
    this.onFrame(kind, 0);
  }

  override onDrain(): void {
    super.onDrain();
    this.onFrame(KIND.credit, 0);
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
  /** How many the worker has taken, in memory that it shares. */
  #taken: Int32Array | undefined;
  #handled: StoredMessage[] = [];
  #handledCount = 0;
  #lastHandled = 0;
  /** The mean time that a message takes, and since when it is measured. */
  #mean = AHEAD_MS / MIN_AHEAD;
  #since = 0;
  /** Whether the worker waits for this side to receive. */
  isStalled = false;
  /** Whether the worker has said goodbye. */
  hasEnded = false;
  /** Whether this side has. */
  isClosing = false;
  /** Whether the worker got its messages in the order of their numbers. */
  isInOrder = true;
  #lastGiven = 0;

  constructor(thread: Thread, options: SessionOptions, events: LinkEvents) {
    this.#thread = thread;
    this.#events = events;
    const own = { ...options, codecs: options.codecs.map(queueCodec) };
    this.#stream = new PortStream(thread.port, {
      diagnose: (cause, unsent) =>
        Promise.resolve(
          cause instanceof ProtocolError
            ? cause
            : thread.exitError(cause, unsent),
        ),
      close: (timeout) => thread.close(timeout),
      destroy: () => thread.destroy(),
    });
    thread.ended.then(() => this.#stream.end());
    const outbox = new LinkOutbox();
    outbox.onHandled = (count) => this.#onHandled(count);
    const wire = new LinkWire(this.#stream, own);
    this.#session = new LinkSession(wire, own, { outbox });
    this.#session.onFrame = (kind, size) => this.#onFrame(kind, size);
  }

  /** Greets the worker, within `timeout` milliseconds. */
  async open(): Promise<void> {
    await this.#session.open();
    this.#session.closed.then(
      () => this.#events.onEnd(this, undefined),
      (error) => this.#events.onEnd(this, error),
    );
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
    return !isShared ||
      this.#leased.length < Math.max(MIN_AHEAD, AHEAD_MS / this.#mean);
  }

  /** Gives the worker a message. There must be room. */
  give(message: StoredMessage): void {
    if (this.#leased.length === 0) this.#since = performance.now();
    if (message.number < this.#lastGiven) this.isInOrder = false;
    this.#lastGiven = message.number;
    this.#leased.push(message);
    this.#session.trySend(message);
  }

  /** The answer that came first and was not taken, but for its message. */
  get firstAnswer(): Omit<Answer, "message"> | undefined {
    return this.#answers.length > 0 ? this.#answers.first : undefined;
  }

  /** Takes the first answer. There must be one. */
  takeAnswer(): Answer {
    const { number, size } = this.#answers.shift();
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

  /** The messages that were not handled; those that the worker took count one attempt more. */
  takeBack(): StoredMessage[] {
    const taken = this.#taken === undefined ? 0 : Atomics.load(this.#taken, 0);
    const messages = this.#leased.toArray();
    this.#leased.clear();
    const inHand = taken - this.#handledCount;
    for (const message of messages.slice(0, Math.max(0, inHand))) {
      message.attempts++;
    }
    return messages;
  }

  /** Tells the worker that this side waits for it to receive. */
  notifyStall(): void {
    this.#session.notifyStall();
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
      this.#answers.push({ size, number: this.#lastHandled });
    } else if (kind === KIND.hello) {
      this.#taken = this.#readShared();
    } else if (kind === KIND.goodbye) {
      this.hasEnded = true;
    }
    this.isStalled = kind === KIND.stall;
    if (this.isStalled) this.#events.onStall(this);
    else if (kind !== KIND.hello) this.#events.onProgress(this);
  }

  #readShared(): Int32Array {
    const { posts } = this.#stream;
    const shared = posts.has(0) ? posts.take(0) : undefined;
    if (shared instanceof SharedArrayBuffer) return new Int32Array(shared);
    throw new ProtocolError(
      `Cannot read the hello of "${this.#thread.label}": it brought no count`,
    );
  }
}

/** Whether a link ended because its worker died. */
export function isDeath(error: unknown): error is PeerExitError {
  return error instanceof PeerExitError;
}
