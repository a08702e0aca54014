// Copyright 2026 the Duplex authors. MIT license.

/**
 * The one implementation of {@linkcode Duplex} under all transports: hello, order,
 * flow control, deadlocks, goodbye and abort. A {@linkcode Wire} carries its
 * messages.
 *
 * Every promise that a session returns settles; a peer that breaks a rule receives
 * an abort with the reason, and the link ends; and neither side holds more than
 * the window and one message.
 *
 * The life of a session is its {@linkcode State}. Normally each side sends a
 * goodbye and receives one; after both, the session closes the wire. Otherwise it
 * fails with the first error: everything pending rejects with it, and the wire is
 * destroyed.
 *
 * @module
 */

import { nestedSend } from "../_wire/frame_encoder.ts";
import { ClosedError, DeadlockError, ProtocolError } from "../_base/errors.ts";
import { Flow, type ReceiveWindow, StallWatch } from "./flow.ts";
import { DEFAULT_OPTIONS, type SessionOptions } from "./options.ts";
import { checkPositive } from "../_base/options.ts";
import { MAX_TIMER, RunningTimer, WaitQueue } from "../_base/waiting.ts";
import { iteratorOf, readableOf, writableOf } from "./streams.ts";
import type { PeerHello, Wire, WireEvents } from "../_wire/wire.ts";
import type {
  Duplex,
  DuplexStats,
  ReceiveResult,
  SendOptions,
} from "../duplex.ts";

/** A session keeps to the peer that it has: see {@linkcode Session}. */
export const pinPeer: unique symbol = Symbol("pinPeer");
/** Called when the peer has sent its goodbye: see {@linkcode Session}. */
export const onPeerGoodbye: unique symbol = Symbol("onPeerGoodbye");
/** Called with the reason of the peer's abort: see {@linkcode Session}. */
export const onPeerAbort: unique symbol = Symbol("onPeerAbort");
/** Called before a session sends its goodbye: see {@linkcode Session}. */
export const beforeGoodbye: unique symbol = Symbol("beforeGoodbye");
/** Whether an error is that of the end: see {@linkcode Session}. */
export const isEndError: unique symbol = Symbol("isEndError");
/** The limits for messages of the peer: see {@linkcode Session}. */
export const receiveWindow: unique symbol = Symbol("receiveWindow");
/** How calls block: a session through shared memory has this. */
export const blocking: unique symbol = Symbol("blocking");

const RESOLVED: Promise<void> = Promise.resolve();
const EMPTY = Object.freeze({ state: "empty" } as const);
const CLOSED = Object.freeze({ state: "closed" } as const);

function nothing(): void {}

/** A message that waits for room. */
interface Unsent<Out> {
  readonly message: Out;
  readonly options: SendOptions | undefined;
}

/** The life of a session. */
type State =
  /** The peer's hello has not arrived. */
  | "opening"
  | "open"
  /** The link broke; the wire finds out why, and nothing is sent. */
  | "lost"
  /** Both sides have sent a goodbye, and the wire is being closed. */
  | "closing"
  | "closed"
  /** It ended with an error. */
  | "failed";

/**
 * Hooks of a session. They are declared here, as `isolatedDeclarations` accepts no
 * computed names in a class.
 */
export interface Session<In, Out> {
  /**
   * Keeps to the peer that there is: a call must not reach another one.
   *
   * @throws {TypeError} If there are several peers.
   */
  [pinPeer]: () => void;
  /**
   * Called when the peer has sent its goodbye. The parent of a thread closes a
   * worker whose script has ended; a worker that answers calls closes itself.
   */
  [onPeerGoodbye]: () => void;
  /** Called with the reason of the peer's abort, before anything rejects with it. */
  [onPeerAbort]: (reason: unknown) => void;
  /** Called before the goodbye, while messages can still be sent. */
  [beforeGoodbye]: () => void;
  /**
   * Whether the session has ended with this error. The reason of an abort may be of
   * any class, also of that for a message that cannot be sent.
   */
  [isEndError]: (error: unknown) => boolean;
  /** The limits that this side lets the peer use, and the size of a message. */
  [receiveWindow]: ReceiveWindow;
}

