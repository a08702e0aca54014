// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a queue's workers answer, handed on as one stream: as it comes, or in the
 * order of the messages that were answered. An answer stays with its link until
 * there is room for it, so the link's own window bounds what waits.
 *
 * @module
 */

import { Inbox } from "../_session/credit.ts";
import type { SessionOptions } from "../_session/hello.ts";
import type { Answer, Link } from "./link.ts";
import { Deque } from "../_base/waiting.ts";
import type { WireEvents } from "../_wire/wire.ts";

/** How answers are merged. */
export interface AnswerOptions
  extends Pick<SessionOptions, "windowBytes" | "windowMessages"> {
  ordered: boolean;
}

/**
 * What a queue's session has received. The merge keeps to the window; only the
 * answers that were there when the queue failed may go beyond it.
 */
export class MergedInbox extends Inbox {
  // The window of a worker's link and that of the session.
  override get window(): number {
    return super.window * 2;
  }

  override get windowMessages(): number {
    return super.windowMessages * 2;
  }

  override admit(_number: number, size: number): void {
    this.received++;
    this.bytesReceived += size;
  }
}

/** Merges the answers of all links. */
export class AnswerMerge {
  readonly #options: AnswerOptions;
  #events: WireEvents | undefined;
  /** Sizes of the answers that were handed on and not taken. */
  readonly #sizes = new Deque<number>();
  #bytes = 0;
  /** Answers handed on since the beginning, and how many of them were taken. */
  delivered = 0;
  taken = 0;
  /** The first message that may have answers which were not handed on. */
  head = 1;
  #sent = 0;
  #isPulling = false;
  /** Messages behind the head that will have no more answers than have come. */
  readonly #finished = new Set<number>();
  /** The message of each link that was handled last, and may have more. */
  readonly #open = new Map<Link, number>();
  /** Answers that were taken from a link before their turn. */
  readonly #early = new Map<number, Deque<Answer>>();
  /** Answers of links that have ended, which go first. */
  readonly #left = new Deque<Answer>();

  constructor(options: AnswerOptions) {
    this.#options = options;
  }

  start(events: WireEvents): void {
    this.#events = events;
  }

  /** The session took answers up to this number. */
  onTaken(taken: number): void {
    for (; this.taken < taken; this.taken++) this.#bytes -= this.#sizes.shift();
  }

  /** A message was sent. */
  onSent(number: number): void {
    this.#sent = number;
  }

  /** A link's worker has answered a message, or asked for one behind it. */
  onHandled(link: Link, number: number): void {
    if (!this.#options.ordered) return;
    const previous = this.#open.get(link);
    if (previous !== undefined) this.#finished.add(previous);
    this.#open.set(link, number);
  }

  /** A message will have no answers. */
  onFailed(number: number): void {
    if (this.#options.ordered) this.#finished.add(number);
  }

  /** Messages whose answers have not all had their turn. */
  get backlog(): number {
    return this.#options.ordered ? this.#sent - this.head + 1 : 0;
  }

  /** Whether an answer is being handed on. */
  get isPulling(): boolean {
    return this.#isPulling;
  }

  /** Whether the session has no room for another answer. */
  get isFull(): boolean {
    const { windowBytes: window, windowMessages } = this.#options;
    return this.#sizes.length >= windowMessages || this.#bytes >= window;
  }

  /** Whether nothing waits to be handed on. */
  isEmpty(links: readonly Link[]): boolean {
    return this.#left.length === 0 && this.#early.size === 0 &&
      links.every((link) => link.firstAnswer === undefined);
  }

  /** Keeps the answers of a link that is gone. */
  flush(link: Link): void {
    while (link.firstAnswer !== undefined) {
      const answer = link.takeAnswer();
      if (this.#options.ordered) this.#keep(answer);
      else this.#left.push(answer);
    }
    const open = this.#open.get(link);
    this.#open.delete(link);
    if (open !== undefined) this.#finished.add(open);
  }

  /** Hands on all that there is: nothing more will come. */
  flushAll(links: readonly Link[]): void {
    for (const link of links) this.flush(link);
    const early = [...this.#early].sort(([one], [other]) => one - other);
    this.#early.clear();
    const left = this.#left.toArray();
    this.#left.clear();
    for (
      const answer of [
        ...left,
        ...early.flatMap(([, answers]) => answers.toArray()),
      ]
    ) {
      this.#deliver(answer);
    }
  }

  /**
   * Hands on what there is, as far as the session has room.
   *
   * @param waiting The first message that waits for a worker. Where its turn has
   *   come, the workers must be able to come to it.
   * @param isOver Whether the workers will send nothing more.
   */
  pull(
    links: readonly Link[],
    waiting: number | undefined,
    isOver: boolean,
  ): void {
    this.#isPulling = true;
    try {
      if (this.#options.ordered) this.#pullOrdered(links, waiting, isOver);
      else this.#pullUnordered(links);
    } finally {
      this.#isPulling = false;
    }
  }

  #pullUnordered(links: readonly Link[]): void {
    while (!this.isFull && this.#left.length > 0) {
      this.#deliver(this.#left.shift());
    }
    for (const link of links) {
      while (!this.isFull && link.firstAnswer !== undefined) {
        this.#deliver(link.takeAnswer());
      }
    }
  }

  #pullOrdered(
    links: readonly Link[],
    waiting: number | undefined,
    isOver: boolean,
  ): void {
    for (;;) {
      for (const link of links) this.#sort(link, waiting === this.head);
      const ready = this.#early.get(this.head);
      while (ready !== undefined && ready.length > 0) {
        if (this.isFull) return;
        this.#deliver(ready.shift());
      }
      this.#early.delete(this.head);
      if (this.head > this.#sent) return;
      if (!this.#isFinished(this.head) && !isOver) return;
      this.head++;
    }
  }

  #isFinished(number: number): boolean {
    if (this.#finished.delete(number)) return true;
    for (const [link, open] of this.#open) {
      if (open !== number) continue;
      if (link.askIfDone()) this.#open.delete(link);
      return !this.#open.has(link);
    }
    return false;
  }

  /**
   * Takes from a link the answers whose turn it is, and those that stand before
   * the answers of a message that was delivered again.
   */
  #sort(link: Link, isAwaited: boolean): void {
    while (link.firstAnswer !== undefined) {
      const isEarly = link.firstAnswer.number > this.head;
      if (isEarly && link.isInOrder && !isAwaited) return;
      this.#keep(link.takeAnswer());
    }
  }

  #keep(answer: Answer): void {
    // What answers a message that had its turn goes now.
    const turn = Math.max(answer.number, this.head);
    let kept = this.#early.get(turn);
    if (kept === undefined) {
      kept = new Deque();
      this.#early.set(turn, kept);
    }
    kept.push(answer);
  }

  #deliver({ message, size }: Answer): void {
    this.#sizes.push(size);
    this.#bytes += size;
    this.delivered++;
    this.#events!.onMessage(this.delivered >>> 0, 0, message, size);
  }
}
