// Copyright 2026 the Duplex authors. MIT license.

/**
 * A map over a pool. Items are read as workers can take them, and outcomes wait for
 * the reader of the map. The number of items between these two is bounded.
 *
 * @module
 */

import { ClosedError, isInstance } from "../_base/errors.ts";
import { checkName } from "../_base/options.ts";
import { Tracing } from "../_rpc/trace.ts";
import { TaskOrigin } from "./origin.ts";
import { type Job, Task, type TaskSource, type Waiting } from "./task.ts";
import { Deque } from "../_base/waiting.ts";

/** The outcome of one item, from `Pool.mapSettled`. */
export type MapOutcome<Item, Result> =
  | {
    readonly status: "fulfilled";
    /** The index of the item. */
    readonly index: number;
    readonly item: Item;
    readonly value: Result;
    /** Number of workers that may have begun it. */
    readonly attempts: number;
  }
  | {
    readonly status: "rejected";
    /** The index of the item. */
    readonly index: number;
    readonly item: Item;
    readonly reason: unknown;
    /** Number of workers that may have begun it. */
    readonly attempts: number;
  };

/** The progress of a map. */
export interface MapProgress {
  /** Items with an outcome. */
  readonly done: number;
  /** Items that failed. */
  readonly failed: number;
  /** Number of all items, if it is known in advance. */
  readonly total: number | undefined;
}

/** The pool of a map. */
export interface MapHost {
  /** Begins to take tasks from a source. */
  begin(source: TaskSource): void;
  /** Ends a source and cancels its running tasks. */
  end(source: TaskSource, job: Job, reason: unknown): void;
  /** Notifies the pool that a source may have tasks. */
  wake(source: TaskSource): void;
  /** Adds a task with a key. */
  pushKeyed(task: Task, key: string): void;
  /** Removes the tasks of maps that were stopped from the queues of the keys. */
  cleanKeys(): void;
  /** Marks a source that has an outcome to report. */
  touch(source: TaskSource): void;
  /** Default of `readAhead`. */
  readAhead(job: Job): number;
  /** Items of a batch. */
  batchSize(job: Job): number;
  /** Aborts a map with a signal. */
  watch(map: MapRun, signal: AbortSignal): void;
  /** Stops watching the signal. */
  unwatch(map: MapRun, signal: AbortSignal): void;
}

/** The options of a map. */
export interface MapLimits {
  readonly job: Job;
  readonly ordered: boolean;
  readonly key: ((item: unknown) => string) | undefined;
  readonly readAhead: number | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((progress: MapProgress) => void) | undefined;
}

/**
 * The part of `readAhead` that must be free before more items are read, unless a batch
 * is smaller. A reader of the map that is slower than the workers makes room for one
 * item at a time; if each were read at once, each would have a batch of its own.
 */
const ROOM_PART = 1 / 4;

type Items<Item> = Iterable<Item> | AsyncIterable<Item>;
type Outcome = MapOutcome<unknown, unknown>;
type Result = IteratorResult<Outcome, undefined>;

class MapTask extends Task {
  readonly #map: MapRun;
  readonly #index: number;

  constructor(
    map: MapRun,
    job: Job,
    item: unknown,
    index: number,
    since: number,
  ) {
    super(job, [item], since);
    this.#map = map;
    this.#index = index;
  }

  override get origin(): TaskOrigin | undefined {
    return this.#map.origin;
  }

  protected override get isUnwanted(): boolean {
    return this.#map.isOver;
  }

  protected override onFulfilled(value: unknown): void {
    const { attempts, args: [item] } = this;
    const index = this.#index;
    this.#map.onOutcome({ status: "fulfilled", index, item, value, attempts });
  }

  protected override onRejected(reason: unknown): void {
    const { attempts, args: [item] } = this;
    const index = this.#index;
    if (attempts === 0) return this.#map.onUnbegun(index, reason);
    this.#map.onOutcome({ status: "rejected", index, item, reason, attempts });
  }
}

