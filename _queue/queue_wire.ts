// Copyright 2026 the Duplex authors. MIT license.

/**
 * The wire under a queue's session: what is sent goes into a store, from there
 * with a lease to a worker that has room, and leaves the store when the worker
 * has handled it. What the workers answer comes back, in the order of the
 * messages if that is wanted. A worker that dies is replaced, and what it had
 * not handled goes back to its place in the store.
 *
 * A worker that dies takes along what it had not written yet, so a message may
 * come back that was not the cause. What was tried before is therefore given to
 * a worker alone, so that nothing suffers for what a neighbour does.
 *
 * @module
 */

import { type Inbox, Outbox } from "../_session/credit.ts";
import { ClosedError, PeerExitError, ProtocolError } from "../_base/errors.ts";
import {
  helloFields,
  type PeerHello,
  reasonFields,
  reasonFrom,
  type SessionOptions,
} from "../_session/hello.ts";
import { AnswerMerge, MergedInbox } from "./answers.ts";
import { LEASE_SIZE } from "./lease.ts";
import { isDeath, type Link, type LinkEvents } from "./link.ts";
import { Packer } from "./pack.ts";
import type { MessageStore, StoredMessage } from "./store.ts";
import { settlesWithin } from "../_base/waiting.ts";
import { reasonText } from "../_base/text.ts";
import {
  type ControlFields,
  type ControlKind,
  KIND,
  type Wire,
  type WireEvents,
} from "../_wire/wire.ts";

/**
 * A message that its workers died of.
 *
 * @typeParam Out The type of the messages sent.
 */
export interface FailedMessage<Out = unknown> {
  /** The message. */
  readonly message: Out;
  /** Its number in the queue. */
  readonly number: number;
  /** How often it was given to a worker. */
  readonly attempts: number;
  /** How the last of these workers ended. */
  readonly error: PeerExitError;
}

/** What a queue does, checked. */
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
  ): Promise<Link>;
}

/** A session's messages that are in a store until they are handled. */
class StoreOutbox extends Outbox {
  readonly #store: MessageStore;
  readonly #answers: AnswerMerge;
  readonly #decode: (message: StoredMessage) => unknown;

  constructor(
    store: MessageStore,
    answers: AnswerMerge,
    decode: (message: StoredMessage) => unknown,
  ) {
    super();
    this.#store = store;
    this.#answers = answers;
    this.#decode = decode;
  }

  /** What a handled message leaves behind takes its place until its turn. */
  override get length(): number {
    return Math.max(this.#store.count, this.#answers.backlog);
  }

  override add(_message: unknown, size: number): void {
    this.sent++;
    this.bytesSent += size;
    this.bytesInFlight = this.#store.bytes;
  }

  override acknowledge(): boolean {
    this.bytesInFlight = this.#store.bytes;
    return true;
  }

  protected override get kept(): number {
    return this.#store.count;
  }

  protected override listUnsent(): readonly unknown[] {
    return this.#store.all().map(this.#decode);
  }
}

/** Workers behind a store of messages. */
export class QueueWire implements Wire, LinkEvents {
  readonly isFull = false;
  /** What keeps the accounts of the session over this wire. */
  readonly accounts: { inbox: Inbox; outbox: Outbox };
  readonly #options: QueueWireOptions;
  readonly #store: MessageStore;
  readonly #answers: AnswerMerge;
  #events: WireEvents | undefined;
  #links: Link[] = [];
  /** Links that are being opened, and what stops them. */
  readonly #opening = new Set<Promise<Link>>();
  readonly #stop = new AbortController();
  #restarting = 0;
  #peer: PeerHello | undefined;
  #packer: Packer | undefined;
  #closing = false;
  #saidGoodbye = false;
  #destroyed = false;
  /** Whether the session waits for the workers to receive. */
  #isStalled = false;
  /** Whether it was notified that the workers wait for it to receive. */
  #areWorkersStalled = false;
  /** Whether a worker that died is not replaced yet. */
  #isReplacing = false;
  /** Whether calls are made, which only the worker that has them can answer. */
  #isClaimed = false;
  /** How a worker ended that is not replaced, or why the queue failed. */
  #loss: PeerExitError | undefined;

