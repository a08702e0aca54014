// Copyright 2026 the Duplex authors. MIT license.

/**
 * The messages that one end sends. Answers go first: they are passed to the duplex
 * at once, and those that wait for room are kept by the duplex. Calls of this end
 * wait here, so that an answer never waits behind a waiting call.
 *
 * @module
 */

import { DeadlockError, isInstance } from "../_base/errors.ts";
import { type CallHooks, isEndError } from "../_session/session.ts";
import type { Duplex } from "../duplex.ts";
import { refusal, unsendable } from "./caller.ts";
import { type CallContext, callContext, withContext } from "./context.ts";
import { type Message, TAG } from "./messages.ts";
import type { Parcel } from "./slots.ts";
import { Deque } from "../_base/waiting.ts";

/**
 * Maximum number of answers that wait for room while calls of the peer are begun.
 * It bounds the calls that run for a caller that does not read its answers. It is
 * small because an answer may be large. It is not 1 because each stream of large
 * values has one value waiting most of the time, and other calls must run as well.
 */
export const MAX_WAITING_ANSWERS = 16;

/** Cancelled calls in the queue above which they are removed. */
const MAX_STALE = 64;

/** The end that an outlet belongs to. */
export interface OutletEvents {
  /** This end makes its first call. */
  onFirstCall(): void;
  /** Whether this end waits for the answer to one of its calls. */
  isAwaited(id: number): boolean;
  /** An answer that waited for room was sent, or could not be sent. */
  onAnswered(): void;
  /**
   * Searches a refused call or notification for values that have slots. Returns it
   * with slots, or `undefined` if there are none.
   */
  search(message: Message, error: unknown): Parcel | undefined;
  /** A message is not sent, since its call was cancelled. */
  onDropped(message: Message): void;
  /** Handles a message that cannot be sent; settles when its replacement was sent. */
  readonly refuse: (
    message: Message,
    error: unknown,
  ) => Promise<void> | undefined;
  /** `refuse` threw. */
  readonly onFault: (error: unknown) => void;
}

/** A waiting notification or release, and the promise that it is sent. */
class Notice {
  message: Message;
  readonly sent = Promise.withResolvers<void>();
  readonly #label: string;

  constructor(message: Message, label: string) {
    this.message = message;
    this.#label = label;
  }

  /** Rejects the promise of the notification: it cannot be sent. */
  refuse(error: unknown): void {
    this.sent.reject(refusal(error, `notify ${this.#label}`));
  }
}

/** Sends the messages of one end. */
export class Outlet {
  readonly #duplex: Duplex;
  readonly #events: OutletEvents;
  /** Whether calls of this end may be sent: few calls of the peer are waiting. */
  mayCall = true;
  /** Waiting calls of this end, and messages that belong to them. */
  readonly #waiting = new Deque<Message | Notice>();
  #hasCalled = false;
  /** Whether a call of this end waits for room in the duplex. */
  #isBlocked = false;
  /** The last call of this end that was passed to the duplex. */
  #lastId = 0;
  /** Cancelled calls among those that wait. */
  #stale = 0;
  /** Whether calls are kept for {@linkcode Outlet.pumpSync}. */
  #isKeeping = false;
  #isPumping = false;
  /** What messages transfer, if any does. */
  #transfers: WeakMap<Message, Transferable[]> | undefined;
  /** The contexts of calls that have waited. */
  readonly #contexts = new WeakMap<Message | Notice, CallContext>();
  /** Answers that had to wait, and those of them that have been sent. */
  #queued = 0;
  #settled = 0;
  /** Answers that count as sent, and whose promises have not settled. */
  #settledEarly = 0;
  /** The value of `#queued` when the last call of the peer was begun. */
  #gate = 0;

  constructor(duplex: Duplex, events: OutletEvents) {
    this.#duplex = duplex;
    this.#events = events;
  }

  /** Whether this end has made a call. */
  get hasCalled(): boolean {
    return this.#hasCalled;
  }

  /**
   * Whether a call of the peer may be begun: few answers wait, or those that waited
   * when the last call was begun have been sent. The second rule lets calls begin
   * while the values of many streams keep the duplex busy.
   */
  get mayBegin(): boolean {
    return this.#queued - this.#settled < MAX_WAITING_ANSWERS ||
      this.#settled >= this.#gate;
  }

  /** Called when a call of the peer is begun. */
  onBegin(): void {
    this.#gate = this.#queued;
  }

  /**
   * Sends an answer. Returns a promise if the answer, or its replacement if it
   * cannot be sent, has to wait for room. Never throws or rejects.
   */
  answer(
    message: Message,
    transfer?: Transferable[],
  ): Promise<void> | undefined {
    this.#keepTransfer(message, transfer);
    const sending = this.#post(message);
    return sending && this.#answerLater(sending);
  }

  async #answerLater(sending: Promise<void>): Promise<void> {
    this.#queued++;
    await sending;
    if (this.#settledEarly > 0) this.#settledEarly--;
    else this.#settled++;
    this.#events.onAnswered();
  }

