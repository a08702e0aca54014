// Copyright 2026 the Duplex authors. MIT license.

/**
 * The one implementation of {@linkcode Duplex} under all transports: it greets,
 * numbers messages, keeps to the credit, hands messages over in order, notices
 * a deadlock, and ends. What carries its frames is a {@linkcode Wire}.
 *
 * A session promises that every promise it hands out settles, that a peer which
 * breaks a rule is told so and let go, and that neither side holds more than
 * the window and one message.
 *
 * It ends in one of two ways. In good order: each side says goodbye (`#ending`,
 * then `#saidGoodbye`) and hears one (`#heardGoodbye`); with both it is
 * `#finished`, and the wire is closed (`#done`). Otherwise it fails: `#failure` holds the
 * first error, everything pending rejects with it, and the wire is destroyed. A
 * link that broke (`#lost`) takes a moment to tell why, in which nothing is sent.
 *
 * @module
 */

import { announceClosing, onReceipts } from "./claim.ts";
import { type Accounts, Inbox, Outbox } from "./credit.ts";
import { ClosedError, DeadlockError, ProtocolError } from "../_base/errors.ts";
import {
  DEFAULT_OPTIONS,
  helloFields,
  type PeerHello,
  readHello,
  reasonFields,
  reasonFrom,
  type SessionOptions,
  unsigned,
} from "./hello.ts";
import { checkPositive } from "../_base/options.ts";
import { StallWatch } from "./stall.ts";
import { MAX_TIMER, WaitQueue } from "../_base/waiting.ts";
import { iteratorOf, readableOf, writableOf } from "./streams.ts";
import {
  type ControlFields,
  type ControlKind,
  KIND,
  type Wire,
  type WireEvents,
} from "../_wire/wire.ts";
import type {
  Duplex,
  DuplexStats,
  ReceiveResult,
  SendOptions,
} from "../duplex.ts";

const RESOLVED: Promise<void> = Promise.resolve();
const EMPTY = Object.freeze({ state: "empty" } as const);
const CLOSED = Object.freeze({ state: "closed" } as const);

/** A message that waits for room. */
interface Unsent<Out> {
  readonly message: Out;
  readonly options: SendOptions | undefined;
}

