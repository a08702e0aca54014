// Copyright 2026 the Duplex authors. MIT license.

/**
 * The wire under a queue's session. A store keeps each message that is sent. From
 * there it is given with a lease to a worker that has room, and it leaves the store
 * when the worker has handled it. The answers of the workers are merged. A worker
 * that dies is replaced, and the messages that it had not handled return to their
 * places in the store.
 *
 * Data that a worker had not written when it died is lost, so a message may return
 * that was not the cause. A redelivered message is therefore given to an idle worker,
 * so that a message does not fail because of another one.
 *
 * @module
 */

import { ClosedError, PeerExitError, ProtocolError } from "../_base/errors.ts";
import type { SessionOptions } from "../_session/options.ts";
import { AnswerMerge, QueueFlow } from "./answers.ts";
import { LEASE_SIZE } from "./lease.ts";
import { isDeath, type LinkEvents, type WorkerLink } from "./worker_link.ts";
import { type MessageStore, Packer, type StoredMessage } from "./store.ts";
import { settlesWithin } from "../_base/waiting.ts";
import { messageOf, reasonText } from "../_base/text.ts";
import { MAX_IN_FLIGHT, MAX_IN_FLIGHT_SIZE } from "../_wire/control_frames.ts";
import type { PeerHello, Wire, WireEvents } from "../_wire/wire.ts";

/**
 * A message whose workers ended before they had handled it.
 *
 * @typeParam Out The type of the messages sent.
 */
export interface FailedMessage<Out = unknown> {
  /** The message. */
  readonly message: Out;
  /** Its number in the queue. */
  readonly number: number;
  /** How many workers ended after they had received it and before they had handled it. */
  readonly attempts: number;
  /** How the last of these workers ended. */
  readonly error: PeerExitError;
}

/** The options of a queue, checked. */
export interface QueueWireOptions extends SessionOptions {
  workers: number;
  capacity: number | undefined;
  ordered: boolean;
  retries: number;
  restart: boolean;
  onFailed: ((failed: FailedMessage) => void) | undefined;
  /** Opens a link to a worker, or rejects if it does not open in time. */
  openLink(
    events: LinkEvents,
    signal: AbortSignal,
  ): Promise<WorkerLink>;
}

/** Workers behind a store of messages. */
export class QueueWire implements Wire, LinkEvents {
  readonly isFull = false;
  /** The counts of the session over this wire. */
  readonly flow: QueueFlow;
  readonly #options: QueueWireOptions;
  readonly #store: MessageStore;
  readonly #answers: AnswerMerge;
  #events!: WireEvents;
  #links: WorkerLink[] = [];
  /** Links that are being opened, and the signal that stops them. */
  readonly #opening = new Set<Promise<WorkerLink>>();
  readonly #stop = new AbortController();
  #restarting = 0;
  /** Whether all workers have sent their hellos. */
  #isOpen = false;
  #packer: Packer | undefined;
  #isClosing = false;
  #hasEnded = false;
  #isDestroyed = false;
  /** Whether the session waits for the workers to receive. */
  #isStalled = false;
  /** Whether it was notified that the workers wait for it to receive. */
  #areWorkersStalled = false;
  /** Whether a worker that died is not replaced yet. */
  #isReplacing = false;
  /** Whether calls are made, which only the worker that has them can answer. */
  #isPinned = false;
  /** How a worker ended that is not replaced, or why the queue failed. */
  #loss: PeerExitError | undefined;

