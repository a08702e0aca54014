// Copyright 2026 the Duplex authors. MIT license.

/**
 * One end of a duplex that carries calls in both directions. A loop reads messages
 * and passes them to the caller or the callee of this end. The loop never waits for
 * a method, so a method can make calls itself.
 *
 * @module
 */

import {
  beforeGoodbye,
  blocking,
  type CallHooks,
  pinPeer,
  receiveWindow,
} from "../_session/session.ts";
import { ClosedError, isEnd, isInstance } from "../_base/errors.ts";
import { Backlog } from "./backlog.ts";
import { refuseStreamSync, SyncResult } from "./blocking.ts";
import { Callee } from "./callee.ts";
import {
  type AnswerHandler,
  Caller,
  type CallLimits,
  methodLabel,
  NO_LIMITS,
  type PendingCall,
  refusal,
  type SentBatch,
  WEB_STREAM_LIMITS,
  withSlots,
} from "./caller.ts";
import {
  DESCRIBE,
  type Message,
  type MethodKey,
  readMessage,
  SLOT,
  type Slot,
  TAG,
  type Trace,
} from "./messages.ts";
import { Outlet } from "./outlet.ts";
import { References } from "./references.ts";
import {
  findSlotValues,
  type Parcel,
  search,
  SIGNAL_KIND,
  SlotTable,
  type SlotValue,
  withoutSlotValues,
} from "./slots.ts";
import { Reader } from "./reader.ts";
import { CallPromise } from "./stream.ts";
import { Tracing } from "./trace.ts";
import { show } from "../_base/text.ts";
import type { Duplex } from "../duplex.ts";

export type { AnswerHandler, SentBatch };

/** The endpoint of each duplex. */
const endpoints = new WeakMap<Duplex, RpcEndpoint>();

/** One end of a duplex that carries calls. */
export class RpcEndpoint {
  readonly callee: Callee;
  readonly references: References;
  readonly #slots: SlotTable;
  readonly #caller: Caller;
  readonly #duplex: Duplex;
  readonly #outlet: Outlet;
  readonly #backlog: Backlog;
  readonly #reader: Reader;
  /** The calls that block this thread, the innermost last. */
  readonly #blocked: PendingCall[] = [];
  readonly #tracing = Tracing.get();
  readonly #ended = Promise.withResolvers<void>();