/** One map. */
export class MapRun implements TaskSource, AsyncIterableIterator<Outcome> {
  turn: TaskSource["turn"];
  readonly #host: MapHost;
  readonly #limits: MapLimits;
  readonly #items: Items<unknown>;
  readonly #total: number | undefined;
  #sync: Iterator<unknown> | undefined;
  #async: AsyncIterator<unknown> | undefined;
  /** Items that were read and not taken by a worker. */
  readonly #read = new Deque<unknown>();
  #isReading = false;
  /** Items that were read, items with an outcome, failed items, outcomes received by the reader. */
  #count = 0;
  #done = 0;
  #failed = 0;
  #taken = 0;
  /** Whether there were outcomes since the last report. */
  #isTouched = false;
  /** Outcomes that were reported to `onProgress`. */
  #reported = 0;
  /** Outcomes that wait for an earlier one; `null` for an item that has none. */
  readonly #early = new Map<number, Outcome | null>();
  #nextIndex = 0;
  /** Outcomes that can be taken. */
  readonly #ready = new Deque<Outcome>();
  readonly #readers = new Deque<PromiseWithResolvers<Result>>();
  /** Where all its tasks come from. */
  origin: TaskOrigin | undefined;
  #isBegun = false;
  /** Whether no more items are read. */
  #isExhausted = false;
  /** Whether the iterator has ended or its `return` was called. */
  #isReturned = false;
  /** The error that ends the map after its outcomes. */
  #error: { readonly error: unknown } | undefined;
  #isOver = false;

