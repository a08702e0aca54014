// Copyright 2026 the Duplex authors. MIT license.

/**
 * A map over a pool: items are read as workers can take them, and outcomes wait
 * for whoever iterates. Between the reading of an item and the taking of its
 * outcome there is a bounded number.
 *
 * @module
 */

import { type Job, type Source, Task, type Waiting } from "./task.ts";
import { ClosedError } from "../_base/errors.ts";
import { Deque } from "../_base/waiting.ts";

/** The outcome of one item, from `Pool.mapSettled`. */
export type MapOutcome<Item, Result> =
  | {
    readonly status: "fulfilled";
    /** Which item it was, from 0. */
    readonly index: number;
    readonly item: Item;
    readonly value: Result;
    /** How often it was given to a worker that may have begun it. */
    readonly attempts: number;
  }
  | {
    readonly status: "rejected";
    /** Which item it was, from 0. */
    readonly index: number;
    readonly item: Item;
    readonly reason: unknown;
    /** How often it was given to a worker that may have begun it. */
    readonly attempts: number;
  };

/** How far a map has come. */
export interface MapProgress {
  /** Items that have an outcome. */
  readonly done: number;
  /** Those of them that failed. */
  readonly failed: number;
  /** How many items there are, where that is known beforehand. */
  readonly total: number | undefined;
}

/** What a map needs of its pool. */
export interface MapHost {
  /** Begins to take tasks from a source. */
  begin(source: Source): void;
  /** Takes no more tasks from it, and takes back those that are at work. */
  end(source: Source, job: Job, reason: unknown): void;
  /** There may be something to take from a source now. */
  wake(source: Source): void;
  /** A source has had an outcome. */
  touch(source: Source): void;
  /** How many items may be between reading and taking, if the map does not say. */
  readAhead(job: Job): number;
  /** Aborts a map with a signal. */
  watch(map: MapRun, signal: AbortSignal): void;
  /** Does so no longer. */
  unwatch(map: MapRun, signal: AbortSignal): void;
}

/** What a map was told. */
export interface MapLimits {
  readonly job: Job;
  readonly ordered: boolean;
  readonly readAhead: number | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((progress: MapProgress) => void) | undefined;
}

type Items<Item> = Iterable<Item> | AsyncIterable<Item>;
type Outcome = MapOutcome<unknown, unknown>;
type Result = IteratorResult<Outcome, undefined>;

class MapTask extends Task {
  readonly #map: MapRun;
  readonly #index: number;

  constructor(map: MapRun, job: Job, item: unknown, index: number) {
    super(job, [item], performance.now());
    this.#map = map;
    this.#index = index;
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
    if (attempts === 0) return this.#map.onUnbegun(index);
    this.#map.onOutcome({ status: "rejected", index, item, reason, attempts });
  }
}

/** One map. */
export class MapRun implements Source, AsyncIterableIterator<Outcome> {
  turn: Source["turn"];
  readonly #host: MapHost;
  readonly #limits: MapLimits;
  readonly #items: Items<unknown>;
  readonly #total: number | undefined;
  #sync: Iterator<unknown> | undefined;
  #async: AsyncIterator<unknown> | undefined;
  /** Items of an async iterable that were read and not taken by a worker. */
  readonly #read = new Deque<unknown>();
  #isReading = false;
  /** Items read, items whose outcome has come, and outcomes that were taken. */
  #count = 0;
  #done = 0;
  #failed = 0;
  #taken = 0;
  /** Whether outcomes have come since the last report. */
  #isTouched = false;
  /** Outcomes that `onProgress` was told of. */
  #reported = 0;
  /** Outcomes that wait for an earlier one; `null` for an item that has none. */
  readonly #early = new Map<number, Outcome | null>();
  #nextIndex = 0;
  /** Outcomes that can be taken. */
  readonly #ready = new Deque<Outcome>();
  readonly #takers = new Deque<PromiseWithResolvers<Result>>();
  #isBegun = false;
  /** Whether no more items are read, and with what error if with one. */
  #isExhausted = false;
  /** Whether the items need not be told that no more are wanted. */
  #isLeft = false;
  #error: { readonly error: unknown } | undefined;
  #isOver = false;