  private constructor(duplex: Duplex) {
    this.#duplex = duplex;
    const outlet = new Outlet(duplex, {
      onFirstCall: () => this.#backlog.checkRoom(),
      isAwaited: (id) => this.#caller.isAwaited(id),
      onAnswered: () => void this.#backlog.begin(),
      search: (message, error) => this.#search(message, error),
      onDropped: (message) => this.#slots.remove(slotsOf(message)),
      refuse: (message, error) => this.#refuse(message, error),
      onFault: (error) => duplex.abort(error),
    });
    this.#outlet = outlet;
    this.references = new References({
      call: (key, args) => CallPromise.from(this.call(key, args)),
      onError: (error, key) => this.callee.onError(error, key),
      callStream: (id, args) => this.call(id, args, WEB_STREAM_LIMITS),
      release: (released) => outlet.release([TAG.release, released]),
    });
    this.#slots = new SlotTable(
      new Map([...this.references.kinds, [SLOT.signal, SIGNAL_KIND]]),
    );
    this.#caller = new Caller(
      (message, transfer) => outlet.send(message, transfer),
      this.#slots,
      this.references,
      this.#tracing,
    );
    this.callee = new Callee({
      post: (message, transfer) => void outlet.answer(message, transfer),
      postInTurn: (message, transfer) => outlet.answer(message, transfer),
      slots: this.#slots,
      references: this.references,
      tracing: this.#tracing,
      isHolding: () => !this.#backlog.isEmpty,
      isBlocked: (id) =>
        this.#blocked.some(({ slots }) =>
          slots?.some(([, kind, slot]) => kind === SLOT.callback && slot === id)
        ),
    });
    const hooks = callHooks(duplex);
    this.#backlog = new Backlog(outlet, hooks[receiveWindow], {
      handle: (message) => this.callee.onMessage(message),
      onFault: (error) => duplex.abort(error),
      onDropped: (message) => this.#slots.drop(slotsOf(message)),
      onEmpty: () => this.callee.checkIdle(),
    });
    hooks[beforeGoodbye] = () => {
      this.#backlog.flush();
      outlet.flush();
    };
    this.#reader = new Reader(duplex, hooks[blocking], this.#backlog, {
      onMessage: (message) => this.#onMessage(message),
      onEnd: (error) => this.#onEnd(error),
    });
    this.#reader.run();
  }

  /** The endpoint of a duplex, which receives all its messages from now on. */
  static of(duplex: Duplex, action = "Cannot make calls"): RpcEndpoint {
    checkDuplex(`${action} as "duplex" must be a Duplex`, duplex);
    let endpoint = endpoints.get(duplex);
    if (endpoint === undefined) {
      callHooks(duplex)[pinPeer]?.();
      endpoint = new RpcEndpoint(duplex);
      endpoints.set(duplex, endpoint);
    }
    return endpoint;
  }

  /** The endpoint of a duplex, if it has one. */
  static find(duplex: Duplex): RpcEndpoint | undefined {
    return endpoints.get(duplex);
  }

  /** Settles when no more messages arrive. Never rejects. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Calls a method, or a function of the peer. */
  call(
    method: MethodKey,
    args: readonly unknown[],
    limits: CallLimits = NO_LIMITS,
  ): Promise<unknown> {
    return this.#caller.call(method, args, limits);
  }

  /** Calls a method and blocks the thread until it has ended. */
  callSync(
    method: string,
    args: readonly unknown[],
    timeout: number,
  ): unknown {
    const deadline = performance.now() + timeout;
    const outlet = this.#outlet;
    const result = new SyncResult();
    const call = outlet.keep(() =>
      this.#caller.begin(method, args, { ...NO_LIMITS, timeout }, result)
    );
    if (call === undefined) return result.get();
    this.#blocked.push(call);
    try {
      if (!this.#reader.readUntil(result, deadline, outlet)) call.abortLate();
    } catch (error) {
      call.stop(error);
    } finally {
      this.#blocked.splice(this.#blocked.indexOf(call), 1);
      outlet.pump();
    }
    return refuseStreamSync(method, result.get());
  }

  /**
   * Calls a method once for each arguments, one call after the other. If the batch
   * has failed, the handler was notified when this returns. `traces` are those of the
   * calls, if the program is traced.
   */
  batch(
    method: string,
    list: unknown[][],
    handler: AnswerHandler,
    traces?: (Trace | null)[],
  ): SentBatch {
    return this.#caller.batch(method, list, handler, traces);
  }

  /**
   * Requests the names of the peer's methods and the bytes that its heap holds.
   *
   * @param limits A timeout and a signal.
   * @returns Both; no methods, or 0, if the peer does not report them.
   */
  async describe(
    limits: Partial<CallLimits> = {},
  ): Promise<{ readonly methods: string[]; readonly memory: number }> {
    const found = await this.call(DESCRIBE, [], { ...NO_LIMITS, ...limits });
    const { methods, memory } = (found ?? {}) as {
      methods?: unknown;
      memory?: unknown;
    };
    return {
      methods: Array.isArray(methods)
        ? methods.filter((name) => typeof name === "string")
        : [],
      memory: typeof memory === "number" ? memory : 0,
    };
  }

  /** Calls a method without an answer; settles when the call was sent. */
  notify(method: string, args: unknown[]): Promise<void> {
    const span = this.#tracing?.call(method);
    if (span === undefined) {
      return this.#notify(method, [TAG.notice, method, args]);
    }
    const sent = this.#notify(
      method,
      span.trace === undefined
        ? [TAG.notice, method, args]
        : [TAG.notice, method, args, [], span.trace],
    );
    // Without a reaction, so that a rejection without a handler is reported.
    span.end();
    return sent;
  }

  #notify(
    method: string,
    message: Extract<Message, [typeof TAG.notice, ...unknown[]]>,
  ): Promise<void> {
    const label = methodLabel(method);
    const args = message[2];
    try {
      const found = findSlotValues(args);
      // The codec refuses a signal: nothing can cancel a notification.
      if (found === undefined || hasSignal(found)) {
        return this.#outlet.notify(message, label);
      }
      const searched = withoutSlotValues(args, found);
      return this.#outlet.notify(
        withSlots(this.#slots, message, searched),
        label,
        searched.transfer,
      );
    } catch (error) {
      return Promise.reject(refusal(error, `notify ${label}`));
    }
  }

  /** Whether a notification was not sent because the duplex has ended. */
  isEnd(error: unknown): boolean {
    return this.#outlet.isEnd(error);
  }

  /** Searches a message that the codec has refused. */
  #search(message: Message, error: unknown): Parcel | undefined {
    if (!isInstance(error, TypeError)) return undefined;
    if (message[0] !== TAG.notice) return this.#caller.search(message);
    const searched = search(message[2]);
    if (searched === undefined || hasSignal(searched.values)) return undefined;
    return {
      message: withSlots(this.#slots, message, searched),
      transfer: searched.transfer,
    };
  }

  /** Handles a message that cannot be sent, so that no caller waits without limit. */
  #refuse(message: Message, error: unknown): Promise<void> | undefined {
    // No answer can be sent any more.
    if (isEnd(error)) this.#backlog.flush();
    this.#caller.refuse(message, error);
    return this.callee.refuse(message, error);
  }

  /** Handles a message; a violation of the protocol ends the duplex. */
  #onMessage(value: unknown): void {
    try {
      const message = readMessage(value);
      switch (message[0]) {
        case TAG.call:
        case TAG.batch:
        case TAG.notice:
          return this.#backlog.onCall(message);
        case TAG.pull:
        case TAG.cancel:
        case TAG.recall:
          return this.#backlog.onFollowUp(message);
        case TAG.release:
          return this.#backlog.onRelease(message);
        default:
          return this.#caller.onAnswer(message);
      }
    } catch (error) {
      this.#duplex.abort(error);
    }
  }

  #onEnd(error: unknown): void {
    const isClosed = isInstance(error, ClosedError);
    try {
      this.#caller.end(isClosed ? goodbye() : error);
      this.references.end(isClosed ? goodbye() : error);
      if (isClosed) this.callee.drain(goodbye());
      else this.#onGone(error);
    } finally {
      this.#ended.resolve();
      // After a goodbye of the peer, answers are still sent until the duplex ends.
      this.#duplex.closed.then(
        () => this.#onGone(goodbye()),
        (reason) => this.#onGone(reason),
      );
    }
  }

  /** No answer can be sent any more. */
  #onGone(reason: unknown): void {
    this.#backlog.flush();
    this.callee.end(reason);
  }
}

