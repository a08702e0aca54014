// Copyright 2026 the Duplex authors. MIT license.

/**
 * The calls that come in at one end: they reach the methods that were exposed,
 * and nothing else, whatever the far side names.
 *
 * @module
 */

import { ClosedError, isEnd } from "../_base/errors.ts";
import { labelOf, type Post, unsendable } from "./caller.ts";
import { failureOf, lesserFailure, thrownFrom } from "./errors.ts";
import { Batch, isThenable, Lane } from "./batch.ts";
import {
  DESCRIBE,
  type Message,
  type MethodKey,
  PLACE,
  type Place,
  TAG,
} from "./messages.ts";
import { type Callback, fillPlaces } from "./places.ts";
import { Producer } from "./stream.ts";

/** Tells the memory of this thread's heap. */
type HeapStatistics = typeof import("node:v8").getHeapStatistics;

/** Loaded for the first description, as it costs a start some 20 ms. */
let heapStatistics: HeapStatistics | undefined;

/** A method that can be called. */
export interface Method {
  readonly run: Callback;
  /** What `this` is in it. */
  readonly self: unknown;
  /** Whether its first argument is a signal. */
  readonly takesSignal: boolean;
}

/** Calls under way at most, 4 KiB each taken for a quarter of a gigabyte. */
export const DEFAULT_MAX_CALLS = 65_536;

/** Names of methods that an error lists, so that its size does not depend on how many there are. */
const MAX_NAMES = 20;

/** What an end exposes. */
export interface Exposed {
  readonly methods: ReadonlyMap<string, Method>;
  /**
   * Calls under way at most: each call of a batch counts, and each function and
   * signal among the arguments counts as one call more.
   */
  readonly maxCalls: number;
  /** Told what a method throws that was called without wanting an answer. */
  readonly onError: (error: unknown, method: string) => void;
}

/** What the callee needs of its end. */
export interface CalleeEnd {
  readonly post: Post;
  /** As `post`; a promise where it has to wait for room. */
  readonly postInTurn: (message: Message) => Promise<void> | undefined;
  /** The function that the far side may call back. */
  callback(id: number): Callback | undefined;
  /** Calls a function of the far side's. */
  callBack(id: number, args: unknown[]): Promise<unknown>;
  /** Whether calls were received that are not begun. */
  isHolding(): boolean;
}

/** A call under way that has more to it than an answer at once. */
class Running {
  /** How many calls it counts as. */
  readonly weight: number;
  #controller: AbortController | undefined;
  #cancelled: { readonly reason: unknown } | undefined;
  producer: Producer | undefined;
  /** Whether it was answered. */
  isDone = false;

  constructor(weight: number) {
    this.weight = weight;
  }

  /** Whether nobody wants what it gives. */
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

/** The calls that come in at one end. */
export class Callee {
  readonly #end: CalleeEnd;
  readonly #running = new Map<number, Running>();
  /** Calls under way of which a promise is all that there is. */
  readonly #promised = new Set<number>();
  /** Calls under way whose callers wanted no answer. */
  readonly #notices = new Set<Running>();
  readonly #lane: Lane;
  #exposed: Exposed | undefined;
  /** Running calls, by their weights; of these, canceled ones. */
  #count = 0;
  #cancelled = 0;
  #isDrained = false;
  #isFarSideGone = false;
  #onIdle: (() => void) | undefined;