  constructor(options: QueueWireOptions, store: MessageStore) {
    this.#options = options;
    this.#store = store;
    this.#answers = new AnswerMerge(options.ordered);
    this.flow = new QueueFlow(
      options,
      store,
      this.#answers,
      () => store.all().map((message) => this.#unpack(message)),
    );
  }

  /** The queue ends with its worker, since no other one can answer its calls. */
  pinPeer(): void {
    const { workers } = this.#options;
    if (workers > 1) {
      throw new TypeError(
        `Cannot make calls over a queue with ${workers} workers, since each must be answered by the worker that has it; open a queue with one worker, or a Pool of such queues`,
      );
    }
    this.#isPinned = true;
  }

  start(events: WireEvents): void {
    this.#events = events;
    this.#answers.start(events);
    this.#openAll().catch((error) => this.#failToOpen(error));
  }

  message(message: unknown, transfer: readonly Transferable[] = []): number {
    const { payload, size } = this.#packer!.pack(message, transfer);
    const number = this.flow.sent + 1;
    this.#store.append({ number, payload, size, attempts: 0 });
    this.#endStall();
    this.#dispatch();
    return size;
  }

  credit(): void {
    this.#endStall();
    this.#advance();
  }

  stall(isAnswer: boolean): void {
    this.#isStalled = true;
    // A notice of the session needs an answer; an answer needs none.
    if (isAnswer) this.#notifyStalled();
    else this.#checkStall();
  }

  goodbye(): void {
    this.#isClosing = true;
    this.#endStall();
    this.#advance();
  }

  abort(reason: unknown): void {
    this.#isDestroyed = true;
    for (const link of this.#links) link.abort(reason);
  }

  flushed(): Promise<void> {
    return Promise.resolve();
  }

  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error> {
    if (!(cause instanceof PeerExitError)) {
      return Promise.resolve(cause as Error);
    }
    const { message, stderr, cause: inner } = cause;
    return Promise.resolve(
      new PeerExitError(message, { cause: inner, unsent, stderr }),
    );
  }

  async close(timeout: number): Promise<void> {
    const closed = Promise.all(this.#links.map((link) => link.close()));
    const inTime = await settlesWithin(closed.catch(() => {}), timeout);
    // Each call that the worker did not answer reports that itself.
    const isDone = this.#store.count === 0 ||
      this.#isPinned && this.#loss === undefined;
    if (inTime && isDone) return;
    await this.destroy();
    const unsent = this.flow.unsent();
    // A worker may fail after all goodbyes were sent.
    if (inTime && this.#loss !== undefined) {
      throw await this.diagnose(this.#loss, unsent);
    }
    if (inTime) {
      throw new ClosedError(
        `Cannot close a queue cleanly: its workers sent their goodbyes before they had handled all messages, messages left: ${this.#store.count}; see "unsent"`,
        { unsent },
      );
    }
    throw new ClosedError(
      `Cannot close a queue cleanly: its workers did not end within ${timeout} ms`,
      { unsent },
    );
  }

  async destroy(): Promise<void> {
    this.#isDestroyed = true;
    const error = new ClosedError("The queue has ended");
    this.#stop.abort(error);
    await Promise.all([
      ...this.#links.map((link) => {
        link.abort(error);
        return link.ended;
      }),
      Promise.allSettled(this.#opening),
    ]);
  }

  // Reports of the links

  onProgress(link: WorkerLink): void {
    // Nothing is sent before all workers have sent their hellos.
    if (!this.#isOpen || this.#isDestroyed) return;
    this.#finish(link);
    this.#advance();
    if (this.#areWorkersStalled) {
      this.#areWorkersStalled = false;
      this.#reportRoom();
    }
    // Now perhaps all workers that have messages are stalled.
    if (link.leased === 0 && this.#links.some((other) => other.isStalled)) {
      this.#checkStall();
    }
  }

  onStall(): void {
    this.#checkStall();
  }

  onEnd(link: WorkerLink, error: unknown): void {
    // `#openLink` handles a link that has ended before it was added.
    if (this.#isDestroyed || !this.#links.includes(link)) return;
    this.#links = this.#links.filter((other) => other !== link);
    const { unhandled, begun } = link.takeBack();
    this.#finish(link);
    this.#answers.flush(link);
    if (error === undefined) {
      // It may not have received all that it was given.
      const left = new PeerExitError(
        "The worker sent its goodbye and ended before it had handled the message",
      );
      if (this.#putBack(unhandled, left)) this.#advance();
    } else if (!this.#isOpen) {
      this.#failToOpen(error);
    } else if (isDeath(error)) {
      this.#onDeath(unhandled, error, link.deaths + (begun > 0 ? 0 : 1));
    } else {
      this.#answers.flushAll(this.#links);
      if (error instanceof ProtocolError) return this.#events.onFault(error);
      this.#events.onAbort(error);
    }
  }

  // Beginning

  async #openAll(): Promise<void> {
    const { workers } = this.#options;
    const opening = Array.from(
      { length: workers },
      () => this.#openLink(),
    );
    const links = await Promise.all(opening);
    if (this.#isDestroyed) return;
    this.#onOpened(links);
  }

  #failToOpen(error: unknown): void {
    if (this.#isDestroyed) return;
    this.#isDestroyed = true;
    this.#events.onLost(error);
  }

  /** Opens a link and adds it, unless it has ended already. */
  async #openLink(): Promise<WorkerLink> {
    const opening = this.#options.openLink(this, this.#stop.signal);
    this.#opening.add(opening);
    try {
      const link = await opening;
      if (!link.isGone) {
        this.#links.push(link);
        return link;
      }
      this.#answers.flush(link);
      if (link.error !== undefined) throw link.error;
      return link;
    } finally {
      this.#opening.delete(opening);
    }
  }

  /** Reports the hello of all workers, which run the same script, as one. */
  #onOpened(links: readonly WorkerLink[]): void {
    const peers = links.map((link) => link.peer!);
    const sum = (of: (peer: PeerHello) => number) =>
      peers.reduce((total, peer) => total + of(peer), 0);
    const messages = this.#options.capacity ??
      sum((peer) => peer.windowMessages);
    const maxMessageBytes =
      Math.min(...peers.map((peer) => peer.maxMessageBytes)) -
      LEASE_SIZE;
    const first = peers[0]!;
    const graph = peers.every((peer) => peer.graph);
    this.#packer = new Packer(first.codec, maxMessageBytes, graph);
    this.#isOpen = true;
    this.#events.onHello({
      ...first,
      graph,
      windowBytes: Math.min(
        sum((peer) => peer.windowBytes),
        MAX_IN_FLIGHT_SIZE,
      ),
      windowMessages: Math.min(messages, MAX_IN_FLIGHT),
      maxMessageBytes,
    });
    // Some workers may have answered, or ended, before the last one was open.
    this.#advance();
  }

  // Messages

  #unpack({ payload }: StoredMessage): unknown {
    return this.#packer!.unpack(payload);
  }

  /** Delivers answers, gives out messages, and ends the queue if it is done. */
  #advance(): void {
    // An answer may be received inside of this, which calls it again.
    if (!this.#isOpen || this.#isDestroyed) return;
    if (this.#answers.isPulling || this.#isReplacing) return;
    const { head } = this.#answers;
    this.#answers.pull(this.#links, this.#store.next?.number, this.#isOver());
    if (this.#answers.head > head) this.#reportRoom();
    this.#dispatch();
    this.#closeLinks();
    this.#reportGoodbye();
  }

  /** Gives the messages that wait to workers, as far as they have room. */
  #dispatch(): void {
    for (;;) {
      const { next } = this.#store;
      const link = next && this.#choose(next);
      if (link === undefined) return;
      const message = this.#store.take();
      if (!link.give(message)) this.#store.putBack([message]);
    }
  }

  /** Returns the worker with the fewest messages, of those that can take this one. */
  #choose(message: StoredMessage): WorkerLink | undefined {
    const isShared = this.#options.workers > 1;
    // A worker that has sent a goodbye may still receive, if there is no other.
    const others = isShared && this.#links.some((link) => !link.hasEnded);
    let chosen: WorkerLink | undefined;
    for (const link of this.#links) {
      if (!link.isOpen || (others && link.hasEnded)) continue;
      if (chosen !== undefined && link.leased >= chosen.leased) continue;
      if (this.#canTake(link, message) && link.hasRoomAhead(isShared)) {
        chosen = link;
      }
    }
    return chosen;
  }

  #canTake(link: WorkerLink, message: StoredMessage): boolean {
    if (link.isTrying) return false;
    const { ordered } = this.#options;
    if (message.attempts === 0 && !(ordered && link.isBehind(message))) {
      return true;
    }
    // The answers before its own must be few, since they are kept until then.
    return link.leased === 0 && (!ordered || link.checkDone());
  }

