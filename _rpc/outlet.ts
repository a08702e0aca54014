// Copyright 2026 the Duplex authors. MIT license.

/**
 * What one end of a duplex sends for calls. Answers go first: they are handed to
 * the duplex at once, and the duplex keeps those that wait for room. Calls of this
 * end wait here, so that an answer never waits behind a call that waits.
 *
 * @module
 */

import type { Duplex } from "../duplex.ts";
import { type Message, TAG } from "./messages.ts";
import { Deque } from "../_base/waiting.ts";

/**
 * Answers that may wait for room while calls of the peer are begun. A caller that
 * does not read its answers has no more calls run than that. The number is small
 * as an answer may be large, and not 1 as streams of large values have one value
 * each waiting most of the time: short calls must get in between.
 */
export const MAX_WAITING_ANSWERS = 16;

/** Calls that were canceled before they were sent, above which they are dropped together. */
const MAX_STALE = 64;

/** What an outlet needs of its end. */
export interface OutletEvents {
  /** This end makes its first call. */
  onFirstAsk(): void;
  /** Whether this end waits for the answer to a call of its own. */
  isAwaited(id: number): boolean;
  /** An answer that waited for room was sent, or could not be sent. */
  onAnswered(): void;
  /** A message cannot be sent; settles when what takes its place was sent. */
  readonly refuse: (
    message: Message,
    error: unknown,
  ) => Promise<void> | undefined;
  /** This end reacted to a failure with an exception of its own. */
  readonly onFault: (error: unknown) => void;
}

/** A call without an answer that waits, and the promise for its sending. */
class Notice {
  readonly message: Message;
  readonly sent = Promise.withResolvers<void>();

  constructor(message: Message) {
    this.message = message;
  }
}

/** What one end sends. */
export class Outlet {
  readonly #duplex: Duplex;
  readonly #events: OutletEvents;
  /** Whether calls of this end may be sent, as few of the peer's are held. */
  mayAsk = true;
  /** Calls of this end, and what belongs to them, that wait. */
  readonly #asks = new Deque<Message | Notice>();
  #hasAsked = false;
  /** Whether the duplex has one of them that waits for room. */
  #isAsking = false;
  /** The last call of this end that was given to the duplex. */
  #lastId = 0;
  /** Calls among those that wait which were canceled. */
  #stale = 0;
  /** Answers that had to wait, and those of them that do not wait any more. */
  #queued = 0;
  #settled = 0;
  /** How many had to wait when a call of the peer was begun last. */
  #gate = 0;

  constructor(duplex: Duplex, events: OutletEvents) {
    this.#duplex = duplex;
    this.#events = events;
  }

  /** Whether this end has made a call. */
  get hasAsked(): boolean {
    return this.#hasAsked;
  }

  /**
   * Whether a call of the peer may be begun: few answers wait, or all those have
   * gone that waited when the last one was begun. The second lets calls in while
   * the values of many streams keep the duplex busy.
   */
  get mayBegin(): boolean {
    return this.#queued - this.#settled < MAX_WAITING_ANSWERS ||
      this.#settled >= this.#gate;
  }

  /** A call of the peer is begun. */
  onBegin(): void {
    this.#gate = this.#queued;
  }

  /**
   * Sends an answer; a promise if it has to wait, for room of its own or of what
   * takes its place when it cannot be sent. Never throws or rejects.
   */
  answer(message: Message): Promise<void> | undefined {
    const sending = this.#post(message);
    return sending && this.#answerLater(sending);
  }

