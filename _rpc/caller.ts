// Copyright 2026 the Duplex authors. MIT license.

/**
 * The calls that one end makes. A call is registered before it is written, and
 * ends in exactly one of four ways: with a value, with what the far side threw,
 * because the duplex ended, or because it was taken back.
 *
 * @module
 */

import {
  ClosedError,
  isEnd,
  isInstance,
  ProtocolError,
} from "../_base/errors.ts";
import { failureOf, lesserFailure, thrownFrom } from "./errors.ts";
import {
  DESCRIBE,
  MAX_PLACES,
  type Message,
  type MethodKey,
  type Place,
  TAG,
} from "./messages.ts";
import {
  type Callback,
  findPlaced,
  kindOf,
  type Placed,
  withoutPlaced,
} from "./places.ts";
import { RemoteStream, type StreamCall } from "./stream.ts";
import { messageOf, quoted, reasonText } from "../_base/text.ts";
import { AbortGroups, MAX_TIMER } from "../_base/waiting.ts";

/** What goes out. Never throws: what cannot be sent comes back to `refuse`. */
export type Post = (message: Message) => void;

/** What a call may be told. */
export interface CallLimits {
  readonly signal: AbortSignal | undefined;
  /** Milliseconds until it has ended. */
  readonly timeout: number;
  /** Values of a stream that are asked for ahead at most. */
  readonly readAhead: number;
}

/** What waits for the answers that come under a number. */
export interface Pending {
  /** Names it in errors. */
  readonly label: string;
  /** The call gave a value, the last of a stream; or the next one of a batch did. */
  onValue(value: unknown): void;
  /** The call threw, or the next one of a batch. */
  onError(thrown: unknown): void;
  /** The next values of a stream, or of a batch. */
  onItems(values: unknown[]): void;
  /** The call gives many values. */
  onStream(): void;
  /** Only so many calls of a batch were begun, and no others will be. */
  onRecalled(begun: number): void;
  /** It could not be sent. */
  refuse(error: unknown): void;
  /** There will be no answer. */
  fail(error: unknown): void;
}

/** Characters of a method's name that are shown. */
const MAX_NAME = 100;

/** How a method is called in errors. */
export function labelOf(method: MethodKey): string {
  if (method === DESCRIBE) return "the description of what is exposed";
  if (typeof method !== "string") return "a callback";
  return quoted(method, MAX_NAME);
}

/** One call. */
class PendingCall implements Pending, StreamCall {
  readonly id: number;
  readonly #caller: Caller;
  readonly #method: MethodKey;
  readonly #limits: CallLimits;
  readonly #settle: PromiseWithResolvers<unknown>;
  /** The numbers of the functions that can be called back meanwhile. */
  callbacks: number[] | undefined;
  /** What takes it back. */
  signals: AbortSignal[] | undefined;
  timer: ReturnType<typeof setTimeout> | undefined;
  #stream: RemoteStream | undefined;
  #isLate = false;

  constructor(
    caller: Caller,
    id: number,
    method: MethodKey,
    limits: CallLimits,
    settle: PromiseWithResolvers<unknown>,
  ) {
    this.#caller = caller;
    this.id = id;
    this.#method = method;
    this.#limits = limits;
    this.#settle = settle;
  }