/** The slots of a call or a notification. */
function slotsOf(message: Message): Slot[] | undefined {
  if (message[0] === TAG.call) return message[4];
  return message[0] === TAG.notice ? message[3] : undefined;
}

function hasSignal(values: readonly SlotValue[]): boolean {
  return values.some(({ value }) => value instanceof AbortSignal);
}

/** The hooks of a duplex for calls; none if it is not of this package. */
function callHooks(duplex: Duplex): CallHooks {
  return receiveWindow in duplex ? duplex as CallHooks : {};
}

/**
 * Throws unless a value is a duplex: programs without types may pass anything.
 *
 * @param attempt What was attempted, and with which value, for the error.
 */
export function checkDuplex(attempt: string, duplex: Duplex): void {
  const isDuplex = typeof duplex === "object" && duplex !== null &&
    DUPLEX_METHODS.every((name) => typeof duplex[name] === "function");
  if (isDuplex) return;
  const what = duplex as unknown instanceof Promise
    ? "a promise; await it first"
    : show(duplex);
  throw new TypeError(`${attempt}: current value is ${what}`);
}

/**
 * Throws unless a thread can be blocked until its duplex has a message.
 *
 * @param action What was attempted, for the error.
 */
export function checkBlocks(action: string, duplex: Duplex): void {
  const attempt =
    `${action} as "duplex" must be a duplex through shared memory`;
  checkDuplex(attempt, duplex);
  if (callHooks(duplex)[blocking] !== undefined) return;
  throw new TypeError(
    `${attempt}: this one uses another transport; open the worker with openShm, or use remote`,
  );
}

const DUPLEX_METHODS = [
  "send",
  "trySend",
  "receive",
  "tryReceive",
  "close",
  "abort",
] as const;

function goodbye(): ClosedError {
  return new ClosedError("The peer has sent its goodbye");
}
