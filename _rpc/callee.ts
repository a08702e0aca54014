// Copyright 2026 the Duplex authors. MIT license.

/**
 * The calls that one end receives. They reach the exposed methods and nothing else,
 * whatever name the peer sends.
 *
 * @module
 */

import { ClosedError, isEnd } from "../_base/errors.ts";
import { methodLabel, type Post, unsendable } from "./caller.ts";
import { Batch, BatchRunner, isThenable } from "./batch.ts";
import { fromFailure, reduceFailure, toFailure } from "./errors.ts";
import {
  type Callback,
  DESCRIBE,
  fillSlots,
  type Message,
  type MethodKey,
  SLOT,
  type Slot,
  TAG,
} from "./messages.ts";
import { Producer } from "./stream.ts";

/**
 * Measures the heap of this thread. Types of Node.js before 18.15 do not have all of
 * the result.
 */
type HeapStatistics = () => {
  readonly used_heap_size: number;
  readonly external_memory: number;
};

/** Loaded for the first description: loading it takes 20 ms. */
let heapStatistics: HeapStatistics | undefined;

/** A method that can be called. */
export interface Method {
  readonly run: Callback;
  /** The value of `this`. */
  readonly self: unknown;
  /** Whether its first argument is a signal. */
  readonly takesSignal: boolean;
}

/** Maximum running calls: with 4 KiB each, their answers take 256 MiB. */
export const DEFAULT_MAX_CALLS = 65_536;

/** Maximum names of methods in an error. */
const MAX_NAMES = 20;

/** The methods that an end exposes. */
export interface Exposed {
  readonly methods: ReadonlyMap<string, Method>;
  /**
   * Maximum running calls: each call of a batch counts, and each function and
   * signal among the arguments counts as one call more.
   */
  readonly maxCalls: number;
  /** Called with the errors of notifications. */
  readonly onError: (error: unknown, method: string) => void;
}

/** The end that a callee belongs to. */
export interface CalleeEnd {
  readonly post: Post;
  /** As `post`; returns a promise if the message has to wait for room. */
  readonly postInTurn: (message: Message) => Promise<void> | undefined;
  /** The function of this end that the peer may call back. */
  callback(id: number): Callback | undefined;
  /** Calls a function of the peer. */
  callBack(id: number, args: unknown[]): Promise<unknown>;
  /** Whether received calls are waiting to be begun. */
  isHolding(): boolean;
  /** Whether this thread is blocked by the call that sent a function. */
  isBlocked(id: number): boolean;
}

/** A running call that has a signal, callbacks or a stream. */
class Running {
  /** Number of calls that it counts as. */
  readonly weight: number;
  #controller: AbortController | undefined;
  #cancelled: { readonly reason: unknown } | undefined;
  producer: Producer | undefined;
  /** Whether it was answered. */
  isDone = false;

  constructor(weight: number) {
    this.weight = weight;
  }

  /** Whether its result is no longer needed. */
  get isCancelled(): boolean {
    return this.#cancelled !== undefined;
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#cancelled) this.#controller.abort(this.#cancelled.reason);
    return this.#controller.signal;
  }

  cancel(reason: unknown): void {
    this.#cancelled ??= { reason };
    this.#controller?.abort(reason);
    this.producer?.stop();
  }
}

/** The calls that one end receives. */
export class Callee {
  readonly #end: CalleeEnd;
  readonly #running = new Map<number, Running>();
  /** Running calls that only have a promise. */
  readonly #promised = new Set<number>();
  /** Running notifications. */
  readonly #notices = new Set<Running>();
  readonly #batches: BatchRunner;
  #exposed: Exposed | undefined;
  /** Running calls by their weights, and the cancelled ones of them. */
  #count = 0;
  #cancelled = 0;
  #isDrained = false;
  #isPeerGone = false;
  #onIdle: (() => void) | undefined;

