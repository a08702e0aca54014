// Copyright 2026 the Duplex authors. MIT license.

/**
 * The calls that one end makes. A call is registered before it is sent, and ends
 * in exactly one of four ways: with a value, with the error that the method threw,
 * because the duplex ended, or because it was cancelled.
 *
 * @module
 */

import {
  ClosedError,
  isEnd,
  isInstance,
  ProtocolError,
} from "../_base/errors.ts";
import { SeparateList } from "../_codec/separate_list.ts";
import { fromFailure, reduceFailure, toFailure } from "./errors.ts";
import {
  DESCRIBE,
  MAX_SLOTS,
  type Message,
  type MethodKey,
  type Slot,
  TAG,
  type Trace,
  valueIndex,
} from "./messages.ts";
import { ChunkReader } from "./chunks.ts";
import type { References } from "./references.ts";
import {
  findSlotValues,
  type Parcel,
  search,
  type Searched,
  type SlotTable,
  type SlotValue,
  tooManySlots,
  withoutSlotValues,
} from "./slots.ts";
import { type AnswerStream, RemoteStream, type StreamCall } from "./stream.ts";
import type { CallSpan, Tracing } from "./trace.ts";
import { messageOf, quoted, reasonText } from "../_base/text.ts";
import { AbortGroups, MAX_TIMER, RunningTimer } from "../_base/waiting.ts";

/** Sends a message. Never throws; `Caller.refuse` is called if it cannot be sent. */
export type Post = (message: Message, transfer?: Transferable[]) => void;

/** The options of a call. */
export interface CallLimits {
  /** Cancels the call. */
  readonly signal: AbortSignal | undefined;
  /** Milliseconds until the call must have ended. */
  readonly timeout: number;
  /** Maximum number of values of a stream that are requested in advance. */
  readonly readAhead: number;
  /** Whether a web stream is called, whose chunks are requested by cost. */
  readonly isWebStream?: boolean;
}

/** Default of `readAhead`; it hides the round trip of small values. */
export const DEFAULT_READ_AHEAD = 16;

/** The options of a call that has none. */
export const NO_LIMITS: CallLimits = {
  signal: undefined,
  timeout: Infinity,
  readAhead: DEFAULT_READ_AHEAD,
};

/** The options of a call of a web stream. */
export const WEB_STREAM_LIMITS: CallLimits = {
  ...NO_LIMITS,
  isWebStream: true,
};

/** Receives the result of a call, or its error: a promise, for example. */
export interface Settle {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** Handles the answers to a call or a batch. */
export interface AnswerHandler {
  /** The name of the method in errors. */
  readonly label: string;
  /** The result of the call, the end of its stream, or the next result of a batch. */
  onValue(value: unknown): void;
  /**
   * The error of the call, or the next one of a batch; and the microseconds that a
   * batch has taken, if the peer reports them.
   */
  onError(thrown: unknown, time?: number): void;
  /** The next values of a stream, or of a batch; and the time, as for an error. */
  onItems(values: unknown[], time?: number): void;
  /** The next chunk of a web stream. */
  onChunk(cost: number, chunk: unknown): void;
  /** The result of the call is a stream. */
  onStream(): void;
  /** Only so many calls of a batch were begun, and no others will be. */
  onRecalled(begun: number, time?: number): void;
  /** The call cannot be sent. */
  refuse(error: unknown): void;
  /** There will be no answer. */
  fail(error: unknown): void;
}

/** Characters of a method's name in errors. */
const MAX_NAME = 100;

/** The name of a method in errors. */
export function methodLabel(method: MethodKey): string {
  if (method === DESCRIBE) return "the description of the methods";
  if (typeof method === "number") return "a callback";
  if (typeof method !== "string") return quoted(method[1], MAX_NAME);
  return quoted(method, MAX_NAME);
}

function callLabel(method: MethodKey, { isWebStream }: CallLimits): string {
  return isWebStream ? "a stream" : methodLabel(method);
}

/** One call. */
export class PendingCall implements AnswerHandler, StreamCall {
  readonly id: number;
  readonly #caller: Caller;
  readonly #method: MethodKey;
  readonly #limits: CallLimits;
  readonly #settle: Settle;
  /** The slots of its arguments. */
  slots: Slot[] | undefined;
  /** The signals that cancel it. */
  signals: AbortSignal[] | undefined;
  timer: RunningTimer | undefined;
  /** Its span, if the program is traced. */
  span: CallSpan | undefined;
  #stream: AnswerStream | undefined;
  #isLate = false;