  constructor(options: QueueWireOptions, store: MessageStore) {
    this.#options = options;
    this.#store = store;
    this.#answers = new AnswerMerge(options);
    const { windowBytes: window, windowMessages } = options;
    const decode = (message: StoredMessage) => this.#decode(message);
    this.accounts = {
      inbox: new MergedInbox(window, windowMessages),
      outbox: new StoreOutbox(store, this.#answers, decode),
    };
  }

  /** Keeps to the one worker that there is, and ends with it. */
  claim(): void {
    const { workers } = this.#options;
    if (workers > 1) {
      throw new TypeError(
        `Cannot make calls over a queue with ${workers} workers, since each must be answered by the one that has it; open a queue with one, or a Pool of them`,
      );
    }
    this.#isClaimed = true;
  }

  start(events: WireEvents): void {
    this.#events = events;
    this.#answers.start(events);
    this.#openAll().catch((error) => this.#failToOpen(error));
  }

  agree(): void {}

  message(
    number: number,
    taken: number,
    message: unknown,
    _inFlight: number,
    transfer: readonly Transferable[] = [],
  ): number {
    const { payload, size } = this.#packer!.pack(message, transfer);
    this.#answers.onTaken(taken);
    this.#store.append({ number, payload, size, attempts: 0 });
    this.#answers.onSent(number);
    this.#endStall();
    this.#dispatch();
    return size;
  }

  control(kind: ControlKind, fields: ControlFields): void {
    if (kind === KIND.credit || kind === KIND.goodbye) {
      this.#endStall();
      this.#answers.onTaken(fields.taken as number);
      if (kind === KIND.goodbye) this.#closing = true;
      this.#advance();
    } else if (kind === KIND.stall) {
      this.#isStalled = true;
      // The session answers a notice of this wire's, and an answer is not answered.
      if (fields.answer === true) this.#notifyStalled();
      else this.#checkStall();
    } else if (kind === KIND.abort) {
      const reason = reasonFrom(fields, this.#peer?.codec);
      this.#destroyed = true;
      for (const link of this.#links) link.abort(reason);
    }
  }

  flushed(): Promise<void> {
    return Promise.resolve();
  }

  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error> {
    if (!(cause instanceof PeerExitError)) {
      return Promise.resolve(cause as Error);
    }
    const { message, stderr } = cause;
    return Promise.resolve(
      new PeerExitError(message, { cause, unsent, stderr }),
    );
  }

  async close(timeout: number): Promise<void> {
    const closed = Promise.all(this.#links.map((link) => link.close()));
    const inTime = await settlesWithin(closed.catch(() => {}), timeout);
    if (inTime && this.#store.count === 0) return;
    await this.destroy();
    const unsent = this.accounts.outbox.unsent();
    // A worker may fail after all goodbyes were said.
    if (inTime && this.#loss !== undefined) {
      throw await this.diagnose(this.#loss, unsent);
    }
    if (inTime) {
      throw new ClosedError(
        `Cannot close a queue in good order: its workers said goodbye before they had handled everything, messages left: ${this.#store.count}; see "unsent"`,
        { unsent },
      );
    }
    throw new ClosedError(
      `Cannot close a queue in good order: its workers did not end within ${timeout} ms`,
      { unsent },
    );
  }

  async destroy(): Promise<void> {
    this.#destroyed = true;
    const error = new ClosedError("The queue has ended");
    this.#stop.abort(error);
    await Promise.all([
      ...this.#links.map((link) => link.abort(error)),
      Promise.allSettled(this.#opening),
    ]);
  }

  // What the links bring

  onProgress(link: Link): void {
    // Nothing is sent before all workers have said hello.
    if (this.#peer === undefined || this.#destroyed) return;
    this.#finish(link);
    this.#advance();
    if (this.#areWorkersStalled) {
      this.#areWorkersStalled = false;
      this.#tellRoom();
    }
    // The others may now be all that have messages.
    if (link.leased === 0 && this.#links.some((other) => other.isStalled)) {
      this.#checkStall();
    }
  }

  onStall(): void {
    this.#checkStall();
  }

  onEnd(link: Link, error: unknown): void {
    // One that ends before it is taken on is looked at then.
    if (this.#destroyed || !this.#links.includes(link)) return;
    this.#links = this.#links.filter((other) => other !== link);
    const { unhandled, inHand } = link.takeBack();
    this.#finish(link);
    this.#answers.flush(link);
    if (error === undefined) {
      // It need not have taken all that it was given.
      const left = new PeerExitError(
        "The worker said goodbye and was ended with the message in hand",
      );
      if (this.#takeBack(unhandled, left)) this.#advance();
    } else if (this.#peer === undefined) {
      this.#failToOpen(error);
    } else if (isDeath(error)) {
      this.#onDeath(unhandled, error, link.deaths + (inHand > 0 ? 0 : 1));
    } else {
      this.#answers.flushAll(this.#links);
      if (error instanceof ProtocolError) return this.#events!.onFault(error);
      const fields = reasonFields(error, this.#peer.codec);
      this.#events!.onControl(KIND.abort, fields);
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
    if (this.#destroyed) return;
    this.#onOpened(links);
  }

  #failToOpen(error: unknown): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#events!.onLost(error);
  }

  /** Opens a link and takes it on, unless it has ended already. */
  async #openLink(): Promise<Link> {
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

  /** Says hello for all workers, which run the same script. */
  #onOpened(links: readonly Link[]): void {
    const peers = links.map((link) => link.peer);
    const sum = (of: (peer: PeerHello) => number) =>
      Math.min(
        peers.reduce((total, peer) => total + of(peer), 0),
        Number.MAX_SAFE_INTEGER,
      );
    const { capacity } = this.#options;
    const first = peers[0]!;
    const { name } = first.codec;
    const codec = this.#options.codecs.find((codec) => codec.name === name)!;
    const maxMessage = Math.min(...peers.map((peer) => peer.maxMessageBytes)) -
      LEASE_SIZE;
    this.#packer = new Packer(codec, maxMessage);
    this.#peer = {
      ...first,
      codec,
      windowBytes: sum((peer) => peer.windowBytes),
      windowMessages: capacity ?? sum((peer) => peer.windowMessages),
      maxMessageBytes: maxMessage,
    };
    const hello = { ...this.#options, ...this.#peer, codecs: [codec] };
    this.#events!.onControl(KIND.hello, helloFields(hello));
    // Workers may have spoken, and even ended, before the last of them came.
    this.#advance();
  }

  // Messages

  #decode({ payload }: StoredMessage): unknown {
    return this.#packer!.unpack(payload);
  }

  /** Does all that can be done now. */
  #advance(): void {
    // What is handed on may be taken at once, which makes room and leads here.
    if (this.#peer === undefined || this.#destroyed) return;
    if (this.#answers.isPulling || this.#isReplacing) return;
    const { head } = this.#answers;
    this.#answers.pull(this.#links, this.#store.next?.number, this.#isOver);
    if (this.#answers.head > head) this.#tellRoom();
    this.#dispatch();
    this.#sayGoodbye();
    this.#hearGoodbye();
  }

  /** Gives workers what waits, as far as they have room. */
  #dispatch(): void {
    for (;;) {
      const { next } = this.#store;
      const link = next && this.#choose(next);
      if (link === undefined) return;
      const message = this.#store.take();
      if (!link.give(message)) this.#store.handBack([message]);
    }
  }

  /** The worker that has the least to do, of those that can take a message. */
  #choose(message: StoredMessage): Link | undefined {
    const isShared = this.#options.workers > 1;
    // A worker that has said goodbye may take something still, if it is alone.
    const others = isShared && this.#links.some((link) => !link.hasEnded);
    let chosen: Link | undefined;
    for (const link of this.#links) {
      if (!link.isOpen || (others && link.hasEnded)) continue;
      if (chosen !== undefined && link.leased >= chosen.leased) continue;
      if (this.#canTake(link, message) && link.hasRoom(isShared)) chosen = link;
    }
    return chosen;
  }

  #canTake(link: Link, message: StoredMessage): boolean {
    if (link.isTrying) return false;
    const { ordered } = this.#options;
    if (message.attempts === 0 && !(ordered && link.isBehind(message))) {
      return true;
    }
    // The answers before its own must be few, since they are put aside for it.
    return link.leased === 0 && (!ordered || link.askIfDone());
  }

  /** Ends the messages that a worker has handled. */
  #finish(link: Link): void {
    const handled = link.takeHandled();
    if (handled.length === 0) return;
    for (const message of handled) {
      this.#store.acknowledge(message);
      this.#answers.onHandled(link, message.number);
    }
    link.deaths = 0;
    this.#tellRoom();
  }

  /** Has the session ask the store how much room there is. */
  #tellRoom(): void {
    this.#events!.onControl(KIND.credit, { taken: 0 });
  }

  // Deadlock

  /**
   * Notifies the session if every worker that has messages waits for it to
   * receive, and these workers if the session waits for them.
   */
  #checkStall(): void {
    if (this.#peer === undefined || this.#destroyed) return;
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
    this.#events!.onControl(KIND.stall, { taken: this.#answers.taken });
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
   * Says goodbye to the workers once everything was given to one of them, and to
   * one that has said it, while others go on: what it leaves is for them.
   */
  #sayGoodbye(): void {
    const all = this.#closing && this.#store.waiting === 0;
    const others = this.#restarting > 0 ||
      this.#links.some((link) => !link.hasEnded);
    for (const link of this.#links) {
      const isFree = all && !this.#isNeeded(link);
      if (isFree || (others && link.hasEnded)) link.close().catch(() => {});
    }
  }

  /** Whether a worker may have to take what another one drops. */
  #isNeeded(link: Link): boolean {
    return !this.#options.restart &&
      this.#links.some((other) => other !== link && other.leased > 0);
  }

  /** Whether every worker has said goodbye. */
  get #isOver(): boolean {
    return this.#restarting === 0 &&
      this.#links.every((link) => link.hasEnded && !link.isHolding);
  }

  /** Every worker has said goodbye, and all that they sent was handed on. */
  #hearGoodbye(): void {
    if (this.#saidGoodbye || !this.#isOver) return;
    if (this.#loss !== undefined && this.#store.count > 0) {
      return this.#lose(this.#loss);
    }
    if (!this.#answers.isEmpty(this.#links)) return;
    this.#saidGoodbye = true;
    this.#events!.onControl(KIND.goodbye, {
      sent: this.#answers.delivered,
      taken: 0,
    });
  }

  /** Puts messages back that a worker did not handle; `false` if that ends the queue. */
  #takeBack(unhandled: StoredMessage[], error: PeerExitError): boolean {
    const { retries } = this.#options;
    const failed = unhandled.filter((message) => message.attempts > retries);
    this.#store.handBack(
      unhandled.filter((message) => message.attempts <= retries),
    );
    return failed.every((message) => this.#giveUp(message, error));
  }

  /** Hands back a message that cannot be handled; `false` if that ends the queue. */
  #giveUp(message: StoredMessage, error: PeerExitError): boolean {
    const { onFailed } = this.#options;
    const { number, attempts } = message;
    if (onFailed === undefined) {
      this.#lose(
        new PeerExitError(
          `Cannot deliver message ${number}: its worker ended at attempt ${attempts} of ${attempts}: ${
            reasonText(error)
          }; take such messages with "onFailed"`,
          { cause: error, stderr: error.stderr },
        ),
      );
      return false;
    }
    const onError = (cause: unknown) => {
      this.#answers.flushAll(this.#links);
      this.#events!.onFault(cause as Error);
    };
    try {
      const failed = {
        message: this.#decode(message),
        number,
        attempts,
        error,
      };
      // It may be asynchronous, and its rejection nobody else would see.
      Promise.resolve(onFailed(failed) as unknown).catch(onError);
    } catch (cause) {
      onError(cause);
      return false;
    }
    // It may have ended the queue.
    if (this.#destroyed) return false;
    this.#store.acknowledge(message);
    this.#answers.onFailed(number);
    this.#tellRoom();
    return true;
  }

  /** Starts another worker in place of one that died, if there is use for it. */
  #onDeath(
    unhandled: StoredMessage[],
    error: PeerExitError,
    deaths: number,
  ): void {
    if (this.#isClaimed) return this.#lose(error);
    // Who is handed a message back may close the queue, or receive from it.
    this.#isReplacing = true;
    const goesOn = this.#takeBack(unhandled, error);
    this.#isReplacing = false;
    if (!goesOn) return;
    this.#replace(error, deaths);
    this.#advance();
  }

  #replace(error: PeerExitError, deaths: number): void {
    const { retries, restart } = this.#options;
    const hasWork = this.#store.waiting > 0 || !this.#closing;
    if (hasWork && restart && deaths <= retries + 1 && !this.#saidGoodbye) {
      this.#restart(deaths);
      return;
    }
    this.#loss = error;
    if (this.#links.length > 0 || this.#restarting > 0) return;
    const isEnd = this.#closing || this.#saidGoodbye;
    if (this.#store.count > 0 || !isEnd) this.#lose(error);
  }

  async #restart(deaths: number): Promise<void> {
    this.#restarting++;
    let link: Link | undefined;
    let cause: unknown;
    try {
      link = await this.#openLink();
      link.deaths = deaths;
    } catch (error) {
      cause = error;
    }
    this.#restarting--;
    if (this.#destroyed) return;
    if (link !== undefined) return this.#advance();
    if (isDeath(cause)) {
      this.#replace(cause, deaths + 1);
    } else {
      const { message } = cause as Error;
      const text = `Cannot replace a worker that ended: ${message}`;
      this.#replace(new PeerExitError(text, { cause }), Infinity);
    }
    this.#advance();
  }

  /** Fails; what has come can still be received. */
  #lose(error: PeerExitError): void {
    this.#loss = error;
    this.#answers.flushAll(this.#links);
    this.#destroyed = true;
    this.#events!.onLost(error);
  }
}