  /**
   * Counts the answers that were sent while the thread was blocked, when none waits
   * any more. Their promises settle later.
   */
  settleAll(): void {
    this.#settledEarly += this.#queued - this.#settled;
    this.#settled = this.#queued;
  }

  /** Sends a call of this end, or a message for one, in order. Never throws. */
  send(message: Message, transfer?: Transferable[]): void {
    this.#keepTransfer(message, transfer);
    switch (message[0]) {
      case TAG.call:
      case TAG.batch:
        return this.#sendCall(message);
      default:
        this.#sendFollowUp(message);
    }
  }

  /** Sends a notification; settles when it was sent. */
  notify(
    message: Message,
    label: string,
    transfer?: Transferable[],
  ): Promise<void> {
    this.#keepTransfer(message, transfer);
    const notice = new Notice(message, label);
    this.#sendCall(notice);
    return notice.sent.promise;
  }

  /**
   * Sends a release behind the calls that wait, as these may use what is released.
   * Settles when it was sent, or cannot be sent. Never rejects.
   */
  async release(message: Message): Promise<void> {
    const notice = new Notice(message, "");
    this.#enqueue(notice);
    try {
      await notice.sent.promise;
    } catch {
      // The duplex has ended, which releases everything.
    }
  }

  /**
   * Whether a notification was not sent because the duplex has ended. A program that
   * sends events need not handle the end in each of them, but it must handle an error
   * of their arguments.
   */
  isEnd(error: unknown): boolean {
    if ((this.#duplex as CallHooks)[isEndError]?.(error)) return true;
    return unsendable(error) === undefined && !isInstance(error, DeadlockError);
  }

  #rejectNotice(notice: Notice, error: unknown): void {
    if (!this.isEnd(error)) return notice.refuse(error);
    notice.sent.reject(error);
    notice.sent.promise.catch(() => {});
  }

  #sendCall(call: Message | Notice): void {
    if (!this.#hasCalled) {
      this.#hasCalled = true;
      this.#events.onFirstCall();
    }
    this.#enqueue(call);
  }

