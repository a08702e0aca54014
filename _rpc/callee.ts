// Copyright 2026 the Duplex authors. MIT license.

/**
 * The calls that one end receives. They reach the exposed methods and nothing else,
 * whatever name the peer sends.
 *
 * @module
 */

import { isEnd, isInstance } from "../_base/errors.ts";
import { methodLabel, type Post, refusal, unsendable } from "./caller.ts";
import { Batch, BatchRunner, isThenable } from "./batch.ts";
import { fromFailure, reduceFailure, toFailure } from "./errors.ts";
import {
  DESCRIBE,
  type Message,
  type MethodKey,
  type Slot,
  TAG,
  type Trace,
  valueIndex,
} from "./messages.ts";
import type { Method } from "./methods.ts";
import type { References } from "./references.ts";
import { isFound, search, type Searched, type SlotTable } from "./slots.ts";
import { ChunkSource, Producer } from "./stream.ts";
import type { Tracing } from "./trace.ts";

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
  /** Called with the errors of notifications and of functions that cannot be called. */
  readonly onError: (error: unknown, method: string) => void;
}

/** The end that a callee belongs to. */
export interface CalleeEnd {
  readonly post: Post;
  /** As `post`; returns a promise if the message has to wait for room. */
  readonly postInTurn: (
    message: Message,
    transfer?: Transferable[],
  ) => Promise<void> | undefined;
  readonly slots: SlotTable;
  readonly references: References;
  /** Makes spans of calls, if the program is traced. */
  readonly tracing: Tracing | undefined;
  /** Whether received calls are waiting to be begun. */
  isHolding(): boolean;
  /** Whether this thread is blocked by the call that sent a function. */
  isBlocked(id: number): boolean;
}

type CallMessage = Extract<Message, [typeof TAG.call, ...unknown[]]>;
type BatchMessage = Extract<Message, [typeof TAG.batch, ...unknown[]]>;
type NoticeMessage = Extract<Message, [typeof TAG.notice, ...unknown[]]>;

/** A running call that has a signal, slots or a stream. */
class Running {
  /** Number of calls that it counts as. */
  readonly weight: number;
  #controller: AbortController | undefined;
  #cancelled: { readonly reason: unknown } | undefined;
  producer: Producer | undefined;

  constructor(weight: number) {
    this.weight = weight;
  }

  /** Whether its result is no longer needed. */
  get isCancelled(): boolean {
    return this.#cancelled !== undefined;
  }

  /** Why it was cancelled. */
  get reason(): unknown {
    return this.#cancelled?.reason;
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#cancelled) this.#controller.abort(this.#cancelled.reason);
    return this.#controller.signal;
  }

