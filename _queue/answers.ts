// Copyright 2026 the Duplex authors. MIT license.

/**
 * The answers of a queue's workers, merged into one stream: as they arrive, or in
 * the order of the messages that they answer. An answer stays with its link until
 * there is room for it, so the window of the link limits what waits.
 *
 * @module
 */

import type { Answer, WorkerLink } from "./worker_link.ts";
import { Flow } from "../_session/flow.ts";
import type { SessionOptions } from "../_session/options.ts";
import type { MessageStore } from "./store.ts";
import { Deque } from "../_base/waiting.ts";
import type { WireEvents } from "../_wire/wire.ts";

/**
 * The flow of a queue. The messages sent are in the store until a worker has
 * handled them. The merge observes the window of the answers; only those that were
 * there when the queue failed may exceed it.
 */
export class QueueFlow extends Flow {
  readonly #store: MessageStore;
  readonly #answers: AnswerMerge;
  readonly #list: () => readonly unknown[];

  /** @param list Lists the messages in the store. */
  constructor(
    { windowBytes, windowMessages }: SessionOptions,
    store: MessageStore,
    answers: AnswerMerge,
    list: () => readonly unknown[],
  ) {
    super(windowBytes, windowMessages);
    this.#store = store;
    this.#answers = answers;
    this.#list = list;
  }

  // A handled message keeps its place until all answers before its own have arrived.
  override get inFlight(): number {
    return Math.max(this.#store.count, this.#answers.backlog);
  }

  override onSent(_message: unknown, size: number): void {
    this.sent++;
    this.bytesSent += size;
    this.bytesInFlight = this.#store.bytes;
    this.onAcknowledgedToPeer();
  }

  override onAcknowledgedByPeer(): boolean {
    this.bytesInFlight = this.#store.bytes;
    return true;
  }

  protected override get kept(): number {
    return this.#store.count;
  }

  protected override listUnsent(): readonly unknown[] {
    return this.#list();
  }

  // The window of a worker's link and that of the session.
  override get windowBytes(): number {
    return super.windowBytes * 2;
  }

  override get windowMessages(): number {
    return super.windowMessages * 2;
  }
}

/** Merges the answers of all links. */
export class AnswerMerge {
  readonly #isOrdered: boolean;
  #events!: WireEvents;
  /** The first message that may have answers which were not handed on. */
  head = 1;
  #isPulling = false;
  /** Messages behind the head all of whose answers have arrived. */
  readonly #finished = new Set<number>();
  /** The message of each link that was handled last, and may get more answers. */
  readonly #open = new Map<WorkerLink, number>();
  /** Answers that were read from a link before their turn. */
  readonly #early = new Map<number, Deque<Answer>>();
  /** Answers of links that have ended, which go first. */
  readonly #left = new Deque<Answer>();

  /** @param isOrdered Whether answers keep the order of their messages. */
  constructor(isOrdered: boolean) {
    this.#isOrdered = isOrdered;
  }

  start(events: WireEvents): void {
    this.#events = events;
  }

  /** A worker has answered a message, or requested one behind it. */
  onHandled(link: WorkerLink, number: number): void {
    if (!this.#isOrdered) return;
    const previous = this.#open.get(link);
    if (previous !== undefined) this.#finished.add(previous);
    this.#open.set(link, number);
  }

  /** A message will have no answers. */
  onFailed(number: number): void {
    if (this.#isOrdered) this.#finished.add(number);
  }

  /** Messages sent whose answers were not all delivered. */
  get backlog(): number {
    return this.#isOrdered ? this.#events.flow.sent - this.head + 1 : 0;
  }

  /** Whether answers are being delivered. */
  get isPulling(): boolean {
    return this.#isPulling;
  }

  /** Whether the session has no room for another answer. */
  get isFull(): boolean {
    return this.#events.flow.isWindowFull;
  }

  /** Whether no answer waits. */
  isEmpty(links: readonly WorkerLink[]): boolean {
    return this.#left.length === 0 && this.#early.size === 0 &&
      links.every((link) => link.firstAnswer === undefined);
  }

  /** Keeps the answers of a link that is gone. */
  flush(link: WorkerLink): void {
    while (link.firstAnswer !== undefined) {
      const answer = link.takeAnswer();
      if (this.#isOrdered) this.#keep(answer);
      else this.#left.push(answer);
    }
    const open = this.#open.get(link);
    this.#open.delete(link);
    if (open !== undefined) this.#finished.add(open);
  }

  /** Delivers all answers that there are: no more will arrive. */
  flushAll(links: readonly WorkerLink[]): void {
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
   * Delivers the answers that there are, as far as the session has room.
   *
   * @param waiting The first message that waits for a worker. If its answers are
   *   due, other answers must not keep the workers from it.
   * @param isOver Whether the workers will send nothing more.
   */
  pull(
    links: readonly WorkerLink[],
    waiting: number | undefined,
    isOver: boolean,
  ): void {
    this.#isPulling = true;
    try {
      if (this.#isOrdered) this.#pullOrdered(links, waiting, isOver);
      else this.#pullUnordered(links);
    } finally {
      this.#isPulling = false;
    }
  }

  #pullUnordered(links: readonly WorkerLink[]): void {
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
    links: readonly WorkerLink[],
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
      if (this.head > this.#events.flow.sent) return;
      if (!this.#isFinished(this.head) && !isOver) return;
      this.head++;
    }
  }

  #isFinished(number: number): boolean {
    if (this.#finished.delete(number)) return true;
    for (const [link, open] of this.#open) {
      if (open !== number) continue;
      if (link.checkDone()) this.#open.delete(link);
      return !this.#open.has(link);
    }
    return false;
  }

  /**
   * Takes from a link the answers that are due, and those before the answers of a
   * message that was delivered again.
   */
  #sort(link: WorkerLink, isAwaited: boolean): void {
    while (link.firstAnswer !== undefined) {
      const isEarly = link.firstAnswer.number > this.head;
      if (isEarly && link.isInOrder && !isAwaited) return;
      this.#keep(link.takeAnswer());
    }
  }

  #keep(answer: Answer): void {
    // A late answer to a message before the head is delivered now.
    const turn = Math.max(answer.number, this.head);
    let kept = this.#early.get(turn);
    if (kept === undefined) {
      kept = new Deque();
      this.#early.set(turn, kept);
    }
    kept.push(answer);
  }

  #deliver({ message, size }: Answer): void {
    this.#events.onMessage(message, size, 0);
  }
}