  constructor(end: CalleeEnd) {
    this.#end = end;
    this.#batches = new BatchRunner(end.postInTurn, {
      onCancelled: (count) => this.#onCancelled(count),
      onDone: (isCancelled, count) => this.#done(isCancelled, count),
    });
  }

  /** Exposes methods. Throws the second time. */
  expose(exposed: Exposed): void {
    if (this.#exposed !== undefined) {
      throw new TypeError(
        "Cannot expose methods: this duplex exposes some already; expose them all at once",
      );
    }
    this.#exposed = exposed;
  }

  /** Settles when no running call has a caller that waits for it. */
  async idle(): Promise<void> {
    if (this.#isIdle) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onIdle = resolve;
    await promise;
  }

  /** Handles a call, or a message for one. */
  onMessage(message: Message): void {
    switch (message[0]) {
      case TAG.call:
        return this.#onCall(message[1], message[2], message[3], message[4]);
      case TAG.batch:
        return this.#onBatch(message[1], message[2], message[3]);
      case TAG.notice:
        this.#onNotice(message[1], message[2]);
        return;
      case TAG.pull:
        return this.#running.get(message[1])?.producer?.pull(message[2]);
      case TAG.cancel: {
        const reason = fromFailure(message[2]);
        const running = this.#running.get(message[1]);
        if (running !== undefined) return this.#cancel(running, reason);
        if (this.#promised.delete(message[1])) return this.#onCancelled();
        return this.#batches.cancel(message[1], reason);
      }
      case TAG.recall:
        return this.#batches.recall(message[1]);
    }
  }

  /** Replaces an answer that cannot be sent; settles when the replacement was sent. */
  refuse(message: Message, error: unknown): Promise<void> | undefined {
    // The duplex has ended.
    if (isEnd(error)) return undefined;
    switch (message[0]) {
      case TAG.value:
        return this.#postError(message[1], resultError(error));
      case TAG.items:
        return this.#refuseItems(message[1], message[2], error);
      case TAG.error: {
        const reduced = reduceFailure(message[2]);
        if (reduced === undefined) return undefined;
        return this.#end.postInTurn([TAG.error, message[1], reduced]);
      }
      default:
        return undefined;
    }
  }

  /** Cancels all running calls: the peer is gone. */
  end(reason: unknown): void {
    this.#isPeerGone = true;
    for (const running of this.#running.values()) this.#cancel(running, reason);
    this.#onCancelled(this.#promised.size);
    this.#promised.clear();
    for (const running of this.#notices) running.cancel(reason);
    this.#batches.end(reason);
    this.checkIdle();
  }

  /** Ends streams once their requested values are sent: the peer requests no more. */
  drain(): void {
    this.#isDrained = true;
    for (const { producer } of this.#running.values()) producer?.drain();
  }

  #onCall(
    id: number,
    key: MethodKey,
    args: unknown[],
    slots: Slot[] | undefined,
  ): void {
    if (key === DESCRIBE) return this.#describe(id);
    const method = this.#find(key);
    if (method === undefined) return this.#postMissing(id, key, 1);
    let running: Running | undefined;
    if (slots === undefined && !method.takesSignal) this.#count++;
    else {
      running = this.#track(id, 1 + (slots?.length ?? 0));
      this.#count += running.weight;
      if (slots !== undefined) this.#fill(running, args, slots);
    }
    let result: unknown;
    let isLater: boolean;
    try {
      result = invoke(method, args, running);
      isLater = isThenable(result);
    } catch (error) {
      return this.#finish(id, [TAG.error, id, toFailure(error)]);
    }
    if (!isLater) return this.#answer(id, result);
    if (typeof key === "number" && this.#end.isBlocked(key)) {
      return this.#refuseLater(id, result);
    }
    const isPromise = running === undefined;
    if (isPromise) this.#promised.add(id);
    this.#settle(id, result, isPromise);
  }

  #track(id: number, weight: number): Running {
    const running = new Running(weight);
    this.#running.set(id, running);
    return running;
  }

  #onBatch(id: number, name: string, list: unknown[][]): void {
    const method = this.#find(name);
    if (method === undefined) return this.#postMissing(id, name, list.length);
    // Its calls run one after the other, but all arguments are in memory.
    this.#count += list.length;
    this.#batches.add(
      new Batch(id, list, (args, batch) => {
        const result = invoke(method, args, batch);
        return isThenable(result)
          ? laterSingle(name, result)
          : single(name, result);
      }),
    );
  }

  async #onNotice(name: string, args: unknown[]): Promise<void> {
    const exposed = this.#exposed;
    const method = exposed?.methods.get(name);
    if (method === undefined || this.#count >= exposed!.maxCalls) {
      const error = this.#missing(name);
      return exposed?.onError(error, name);
    }
    this.#count++;
    const running = new Running(1);
    this.#notices.add(running);
    try {
      refuseStream("notify", name, await invoke(method, args, running));
    } catch (error) {
      exposed!.onError(error, name);
    } finally {
      this.#notices.delete(running);
      this.#done(false);
    }
  }

  get #maxCalls(): number {
    return this.#exposed?.maxCalls ?? DEFAULT_MAX_CALLS;
  }

  /** Whether the maximum of running calls is reached. */
  get #isBusy(): boolean {
    return this.#count >= this.#maxCalls;
  }

  /** The method with a key, if it can be called now. */
  #find(key: MethodKey): Method | undefined {
    if (this.#isBusy) return undefined;
    if (typeof key === "string") return this.#exposed?.methods.get(key);
    const run = this.#end.callback(key);
    return run && { run, self: undefined, takesSignal: false };
  }

  /** Answers calls that cannot be run. */
  #postMissing(id: number, key: MethodKey, count: number): void {
    const failure = toFailure(this.#missing(key));
    for (let index = 0; index < count; index++) {
      this.#end.post([TAG.error, id, failure]);
    }
  }

  /** Why a method cannot be called. */
  #missing(key: MethodKey): Error {
    const label = methodLabel(key);
    const methods = this.#exposed?.methods;
    const isKnown = typeof key === "number"
      ? key === DESCRIBE || this.#end.callback(key) !== undefined
      : methods?.has(key);
    if (isKnown) {
      return new RangeError(
        `Cannot call ${label}: ${this.#count} calls are running, which is the maximum; wait for some, or give "expose" a larger "maxCalls"`,
      );
    }
    if (typeof key === "number") return callbackEnded();
    if (methods === undefined) {
      return new TypeError(
        `Cannot call ${label}: the peer exposes no methods on this duplex`,
      );
    }
    const names = [...methods.keys().take(MAX_NAMES).map(methodLabel)].join(
      ", ",
    );
    const more = methods.size - MAX_NAMES;
    return new TypeError(
      `Cannot call ${label}: the peer exposes no such method, but ${names}${
        more > 0 ? ` and ${more} more` : ""
      }`,
    );
  }

  /** Answers at once: the promise cannot settle before the peer's call has ended. */
  #refuseLater(id: number, result: unknown): void {
    (result as PromiseLike<unknown>).then(undefined, () => {});
    const error = new TypeError(
      "Cannot answer a callback with a promise: its thread is blocked by the call that sent the function; return a value, or make the call with remote",
    );
    this.#finish(id, [TAG.error, id, toFailure(error)]);
  }

  async #settle(
    id: number,
    result: unknown,
    isPromise: boolean,
  ): Promise<void> {
    let value: unknown;
    let failure: { readonly error: unknown } | undefined;
    try {
      value = await result;
    } catch (error) {
      failure = { error };
    }
    // The call was cancelled. For other calls, `#finish` handles that.
    if (isPromise && !this.#promised.delete(id)) {
      stopIterator(() => openIterator(value));
      return this.#done(true);
    }
    if (failure === undefined) return this.#answer(id, value);
    this.#finish(id, [TAG.error, id, toFailure(failure.error)]);
  }

  /** Answers a call with the result of its method. */
  #answer(id: number, value: unknown): void {
    let iterator: AsyncIterator<unknown> | undefined;
    try {
      iterator = openIterator(value);
    } catch (error) {
      return this.#finish(id, [TAG.error, id, toFailure(error)]);
    }
    if (iterator !== undefined) return this.#stream(id, iterator);
    this.#finish(
      id,
      value === undefined ? [TAG.value, id] : [TAG.value, id, value],
    );
  }

  /** Ends a call with its answer. */
  #finish(id: number, answer: Message): void {
    const running = this.#running.get(id);
    if (running !== undefined) this.#release(id, running);
    if (!running?.isCancelled) this.#end.post(answer);
    this.#done(running?.isCancelled === true, running?.weight);
  }

  #release(id: number, running: Running): void {
    running.isDone = true;
    this.#running.delete(id);
  }

  #cancel(running: Running, reason: unknown): void {
    if (running.isCancelled) return;
    running.cancel(reason);
    this.#onCancelled(running.weight);
  }

  /** Answers a call with a stream. */
  #stream(id: number, iterator: AsyncIterator<unknown>): void {
    const running = this.#running.get(id) ?? this.#track(id, 1);
    const producer = new Producer(iterator, {
      item: (value) => this.#end.postInTurn([TAG.items, id, [value]]),
      done: (value) =>
        this.#end.post(
          value === undefined ? [TAG.value, id] : [TAG.value, id, value],
        ),
      failed: (error) => this.#postError(id, error),
    });
    running.producer = producer;
    // The peer may have left or sent its goodbye before the stream began.
    if (running.isCancelled) producer.stop();
    else this.#end.post([TAG.stream, id]);
    if (this.#isDrained) producer.drain();
    producer.run().then(() => {
      this.#release(id, running);
      this.#done(running.isCancelled, running.weight);
    });
  }

  #fill(running: Running, args: unknown[], slots: Slot[]): void {
    fillSlots(args, slots, (kind, id) => {
      if (kind === SLOT.signal) return running.signal;
      return (...given: unknown[]) => {
        const called = running.isDone || running.isCancelled
          ? Promise.reject(callbackEnded())
          : this.#end.callBack(id, given);
        // A method may ignore the promise, so its rejection counts as handled.
        called.catch(() => {});
        return called;
      };
    });
  }

  /** Answers with the names of the methods and the memory of this end. */
  #describe(id: number): void {
    if (this.#isBusy) return this.#postMissing(id, DESCRIBE, 1);
    if (heapStatistics !== undefined) {
      return this.#end.post([TAG.value, id, this.#description(heapStatistics)]);
    }
    this.#count++;
    this.#describeLater(id);
  }

  /** Answers once the module is loaded. Never rejects. */
  async #describeLater(id: number): Promise<void> {
    try {
      const { getHeapStatistics }: { getHeapStatistics: () => object } =
        await import("node:v8");
      heapStatistics = getHeapStatistics as HeapStatistics;
      this.#end.post([TAG.value, id, this.#description(heapStatistics)]);
    } catch (error) {
      this.#postError(id, error);
    }
    this.#done(false);
  }

  #description(statistics: HeapStatistics): unknown {
    const { used_heap_size, external_memory } = statistics();
    return {
      methods: [...this.#exposed?.methods.keys() ?? []],
      memory: used_heap_size + external_memory,
    };
  }

  /** Counts running calls that were cancelled. */
  #onCancelled(count = 1): void {
    this.#cancelled += count;
    this.checkIdle();
  }

  #done(isCancelled: boolean, count = 1): void {
    this.#count -= count;
    if (isCancelled) this.#cancelled -= count;
    this.checkIdle();
  }

  get #isIdle(): boolean {
    return this.#isPeerGone ||
      this.#count === this.#cancelled && !this.#end.isHolding();
  }

  /** Settles {@linkcode idle} if it is time. */
  checkIdle(): void {
    if (this.#onIdle === undefined || !this.#isIdle) return;
    this.#onIdle();
    this.#onIdle = undefined;
  }

  #postError(id: number, error: unknown): Promise<void> | undefined {
    return this.#end.postInTurn([TAG.error, id, toFailure(error)]);
  }

  /** Sends values one by one that cannot be sent together; an error for each that cannot be sent. */
  async #refuseItems(
    id: number,
    values: unknown[],
    error: unknown,
  ): Promise<void> {
    const producer = this.#running.get(id)?.producer;
    producer?.stop();
    if (
      producer === undefined && values.length === 1 && values[0] === undefined
    ) {
      await this.#end.postInTurn([TAG.value, id]);
      return;
    }
    if (values.length === 1) {
      await this.#postError(id, resultError(error, 2));
      return;
    }
    for (const value of values) {
      await this.#end.postInTurn(
        // JSON cannot have `undefined` in an array.
        value === undefined ? [TAG.value, id] : [TAG.items, id, [value]],
      );
    }
  }
}