  constructor(
    caller: Caller,
    id: number,
    method: MethodKey,
    limits: CallLimits,
    settle: Settle,
  ) {
    this.#caller = caller;
    this.id = id;
    this.#method = method;
    this.#limits = limits;
    this.#settle = settle;
  }

  get label(): string {
    return callLabel(this.#method, this.#limits);
  }

  onValue(value: unknown): void {
    // Settles before anything else can throw.
    if (this.#stream === undefined) this.#settle.resolve(value);
    else this.#stream.onReturn(value);
    this.span?.end();
    this.#caller.release(this);
  }

  onError(thrown: unknown): void {
    this.fail(thrown);
  }

  onItems(values: unknown[]): void {
    if (this.#stream === undefined) throw this.#outOfPlace();
    this.#stream.onItems(values);
  }

  onChunk(cost: number, chunk: unknown): void {
    if (this.#stream === undefined) throw this.#outOfPlace();
    this.#stream.onChunk(cost, chunk);
  }

  onStream(): void {
    if (this.#stream !== undefined) throw this.#outOfPlace();
    this.#stream = this.#limits.isWebStream
      ? new ChunkReader(this)
      : new RemoteStream(this, this.#limits.readAhead);
    this.#settle.resolve(this.#stream);
  }

  onRecalled(): void {
    throw this.#outOfPlace();
  }

  refuse(error: unknown): void {
    this.fail(error);
  }

  fail(error: unknown): void {
    if (this.#stream === undefined) this.#settle.reject(error);
    else this.#stream.onThrow(error);
    this.span?.fail(error);
    this.#caller.release(this);
  }

  pull(count: number): void {
    this.#caller.post([TAG.pull, this.id, count]);
  }

  cancel(reason: unknown): void {
    this.span?.end();
    this.#caller.release(this);
    this.#caller.cancel(this.id, reason);
  }

  /** Ends the call with an error of the duplex, or of this thread. */
  stop(error: unknown): void {
    this.span?.fail(error);
    this.#caller.release(this);
    if (!isEnd(error)) this.#caller.cancel(this.id, error);
    this.#settle.reject(endError(error, this.label));
  }

  /** Cancels the call and rejects with the reason. */
  abort(reason: unknown): void {
    this.span?.fail(reason);
    this.cancel(reason);
    this.fail(reason);
  }

  onTimeout(): void {
    // If this thread was busy, the answer may have arrived: it is read first.
    if (!this.#isLate) {
      this.#isLate = true;
      this.timer = new RunningTimer(0, () => this.onTimeout());
      return;
    }
    this.abortLate();
  }

  /** Cancels the call after its timeout. */
  abortLate(): void {
    this.abort(callTimeout(this.label, this.#limits.timeout));
  }

  #outOfPlace(): ProtocolError {
    return new ProtocolError(
      `Cannot read an answer to the call of ${this.label}: it is out of place`,
    );
  }
}

/** A batch that was sent. */
export class SentBatch {
  readonly #caller: Caller;
  readonly #id: number;

  constructor(caller: Caller, id: number) {
    this.#caller = caller;
    this.#id = id;
  }

  /** Asks the peer to begin no more calls of the batch. */
  recall(): void {
    this.#caller.post([TAG.recall, this.#id]);
  }

  /** Cancels the running call and those that were not begun. */
  cancel(reason: unknown): void {
    this.#caller.cancel(this.#id, reason);
  }

  /** Ignores further answers. */
  forget(): void {
    this.#caller.forget(this.#id);
  }
}

/** The calls that one end makes. */
export class Caller {
  readonly post: Post;
  readonly #slots: SlotTable;
  readonly #references: References;
  readonly #tracing: Tracing | undefined;
  readonly #pending = new Map<number, AnswerHandler>();
  readonly #aborts = new AbortGroups<PendingCall>((calls, reason) => {
    for (const call of [...calls]) call.abort(reason);
  });
  #lastId = 0;
  /** Why no more answers arrive, once the duplex has ended. */
  #end: { readonly error: unknown } | undefined;

  constructor(
    post: Post,
    slots: SlotTable,
    references: References,
    tracing: Tracing | undefined,
  ) {
    this.post = post;
    this.#tracing = tracing;
    this.#slots = slots;
    this.#references = references;
  }

  /** Calls a method. */
  call(
    method: MethodKey,
    args: readonly unknown[],
    limits: CallLimits,
  ): Promise<unknown> {
    const settle = Promise.withResolvers<unknown>();
    const call = this.begin(method, args, limits, settle);
    if (call !== undefined) this.#watchTime(call, limits.timeout);
    return settle.promise;
  }

  /**
   * Begins a call without its timeout. Returns `undefined` if it was not begun, and
   * has settled.
   */
  begin(
    method: MethodKey,
    args: readonly unknown[],
    limits: CallLimits,
    settle: Settle,
  ): PendingCall | undefined {
    let searched: Searched | undefined;
    try {
      const found = findSlotValues(args);
      if (found !== undefined) searched = withoutSlotValues(args, found);
    } catch (error) {
      // A getter among the arguments threw.
      return void settle.reject(error);
    }
    const signals = cancelSignals(limits.signal, searched?.values);
    const aborted = signals?.find(({ aborted }) => aborted);
    if (aborted !== undefined) return void settle.reject(aborted.reason);
    if (this.#end !== undefined) {
      const error = endError(this.#end.error, callLabel(method, limits));
      return void settle.reject(error);
    }
    const id = this.#lastId + 1;
    const span = this.#tracing?.call(method);
    let message: Message = span?.trace === undefined
      ? [TAG.call, id, method, args as unknown[]]
      : [TAG.call, id, method, args as unknown[], [], span.trace];
    const call = new PendingCall(this, id, method, limits, settle);
    if (searched !== undefined) {
      try {
        message = withSlots(this.#slots, message, searched);
      } catch (error) {
        const refused = refusal(error, `call ${methodLabel(method)}`);
        span?.fail(refused);
        return void settle.reject(refused);
      }
      call.slots = callSlots(message);
    }
    this.#lastId = id;
    this.#pending.set(id, call);
    call.span = span;
    if (signals !== undefined) this.#watchSignals(call, signals);
    if (searched === undefined) this.post(message);
    else this.post(message, searched.transfer);
    return call;
  }

  /**
   * Searches the arguments of a refused call, whose number was not sent. Returns the
   * call with slots, or `undefined` if none was found.
   */
  search(message: Message): Parcel | undefined {
    if (message[0] !== TAG.call) return undefined;
    const call = this.#pending.get(message[1]);
    const searched = search(message[3]);
    if (searched === undefined || !(call instanceof PendingCall)) {
      return undefined;
    }
    const signals = cancelSignals(undefined, searched.values) ?? [];
    const aborted = signals.find(({ aborted }) => aborted);
    if (aborted !== undefined) {
      call.fail(aborted.reason);
      return undefined;
    }
    call.signals = [...new Set([...call.signals ?? [], ...signals])];
    for (const signal of call.signals) this.#aborts.add(call, signal);
    const found = withSlots(this.#slots, message, searched);
    call.slots = callSlots(found);
    return { message: found, transfer: searched.transfer };
  }

  /**
   * Calls a method once for each arguments, one call after the other. If the batch
   * has failed, the handler was notified when this returns.
   */
  batch(
    method: string,
    list: unknown[][],
    handler: AnswerHandler,
    traces: (Trace | null)[] | undefined,
  ): SentBatch {
    const id = ++this.#lastId;
    if (this.#end !== undefined) {
      handler.fail(endError(this.#end.error, methodLabel(method)));
    } else {
      this.#pending.set(id, handler);
      const calls = SeparateList.from(list) as unknown[][];
      this.post(
        traces === undefined
          ? [TAG.batch, id, method, calls]
          : [TAG.batch, id, method, calls, traces],
      );
    }
    return new SentBatch(this, id);
  }

  /** Ignores further answers to a call. */
  forget(id: number): void {
    this.#pending.delete(id);
  }

  /** Notifies the peer that the result of a call is no longer needed. */
  cancel(id: number, reason: unknown): void {
    this.post([TAG.cancel, id, toFailure(reason)]);
  }

  /** Whether answers to a call are awaited. */
  isAwaited(id: number): boolean {
    return this.#pending.has(id);
  }

  /** Handles an answer. */
  onAnswer(message: Message): void {
    const id = message[1] as number;
    const handler = this.#pending.get(id);
    if (handler === undefined) {
      // The call was cancelled while the answer was in flight.
      if (id <= this.#lastId) return this.#slots.drop(answerSlots(message));
      throw new ProtocolError(
        `Cannot read an answer to call ${id}: there were ${this.#lastId}`,
      );
    }
    if (message.length >= 4 && !this.#fill(handler, message)) return;
    switch (message[0]) {
      case TAG.value:
        return handler.onValue(message[2]);
      case TAG.error:
        return handler.onError(fromFailure(message[2]), message[3]);
      case TAG.items:
        return handler.onItems(message[2], message[4]);
      case TAG.chunk:
        return handler.onChunk(message[2], message[3]);
      case TAG.stream:
        return handler.onStream();
      case TAG.recalled:
        return handler.onRecalled(message[2], message[3]);
    }
  }

  /** Fills the slots of an answer; reports an error if too many are held. */
  #fill(handler: AnswerHandler, message: Message): boolean {
    const slots = answerSlots(message);
    if (slots === undefined) return true;
    try {
      this.#references.checkRoom(slots);
    } catch (error) {
      this.#slots.drop(slots);
      const id = message[1] as number;
      const attempt = `receive the result of ${handler.label}`;
      const count = message[0] === TAG.items ? message[2].length : 1;
      for (let index = 0; index < count; index++) {
        handler.onError(refusal(error, attempt));
      }
      // The peer need not produce the rest of a stream.
      const isLast = message[0] === TAG.value;
      if (!isLast && !this.#pending.has(id)) this.cancel(id, error);
      return false;
    }
    const at = valueIndex(message)!;
    message[at] = this.#slots.fill(message[at], slots, undefined);
    return true;
  }

  /** Handles a message of this end that could not be sent. */
  refuse(message: Message, error: unknown): void {
    if (message[0] === TAG.call) this.#slots.remove(message[4]);
    switch (message[0]) {
      case TAG.call:
      case TAG.batch: {
        const handler = this.#pending.get(message[1]);
        if (handler === undefined) return;
        this.#pending.delete(message[1]);
        if (isEnd(error)) {
          return handler.fail(endError(error, handler.label));
        }
        // In a batch of one, "$" stands for the arguments of its call.
        const isAlone = message[0] === TAG.batch && message[3].length === 1;
        return handler.refuse(
          refusal(error, `call ${handler.label}`, isAlone ? 2 : 1),
        );
      }
      case TAG.pull: {
        // This end has sent its goodbye: no more values arrive.
        const handler = this.#pending.get(message[1]);
        return handler?.fail(endError(error, handler.label));
      }
      case TAG.cancel: {
        // The end of the duplex cancels the call as well.
        const reduced = isEnd(error) ? undefined : reduceFailure(message[2]);
        if (reduced === undefined) return;
        return this.post([TAG.cancel, message[1], reduced]);
      }
    }
  }

  /** Rejects all calls: no more answers arrive. */
  end(error: unknown): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    const handlers = [...this.#pending.values()];
    this.#pending.clear();
    let fault: { readonly error: unknown } | undefined;
    for (const handler of handlers) {
      try {
        handler.fail(endError(error, handler.label));
      } catch (error) {
        // The other calls must fail as well.
        fault ??= { error };
      }
    }
    if (fault !== undefined) throw fault.error;
  }

  /** Releases the resources of a call that has ended. */
  release(call: PendingCall): void {
    this.#pending.delete(call.id);
    call.timer?.clear();
    call.timer = undefined;
    const { signals } = call;
    if (signals === undefined) return;
    for (const signal of signals) this.#aborts.delete(call, signal);
  }

  #watchSignals(call: PendingCall, signals: AbortSignal[]): void {
    call.signals = signals;
    for (const signal of signals) this.#aborts.add(call, signal);
  }

  #watchTime(call: PendingCall, timeout: number): void {
    // It may have been refused already.
    if (timeout > MAX_TIMER || !this.#pending.has(call.id)) return;
    call.timer = new RunningTimer(timeout, () => call.onTimeout());
  }
}

/** A call or a notification with the slots for what was found in its arguments. */
export function withSlots(
  table: SlotTable,
  message: Message,
  { rest, values }: Searched,
): Message {
  const args = rest as unknown[];
  if (message[0] === TAG.call) {
    const [tag, id, method, , earlier, ...trace] = message;
    const slots = allSlots(table, earlier, values);
    return slots === undefined
      ? [tag, id, method, args]
      : [tag, id, method, args, slots, ...trace];
  }
  const [tag, method, , earlier, ...trace] = message as Notice;
  const slots = allSlots(table, earlier, values);
  return slots === undefined
    ? [tag, method, args]
    : [tag, method, args, slots, ...trace];
}

type Notice = Extract<Message, [tag: typeof TAG.notice, ...unknown[]]>;

/** The slots of a message, with those that were found in a search of it. */
function allSlots(
  table: SlotTable,
  earlier: Slot[] | undefined,
  values: readonly SlotValue[],
): Slot[] | undefined {
  if (values.length === 0) return earlier;
  if (earlier === undefined) return table.add(values);
  const count = values.length + earlier.length;
  if (count > MAX_SLOTS) throw tooManySlots(count);
  return [...earlier, ...table.add(values)];
}

/** The slots of a call. */
function callSlots(message: Message): Slot[] | undefined {
  return message[0] === TAG.call ? message[4] : undefined;
}

/** The slots of an answer. */
function answerSlots(message: Message): Slot[] | undefined {
  const at = valueIndex(message);
  return at && message[at + 1] as Slot[] | undefined;
}

/** The signals that cancel a call. */
function cancelSignals(
  signal: AbortSignal | undefined,
  values: readonly SlotValue[] | undefined,
): AbortSignal[] | undefined {
  if (values === undefined) return signal === undefined ? undefined : [signal];
  const signals = new Set<AbortSignal>();
  if (signal !== undefined) signals.add(signal);
  for (const { value } of values) {
    if (value instanceof AbortSignal) signals.add(value);
  }
  return signals.size === 0 ? undefined : [...signals];
}

/** The error of a call that took too long. */
export function callTimeout(label: string, timeout: number): DOMException {
  return new DOMException(
    `The call of ${label} did not end within ${timeout} ms`,
    "TimeoutError",
  );
}

/** The error of a call that cannot be answered any more. */
function endError(error: unknown, label: string): unknown {
  if (!isInstance(error, ClosedError)) return error;
  return new ClosedError(
    `Cannot finish the call of ${label}: ${lowered(reasonText(error))}`,
    { cause: error },
  );
}

/** The error for arguments that cannot be sent, or `error` if it is another one. */
export function refusal(error: unknown, attempt: string, depth = 1): unknown {
  const [Kind, text] = unsendable(error, depth) ?? [];
  if (Kind === undefined) return error;
  return new Kind(`Cannot ${attempt}: ${text}`, { cause: error });
}

/**
 * Describes a value that cannot be sent. The codec gives the path of the value in
 * the message; here "$" stands for the arguments, or for the result.
 *
 * @param error The error of the codec.
 * @param depth How deep the arguments or the result are in the message.
 * @returns The class for an error and its text, or `undefined` for another error.
 */
export function unsendable(
  error: unknown,
  depth = 1,
): [kind: ErrorConstructor, text: string] | undefined {
  const Kind = [TypeError, RangeError].find((kind) => isInstance(error, kind));
  if (Kind === undefined) return undefined;
  const text = messageOf(error)
    .replace(/^Cannot (encode|send) a message: /, "")
    .replace(new RegExp(`"\\$(\\[\\d+\\]){${depth}}`), '"$');
  return [Kind as ErrorConstructor, lowered(text)];
}

function lowered(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
