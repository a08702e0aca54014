// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a queue's workers answer, handed on as one stream: as it comes, or in the
 * order of the messages that were answered. An answer stays with its link until
 * there is room for it, so the link's own window bounds what waits.
 *
 * @module
 */

import type { SessionOptions } from "./_hello.ts";
import type { Answer, Link } from "./_queue_link.ts";
import { Deque } from "./_waiting.ts";
import type { WireEvents } from "./_wire.ts";

/** How answers are merged. */
export interface AnswerOptions
  extends Pick<SessionOptions, "window" | "windowMessages"> {
  ordered: boolean;
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
  /** The first message that is not handled, or whose answers are not handed on. */
  #head = 1;
  #sent = 0;
  #pulling = false;
  /** Messages behind the head that were handled. */
  readonly #handled = new Set<number>();
  /** Answers that were taken from a link before their turn. */
  readonly #early = new Map<number, Answer[]>();
  /** Answers of links that have ended, which go first. */
  readonly #left: Answer[] = [];

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

  /** A message will have no more answers than have come. */
  onHandled(number: number): void {
    if (this.#options.ordered) this.#handled.add(number);
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
  }

  /** Hands on what there is, as far as the session has room. */
  pull(links: readonly Link[]): void {
    // What is handed on may be taken at once, which makes room and leads here.
    if (this.#pulling) return;
    this.#pulling = true;
    try {
      if (this.#options.ordered) this.#pullOrdered(links);
      else this.#pullUnordered(links);
    } finally {
      this.#pulling = false;
    }
  }

  #pullUnordered(links: readonly Link[]): void {
    while (this.#hasRoom && this.#left.length > 0) {
      this.#deliver(this.#left.shift()!);
    }
    for (const link of links) {
      while (this.#hasRoom && link.firstAnswer !== undefined) {
        this.#deliver(link.takeAnswer());
      }
    }
  }

  get #hasRoom(): boolean {
    const { window, windowMessages } = this.#options;
    return this.#sizes.length < windowMessages && this.#bytes < window;
  }

  #pullOrdered(links: readonly Link[]): void {
    for (;;) {
      for (const link of links) this.#sort(link);
      const ready = this.#early.get(this.#head);
      while (ready !== undefined && ready.length > 0) {
        if (!this.#hasRoom) return;
        this.#deliver(ready.shift()!);
      }
      this.#early.delete(this.#head);
      if (this.#head > this.#sent || !this.#handled.delete(this.#head)) return;
      this.#head++;
    }
  }

  /**
   * Takes from a link the answers whose turn it is; all that there are where a
   * message that was delivered again may have put them out of order.
   */
  #sort(link: Link): void {
    while (link.firstAnswer !== undefined) {
      if (link.firstAnswer.number > this.#head && link.isInOrder) return;
      this.#keep(link.takeAnswer());
    }
  }

  #keep(answer: Answer): void {
    // What answers a message that had its turn goes now.
    const turn = Math.max(answer.number, this.#head);
    const kept = this.#early.get(turn);
    if (kept === undefined) this.#early.set(turn, [answer]);
    else kept.push(answer);
  }

  #deliver({ message, size }: Answer): void {
    this.#sizes.push(size);
    this.#bytes += size;
    this.delivered++;
    this.#events!.onMessage(this.delivered >>> 0, 0, message, size);
  }
}