  cancel(reason: unknown): void {
    this.#cancelled ??= { reason };
    this.#controller?.abort(reason);
    this.producer?.stop(reason);
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
  /** Why the peer requests no more values of streams. */
  #drained: { readonly reason: unknown } | undefined;
  #isPeerGone = false;
  #onIdle: (() => void) | undefined;

  constructor(end: CalleeEnd) {
    this.#end = end;
    this.#batches = new BatchRunner(end.postInTurn, {
      onCancelled: (count) => this.#onCancelled(count),
      onDone: (isCancelled, count) => this.#done(isCancelled, count),
    });
  }

  /** Running calls by their weights. */
  get running(): number {
    return this.#count;
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

  /** Reports an error that no call can have. */
  onError(error: unknown, key: MethodKey): void {
    const name = typeof key === "number" ? methodLabel(key) : key;
    this.#exposed?.onError(error, typeof name === "string" ? name : name[1]);
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
        return this.#onCall(message);
      case TAG.batch:
        return this.#onBatch(message);
      case TAG.notice:
        return this.#onNotice(message);
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
      case TAG.release:
        return this.#end.references.onRelease(message[1]);
    }
  }

  /** Replaces an answer that cannot be sent; settles when the replacement was sent. */
  refuse(message: Message, error: unknown): Promise<void> | undefined {
    const at = valueIndex(message);
    if (at !== undefined) {
      this.#end.slots.remove(message[at + 1] as Slot[] | undefined);
    }
    // The duplex has ended.
    if (isEnd(error)) return undefined;
    // Several values are sent one by one first.
    const isSingle = message[0] !== TAG.items || message[2].length === 1;
    if (at !== undefined && isSingle && isInstance(error, TypeError)) {
      try {
        const searched = search(message[at]);
        if (searched !== undefined) return this.#answerAgain(message, searched);
      } catch (fault) {
        // A getter in the result threw, or too many functions are in it.
        error = fault;
      }
    }
    switch (message[0]) {
      case TAG.value:
        return this.#postError(message[1], resultError(error));
      case TAG.items:
        return this.#refuseItems(message[1], message[2], error);
      case TAG.chunk:
        this.#running.get(message[1])?.producer?.stop(error);
        return this.#postError(message[1], resultError(error));
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
  drain(reason: unknown): void {
    this.#drained = { reason };
    for (const { producer } of this.#running.values()) producer?.drain(reason);
  }

  #onCall(message: CallMessage): void {
    // By index, as destructuring would use an iterator.
    const id = message[1];
    const key = message[2];
    const args = message[3];
    if (key === DESCRIBE) return this.#describe(id);
    const slots = message[4]?.length === 0 ? undefined : message[4];
    const method = this.#traced(this.#find(key), key, message[5]);
    if (method === undefined) {
      this.#end.slots.drop(slots);
      return this.#postMissing(id, key, 1);
    }
    let running: Running | undefined;
    if (slots === undefined && !method.takesSignal) this.#count++;
    else {
      if (slots !== undefined) {
        const error = this.#roomError(key, slots);
        if (error !== undefined) return void this.#postError(id, error);
      }
      running = this.#track(id, 1 + (slots?.length ?? 0));
      // This may throw.
      if (slots !== undefined) this.#end.slots.fill(args, slots, running);
      this.#count += running.weight;
    }
    const { context } = method;
    if (context === undefined) {
      return this.#begin(id, key, method, args, running);
    }
    context.run(() => this.#begin(id, key, method, args, running));
  }

  /** Calls the method of a call, and answers. Never throws. */
  #begin(
    id: number,
    key: MethodKey,
    method: Method,
    args: unknown[],
    running: Running | undefined,
  ): void {
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

  #onBatch([, id, name, list, traces]: BatchMessage): void {
    const method = this.#find(name);
    if (method === undefined) return this.#postMissing(id, name, list.length);
    // Its calls run one after the other, but all arguments are in memory.
    this.#count += list.length;
    this.#batches.add(
      new Batch(id, list, (args, batch) => {
        const trace = traces?.[batch.begun - 1] ?? undefined;
        const result = invoke(this.#traced(method, name, trace), args, batch);
        return isThenable(result)
          ? laterSingle(name, result)
          : single(name, result);
      }),
    );
  }

  #onNotice([, name, args, slots, trace]: NoticeMessage): void {
    const exposed = this.#exposed;
    const method = this.#traced(exposed?.methods.get(name), name, trace);
    if (method === undefined || this.#count >= exposed!.maxCalls) {
      this.#end.slots.drop(slots);
      const error = this.#missing(name);
      return exposed?.onError(error, name);
    }
    const running = new Running(1);
    if (slots !== undefined) {
      const error = this.#roomError(name, slots);
      if (error !== undefined) return exposed!.onError(error, name);
      this.#end.slots.fill(args, slots, running);
    }
    this.#count++;
    this.#notices.add(running);
    this.#runNotice(exposed!, name, method, args, running);
  }

  /** Never rejects. */
  async #runNotice(
    exposed: Exposed,
    name: string,
    method: Method,
    args: unknown[],
    running: Running,
  ): Promise<void> {
    try {
      refuseStream("notify", name, await invoke(method, args, running));
    } catch (error) {
      exposed.onError(error, name);
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
    return this.#end.references.method(key);
  }

  /** A method that makes a span, if the program is traced. */
  #traced<Found extends Method | undefined>(
    method: Found,
    key: MethodKey,
    trace: Trace | undefined,
  ): Found | Method {
    const { tracing } = this.#end;
    if (tracing === undefined || method === undefined) return method;
    return tracing.method(method, key, trace);
  }

  /** The error if the slots of a call exceed the limit; they are dropped then. */
  #roomError(key: MethodKey, slots: Slot[]): unknown {
    try {
      this.#end.references.checkRoom(slots);
      return undefined;
    } catch (error) {
      this.#end.slots.drop(slots);
      return refusal(error, `call ${methodLabel(key)}`);
    }
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
    const isKnown = typeof key === "string"
      ? methods?.has(key)
      : key === DESCRIBE || this.#end.references.method(key) !== undefined;
    if (isKnown) {
      return new RangeError(
        `Cannot call ${label}: ${this.#count} calls are running, which is the maximum; wait for some, or give "expose" a larger "maxCalls"`,
      );
    }
    if (typeof key !== "string") {
      return new TypeError(
        `Cannot call ${label}: it is not a function, or a method of an object, that was sent and is not released`,
      );
    }
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
      `Cannot call ${label}: the peer exposes no such method, only ${names}${
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
    // Others are found after the codec has refused the answer.
    if (isFound(value)) return this.#answerFound(id, value);
    this.#finish(
      id,
      value === undefined ? [TAG.value, id] : [TAG.value, id, value],
    );
  }

  /** Answers a call with a function, a reference or a transferred value. */
  #answerFound(id: number, value: unknown): void {
    if (this.#running.get(id)?.isCancelled) {
      return this.#finish(id, [TAG.value, id]);
    }
    let answer: Message = [TAG.value, id, value];
    let transfer: Transferable[] | undefined;
    try {
      const searched = search(value)!;
      transfer = searched.transfer;
      answer = this.#withSlots(answer, searched);
    } catch (error) {
      answer = [TAG.error, id, toFailure(resultError(error))];
    }
    this.#finish(id, answer, transfer);
  }

  /** An answer with the slots for what was found in its value. */
  #withSlots(message: Message, { rest, values }: Searched): Message {
    const head = [...message.slice(0, valueIndex(message)), rest];
    if (values.length > 0) head.push(this.#end.slots.add(values));
    return head as Message;
  }

  #answerAgain(
    message: Message,
    searched: Searched,
  ): Promise<void> | undefined {
    return this.#end.postInTurn(
      this.#withSlots(message, searched),
      searched.transfer,
    );
  }

  /** Ends a call with its answer. */
  #finish(id: number, answer: Message, transfer?: Transferable[]): void {
    const running = this.#running.get(id);
    if (running !== undefined) this.#running.delete(id);
    if (!running?.isCancelled) this.#end.post(answer, transfer);
    this.#done(running?.isCancelled === true, running?.weight);
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
      item: (value, cost) =>
        this.#end.postInTurn(
          !(iterator instanceof ChunkSource)
            ? [TAG.items, id, [value]]
            : value === undefined
            ? [TAG.chunk, id, cost]
            : [TAG.chunk, id, cost, value],
        ),
      done: (value) =>
        this.#end.post(
          value === undefined ? [TAG.value, id] : [TAG.value, id, value],
        ),
      failed: (error) => this.#postError(id, error),
    });
    running.producer = producer;
    // The peer may have left or sent its goodbye before the stream began.
    if (running.isCancelled) producer.stop(running.reason);
    else this.#end.post([TAG.stream, id]);
    if (this.#drained !== undefined) producer.drain(this.#drained.reason);
    producer.run().then(() => {
      this.#running.delete(id);
      this.#done(running.isCancelled, running.weight);
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
    producer?.stop(error);
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
  if (value instanceof ChunkSource) return value;
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