  get label(): string {
    return labelOf(this.#method);
  }

  onValue(value: unknown): void {
    // First, so that nothing that follows can leave it pending.
    if (this.#stream === undefined) this.#settle.resolve(value);
    else this.#stream.onReturn(value);
    this.#caller.release(this);
  }

  onError(thrown: unknown): void {
    this.fail(thrown);
  }

  onItems(values: unknown[]): void {
    if (this.#stream === undefined) throw this.#outOfPlace();
    this.#stream.onItems(values);
  }

  onStream(): void {
    if (this.#stream !== undefined) throw this.#outOfPlace();
    this.#stream = new RemoteStream(this, this.#limits.readAhead);
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
    this.#caller.release(this);
  }

  pull(count: number): void {
    this.#caller.post([TAG.pull, this.id, count]);
  }

  cancel(reason: unknown): void {
    this.#caller.release(this);
    this.#caller.cancel(this.id, reason);
  }

  /** Takes the call back. */
  abort(reason: unknown): void {
    this.cancel(reason);
    this.fail(reason);
  }

  onTimeout(): void {
    // Where this thread was busy the answer may be there, and is read first.
    if (!this.#isLate) {
      this.#isLate = true;
      this.timer = setTimeout(() => this.onTimeout(), 0);
      return;
    }
    this.abort(
      new DOMException(
        `The call of ${this.label} did not end within ${this.#limits.timeout} ms`,
        "TimeoutError",
      ),
    );
  }

  #outOfPlace(): ProtocolError {
    return new ProtocolError(
      `Cannot take an answer to the call of ${this.label}: it is out of place`,
    );
  }
}

/** The calls that one end makes. */
export class Caller {
  readonly post: Post;
  readonly #pending = new Map<number, Pending>();
  readonly #callbacks = new Map<number, Callback>();
  readonly #aborts = new AbortGroups<PendingCall>((calls, reason) => {
    for (const call of [...calls]) call.abort(reason);
  });
  #lastId = 0;
  #lastCallback = 0;
  /** Why there are no more answers, once it is so. */
  #end: { readonly error: unknown } | undefined;

  constructor(post: Post) {
    this.post = post;
  }

  /** Calls a method. */
  call(
    method: MethodKey,
    args: readonly unknown[],
    limits: CallLimits,
  ): Promise<unknown> {
    let placed: Placed[] | undefined;
    let rest = args as unknown[];
    try {
      placed = findPlaced(args);
      if (placed !== undefined) rest = withoutPlaced(args, placed);
    } catch (error) {
      // A getter among the arguments threw.
      return Promise.reject(error);
    }
    if (placed !== undefined && placed.length > MAX_PLACES) {
      return Promise.reject(tooManyPlaces(placed.length, labelOf(method)));
    }
    const signals = signalsOf(limits.signal, placed);
    const aborted = signals?.find(({ aborted }) => aborted);
    if (aborted !== undefined) return Promise.reject(aborted.reason);
    if (this.#end !== undefined) {
      return Promise.reject(endError(this.#end.error, labelOf(method)));
    }
    const settle = Promise.withResolvers<unknown>();
    const call = new PendingCall(this, ++this.#lastId, method, limits, settle);
    this.#pending.set(call.id, call);
    this.#watch(call, signals, limits.timeout);
    if (placed === undefined) {
      this.post([TAG.call, call.id, method, rest]);
    } else {
      const places = this.#places(call, placed);
      this.post([TAG.call, call.id, method, rest, places]);
    }
    return settle.promise;
  }

  /**
   * Calls a method with each of many arguments, one after the other.
   *
   * @returns The number of the batch, or `undefined` if it has failed already.
   */
  batch(
    method: string,
    list: unknown[][],
    pending: Pending,
  ): number | undefined {
    if (this.#end !== undefined) {
      pending.fail(endError(this.#end.error, labelOf(method)));
      return undefined;
    }
    const id = ++this.#lastId;
    this.#pending.set(id, pending);
    this.post([TAG.batch, id, method, list]);
    return id;
  }

  /** The answers to a number are not awaited any more. */
  forget(id: number): void {
    this.#pending.delete(id);
  }

  /** Tells the far side that nobody wants what a call gives. */
  cancel(id: number, reason: unknown): void {
    this.post([TAG.cancel, id, failureOf(reason)]);
  }

  /** Whether answers to a number are awaited. */
  isAwaited(id: number): boolean {
    return this.#pending.has(id);
  }

  /** The function that a number stands for, as long as its call is under way. */
  callback(id: number): Callback | undefined {
    return this.#callbacks.get(id);
  }

  /** Takes an answer. */
  onAnswer(message: Message): void {
    const id = message[1] as number;
    const pending = this.#pending.get(id);
    if (pending === undefined) {
      // It was taken back, and the answer was on its way.
      if (id <= this.#lastId) return;
      throw new ProtocolError(
        `Cannot take an answer to call ${id}: there were ${this.#lastId}`,
      );
    }
    switch (message[0]) {
      case TAG.value:
        return pending.onValue(message[2]);
      case TAG.error:
        return pending.onError(thrownFrom(message[2]));
      case TAG.items:
        return pending.onItems(message[2]);
      case TAG.stream:
        return pending.onStream();
      case TAG.recalled:
        return pending.onRecalled(message[2]);
    }
  }

  /** A message of this end's could not be sent. */
  refuse(message: Message, error: unknown): void {
    switch (message[0]) {
      case TAG.call:
      case TAG.batch: {
        const pending = this.#pending.get(message[1]);
        if (pending === undefined) return;
        this.#pending.delete(message[1]);
        return isEnd(error)
          ? pending.fail(endError(error, pending.label))
          : pending.refuse(refusalOf(error, `call ${pending.label}`));
      }
      case TAG.pull: {
        // This side has said goodbye: no more values come.
        const pending = this.#pending.get(message[1]);
        return pending?.fail(endError(error, pending.label));
      }
      case TAG.cancel: {
        // Once the duplex has ended the far side knows.
        const lesser = isEnd(error) ? undefined : lesserFailure(message[2]);
        if (lesser === undefined) return;
        return this.post([TAG.cancel, message[1], lesser]);
      }
    }
  }

  /** There are no more answers. */
  end(error: unknown): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    this.#callbacks.clear();
    let fault: { readonly error: unknown } | undefined;
    for (const call of pending) {
      try {
        call.fail(endError(error, call.label));
      } catch (error) {
        // The others must fail as well.
        fault ??= { error };
      }
    }
    if (fault !== undefined) throw fault.error;
  }

  /** A call has ended: lets go of what it held. */
  release(call: PendingCall): void {
    this.#pending.delete(call.id);
    clearTimeout(call.timer);
    call.timer = undefined;
    const { signals, callbacks } = call;
    if (signals !== undefined) {
      for (const signal of signals) this.#aborts.delete(call, signal);
    }
    if (callbacks !== undefined) {
      for (const id of callbacks) this.#callbacks.delete(id);
    }
  }

  #watch(
    call: PendingCall,
    signals: AbortSignal[] | undefined,
    timeout: number,
  ): void {
    if (signals !== undefined) {
      call.signals = signals;
      for (const signal of signals) this.#aborts.add(call, signal);
    }
    if (timeout > MAX_TIMER) return;
    call.timer = setTimeout(() => call.onTimeout(), timeout);
  }

  #places(call: PendingCall, placed: readonly Placed[]): Place[] {
    return placed.map(({ index, property, value }): Place => {
      const kind = kindOf(value);
      let id = 0;
      if (typeof value === "function") {
        id = ++this.#lastCallback;
        this.#callbacks.set(id, value);
        (call.callbacks ??= []).push(id);
      }
      return [index, property, kind, id];
    });
  }
}

/** The signals that take a call back. */
function signalsOf(
  signal: AbortSignal | undefined,
  placed: readonly Placed[] | undefined,
): AbortSignal[] | undefined {
  if (placed === undefined) return signal === undefined ? undefined : [signal];
  const signals = new Set<AbortSignal>();
  if (signal !== undefined) signals.add(signal);
  for (const { value } of placed) {
    if (value instanceof AbortSignal) signals.add(value);
  }
  return signals.size === 0 ? undefined : [...signals];
}

/** What a call rejects with that cannot be answered any more. */
function endError(error: unknown, label: string): unknown {
  if (!isInstance(error, ClosedError)) return error;
  return new ClosedError(
    `Cannot finish the call of ${label}: ${lowered(reasonText(error))}`,
    { cause: error },
  );
}

/** What a call rejects with whose arguments cannot be sent. */
export function refusalOf(error: unknown, attempt: string): unknown {
  const [Kind, text] = unsendable(error) ?? [];
  if (Kind === undefined) return error;
  return new Kind(`Cannot ${attempt}: ${text}`, { cause: error });
}

function tooManyPlaces(count: number, label: string): RangeError {
  return new RangeError(
    `Cannot call ${label}: ${count} functions and signals are among its arguments, and at most ${MAX_PLACES} can be; give one function that takes a name`,
  );
}

/**
 * What is wrong with a value that cannot be sent. The codec names where in the
 * message it stands, which is no matter of the caller's: "$" is then what was
 * given, the arguments or the result.
 *
 * @param error What the codec threw.
 * @param depth How deep in the message that stands.
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