/** How a thread blocks until its duplex has a message. */
export interface BlockingReceive {
  /**
   * Passes the next message to `resolve`, inside of the call that reads it. A promise
   * would deliver it only after the thread was blocked. Must be called when
   * `tryReceive` has found no message.
   */
  receiveWith(
    resolve: (message: unknown) => void,
    reject: (reason: unknown) => void,
  ): void;
  /** Reads what has arrived. */
  poll(): void;
  /** Whether sends wait for room. */
  hasWaitingSends(): boolean;
  /**
   * Blocks until `tryReceive` and `trySend` should be tried again.
   *
   * @param timeout Milliseconds to wait at most.
   * @param isSending Whether a message waits to be sent.
   * @returns Whether they should be; `false` after the timeout.
   * @throws The error that ended the duplex, or why the thread must not block.
   */
  block(timeout: number, isSending: boolean): boolean;
}

/** Hooks of a session for `_rpc`. A program's own Duplex has none. */
export type CallHooks =
  & { [blocking]?: BlockingReceive }
  & Partial<
    Pick<
      Session,
      | typeof pinPeer
      | typeof onPeerGoodbye
      | typeof beforeGoodbye
      | typeof isEndError
      | typeof receiveWindow
    >
  >;

/** A {@linkcode Duplex} over a {@linkcode Wire}. */
export class Session<In = unknown, Out = In>
  implements Duplex<In, Out>, WireEvents {
  /** The counts of the messages, which the wire reads. */
  readonly flow: Flow;
  readonly #wire: Wire;
  readonly #options: SessionOptions;
  readonly #opened = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<void>();
  #state: State = "opening";
  #peer: PeerHello | undefined;
  /** Why the session failed. */
  #error: unknown;
  /** Sends that wait for room. */
  readonly #senders: WaitQueue<Unsent<Out>, void>;
  /** Receives that wait; there are none while messages wait. */
  readonly #receivers = new WaitQueue<void, In>();
  readonly #stall: StallWatch;

  /** The end of this side: settles when its goodbye was handed over. */
  #ending: Promise<void> | undefined;
  #hasSentGoodbye = false;
  #hasPeerGoodbye = false;
  /** Settles when no send waits. */
  #sendersGone: PromiseWithResolvers<void> | undefined;
  /** The result of `close`, and the end of its time limit. */
  #closing: Promise<void> | undefined;
  #closeTimer: { readonly left: number } | undefined;
  /** Whether a call has rejected with the error, or this side chose it. */
  #isReported = false;
  /** Whether a message is being encoded, so that its getters may run. */
  #isEncoding = false;
  /** Whether this side has aborted. */
  #isAborted = false;
  /** Whether an abort, of either side, has dropped the messages that waited. */
  #isDropped = false;
  #readable: ReadableStream<In> | undefined;
  #writable: WritableStream<Out> | undefined;

  /**
   * @param wire The wire, which the session starts and ends.
   * @param options Names, codecs and limits.
   * @param flow The counts; a new Flow by default.
   */
  constructor(wire: Wire, options: Partial<SessionOptions> = {}, flow?: Flow) {
    this.#wire = wire;
    this.#options = { ...DEFAULT_OPTIONS, ...options };
    const { windowBytes, windowMessages, deadlockTimeout } = this.#options;
    this.flow = flow ?? new Flow(windowBytes, windowMessages);
    this[receiveWindow] = this.flow;
    this[pinPeer] = () => this.#wire.pinPeer?.();
    this[onPeerGoodbye] = nothing;
    this[onPeerAbort] = nothing;
    this[beforeGoodbye] = nothing;
    this[isEndError] = (error) =>
      this.#state === "failed" && error === this.#error;
    this.#stall = new StallWatch(deadlockTimeout, {
      isBlocked: () => this.#senders.length > 0 && this.#receivers.length === 0,
      notify: () => this.notifyStall(),
      resume: () => this.giveCredit(),
      onDeadlock: () => this.#onDeadlock(),
    });
    this.#senders = new WaitQueue(() => this.#onSendersGone());
    // Calls report a failure, so that these need not be handled.
    this.#opened.promise.catch(() => {});
    this.#closed.promise.catch(() => {});
  }

  /** Starts the wire; settles when the peer's hello has arrived. */
  open(): Promise<void> {
    this.#wire.start(this, this.#options);
    return this.#opened.promise;
  }

  /** The peer's hello, once it has arrived. */
  get peer(): PeerHello | undefined {
    return this.#peer;
  }

  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  get stats(): DuplexStats {
    const { flow } = this;
    return {
      sent: flow.sent,
      arrived: flow.arrived,
      bytesSent: flow.bytesSent,
      bytesArrived: flow.bytesArrived,
      queued: flow.queued,
      inFlight: flow.inFlight,
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
    if (this.#isEncoding) return Promise.reject(nestedSend());
    if (this.isSendClosed) return Promise.reject(this.sendError());
    const signal = options?.signal;
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#senders.length > 0 || !this.hasRoom) {
      // First: Deno may run other tasks while the watch loads its first timer.
      const sent = this.#senders.wait({ message, options }, signal);
      this.#stall.block();
      this.#pauseUnlessAwaited(this.#senders.length > 0);
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
    if (this.#isEncoding) throw nestedSend();
    options?.signal?.throwIfAborted();
    if (this.isSendClosed) return false;
    if (this.#senders.length > 0 || !this.hasRoom) {
      this.#pauseUnlessAwaited(true);
      return false;
    }
    this.#post(message, options);
    return true;
  }

  receive(options?: { signal?: AbortSignal }): Promise<In> {
    this.flow.beforeReceive();
    if (this.flow.queued > 0) return Promise.resolve(this.#take());
    if (this.#isReceiveClosed()) return Promise.reject(this.receiveError());
    if (this.flow.isCreditDue) this.giveCredit();
    return this.#receivers.wait(undefined, options?.signal);
  }

  /** See {@linkcode BlockingReceive.receiveWith}. */
  protected receiveWith(
    resolve: (message: In) => void,
    reject: (reason: unknown) => void,
  ): void {
    if (this.#isReceiveClosed()) return reject(this.receiveError());
    this.#receivers.add(undefined, undefined, resolve, reject);
  }

  tryReceive(): ReceiveResult<In> {
    this.flow.beforeReceive();
    if (this.flow.queued > 0) return { state: "ok", value: this.#take() };
    if (this.#isReceiveClosed()) return CLOSED;
    if (this.flow.isCreditDue) this.giveCredit();
    return EMPTY;
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<In> {
    return iteratorOf<In>(
      this,
      () => this.#hasPeerGoodbye && !this.#isDropped,
    );
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
    if (this.#state === "failed" || this.#state === "closed") return;
    reason ??= new DOMException("The duplex was aborted", "AbortError");
    this.#isReported = true;
    this.#isAborted = true;
    this.#wire.abort(reason);
    this.#drop();
    this.fail(reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.close();
    } catch (error) {
      // A call that rejected with it has reported it already.
      if (!this.#isReported) throw error;
    }
  }

  /** Ends the session with an error that the user of this side did not choose. */
  fail(error: unknown): void {
    if (this.#state === "failed" || this.#state === "closed") return;
    this.#state = "failed";
    this.#error = error;
    const senders = this.#senders.rejectAll(error);
    const receivers = this.#receivers.rejectAll(error);
    if (senders || receivers) this.#isReported = true;
    this.#onSendersGone();
    this.#opened.reject(error);
    const done = () => this.#closed.reject(error);
    this.#wire.destroy().then(done, done);
  }

  // Reports of the wire

  onHello(peer: PeerHello): void {
    this.#peer = peer;
    if (this.#state === "opening") this.#state = "open";
    this.#opened.resolve();
    this.#postWaiting();
  }

  onMessage(message: unknown, size: number, acknowledged: number): void {
    const { flow } = this;
    flow.onArrived(size);
    if (acknowledged > flow.acknowledgedByPeer) this.#onProgress(acknowledged);
    if (this.#receivers.length > 0) {
      flow.onReceived(size);
      this.#creditIfDue();
      this.#receivers.shift().resolve(message as In);
    } else {
      flow.push(message, size);
    }
  }

  onAcknowledged(count: number): void {
    // Also if the count is not new, the peer has not stalled any more.
    this.#stall.onProgress();
    this.#onProgress(count);
  }

  onStall(acknowledged: number, isAnswer: boolean): void {
    // It does not count if credit was sent meanwhile.
    if (acknowledged !== this.flow.acknowledgedToPeer) return;
    this.#stall.onPeer();
    // This side receives nothing more, so the peer would wait forever.
    if (
      !isAnswer && this.#closing !== undefined && this.#receivers.length === 0
    ) this.#wire.stall(true);
  }

  onGoodbye(acknowledged: number): void {
    this.#onProgress(acknowledged);
    this.#endReceiving();
    this.#pauseUnlessAwaited(this.#senders.length > 0);
    if (this.#hasSentGoodbye) this.#finish();
    else this[onPeerGoodbye]();
  }

  onAbort(reason: unknown): void {
    this[onPeerAbort](reason);
    this.#drop();
    this.fail(reason);
  }

  onFault(error: Error): void {
    if (this.#isOver()) return;
    this.#wire.abort(error);
    this.fail(error);
  }

  onDrain(): void {
    this.#postWaiting();
  }

  onLost(cause: unknown): void {
    if (this.#state === "lost" || this.#isOver()) return;
    this.#state = "lost";
    const { flow } = this;
    const isAllSent = flow.inFlight === 0 && this.#senders.length === 0;
    const isLeaving = this.#hasSentGoodbye || this.#hasPeerGoodbye;
    if (cause === undefined && isAllSent && isLeaving) {
      // The peer ended after all that was sent: that counts as its goodbye,
      // unless the wire finds an error when it closes.
      this.#endReceiving();
      this.#finish();
      return;
    }
    const fail = (error: unknown) => this.fail(error);
    this.#wire.diagnose(cause, flow.unsent()).then(fail, fail);
  }

  // Sending

  // Private accessors are slow in V8, so these are methods.

  /** Whether the session has ended, or both sides have sent a goodbye. */
  #isOver(): boolean {
    const state = this.#state;
    return state === "closing" || state === "closed" || state === "failed";
  }

  /** Whether nothing more can be sent. */
  protected get isSendClosed(): boolean {
    return this.#ending !== undefined || this.#isOver();
  }

  /** Whether the peer's window and the wire have room for one more message. */
  get hasRoom(): boolean {
    return this.#state === "open" && this.#isWindowOpen() && !this.#wire.isFull;
  }

  #isWindowOpen(): boolean {
    const peer = this.#peer;
    return peer !== undefined && this.flow.bytesInFlight < peer.windowBytes &&
      this.flow.inFlight < peer.windowMessages;
  }

  /**
   * After the peer's goodbye only credit can arrive. It is read only if a send
   * waits for it.
   */
  #pauseUnlessAwaited(isAwaited: boolean): void {
    if (!this.#hasPeerGoodbye) return;
    this.#wire.pauseReading?.(!isAwaited || this.#isWindowOpen());
  }

  #post(message: Out, options: SendOptions | undefined): void {
    this.flow.beforeSend();
    this.#isEncoding = true;
    let size: number;
    try {
      size = this.#wire.message(message, options?.transfer);
    } finally {
      this.#isEncoding = false;
    }
    this.flow.onSent(message, size);
  }

  #onProgress(acknowledged: number): void {
    if (!this.flow.onAcknowledgedByPeer(acknowledged)) return;
    this.#stall.onProgress();
    this.#postWaiting();
    this.#pauseUnlessAwaited(this.#senders.length > 0);
  }

  /** Sends what waits, as far as there is room. */
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
    else this.#pauseUnlessAwaited(true);
  }

  #onSendersGone(): void {
    this.#stall.unblock();
    this.#pauseUnlessAwaited(false);
    this.#sendersGone?.resolve();
  }

  #onDeadlock(): void {
    const peer = this.#peer!.name;
    const { inFlight } = this.flow;
    const counts =
      `${inFlight} messages are in flight and ${this.#senders.length} more wait`;
    const error = this.#hasPeerGoodbye
      ? new ClosedError(
        `Cannot send: "${peer}" has sent its goodbye and receives nothing more, ${counts}`,
        { unsent: this.flow.unsent() },
      )
      : new DeadlockError(
        `Cannot send: "${this.#options.name}" and "${peer}" both wait for the other to receive, ${counts}; receive while sending, or take turns`,
      );
    this.#senders.rejectAll(error);
    this.#onSendersGone();
  }

  protected hasWaitingSends(): boolean {
    return this.#senders.length > 0;
  }

  /** Returns the error of a lost link, before the wire has found out all about it. */
  protected lossError(loss: Error): unknown {
    this.#isReported = true;
    return this.#state === "failed" ? this.#error : loss;
  }

  /** Returns why nothing more can be sent. */
  protected sendError(): unknown {
    if (this.#state !== "failed") {
      return new ClosedError("Cannot send to a closed duplex", {
        unsent: this.flow.unsent(),
      });
    }
    this.#isReported = true;
    return this.#error;
  }

  // Receiving

  #isReceiveClosed(): boolean {
    return this.#state === "failed" || this.#hasPeerGoodbye;
  }

  /** Returns why nothing more can be received. */
  protected receiveError(): unknown {
    if (this.#hasPeerGoodbye && !this.#isDropped) {
      return new ClosedError("Cannot receive from a closed duplex", {
        unsent: this.flow.unsent(),
      });
    }
    this.#isReported = true;
    return this.#error;
  }

  #take(): In {
    const message = this.flow.shift() as In;
    this.#creditIfDue();
    return message;
  }

  /** Gives credit if it is worth a frame, or the peer waits for it. */
  #creditIfDue(): void {
    const isAwaited = this.#stall.onReceive();
    const isLast = this.#hasPeerGoodbye && this.flow.queued === 0;
    if (isAwaited || isLast || this.flow.isCreditDue) this.giveCredit();
  }

  /** Acknowledges what was received, also if nothing is new. */
  giveCredit(): void {
    if (this.#isOver()) return;
    this.flow.onAcknowledgedToPeer();
    this.#wire.credit();
  }

  /** Reports to the peer that this side waits for it to receive. */
  notifyStall(): void {
    this.#wire.stall(false);
  }

  #drop(): void {
    this.flow.clear();
    this.#isDropped = true;
  }

  #endReceiving(): void {
    this.#hasPeerGoodbye = true;
    if (this.#receivers.length > 0) {
      this.#receivers.rejectAll(this.receiveError());
    }
  }

  // The end

  /** Sends a goodbye behind everything that was sent or waits to be. */
  #end(): Promise<void> {
    return this.#ending ??= this.#sendGoodbye();
  }

  async #sendGoodbye(): Promise<void> {
    // A getter of a message closes the duplex: the message is sent first.
    if (this.#isEncoding) await undefined;
    this[beforeGoodbye]();
    if (this.#senders.length > 0) {
      this.#sendersGone = Promise.withResolvers();
      await this.#sendersGone.promise;
    }
    if (this.#peer === undefined) await this.#opened.promise;
    if (this.#state === "failed") throw this.#error;
    if (this.#state !== "open") return await this.#closed.promise;
    this.flow.onAcknowledgedToPeer();
    this.#wire.goodbye();
    this.#hasSentGoodbye = true;
    if (this.#hasPeerGoodbye) this.#finish();
    await this.#wire.flushed();
  }

  async #close(timeout: number): Promise<void> {
    // The wire observes the deadline itself, unless it is being closed already.
    const isLate = this.#isOver();
    const timer = timeout > MAX_TIMER
      ? undefined
      : new RunningTimer(timeout, () => {
        if (isLate || !this.#isOver()) this.#onCloseTimeout(timeout);
      });
    this.#closeTimer = timer ?? { left: Infinity };
    try {
      // An error here is one of the session, which is thrown below once the
      // link has ended.
      await this.#end().catch(() => {});
      await this.#closed.promise;
    } catch (error) {
      if (!this.#isAborted) throw error;
    } finally {
      timer?.clear();
    }
  }

  #onCloseTimeout(timeout: number): void {
    if (this.#state === "closing" && this.flow.unsent().length === 0) {
      // Everything was delivered, and `#finish` reports how the link ends.
      this.#wire.destroy().catch(() => {});
      return;
    }
    const what = this.#isOver()
      ? `the link to "${this.#peer?.name}" did not end`
      : `"${this.#peer?.name}" did not send its goodbye`;
    this.fail(
      new ClosedError(
        `Cannot close the duplex cleanly: ${what} within ${timeout} ms; have it close its end, or give a longer "timeout"`,
        { unsent: this.flow.unsent() },
      ),
    );
  }

  /** Ends the link, since both sides have sent a goodbye. */
  #finish(): void {
    this.#state = "closing";
    this.#onSendersGone();
    const timeout = this.#closeTimer?.left ?? this.#options.closeTimeout;
    this.#wire.close(timeout, this.flow.unsent()).then(
      () => {
        if (this.#state !== "closing") return;
        this.#state = "closed";
        this.#closed.resolve();
      },
      (error) => {
        if (this.#state !== "closing") return;
        this.#state = "failed";
        this.#error = error;
        this.#closed.reject(error);
      },
    );
  }
}

/**
 * Ends a worker quietly if nothing catches the reason of its parent's abort. Any other
 * error is reported as usual, and so is a fault of the worker.
 *
 * @param session The session with the parent.
 * @param end Ends the worker, in place of the error.
 */
export function endQuietly(
  session: Session<unknown, unknown>,
  end: () => void,
): void {
  session[onPeerAbort] = (reason) => {
    if (reason instanceof ProtocolError) return;
    const onUncaught = (event: Event, thrown: unknown) => {
      if (thrown !== reason) return;
      event.preventDefault();
      end();
    };
    addEventListener("error", (event) => onUncaught(event, event.error));
    addEventListener(
      "unhandledrejection",
      (event) => onUncaught(event, event.reason),
    );
  };
}