  async #answerLater(sending: Promise<void>): Promise<void> {
    this.#queued++;
    await sending;
    this.#settled++;
    this.#events.onAnswered();
  }

  /** Sends a message of this end's calls, in the order that they were made. Never throws. */
  ask(message: Message): void {
    switch (message[0]) {
      case TAG.call:
      case TAG.batch:
        return this.#ask(message);
      default:
        this.#tell(message);
    }
  }

  /** Calls a method of the peer without an answer; settles when the call was sent. */
  notify(message: Message): Promise<void> {
    const notice = new Notice(message);
    this.#ask(notice);
    return notice.sent.promise;
  }

  #ask(ask: Message | Notice): void {
    if (!this.#hasAsked) {
      this.#hasAsked = true;
      this.#events.onFirstAsk();
    }
    const isBusy = this.#isAsking || this.#asks.length > 0;
    if (isBusy || !this.mayAsk) this.#asks.push(ask);
    else this.#send(ask);
  }

  /** Sends calls of this end that wait, as far as they may be sent. */
  pump(): void {
    while (
      this.#asks.length > 0 && !this.#isAsking && this.mayAsk
    ) {
      const ask = this.#asks.shift();
      if (this.#isStale(ask)) this.#stale = Math.max(0, this.#stale - 1);
      else this.#send(ask);
    }
  }

  /** Gives all that waits to the duplex, which sends it before its goodbye. */
  flush(): void {
    while (this.#asks.length > 0) {
      const ask = this.#asks.shift();
      if (!this.#isStale(ask)) this.#sendInTurn(ask);
    }
    this.#stale = 0;
  }

  /** Sends what belongs to a call of this end, behind it if it waits. */
  #tell(message: Message): void {
    const id = message[1] as number;
    if (id <= this.#lastId) return void this.#post(message);
    if (this.#events.isAwaited(id)) return this.#asks.push(message);
    // The call was canceled before it was sent: the peer need not know of either.
    this.#stale++;
    if (this.#stale > MAX_STALE && this.#stale * 2 > this.#asks.length) {
      this.#dropStale();
    }
  }

  #dropStale(): void {
    this.#asks.retain((ask) => !this.#isStale(ask));
    this.#stale = 0;
  }

  #isStale(ask: Message | Notice): boolean {
    return !(ask instanceof Notice) &&
      !this.#events.isAwaited(ask[1] as number);
  }

  #send(ask: Message | Notice): void {
    const isNotice = ask instanceof Notice;
    if (!isNotice) this.#lastId = Math.max(this.#lastId, ask[1] as number);
    try {
      if (this.#duplex.trySend(isNotice ? ask.message : ask)) {
        if (isNotice) ask.sent.resolve();
        return;
      }
    } catch (error) {
      if (isNotice) ask.sent.reject(error);
      else this.#refuse(ask, error);
      return;
    }
    this.#isAsking = true;
    this.#sendInTurn(ask).then(() => {
      this.#isAsking = false;
      this.pump();
    });
  }

  /** Sends a message of this end's calls behind all that waits in the duplex. */
  async #sendInTurn(ask: Message | Notice): Promise<void> {
    if (!(ask instanceof Notice)) {
      this.#lastId = Math.max(this.#lastId, ask[1] as number);
      return await this.#sendLater(ask);
    }
    try {
      await this.#duplex.send(ask.message);
      ask.sent.resolve();
    } catch (error) {
      ask.sent.reject(error);
    }
  }

  /** Sends a message now, or else behind all that waits in the duplex. */
  #post(message: Message): Promise<void> | undefined {
    try {
      if (this.#duplex.trySend(message)) return undefined;
    } catch (error) {
      return this.#refuse(message, error);
    }
    return this.#sendLater(message);
  }

  /** Never rejects. */
  async #sendLater(message: Message): Promise<void> {
    try {
      await this.#duplex.send(message);
    } catch (error) {
      // When the duplex fails, its reader is notified right after those that send.
      // Calls that wait for answers then get the reader's error.
      await undefined;
      await this.#refuse(message, error);
    }
  }

  /** A message that cannot be sent must leave no promise pending. Never throws or rejects. */
  #refuse(message: Message, error: unknown): Promise<void> | undefined {
    const { refuse, onFault } = this.#events;
    try {
      return refuse(message, error)?.catch(onFault);
    } catch (fault) {
      onFault(fault);
      return undefined;
    }
  }
}