  /** Removes the messages that a worker has handled. */
  #finish(link: WorkerLink): void {
    const handled = link.takeHandled();
    if (handled.length === 0) return;
    for (const message of handled) {
      this.#store.acknowledge(message);
      this.#answers.onHandled(link, message.number);
    }
    link.deaths = 0;
    this.#reportRoom();
  }

  /** Reports that the store may have more room than before. */
  #reportRoom(): void {
    this.#events.onAcknowledged(0);
  }

  // Deadlock

  /**
   * Notifies the session if every worker that has messages waits for it to
   * receive, and these workers if the session waits for them.
   */
  #checkStall(): void {
    if (!this.#isOpen || this.#isDestroyed) return;
    if (this.#restarting > 0) return;
    const busy = this.#links.filter((link) => link.leased > 0);
    for (const link of busy) {
      // A worker that is closing receives nothing more, and answers with a notice.
      if (this.#isStalled && link.hasEnded && !link.isStalled) {
        link.notifyStall();
      }
    }
    if (!busy.every((link) => link.isStalled)) return;
    // If no worker has a message, only answers that wait can block the session.
    const isIdle = busy.length === 0 && this.#links.length > 0;
    if (isIdle && !this.#answers.isFull) return;
    if (this.#isStalled) this.#notifyStalled();
    this.#areWorkersStalled = true;
    this.#events.onStall(this.flow.acknowledgedToPeer, false);
  }

  /** The session does not wait any more. */
  #endStall(): void {
    if (!this.#isStalled) return;
    this.#isStalled = false;
    for (const link of this.#links) link.endStall();
  }

  /** Notifies the workers that wait for this side that it waits for them. */
  #notifyStalled(): void {
    for (const link of this.#links) if (link.isStalled) link.notifyStall();
  }

  // End

  /**
   * Sends a goodbye to all workers once they were given everything, and to a worker
   * that has sent one, if others can take the messages that it leaves.
   */
  #closeLinks(): void {
    const all = this.#isClosing && this.#store.waiting === 0;
    const others = this.#restarting > 0 ||
      this.#links.some((link) => !link.hasEnded);
    for (const link of this.#links) {
      const isFree = all && !this.#isNeeded(link);
      if (isFree || (others && link.hasEnded)) link.close().catch(() => {});
    }
  }

  /** Whether a worker may have to take the messages of another one. */
  #isNeeded(link: WorkerLink): boolean {
    return !this.#options.restart &&
      this.#links.some((other) => other !== link && other.leased > 0);
  }

  /** Whether every worker has sent a goodbye. */
  #isOver(): boolean {
    return this.#restarting === 0 &&
      this.#links.every((link) => link.hasEnded && !link.isHolding);
  }

  /** Reports a goodbye if every worker has sent one and all answers were delivered. */
  #reportGoodbye(): void {
    if (this.#hasEnded || !this.#isOver()) return;
    if (this.#loss !== undefined && this.#store.count > 0) {
      return this.#lose(this.#loss);
    }
    if (!this.#answers.isEmpty(this.#links)) return;
    this.#hasEnded = true;
    this.#events.onGoodbye(0);
  }

  /** Puts messages back that a worker did not handle; returns whether the queue goes on. */
  #putBack(unhandled: StoredMessage[], error: PeerExitError): boolean {
    const { retries } = this.#options;
    const failed = unhandled.filter((message) => message.attempts > retries);
    this.#store.putBack(
      unhandled.filter((message) => message.attempts <= retries),
    );
    return failed.every((message) => this.#endFailed(message, error));
  }

  /** Ends a message that cannot be handled; returns whether the queue goes on. */
  #endFailed(message: StoredMessage, error: PeerExitError): boolean {
    const { onFailed } = this.#options;
    const { number, attempts } = message;
    if (onFailed === undefined) {
      this.#lose(
        new PeerExitError(
          `Cannot deliver message ${number}: its worker ended at attempt ${attempts} of ${attempts}: ${
            reasonText(error)
          }; set "onFailed" to handle such messages`,
          { cause: error, stderr: error.stderr },
        ),
      );
      return false;
    }
    const onError = (cause: unknown) => {
      this.#answers.flushAll(this.#links);
      this.#events.onFault(cause as Error);
    };
    try {
      const failed = {
        message: this.#unpack(message),
        number,
        attempts,
        error,
      };
      // It may be asynchronous; a rejection must not be unhandled.
      Promise.resolve(onFailed(failed) as unknown).catch(onError);
    } catch (cause) {
      onError(cause);
      return false;
    }
    // The function may have ended the queue.
    if (this.#isDestroyed) return false;
    this.#store.acknowledge(message);
    this.#answers.onFailed(number);
    this.#reportRoom();
    return true;
  }

  /** Starts another worker in place of one that died, if it is needed. */
  #onDeath(
    unhandled: StoredMessage[],
    error: PeerExitError,
    deaths: number,
  ): void {
    if (this.#isPinned) return this.#lose(error);
    // `onFailed` may close the queue, or receive from it.
    this.#isReplacing = true;
    const goesOn = this.#putBack(unhandled, error);
    this.#isReplacing = false;
    if (!goesOn) return;
    this.#replace(error, deaths);
    this.#advance();
  }

  #replace(error: PeerExitError, deaths: number): void {
    const { retries, restart } = this.#options;
    const hasWork = this.#store.waiting > 0 || !this.#isClosing;
    if (hasWork && restart && deaths <= retries + 1 && !this.#hasEnded) {
      this.#restart(deaths);
      return;
    }
    this.#loss = error;
    if (this.#links.length > 0 || this.#restarting > 0) return;
    const isEnd = this.#isClosing || this.#hasEnded;
    if (this.#store.count > 0 || !isEnd) this.#lose(error);
  }

  async #restart(deaths: number): Promise<void> {
    this.#restarting++;
    let link: WorkerLink | undefined;
    let cause: unknown;
    try {
      link = await this.#openLink();
      link.deaths = deaths;
    } catch (error) {
      cause = error;
    }
    this.#restarting--;
    if (this.#isDestroyed) return;
    if (link !== undefined) return this.#advance();
    if (isDeath(cause)) {
      this.#replace(cause, deaths + 1);
    } else {
      const text = `Cannot replace a worker that ended: ${messageOf(cause)}`;
      this.#replace(new PeerExitError(text, { cause }), Infinity);
    }
    this.#advance();
  }

  /** Fails; answers that have arrived can still be received. */
  #lose(error: PeerExitError): void {
    this.#loss = error;
    this.#answers.flushAll(this.#links);
    this.#isDestroyed = true;
    this.#events.onLost(error);
  }
}