  constructor(host: MapHost, items: Items<unknown>, limits: MapLimits) {
    this.#host = host;
    this.#items = items;
    this.#limits = limits;
    this.#total = totalOf(items);
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
    if (this.#isOver) return this.#tellEnd();
    const taker = Promise.withResolvers<Result>();
    this.#takers.push(taker);
    return taker.promise;
  }

  async return(): Promise<Result> {
    this.#isBegun = true;
    this.#stop(new DOMException("The map was stopped", "AbortError"));
    this.#error = undefined;
    // What came before it was over is not wanted either.
    this.#ready.clear();
    await this.#leaveItems();
    return { value: undefined, done: true };
  }

  get waiting(): number {
    return this.#read.length;
  }

  prepare(most: number): number {
    while (this.#read.length < most && this.#readNext());
    if (this.#isExhausted) this.#endIfDone();
    return this.#read.length;
  }

  take(mostOf: (job: Job) => number): Task[] {
    const most = mostOf(this.#limits.job);
    const tasks: Task[] = [];
    while (tasks.length < most) {
      if (this.#read.length === 0 && !this.#readNext()) break;
      const item = this.#read.shift();
      const index = this.#count - this.#read.length - 1;
      tasks.push(new MapTask(this, this.#limits.job, item, index));
      // What calls back goes alone.
      if (tasks.at(-1)!.callsBack) break;
    }
    if (this.#isExhausted) this.#endIfDone();
    // An iterable may stop the map that reads it.
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
      this.#leaveItems();
    }
    if (waiting === "reject" && this.#read.length > 0) {
      this.#error = { error: closedError() };
      this.#count -= this.#read.length;
      this.#read.clear();
    }
    this.#endIfDone();
  }

  /** An item has its outcome. */
  onOutcome(outcome: Outcome): void {
    this.#done++;
    if (outcome.status === "rejected") this.#failed++;
    if (this.#isOver) return;
    this.#touch();
    if (this.#limits.ordered) this.#giveInOrder(outcome.index, outcome);
    else this.#give(outcome);
  }

  /** An item that a worker was given was not begun, and is not run. */
  onUnbegun(index: number): void {
    this.#count--;
    this.#error = { error: closedError() };
    this.#touch();
    if (this.#limits.ordered) this.#giveInOrder(index, null);
  }

  /** Several outcomes have come. */
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
    // Outcomes that were awaited already have made room.
    if (this.#async !== undefined) this.#onRoom();
    this.#endIfDone();
  }

  #begin(): void {
    this.#isBegun = true;
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

  /** Whether nobody wants outcomes any more. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** An item more may be read. */
  #onRoom(): void {
    if (this.#async === undefined) this.#host.wake(this);
    else if (!this.#isReading) this.#readOn(this.#async);
  }

  /** Items that may be read beyond those whose outcomes were taken. */
  get #room(): number {
    const { job, readAhead = this.#host.readAhead(job) } = this.#limits;
    return readAhead - (this.#count - this.#taken);
  }

  /** Reads an item that need not be waited for; says whether there was one. */
  #readNext(): boolean {
    if (this.#sync === undefined || this.#isExhausted) return false;
    if (this.#room <= 0) return false;
    try {
      const { value, done } = this.#sync.next();
      if (this.#isExhausted) return false;
      if (!done) {
        this.#count++;
        this.#read.push(value);
        return true;
      }
    } catch (error) {
      this.#error = { error };
    }
    this.#isExhausted = this.#isLeft = true;
    return false;
  }

  /** Reads ahead, where an item has to be waited for. Never rejects. */
  async #readOn(items: AsyncIterator<unknown>): Promise<void> {
    this.#isReading = true;
    try {
      while (!this.#isExhausted && this.#room > 0) {
        const { value, done } = await items.next();
        if (this.#isExhausted) break;
        if (done) {
          this.#isExhausted = this.#isLeft = true;
        } else {
          this.#count++;
          this.#read.push(value);
          this.#host.wake(this);
        }
      }
    } catch (error) {
      if (!this.#isExhausted) this.#error = { error };
      this.#isExhausted = this.#isLeft = true;
    }
    this.#isReading = false;
    this.#endIfDone();
  }

  #touch(): void {
    if (this.#isTouched) return;
    this.#isTouched = true;
    this.#host.touch(this);
  }

  #giveInOrder(index: number, outcome: Outcome | null): void {
    if (index !== this.#nextIndex) {
      this.#early.set(index, outcome);
      return;
    }
    let next: Outcome | null | undefined = outcome;
    while (next !== undefined) {
      if (next !== null) this.#give(next);
      next = this.#early.get(++this.#nextIndex);
      this.#early.delete(this.#nextIndex);
    }
  }

  #give(outcome: Outcome): void {
    if (this.#takers.length === 0) return this.#ready.push(outcome);
    this.#taken++;
    this.#takers.shift().resolve({ value: outcome, done: false });
  }

  /** Ends with what was read, once all of it has an outcome. */
  #endIfDone(): void {
    if (!this.#isExhausted || this.#done < this.#count || this.#isOver) return;
    this.#over(undefined);
  }

  /** Ends at once: what has come is dropped. */
  abort(error: unknown): void {
    if (this.#isOver) return;
    this.#error = { error };
    this.#stop(error);
    this.#leaveItems();
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
    const { job, signal } = this.#limits;
    if (signal !== undefined) this.#host.unwatch(this, signal);
    this.#host.end(this, job, reason);
    while (this.#takers.length > 0) {
      const { resolve, reject } = this.#takers.shift();
      this.#tellEnd().then(resolve, reject);
    }
  }

  /** The error of the end, once; from then on that there is nothing. */
  #tellEnd(): Promise<Result> {
    const failure = this.#error;
    this.#error = undefined;
    return failure === undefined
      ? Promise.resolve({ value: undefined, done: true })
      : Promise.reject(failure.error);
  }

  /** Tells the items that no more of them are wanted. Never rejects. */
  async #leaveItems(): Promise<void> {
    if (this.#isLeft) return;
    this.#isLeft = true;
    try {
      const left = (this.#sync ?? this.#async)?.return?.();
      // One that waits for its next item returns after that, if ever.
      if (!this.#isReading) await left;
      else Promise.resolve(left).catch(() => {});
    } catch {
      // Nobody wants to know any more.
    }
  }
}

function closedError(): ClosedError {
  return new ClosedError("Cannot finish the map: the pool was closed");
}

function totalOf(items: object | string): number | undefined {
  // Its length is not that of what it gives.
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