  constructor(host: MapHost, items: Items<unknown>, limits: MapLimits) {
    this.#host = host;
    this.#items = items;
    this.#limits = limits;
    this.#total = countItems(items);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<Result> {
    if (!this.#isBegun) this.#begin();
    if (this.#ready.length > 0) {
      const value = this.#ready.shift();
      this.#taken++;
      if (!this.#isExhausted) this.#onRoom();
      return Promise.resolve({ value, done: false });
    }
    if (this.#isOver) return this.#settleEnd();
    const taker = Promise.withResolvers<Result>();
    this.#readers.push(taker);
    return taker.promise;
  }

  async return(): Promise<Result> {
    this.#isBegun = true;
    this.#stop(new DOMException("The map was stopped", "AbortError"));
    this.#error = undefined;
    // Outcomes that wait are dropped as well.
    this.#ready.clear();
    await this.#returnIterator();
    return { value: undefined, done: true };
  }

  get priority(): number {
    return this.#limits.job.priority;
  }

  get waiting(): number {
    return this.#read.length;
  }

  prepare(most: number): number {
    if (this.#limits.key !== undefined) this.#readKeyed();
    else if (this.#read.length < most && this.#mayRead) {
      while (this.#read.length < most && this.#readNext());
    }
    if (this.#isExhausted) this.#endIfDone();
    return this.#read.length;
  }

  take(mostOf: (job: Job) => number): Task[] {
    if (this.#limits.key !== undefined) {
      this.#readKeyed();
      return [];
    }
    const most = mostOf(this.#limits.job);
    const tasks: Task[] = [];
    // One time for all: to read the clock costs as much as the rest of this.
    const since = performance.now();
    const mayRead = this.#mayRead;
    while (tasks.length < most) {
      if (this.#read.length === 0 && !(mayRead && this.#readNext())) break;
      const item = this.#read.shift();
      const index = this.#count - this.#read.length - 1;
      tasks.push(new MapTask(this, this.#limits.job, item, index, since));
      // A task with callbacks is sent alone.
      if (tasks.at(-1)!.hasSlots) break;
    }
    if (this.#isExhausted) this.#endIfDone();
    // An iterable may stop the map while it is read.
    return this.#isOver ? [] : tasks;
  }

  fail(error: unknown): void {
    this.abort(error);
  }

  /** Reads no more items. Those that were read are run, or dropped. */
  finish(waiting: Waiting): void {
    if (this.#isOver) return;
    if (!this.#isExhausted) {
      this.#isExhausted = true;
      this.#error = { error: closedError() };
      this.#returnIterator();
    }
    if (waiting === "reject" && this.#read.length > 0) {
      this.#error = { error: closedError() };
      this.#count -= this.#read.length;
      this.#read.clear();
    }
    this.#endIfDone();
  }

  /** Handles the outcome of an item. */
  onOutcome(outcome: Outcome): void {
    this.#done++;
    if (outcome.status === "rejected") this.#failed++;
    if (this.#isOver) return;
    this.#touch();
    if (this.#limits.ordered) this.#deliverInOrder(outcome.index, outcome);
    else this.#deliver(outcome);
  }

  /** An item that was read is not run: the pool is closed, or has no worker. */
  onUnbegun(index: number, reason: unknown): void {
    if (!isInstance(reason, ClosedError)) return this.abort(reason);
    this.#count--;
    this.#error = { error: closedError() };
    this.#touch();
    if (this.#limits.ordered) this.#deliverInOrder(index, null);
  }

  /** Reports outcomes. */
  onReport(): void {
    this.#isTouched = false;
    if (this.#isOver) return;
    const { onProgress } = this.#limits;
    if (onProgress !== undefined && this.#reported !== this.#done) {
      this.#reported = this.#done;
      try {
        onProgress({
          done: this.#done,
          failed: this.#failed,
          total: this.#total,
        });
      } catch (error) {
        return this.abort(error);
      }
    }
    // Outcomes that a reader waited for have made room.
    if (this.#async !== undefined) this.#onRoom();
    this.#endIfDone();
  }

  #begin(): void {
    this.#isBegun = true;
    this.origin = TaskOrigin.of(Tracing.get(), this.#limits.job.method);
    const { signal } = this.#limits;
    if (signal?.aborted) return this.abort(signal.reason);
    if (signal !== undefined) this.#host.watch(this, signal);
    try {
      const items = this.#items as AsyncIterable<unknown> & Iterable<unknown>;
      if (typeof items[Symbol.asyncIterator] === "function") {
        this.#async = items[Symbol.asyncIterator]();
      } else this.#sync = items[Symbol.iterator]();
    } catch (error) {
      return this.abort(error);
    }
    this.#host.begin(this);
    this.#onRoom();
  }

  /** Whether the map has ended. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Reads on if there is enough room. */
  #onRoom(): void {
    if (!this.#mayRead) return;
    if (this.#async === undefined) this.#host.wake(this);
    else if (!this.#isReading) this.#readOn(this.#async);
  }

  get #readAhead(): number {
    const { job, readAhead = this.#host.readAhead(job) } = this.#limits;
    return readAhead;
  }

  /** Number of items that may be read now. */
  get #room(): number {
    return this.#readAhead - (this.#count - this.#taken);
  }

  /** Whether there is room for a batch, or for a part of the items read ahead. */
  get #mayRead(): boolean {
    const batch = this.#host.batchSize(this.#limits.job);
    const least = Math.min(batch, Math.floor(this.#readAhead * ROOM_PART));
    return this.#room >= Math.max(1, least);
  }

  /** Reads an item of a synchronous iterable; returns whether there was one. */
  #readNext(): boolean {
    if (this.#sync === undefined || this.#isExhausted) return false;
    if (this.#room <= 0) return false;
    try {
      const { value, done } = this.#sync.next();
      if (this.#isExhausted) return false;
      if (!done) return this.#onItem(value);
    } catch (error) {
      this.#error = { error };
    }
    this.#isExhausted = this.#isReturned = true;
    return false;
  }

  /** Reads items with keys, which wait in the queues of these. */
  #readKeyed(): void {
    if (this.#mayRead) { while (this.#readNext()); }
    if (this.#isExhausted) this.#endIfDone();
  }

  /** Handles an item that was read; returns whether it waits. */
  #onItem(item: unknown): boolean {
    const { key: keyOf, job } = this.#limits;
    if (keyOf === undefined) {
      this.#count++;
      this.#read.push(item);
      return true;
    }
    let key: string;
    try {
      key = keyOf(item);
      checkName("Cannot map", "key(item)", key);
    } catch (error) {
      this.#error = { error };
      this.#isExhausted = true;
      this.#returnIterator();
      return false;
    }
    // The function may have stopped the map.
    if (this.#isExhausted) return false;
    const task = new MapTask(
      this,
      job,
      item,
      this.#count++,
      performance.now(),
    );
    this.#host.pushKeyed(task, key);
    return true;
  }

  /** Reads items of an asynchronous iterable. Never rejects. */
  async #readOn(items: AsyncIterator<unknown>): Promise<void> {
    this.#isReading = true;
    try {
      while (!this.#isExhausted && this.#room > 0) {
        const { value, done } = await items.next();
        if (this.#isExhausted) break;
        if (done) this.#isExhausted = this.#isReturned = true;
        else if (this.#onItem(value)) this.#host.wake(this);
      }
    } catch (error) {
      if (!this.#isExhausted) this.#error = { error };
      this.#isExhausted = this.#isReturned = true;
    }
    this.#isReading = false;
    this.#endIfDone();
  }

  #touch(): void {
    if (this.#isTouched) return;
    this.#isTouched = true;
    this.#host.touch(this);
  }

  #deliverInOrder(index: number, outcome: Outcome | null): void {
    if (index !== this.#nextIndex) {
      this.#early.set(index, outcome);
      return;
    }
    let next: Outcome | null | undefined = outcome;
    while (next !== undefined) {
      if (next !== null) this.#deliver(next);
      next = this.#early.get(++this.#nextIndex);
      this.#early.delete(this.#nextIndex);
    }
  }

  #deliver(outcome: Outcome): void {
    if (this.#readers.length === 0) return this.#ready.push(outcome);
    this.#taken++;
    this.#readers.shift().resolve({ value: outcome, done: false });
  }

  /** Ends the map if all items have an outcome. */
  #endIfDone(): void {
    if (!this.#isExhausted || this.#done < this.#count || this.#isOver) return;
    this.#over(undefined);
  }

  /** Ends the map at once and drops the outcomes that wait. */
  abort(error: unknown): void {
    if (this.#isOver) return;
    this.#error = { error };
    this.#stop(error);
    this.#returnIterator();
  }

  #stop(reason: unknown): void {
    if (this.#isOver) return;
    this.#isExhausted = true;
    this.#ready.clear();
    this.#early.clear();
    this.#read.clear();
    this.#over(reason);
  }

  #over(reason: unknown): void {
    this.#isOver = true;
    if (this.#error === undefined) this.origin?.end();
    else this.origin?.fail(this.#error.error);
    const { job, key, signal } = this.#limits;
    if (signal !== undefined) this.#host.unwatch(this, signal);
    this.#host.end(this, job, reason);
    if (key !== undefined && this.#done < this.#count) this.#host.cleanKeys();
    while (this.#readers.length > 0) {
      const { resolve, reject } = this.#readers.shift();
      this.#settleEnd().then(resolve, reject);
    }
  }

  /** Reports the error, if any, once; after that the map is empty. */
  #settleEnd(): Promise<Result> {
    const failure = this.#error;
    this.#error = undefined;
    return failure === undefined
      ? Promise.resolve({ value: undefined, done: true })
      : Promise.reject(failure.error);
  }

  /** Calls `return` of the iterator. Never rejects. */
  async #returnIterator(): Promise<void> {
    if (this.#isReturned) return;
    this.#isReturned = true;
    try {
      const left = (this.#sync ?? this.#async)?.return?.();
      // A generator that waits for its next item returns only after it.
      if (!this.#isReading) await left;
      else Promise.resolve(left).catch(() => {});
    } catch {
      // The map has ended: errors of the cleanup have no receiver.
    }
  }
}

function closedError(): ClosedError {
  return new ClosedError("Cannot finish the map: the pool was closed");
}

function countItems(items: object | string): number | undefined {
  // The length of a string counts code units, not items.
  if (typeof items === "string") return undefined;
  const { length, size } = items as { length?: unknown; size?: unknown };
  if (typeof length === "number") return length;
  return typeof size === "number" ? size : undefined;
}

/** The values of a map; the first failure ends it. */
export class ValueIterator implements AsyncIterableIterator<unknown> {
  readonly #map: MapRun;

  constructor(map: MapRun) {
    this.#map = map;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<unknown, undefined>> {
    const result = await this.#map.next();
    if (result.done) return result;
    const outcome = result.value;
    if (outcome.status === "fulfilled") {
      return { value: outcome.value, done: false };
    }
    await this.#map.return();
    throw outcome.reason;
  }

  async return(): Promise<IteratorResult<unknown, undefined>> {
    return await this.#map.return();
  }
}