  #enqueue(call: Message | Notice): void {
    const mustWait = this.#isBlocked || this.#isKeeping ||
      this.#waiting.length > 0;
    if (!mustWait && this.mayCall) return this.#sendNow(call);
    this.#keepContext(call);
    this.#waiting.push(call);
  }

  /** Keeps the context of a call that may be searched later: only objects are. */
  #keepContext(call: Message | Notice): void {
    const message = call instanceof Notice ? call.message : call;
    const args = message[0] === TAG.call
      ? message[3]
      : message[0] === TAG.notice
      ? message[2]
      : undefined;
    if (args?.some((arg) => typeof arg === "object" && arg !== null)) {
      this.#contexts.set(call, callContext());
    }
  }

  /** Sends waiting calls of this end, as many as may be sent. */
  pump(): void {
    while (
      this.#waiting.length > 0 && !this.#isBlocked && this.mayCall
    ) {
      const call = this.#waiting.shift();
      if (this.#dropIfStale(call)) this.#stale = Math.max(0, this.#stale - 1);
      else this.#sendNow(call);
    }
  }

  /** Keeps the calls that `make` makes for {@linkcode Outlet.pumpSync}. */
  keep<T>(make: () => T): T {
    const before = this.#isKeeping;
    this.#isKeeping = true;
    try {
      return make();
    } finally {
      this.#isKeeping = before;
    }
  }

  /**
   * As {@linkcode Outlet.pump} in a blocked thread. The duplex is not given a call that
   * it would keep, since the promise of that call does not settle meanwhile.
   *
   * @returns Whether calls still wait.
   * @throws If they would wait as long as the thread is blocked.
   */
  pumpSync(): boolean {
    if (this.#waiting.length === 0) return false;
    if (this.#isPumping) {
      throw new TypeError(
        "Cannot block the thread: a getter among the arguments of a call must not make another call that blocks",
      );
    }
    if (!this.mayCall) {
      throw new DOMException(
        "Cannot block the thread: too many calls of the peer wait until it receives its answers; await a call of remote first",
        "InvalidStateError",
      );
    }
    this.#isPumping = true;
    while (this.#waiting.length > 0 && this.mayCall) {
      const call = this.#waiting.first;
      if (this.#dropIfStale(call)) this.#stale = Math.max(0, this.#stale - 1);
      else if (!this.#trySendCall(call)) break;
      // A getter of the call may have cancelled it.
      if (this.#waiting.first === call) this.#waiting.shift();
    }
    this.#isPumping = false;
    return this.#waiting.length > 0;
  }

  /** Passes all waiting calls to the duplex, which sends them before its goodbye. */
  flush(): void {
    while (this.#waiting.length > 0) {
      const call = this.#waiting.shift();
      if (!this.#dropIfStale(call)) this.#sendInTurn(call);
    }
    this.#stale = 0;
  }

  /** Sends a message for a call of this end, behind the call if that waits. */
  #sendFollowUp(message: Message): void {
    const id = message[1] as number;
    if (id <= this.#lastId) return void this.#post(message);
    if (this.#events.isAwaited(id)) return this.#waiting.push(message);
    // The call was cancelled before it was sent: neither is sent.
    this.#stale++;
    if (this.#stale > MAX_STALE && this.#stale * 2 > this.#waiting.length) {
      this.#dropStale();
    }
  }

  #dropStale(): void {
    this.#waiting.retain((call) => !this.#dropIfStale(call));
    this.#stale = 0;
  }

  /** Whether a call was cancelled, and so is not sent. */
  #dropIfStale(call: Message | Notice): boolean {
    if (call instanceof Notice) return false;
    if (this.#events.isAwaited(call[1] as number)) return false;
    this.#events.onDropped(call);
    return true;
  }

  /** Sends a call if there is room; returns whether it need not be sent again. */
  #trySendCall(call: Message | Notice): boolean {
    const isNotice = call instanceof Notice;
    const lastId = this.#lastId;
    if (!isNotice) this.#lastId = Math.max(lastId, call[1] as number);
    try {
      if (!this.#trySend(isNotice ? call.message : call)) {
        this.#lastId = lastId;
        return false;
      }
      if (isNotice) call.sent.resolve();
    } catch (error) {
      this.#onRefused(call, error, (call) => this.#sendNow(call));
    }
    return true;
  }

  #sendNow(call: Message | Notice): void {
    if (this.#trySendCall(call)) return;
    this.#isBlocked = true;
    if (!this.#contexts.has(call)) this.#keepContext(call);
    this.#sendInTurn(call).then(() => {
      this.#isBlocked = false;
      this.pump();
    });
  }

  /** Sends a message of this end behind all messages that wait in the duplex. */
  async #sendInTurn(call: Message | Notice): Promise<void> {
    if (!(call instanceof Notice)) {
      this.#lastId = Math.max(this.#lastId, call[1] as number);
      return await this.#sendLater(call);
    }
    try {
      await this.#send(call.message);
      call.sent.resolve();
    } catch (error) {
      await this.#onRefused(call, error, (call) => this.#sendInTurn(call));
    }
  }

  /**
   * Handles a message of this end that cannot be sent. If it has values with slots,
   * it is sent with these, in its turn: nothing has been sent behind it.
   */
  #onRefused<Result>(
    call: Message | Notice,
    error: unknown,
    send: (call: Message | Notice) => Result,
  ): Result | undefined {
    const isNotice = call instanceof Notice;
    const message = isNotice ? call.message : call;
    try {
      const found = withContext(
        this.#contexts.get(call),
        () => this.#events.search(message, error),
      );
      if (found !== undefined) {
        const earlier = this.#transfers?.get(message) ?? [];
        const later = found.transfer.filter((item) => !earlier.includes(item));
        this.#keepTransfer(found.message, [...earlier, ...later]);
        if (isNotice) call.message = found.message;
        return send(isNotice ? call : found.message);
      }
    } catch (fault) {
      // A getter in it threw, or it has too many slots.
      error = fault;
    }
    if (isNotice) {
      this.#events.onDropped(message);
      this.#rejectNotice(call, error);
    } else this.#refuse(message, error);
    return undefined;
  }

  #keepTransfer(message: Message, transfer: Transferable[] | undefined): void {
    if (transfer === undefined || transfer.length === 0) return;
    this.#transfers ??= new WeakMap();
    this.#transfers.set(message, transfer);
  }

  #trySend(message: Message): boolean {
    const transfer = this.#transfers?.get(message);
    return transfer === undefined
      ? this.#duplex.trySend(message)
      : this.#duplex.trySend(message, { transfer });
  }

  #send(message: Message): Promise<void> {
    const transfer = this.#transfers?.get(message);
    return transfer === undefined
      ? this.#duplex.send(message)
      : this.#duplex.send(message, { transfer });
  }

  /** Sends a message now, or behind all messages that wait in the duplex. */
  #post(message: Message): Promise<void> | undefined {
    try {
      if (this.#trySend(message)) return undefined;
    } catch (error) {
      return this.#refuse(message, error);
    }
    return this.#sendLater(message);
  }

  /** Never rejects. */
  async #sendLater(message: Message): Promise<void> {
    try {
      await this.#send(message);
    } catch (error) {
      // When the duplex fails, its reader is notified right after those that send.
      // Calls that wait for answers then get the reader's error.
      await undefined;
      await (isCall(message)
        ? this.#onRefused(message, error, (call) => this.#sendInTurn(call))
        : this.#refuse(message, error));
    }
  }

  /** Handles a message that cannot be sent, so that no promise stays pending. Never throws or rejects. */
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

/** Whether a message is one of this end that is searched if it is refused. */
function isCall(message: Message): boolean {
  return message[0] === TAG.call || message[0] === TAG.batch;
}
