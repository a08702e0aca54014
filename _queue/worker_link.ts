// Copyright 2026 the Duplex authors. MIT license.

/**
 * The session of a queue with one of its workers: the messages that the worker was
 * given, and its answers.
 *
 * @module
 */

import { PeerExitError } from "../_base/errors.ts";
import type { SessionOptions } from "../_session/options.ts";
import { Session } from "../_session/session.ts";
import { PortStream } from "../_thread/port_stream.ts";
import { postClone } from "../_thread/post_box.ts";
import type { Thread } from "../_thread/thread.ts";
import { ThreadWire } from "../_thread/thread_wire.ts";
import { LeaseWriter, SharedCounts } from "./lease.ts";
import type { StoredMessage } from "./store.ts";
import { Deque } from "../_base/waiting.ts";
import type { Codec } from "../codec.ts";
import type { SharingRules } from "../_codec/fast_codec.ts";
import type { PeerHello } from "../_wire/wire.ts";

/**
 * Milliseconds of work that a worker is given ahead if others could do it: enough
 * that it never waits for its next message, and no message waits long behind
 * another.
 */
const AHEAD_MS = 5;

/**
 * Messages that a worker is given ahead at least and at most: it does not wait,
 * and if it is stuck, few messages wait behind it.
 */
const MIN_AHEAD = 2;
const MAX_AHEAD = 256;

/** Weight of the latest message in the moving average of times. */
const SMOOTHING = 0.3;

/** The reports of a link; a queue implements them. */
export interface LinkEvents {
  /** Messages were handled, answers have arrived, or there is room again. */
  onProgress(link: WorkerLink): void;
  /** The worker waits for this side to receive. */
  onStall(link: WorkerLink): void;
  /** The link has ended; with `undefined` by goodbyes, otherwise by this error. */
  onEnd(link: WorkerLink, error: unknown): void;
}

/** Something that a worker sent, and the message that it handled last. */
export interface Answer {
  readonly message: unknown;
  readonly size: number;
  readonly number: number;
}

/** Writes messages of a store with their leases. */
class LinkWire extends ThreadWire {
  override message(message: unknown): number {
    const { number, attempts, payload, size } = message as StoredMessage;
    if (payload.kind === "bytes") return this.encode(message);
    const [value, errors, written] = payload.cloneable;
    const leased = [number, attempts, value];
    postClone(this.port, this.encoder, [leased, errors, written], size);
    this.write();
    return size;
  }
}

/** The session with one worker of a queue. */
export class WorkerLink extends Session<unknown, StoredMessage> {
  readonly #events: LinkEvents;
  readonly #stream: PortStream;
  readonly #leased = new Deque<StoredMessage>();
  readonly #answers = new Deque<Omit<Answer, "message">>();
  /** The worker's counts in shared memory. */
  #counts: SharedCounts | undefined;
  #handled: StoredMessage[] = [];
  #handledCount = 0;
  #acknowledged = 0;
  #lastHandled = 0;
  /** The moving average of the time per message, and since when it is measured. */
  #mean = AHEAD_MS / MIN_AHEAD;
  #since = 0;
  /** Whether the worker waits for this side to receive. */
  isStalled = false;
  /** Whether the worker was notified, since its last frame, that this side waits for it. */
  #isNotified = false;
  /** Whether the worker has sent a goodbye. */
  hasEnded = false;
  /**
   * Messages received when the worker sent its goodbye. The last counts as handled
   * only if the script exits without an error.
   */
  #receivedAtGoodbye = 0;
  /** Whether this side has sent a goodbye. */
  isClosing = false;
  /** Whether this link has ended, and by which error, if not by goodbyes. */
  isGone = false;
  error: unknown;
  /** Consecutive predecessors that died without handling a message. */
  deaths = 0;
  /** Whether a message was refused: the link is about to end. */
  #isBroken = false;
  #lastGiven = 0;
  /** Answers that arrived before those of a message with a lower number. */
  #ahead = 0;

  constructor(thread: Thread, options: SessionOptions, events: LinkEvents) {
    const stream = new PortStream(thread.port, {
      diagnose: (cause, unsent) =>
        Promise.resolve(thread.exitError(cause, unsent)),
      close: (timeout, unsent) => thread.close(timeout, unsent),
      destroy: () => thread.destroy(),
    });
    const messageCodec = (codec: Codec, rules: SharingRules) =>
      new LeaseWriter(codec, rules);
    super(new LinkWire(stream, { messageCodec }), options);
    this.#events = events;
    this.#stream = stream;
    thread.left.then(() => stream.end());
  }

  /** Opens the session; the caller limits the time. */
  override async open(): Promise<void> {
    await super.open();
    this.closed.then(
      () => this.#onEnd(undefined),
      (error) => this.#onEnd(error),
    );
  }