/** A {@linkcode Duplex} over a {@linkcode Wire}. */
export class Session<In = unknown, Out = In>
  implements Duplex<In, Out>, WireEvents {
  readonly #wire: Wire;
  readonly #options: SessionOptions;
  readonly #opened = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<void>();
  #peer: PeerHello | undefined;

  readonly #outbox: Outbox;
  readonly #senders: WaitQueue<Unsent<Out>, void>;
  readonly #stall: StallWatch;
  // Messages that have arrived, or else receives that wait.
  readonly #inbox: Inbox;
  readonly #receivers = new WaitQueue<void, In>();

  #ending: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  /** When the time that `close` was given is up. */
  #closeDeadline: number | undefined;
  #sendersGone: PromiseWithResolvers<void> | undefined;
  #saidGoodbye = false;
  #heardGoodbye = false;
  #finished = false;
  #done = false;
  #lost = false;
  #failure: { readonly error: unknown } | undefined;
  /** Whether somebody was told of the failure, or brought it about. */
  #reported = false;
  #aborted = false;
  /** Whether an abort, of either side, has dropped what had arrived. */
  #dropped = false;
  #readable: ReadableStream<In> | undefined;
  #writable: WritableStream<Out> | undefined;

  /**
   * @param wire What carries the frames; the session starts it and ends it.
   * @param options Names, codecs and limits.
   * @param accounts What keeps count, where it is not the usual.
   */
  constructor(
    wire: Wire,
    options: Partial<SessionOptions> = {},
    accounts: Accounts = {},
  ) {
    this.#wire = wire;
    this.#options = { ...DEFAULT_OPTIONS, ...options };
    const { windowBytes: window, windowMessages } = this.#options;
    this.#inbox = accounts.inbox ?? new Inbox(window, windowMessages);
    this.#outbox = accounts.outbox ?? new Outbox();
    onReceipts(this, this.#inbox);
    this.#stall = new StallWatch(this.#options.deadlockTimeout, {
      isBlocked: () => this.#senders.length > 0 && this.#receivers.length === 0,
      notify: () => this.notifyStall(),
      resume: () => this.giveCredit(),
      onDeadlock: () => this.#onDeadlock(),
    });
    this.#senders = new WaitQueue(() => this.#onSendersGone());
    // Nobody has to look at these; a failure reaches every call that is made.
    this.#opened.promise.catch(() => {});
    this.#closed.promise.catch(() => {});
  }

  /** Greets the far side; settles when both hellos are said. */
  open(): Promise<void> {
    this.#wire.start(this);
    this.#control(KIND.hello, helloFields(this.#options));
    return this.#opened.promise;
  }

  /** What the far side said of itself, once it has. */
  get peer(): PeerHello | undefined {
    return this.#peer;
  }

  /** Tells the far side that this one waits for it to receive. */
  notifyStall(): void {
    this.#control(KIND.stall, { taken: this.#outbox.acknowledged });
  }

  /** Ends the session with an error that is not this side's choice. */
  fail(error: unknown): void {
    if (this.#failure !== undefined || this.#done) return;
    this.#failure = { error };
    const senders = this.#senders.rejectAll(error);
    const receivers = this.#receivers.rejectAll(error);
    if (senders || receivers) this.#reported = true;
    this.#onSendersGone();
    this.#opened.reject(error);
    const done = () => {
      this.#done = true;
      this.#closed.reject(error);
    };
    this.#wire.destroy().then(done, done);
  }

  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  get stats(): DuplexStats {
    return {
      sent: this.#outbox.sent,
      received: this.#inbox.received,
      bytesSent: this.#outbox.bytesSent,
      bytesReceived: this.#inbox.bytesReceived,
      queued: this.#inbox.length,
      inFlight: this.#outbox.length,
      blockedMs: this.#stall.blockedMs,
    };
  }

  get readable(): ReadableStream<In> {
    return this.#readable ??= readableOf<In>(this);
  }

  get writable(): WritableStream<Out> {
    return this.#writable ??= writableOf<Out>(this, () => this.#end());
  }

  send(message: Out, options?: SendOptions): Promise<void> {
    if (this.isSendClosed()) return Promise.reject(this.sendError());
    const signal = options?.signal;
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#senders.length > 0 || !this.hasRoom) {
      // In line first: Deno runs what waits while it loads its first timer.
      const sent = this.#senders.wait({ message, options }, signal);
      this.#stall.block();
      this.#holdUnlessAwaited(this.#senders.length > 0);
      return sent;
    }
    try {
      this.#post(message, options);
      return RESOLVED;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  trySend(message: Out, options?: SendOptions): boolean {
    options?.signal?.throwIfAborted();
    if (this.isSendClosed()) return false;
    if (this.#senders.length > 0 || !this.hasRoom) {
      this.#holdUnlessAwaited(true);
      return false;
    }
    this.#post(message, options);
    return true;
  }

  receive(options?: { signal?: AbortSignal }): Promise<In> {
    this.#inbox.onAsk();
    if (this.#inbox.length > 0) return Promise.resolve(this.#take());
    if (this.#isReceiveClosed()) return Promise.reject(this.receiveError());
    if (this.#inbox.isCreditDue) this.giveCredit();
    return this.#receivers.wait(undefined, options?.signal);
  }

  tryReceive(): ReceiveResult<In> {
    this.#inbox.onAsk();
    if (this.#inbox.length > 0) return { state: "ok", value: this.#take() };
    if (this.#isReceiveClosed()) return CLOSED;
    if (this.#inbox.isCreditDue) this.giveCredit();
    return EMPTY;
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<In> {
    return iteratorOf<In>(this, () => this.#heardGoodbye && !this.#dropped);
  }

  close(options: { timeout?: number } = {}): Promise<void> {
    const { timeout = this.#options.closeTimeout } = options;
    try {
      checkPositive("Cannot close a duplex", "timeout", timeout);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#closing ??= this.#close(timeout);
  }

  abort(reason?: unknown): void {
    if (this.#failure !== undefined || this.#done) return;
    reason ??= new DOMException("The duplex was aborted", "AbortError");
    this.#reported = true;
    this.#aborted = true;
    this.#breakOff(reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.close();
    } catch (error) {
      // Whoever was told already has it from where it happened.
      if (!this.#reported) throw error;
    }
  }

  onControl(kind: ControlKind, fields: ControlFields): void {
    if (kind === KIND.hello) return this.#onHello(fields);
    if (kind === KIND.abort) {
      this.#drop();
      return this.fail(reasonFrom(fields, this.#peer?.codec));
    }
    if (this.#peer === undefined) {
      throw new ProtocolError(
        `Cannot take a control frame of kind ${kind}: the far side has not said hello`,
      );
    }
    if (kind === KIND.credit) {
      // Even without news it says that the far side has not stalled, or no more.
      this.#stall.onProgress();
      return this.#onTaken(unsigned(fields, "taken"));
    }
    if (kind === KIND.goodbye) return this.#onGoodbye(fields);
    this.#onStall(unsigned(fields, "taken"), fields.answer === true);
  }

  onMessage(
    number: number,
    taken: number,
    message: unknown,
    size: number,
  ): void {
    if (this.#heardGoodbye) {
      throw new ProtocolError(
        `Cannot take message ${number}: the far side has said goodbye`,
      );
    }
    this.#inbox.admit(number, size);
    // The count is cut to 32 bits, and credit that went first may be newer.
    const news = (taken - this.#outbox.acknowledged) | 0;
    if (news > 0) this.#onTaken(this.#outbox.acknowledged + news);
    if (this.#receivers.length > 0) {
      this.#inbox.onTaken(size);
      this.#creditIfDue();
      this.#receivers.shift().resolve(message as In);
    } else {
      this.#inbox.push(message, size);
    }
  }

  onFault(error: Error): void {
    if (this.#failure === undefined && !this.#finished) this.#breakOff(error);
  }

  onDrain(): void {
    this.#postWaiting();
  }

  onLost(cause: unknown): void {
    if (this.#lost || this.#finished || this.#failure !== undefined) return;
    this.#lost = true;
    const nothingIsOpen = this.#outbox.length === 0 &&
      this.#senders.length === 0;
    const leaving = this.#saidGoodbye || this.#heardGoodbye;
    if (cause === undefined && nothingIsOpen && leaving) {
      // The far side ended after all that was sent: as good as a goodbye, if
      // the link has nothing to say against it.
      this.#hearGoodbye();
      this.#finish();
      return;
    }
    this.#wire.diagnose(cause, this.#outbox.unsent()).then(
      (error) => this.fail(error),
      (error) => this.fail(error),
    );
  }

  #control(kind: ControlKind, fields: ControlFields): void {
    this.#wire.control(kind, fields, this.#outbox.bytesInFlight);
  }

  // Sending

  /** Whether nothing more can be sent. */
  protected isSendClosed(): boolean {
    return this.#failure !== undefined || this.#finished ||
      this.#ending !== undefined;
  }

  /** Whether the far side's window and the wire take one more message. */
  get hasRoom(): boolean {
    return this.#isWindowOpen() && !this.#lost && !this.#wire.isFull;
  }

  #isWindowOpen(): boolean {
    const peer = this.#peer;
    return peer !== undefined &&
      this.#outbox.bytesInFlight < peer.windowBytes &&
      this.#outbox.length < peer.windowMessages;
  }

  /**
   * After the far side's goodbye nothing comes but credit. It is read only while
   * somebody wants to send and the window is shut.
   */
  #holdUnlessAwaited(isAwaited: boolean): void {
    if (!this.#heardGoodbye) return;
    this.#wire.hold?.(!isAwaited || this.#isWindowOpen());
  }

  #post(message: Out, options: SendOptions | undefined): void {
    this.#inbox.onAnswer();
    const size = this.#wire.message(
      this.#outbox.sent + 1,
      this.#inbox.acknowledgeable,
      message,
      this.#outbox.bytesInFlight,
      options?.transfer,
    );
    this.#outbox.add(message, size);
    // The message carries the news of what was taken.
    this.#inbox.onCredited();
  }

  /** The far side has taken messages up to this number. */
  #onTaken(count: number): void {
    if (!this.#outbox.acknowledge(count)) return;
    this.#stall.onProgress();
    this.#postWaiting();
    this.#holdUnlessAwaited(this.#senders.length > 0);
  }

  /** Sends what waits, as far as there is room now. */
  #postWaiting(): void {
    if (this.#senders.length === 0) return;
    while (this.#senders.length > 0 && this.hasRoom) {
      const { payload, resolve, reject } = this.#senders.shift();
      try {
        this.#post(payload.message, payload.options);
        resolve();
      } catch (error) {
        reject(error);
      }
    }
    if (this.#senders.length === 0) this.#onSendersGone();
    else this.#holdUnlessAwaited(true);
  }

  #onSendersGone(): void {
    this.#stall.unblock();
    this.#holdUnlessAwaited(false);
    this.#sendersGone?.resolve();
  }

  #onStall(taken: number, isAnswer: boolean): void {
    // A notice that crossed newer credit is out of date.
    if (taken !== this.#inbox.credited) return;
    this.#stall.onPeer();
    if (
      !isAnswer && this.#closing !== undefined && this.#receivers.length === 0
    ) {
      // Nobody here takes anything any more, so the far side waits in vain.
      const { acknowledged } = this.#outbox;
      this.#control(KIND.stall, { taken: acknowledged, answer: true });
    }
  }

  #onDeadlock(): void {
    const peer = this.#peer!.name;
    const counts =
      `${this.#outbox.length} messages are in flight and ${this.#senders.length} more wait`;
    const error = this.#heardGoodbye
      ? new ClosedError(
        `Cannot send: "${peer}" has said goodbye and takes nothing more, ${counts}`,
        { unsent: this.#outbox.unsent() },
      )
      : new DeadlockError(
        `Cannot send: "${this.#options.name}" and "${peer}" both wait for the other to receive, ${counts}; receive while sending, or take turns`,
      );
    this.#senders.rejectAll(error);
    this.#onSendersGone();
  }

  /** Why nothing more can be sent. */
  protected sendError(): unknown {
    if (this.#failure === undefined) {
      return new ClosedError("Cannot send to a closed duplex", {
        unsent: this.#outbox.unsent(),
      });
    }
    this.#reported = true;
    return this.#failure.error;
  }

  // Receiving

  #isReceiveClosed(): boolean {
    return this.#failure !== undefined || this.#heardGoodbye;
  }

  /** Why nothing more can be received. */
  protected receiveError(): unknown {
    if (this.#heardGoodbye && !this.#dropped) {
      return new ClosedError("Cannot receive from a closed duplex", {
        unsent: this.#outbox.unsent(),
      });
    }
    this.#reported = true;
    return this.#failure!.error;
  }

  #take(): In {
    const message = this.#inbox.shift() as In;
    this.#creditIfDue();
    return message;
  }

  /** Gives credit once it is worth a frame, or where the far side waits for it. */
  #creditIfDue(): void {
    const isAwaited = this.#stall.onTake();
    const isLast = this.#heardGoodbye && this.#inbox.length === 0;
    if (isAwaited || isLast || this.#inbox.isCreditDue) this.giveCredit();
  }

  /** Acknowledges what was received, with news or without. */
  giveCredit(): void {
    if (this.#failure !== undefined || this.#finished) return;
    this.#inbox.onCredited();
    this.#control(KIND.credit, { taken: this.#inbox.credited });
  }

  // Beginning and end

  #onHello(fields: ControlFields): void {
    if (this.#peer !== undefined) {
      throw new ProtocolError("Cannot take a second hello");
    }
    this.#peer = readHello(fields, this.#options);
    this.#wire.agree(this.#peer);
    this.#opened.resolve();
    this.#postWaiting();
  }

  #onGoodbye(fields: ControlFields): void {
    const sent = unsigned(fields, "sent");
    if (this.#heardGoodbye || sent !== this.#inbox.received) {
      throw new ProtocolError(
        `Cannot take a goodbye after ${sent} messages: ${this.#inbox.received} have come`,
      );
    }
    this.#onTaken(unsigned(fields, "taken"));
    this.#hearGoodbye();
    this.#holdUnlessAwaited(this.#senders.length > 0);
    if (this.#saidGoodbye) this.#finish();
  }

  #drop(): void {
    this.#inbox.clear();
    this.#dropped = true;
  }

  #hearGoodbye(): void {
    this.#heardGoodbye = true;
    if (this.#receivers.length > 0) {
      this.#receivers.rejectAll(this.receiveError());
    }
  }

  /** Says goodbye behind everything that was sent or waits to be. */
  #end(): Promise<void> {
    return this.#ending ??= this.#sayGoodbye();
  }

  async #sayGoodbye(): Promise<void> {
    announceClosing(this);
    if (this.#senders.length > 0) {
      this.#sendersGone = Promise.withResolvers();
      await this.#sendersGone.promise;
    }
    if (this.#peer === undefined) await this.#opened.promise;
    if (this.#failure !== undefined) throw this.#failure.error;
    if (this.#lost) return await this.#closed.promise;
    if (this.#finished) return;
    this.#inbox.onCredited();
    this.#control(KIND.goodbye, {
      sent: this.#outbox.sent,
      taken: this.#inbox.credited,
    });
    this.#saidGoodbye = true;
    if (this.#heardGoodbye) this.#finish();
    await this.#wire.flushed();
  }

  async #close(timeout: number): Promise<void> {
    this.#closeDeadline = performance.now() + timeout;
    // The wire keeps to the deadline itself, unless it is being closed already.
    const isLate = this.#finished;
    const timer = timeout > MAX_TIMER ? undefined : setTimeout(() => {
      if (isLate || !this.#finished) this.#onCloseTimeout(timeout);
    }, timeout);
    try {
      // What goes wrong here goes wrong with the duplex, and is told below
      // once nothing is left of it.
      await this.#end().catch(() => {});
      await this.#closed.promise;
    } catch (error) {
      if (!this.#aborted) throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  #onCloseTimeout(timeout: number): void {
    const what = this.#finished
      ? `the link to "${this.#peer?.name}" did not end`
      : `"${this.#peer?.name}" did not say goodbye`;
    this.fail(
      new ClosedError(
        `Cannot close the duplex in good order: ${what} within ${timeout} ms; have it close its end, or give a longer "timeout"`,
        { unsent: this.#outbox.unsent() },
      ),
    );
  }

  /** Both sides have said goodbye: ends the link. */
  #finish(): void {
    this.#finished = true;
    this.#onSendersGone();
    const timeout = this.#closeDeadline === undefined
      ? this.#options.closeTimeout
      : Math.max(0, this.#closeDeadline - performance.now());
    this.#wire.close(timeout, this.#outbox.unsent()).then(
      () => {
        if (this.#failure !== undefined) return;
        this.#done = true;
        this.#closed.resolve();
      },
      (error) => {
        if (this.#failure !== undefined) return;
        this.#done = true;
        this.#failure = { error };
        this.#closed.reject(error);
      },
    );
  }

  /** Fails, and tells the far side why. */
  #breakOff(reason: unknown): void {
    this.#control(KIND.abort, reasonFields(reason, this.#peer?.codec));
    if (this.#aborted) this.#drop();
    this.fail(reason);
  }
}