  constructor(end: CalleeEnd) {
    this.#end = end;
    this.#lane = new Lane(end.postInTurn, {
      onCancelled: (count) => this.#onCancelled(count),
      onDone: (isCancelled, count) => this.#done(isCancelled, count),
    });
  }

  /** Exposes methods; once. */
  expose(exposed: Exposed): void {
    if (this.#exposed !== undefined) {
      throw new TypeError(
        "Cannot expose methods: this duplex exposes some already; expose them all at once",
      );
    }
    this.#exposed = exposed;
  }

  /** Settles when no call is under way that somebody waits for. */
  async idle(): Promise<void> {
    if (this.#isIdle) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onIdle = resolve;
    await promise;
  }

  /** Takes what concerns a call that came in. */
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
        const reason = thrownFrom(message[2]);
        const running = this.#running.get(message[1]);
        if (running !== undefined) return this.#cancel(running, reason);
        if (this.#promised.delete(message[1])) return this.#onCancelled();
        return this.#lane.cancel(message[1], reason);
      }
      case TAG.recall:
        return this.#lane.recall(message[1]);
    }
  }

  /** An answer could not be sent; settles when what takes its place was. */
  refuse(message: Message, error: unknown): Promise<void> | undefined {
    // Nothing can be sent any more.
    if (isEnd(error)) return undefined;
    switch (message[0]) {
      case TAG.value:
        return this.#postError(message[1], resultError(error));
      case TAG.items:
        return this.#refuseItems(message[1], message[2], error);
      case TAG.error: {
        const lesser = lesserFailure(message[2]);
        if (lesser === undefined) return undefined;
        return this.#end.postInTurn([TAG.error, message[1], lesser]);
      }
    }
  }

  /** The far side is gone: nobody wants what is under way. */
  end(reason: unknown): void {
    this.#isFarSideGone = true;
    for (const running of this.#running.values()) this.#cancel(running, reason);
    this.#onCancelled(this.#promised.size);
    this.#promised.clear();
    for (const running of this.#notices) running.cancel(reason);
    this.#lane.end(reason);
    this.checkIdle();
  }

  /** The far side asks for nothing more, and still takes answers. */
  drain(): void {
    this.#isDrained = true;
    for (const { producer } of this.#running.values()) producer?.drain();
  }

  #onCall(
    id: number,
    key: MethodKey,
    args: unknown[],
    places: Place[] | undefined,
  ): void {
    if (key === DESCRIBE) return this.#describe(id);
    const method = this.#find(key);
    if (method === undefined) return this.#postMissing(id, key, 1);
    let running: Running | undefined;
    if (places === undefined && !method.takesSignal) this.#count++;
    else {
      running = this.#track(id, 1 + (places?.length ?? 0));
      this.#count += running.weight;
      if (places !== undefined) this.#fill(running, args, places);
    }
    let result: unknown;
    let isLater: boolean;
    try {
      result = invoke(method, args, running);
      isLater = isThenable(result);
    } catch (error) {
      return this.#finish(id, [TAG.error, id, failureOf(error)]);
    }
    if (!isLater) return this.#answer(id, result);
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
    // They run one after the other, but all of their arguments are held.
    this.#count += list.length;
    this.#lane.add(
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
      refuseMany("notify", name, await invoke(method, args, running));
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

  /** Whether as many calls are under way as may be. */
  get #isBusy(): boolean {
    return this.#count >= this.#maxCalls;
  }

  /** The method that a key stands for, if it can be called now. */
  #find(key: MethodKey): Method | undefined {
    if (this.#isBusy) return undefined;
    if (typeof key === "string") return this.#exposed?.methods.get(key);
    const run = this.#end.callback(key);
    return run && { run, self: undefined, takesSignal: false };
  }

  /** Answers calls for which there is nothing to call. */
  #postMissing(id: number, key: MethodKey, count: number): void {
    const failure = failureOf(this.#missing(key));
    for (let index = 0; index < count; index++) {
      this.#end.post([TAG.error, id, failure]);
    }
  }

  /** Why there is nothing to call. */
  #missing(key: MethodKey): Error {
    const label = labelOf(key);
    const methods = this.#exposed?.methods;
    const isThere = typeof key === "number"
      ? key === DESCRIBE || this.#end.callback(key) !== undefined
      : methods?.has(key);
    if (isThere) {
      return new RangeError(
        `Cannot call ${label}: ${this.#count} calls are under way, and there may be no more; wait for some, or give "expose" a larger "maxCalls"`,
      );
    }
    if (typeof key === "number") return callbackEnded();
    if (methods === undefined) {
      return new TypeError(
        `Cannot call ${label}: the far side exposes no methods on this duplex`,
      );
    }
    const names = [...methods.keys().take(MAX_NAMES).map(labelOf)].join(", ");
    const more = methods.size - MAX_NAMES;
    return new TypeError(
      `Cannot call ${label}: the far side exposes no such method, but ${names}${
        more > 0 ? ` and ${more} more` : ""
      }`,
    );
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
    // A call that was taken back; of others that is known where they end.
    if (isPromise && !this.#promised.delete(id)) {
      leave(() => iteratorOf(value));
      return this.#done(true);
    }
    if (failure === undefined) return this.#answer(id, value);
    this.#finish(id, [TAG.error, id, failureOf(failure.error)]);
  }

  /** Answers a call with what its method gave. */
  #answer(id: number, value: unknown): void {
    let iterator: AsyncIterator<unknown> | undefined;
    try {
      iterator = iteratorOf(value);
    } catch (error) {
      return this.#finish(id, [TAG.error, id, failureOf(error)]);
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

  /** Answers a call with many values. */
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
    // The caller may have gone, or said goodbye, before there was a stream.
    if (running.isCancelled) producer.stop();
    else this.#end.post([TAG.stream, id]);
    if (this.#isDrained) producer.drain();
    producer.run().then(() => {
      this.#release(id, running);
      this.#done(running.isCancelled, running.weight);
    });
  }

  #fill(running: Running, args: unknown[], places: Place[]): void {
    fillPlaces(args, places, (kind, id) => {
      if (kind === PLACE.signal) return running.signal;
      return (...given: unknown[]) => {
        const called = running.isDone || running.isCancelled
          ? Promise.reject(callbackEnded())
          : this.#end.callBack(id, given);
        // Who only tells of progress does not wait for it, and must not end with
        // the one who is told.
        called.catch(() => {});
        return called;
      };
    });
  }

  /** Answers with what there is to call, and how much memory this end holds. */
  #describe(id: number): void {
    if (this.#isBusy) return this.#postMissing(id, DESCRIBE, 1);
    if (heapStatistics !== undefined) {
      return this.#end.post([TAG.value, id, this.#description(heapStatistics)]);
    }
    this.#count++;
    this.#describeLater(id);
  }

  /** Loads what is needed for a description first. Never rejects. */
  async #describeLater(id: number): Promise<void> {
    try {
      ({ getHeapStatistics: heapStatistics } = await import("node:v8"));
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

  /** Nobody waits any more for so many of the calls under way. */
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
    return this.#isFarSideGone ||
      this.#count === this.#cancelled && !this.#end.isHolding();
  }

  /** Ends the wait for {@linkcode idle} once it is so. */
  checkIdle(): void {
    if (this.#onIdle === undefined || !this.#isIdle) return;
    this.#onIdle();
    this.#onIdle = undefined;
  }

  #postError(id: number, error: unknown): Promise<void> | undefined {
    return this.#end.postInTurn([TAG.error, id, failureOf(error)]);
  }

  /** Of values that cannot be sent together each one is sent, or told why not. */
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
        // JSON has nothing to stand for it in an array.
        value === undefined ? [TAG.value, id] : [TAG.items, id, [value]],
      );
    }
  }
}