function callbackEnded(): ClosedError {
  return new ClosedError(
    "Cannot call back: the call that sent the function has ended",
  );
}

/** Calls a method with its `this`, and its signal if it takes one. */
function invoke(
  { run, self, takesSignal }: Method,
  args: unknown[],
  call: { readonly signal: AbortSignal } | undefined,
): unknown {
  if (takesSignal) args = [call!.signal, ...args];
  return Reflect.apply(run, self, args);
}

/** The iterator of a result that is a stream. */
function openIterator(value: unknown): AsyncIterator<unknown> | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const many = value as Partial<AsyncIterable<unknown> & Iterator<unknown>>;
  if (typeof many[Symbol.asyncIterator] === "function") {
    return many[Symbol.asyncIterator]!();
  }
  // A generator, for example. An array or a map is one value.
  const isIterator = typeof many.next === "function" &&
    typeof (value as Partial<Iterable<unknown>>)[Symbol.iterator] ===
      "function";
  return isIterator ? value as AsyncIterator<unknown> : undefined;
}

/** Stops an iterator whose values are not needed. Never throws. */
async function stopIterator(
  open: () => AsyncIterator<unknown> | undefined,
): Promise<void> {
  try {
    await open()?.return?.();
  } catch {
    // The call has its answer: errors of the cleanup have no receiver.
  }
}

/**
 * Throws if a result is a stream. In a batch, the calls behind it would have to wait
 * for its reader; a notification has no reader.
 */
function refuseStream(
  attempt: "notify" | "run",
  name: string,
  value: unknown,
): void {
  const iterator = openIterator(value);
  if (iterator === undefined) return;
  stopIterator(() => iterator);
  const where = attempt === "run" ? " in a pool" : "";
  throw new TypeError(
    `Cannot ${attempt} ${
      methodLabel(name)
    }${where}: its result is a stream; call it with "remote", or return an array`,
  );
}

/** The result of a call in a batch. */
function single(name: string, value: unknown): unknown {
  refuseStream("run", name, value);
  return value;
}

async function laterSingle(
  name: string,
  value: PromiseLike<unknown>,
): Promise<unknown> {
  return single(name, await value);
}

/** The error of a call whose result cannot be sent. */
function resultError(error: unknown, depth = 1): unknown {
  const [Kind, text] = unsendable(error, depth) ?? [];
  if (Kind === undefined) return error;
  return new Kind(`Cannot answer with the result: ${text}`);
}