  #onEnd(error: unknown): void {
    this.isGone = true;
    this.error = error;
    this.#events.onEnd(this, error);
  }

  override onHello(peer: PeerHello): void {
    super.onHello(peer);
    const { posts } = this.#stream;
    this.#counts = new SharedCounts(posts.has(0) ? posts.take(0) : null);
  }

  override onMessage(message: unknown, size: number, count: number): void {
    super.onMessage(message, size, count);
    this.#countHandled();
    this.#answers.push({ size, number: this.#lastHandled });
    this.#onProgress();
  }

  override onAcknowledged(count: number): void {
    super.onAcknowledged(count);
    this.#countHandled();
    this.#onProgress();
  }

  override onStall(acknowledged: number, isAnswer: boolean): void {
    super.onStall(acknowledged, isAnswer);
    this.isStalled = true;
    this.#events.onStall(this);
  }

  override onGoodbye(acknowledged: number): void {
    super.onGoodbye(acknowledged);
    this.#countHandled();
    this.hasEnded = true;
    this.#receivedAtGoodbye = this.#counts?.received ?? 0;
    // The way the worker ends decides whether its last message counts as handled.
    if (this.isHolding) this.close().catch(() => {});
    this.#onProgress();
  }

  override onAbort(reason: unknown): void {
    super.onAbort(reason);
    // The session has dropped them.
    this.#answers.clear();
    this.#onProgress();
  }

  override onDrain(): void {
    super.onDrain();
    this.#events.onProgress(this);
  }

  #onProgress(): void {
    this.isStalled = false;
    this.#isNotified = false;
    this.#events.onProgress(this);
  }

  /** How many messages the worker was given and has not handled. */
  get leased(): number {
    return this.#leased.length;
  }

  /**
   * Whether the worker can be given one more message.
   *
   * @param isShared Whether other workers could take it.
   */
  hasRoomAhead(isShared: boolean): boolean {
    if (!this.hasRoom) return false;
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
   * Whether the worker is done with every message that was acknowledged, and all
   * answers to them have arrived. If not, the worker reports when it is.
   */
  checkDone(): boolean {
    const counts = this.#counts;
    if (counts === undefined || this.hasEnded || this.isGone) return true;
    if (((counts.requested - this.#handledCount) | 0) < 0) {
      counts.awaited = this.#handledCount;
      // It may have requested the next message meanwhile, before it could see this.
      if (((counts.requested - this.#handledCount) | 0) < 0) return false;
    }
    return ((counts.sent - this.flow.arrived) | 0) === 0;
  }

  /** Gives the worker a message; returns whether it could be sent. */
  give(message: StoredMessage): boolean {
    this.#isBroken = !this.trySend(message);
    if (this.#isBroken) return false;
    if (this.#leased.length === 0) this.#since = performance.now();
    if (this.isBehind(message)) this.#ahead = this.#answers.length;
    this.#lastGiven = message.number;
    this.#leased.push(message);
    return true;
  }

  /** Whether the answers that have arrived are in the order of their messages. */
  get isInOrder(): boolean {
    return this.#ahead === 0;
  }

  /** The first answer that was not taken, without its message. */
  get firstAnswer(): Omit<Answer, "message"> | undefined {
    return this.#answers.length > 0 ? this.#answers.first : undefined;
  }

  /** Takes the first answer. There must be one. */
  takeAnswer(): Answer {
    const { number, size } = this.#answers.shift();
    if (this.#ahead > 0) this.#ahead--;
    const result = this.tryReceive();
    return {
      number,
      size,
      message: result.state === "ok" ? result.value : undefined,
    };
  }

  /** Returns the messages that were handled since the last call. */
  takeHandled(): StoredMessage[] {
    const handled = this.#handled;
    this.#handled = [];
    return handled;
  }

  /**
   * Returns the messages that a worker which is gone has not handled. Those that it
   * had received count one attempt more; if a message was the cause, it is among
   * them.
   */
  takeBack(): { unhandled: StoredMessage[]; begun: number } {
    if (this.error === undefined && this.isHolding) {
      this.#onHandled((this.#receivedAtGoodbye - this.#handledCount) | 0);
    }
    let received = this.#handledCount;
    if (this.#counts !== undefined) {
      const { requested, sent } = this.#counts;
      const more = (requested - this.#handledCount) | 0;
      // Those before the last request are handled, unless an answer is missing.
      if (more > 0 && ((sent - this.flow.arrived) | 0) === 0) {
        this.#onHandled(Math.min(more, this.#leased.length));
      }
      received = this.#counts.received;
    }
    const unhandled = this.#leased.toArray();
    this.#leased.clear();
    const begun = Math.max(0, (received - this.#handledCount) | 0);
    for (const message of unhandled.slice(0, begun)) message.attempts++;
    return { unhandled, begun };
  }

  /** Whether the worker sent its goodbye with a message received but not handled. */
  get isHolding(): boolean {
    return ((this.#receivedAtGoodbye - this.#handledCount) | 0) > 0;
  }

  /** Notifies the worker, once, that this side waits for it to receive. */
  override notifyStall(): void {
    if (this.#isNotified) return;
    this.#isNotified = true;
    super.notifyStall();
  }

  /** Notifies the worker that this side does not wait any more. */
  endStall(): void {
    if (!this.#isNotified) return;
    this.#isNotified = false;
    this.giveCredit();
  }

  /** Sends a goodbye and waits for the worker's, without a limit. */
  override close(): Promise<void> {
    this.isClosing = true;
    super.close({ timeout: Infinity }).catch(() => {});
    return this.closed;
  }

  /** Settles when nothing of the link is left. Never rejects. */
  get ended(): Promise<void> {
    return this.closed.catch(() => {});
  }

  /** Counts what the worker has acknowledged since the last call. */
  #countHandled(): void {
    const count = this.flow.acknowledgedByPeer - this.#acknowledged;
    if (count === 0) return;
    this.#acknowledged += count;
    this.#onHandled(count);
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
}

/** Whether a link ended because its worker died. */
export function isDeath(error: unknown): error is PeerExitError {
  return error instanceof PeerExitError;
}