function callbackEnded(): ClosedError {
  return new ClosedError(
    "Cannot call back: the call that brought the function has ended",
  );
}

/** Runs a method, as the one who exposed it would. */
function invoke(
  { run, self, takesSignal }: Method,
  args: unknown[],
  call: { readonly signal: AbortSignal } | undefined,
): unknown {
  if (takesSignal) args = [call!.signal, ...args];
  return Reflect.apply(run, self, args);
}

/** What walks through the values that a method gives, if it gives many. */
function iteratorOf(value: unknown): AsyncIterator<unknown> | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const many = value as Partial<AsyncIterable<unknown> & Iterator<unknown>>;
  if (typeof many[Symbol.asyncIterator] === "function") {
    return many[Symbol.asyncIterator]!();
  }
  // What a generator gives; an array or a map is one value.
  const isIterator = typeof many.next === "function" &&
    typeof (value as Partial<Iterable<unknown>>)[Symbol.iterator] ===
      "function";
  return isIterator ? value as AsyncIterator<unknown> : undefined;
}

/** Tells an iterator that nobody wants its values. Never throws. */
async function leave(
  open: () => AsyncIterator<unknown> | undefined,
): Promise<void> {
  try {
    await open()?.return?.();
  } catch {
    // What it throws on its way out concerns nobody any more.
  }
}

/**
 * Refuses many values: a stream in a batch would have to wait for its reader, and
 * the rest for it, and of a notification nobody reads anything.
 */
function refuseMany(
  attempt: "notify" | "run",
  name: string,
  value: unknown,
): void {
  const iterator = iteratorOf(value);
  if (iterator === undefined) return;
  leave(() => iterator);
  const where = attempt === "run" ? " in a pool" : "";
  throw new TypeError(
    `Cannot ${attempt} ${
      labelOf(name)
    }${where}: it gives many values; call it with "remote", or have it give an array`,
  );
}

/** What a call of a batch gives. */
function single(name: string, value: unknown): unknown {
  refuseMany("run", name, value);
  return value;
}

async function laterSingle(
  name: string,
  value: PromiseLike<unknown>,
): Promise<unknown> {
  return single(name, await value);
}

/** What a call throws whose result cannot be sent. */
function resultError(error: unknown, depth = 1): unknown {
  const [Kind, text] = unsendable(error, depth) ?? [];
  if (Kind === undefined) return error;
  return new Kind(`Cannot answer with the result: ${text}`);
}
