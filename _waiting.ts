// Copyright 2026 the Duplex authors. MIT license.

/**
 * Waiting: a queue with constant-time ends, promises that wait their turn, each
 * of which may be taken back through an `AbortSignal`, and waiting with a bound.
 *
 * @module
 */

const INITIAL_CAPACITY = 16;

/** A first-in, first-out queue over a circular array. */
export class Deque<T> {
  #items: (T | undefined)[] = new Array(INITIAL_CAPACITY);
  #head = 0;
  #length = 0;

  /** How many items wait. */
  get length(): number {
    return this.#length;
  }

  /** Adds an item at the end. */
  push(item: T): void {
    if (this.#length === this.#items.length) this.#grow();
    this.#items[(this.#head + this.#length) & (this.#items.length - 1)] = item;
    this.#length++;
  }

  /** The first item. The queue must not be empty. */
  get first(): T {
    return this.#items[this.#head] as T;
  }

  /** Takes the first item. The queue must not be empty. */
  shift(): T {
    const item = this.#items[this.#head] as T;
    this.#items[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#items.length - 1);
    this.#length--;
    return item;
  }

  /** The items in order. */
  toArray(): T[] {
    const mask = this.#items.length - 1;
    return Array.from(
      { length: this.#length },
      (_, index) => this.#items[(this.#head + index) & mask] as T,
    );
  }

  /** Drops every item. */
  clear(): void {
    this.#items = new Array(INITIAL_CAPACITY);
    this.#head = 0;
    this.#length = 0;
  }

  /** Doubles the storage; a power of two lets a mask wrap the index. */
  #grow(): void {
    const items = this.toArray();
    items.length = this.#items.length * 2;
    this.#items = items;
    this.#head = 0;
  }
}

/** Those that one signal ends. */
interface Group<T> {
  readonly items: Set<T>;
  onAbort(): void;
}

/**
 * Items that end when a signal of theirs aborts. It listens to a signal once,
 * however many there are: taking a listener away costs as much as there are.
 */
export class AbortGroups<T> {
  readonly #groups = new Map<AbortSignal, Group<T>>();
  readonly #onAbort: (items: ReadonlySet<T>, reason: unknown) => void;

  /**
   * @param onAbort Called with all items of a signal that aborts.
   */
  constructor(onAbort: (items: ReadonlySet<T>, reason: unknown) => void) {
    this.#onAbort = onAbort;
  }

  /** Adds an item that a signal ends, which has not aborted yet. */
  add(item: T, signal: AbortSignal): void {
    const group = this.#groups.get(signal) ?? this.#group(signal);
    group.items.add(item);
  }

  /** Takes an item out, if it is there. */
  delete(item: T, signal: AbortSignal): void {
    const group = this.#groups.get(signal);
    if (group === undefined || !group.items.delete(item)) return;
    if (group.items.size > 0) return;
    this.#groups.delete(signal);
    signal.removeEventListener("abort", group.onAbort);
  }

  #group(signal: AbortSignal): Group<T> {
    const items = new Set<T>();
    const onAbort = () => {
      this.#groups.delete(signal);
      this.#onAbort(items, signal.reason);
    };
    const group = { items, onAbort };
    this.#groups.set(signal, group);
    signal.addEventListener("abort", onAbort, { once: true });
    return group;
  }
}

/** One promise that waits, with what it waits to hand over. */
export interface Waiter<Payload, Result> {
  /** What the waiting call was made with. */
  readonly payload: Payload;
  /** What takes the wait back. */
  readonly signal: AbortSignal | undefined;
  /** Fulfils the waiting promise. */
  resolve(result: Result): void;
  /** Rejects the waiting promise. */
  reject(reason: unknown): void;
}

function nothing(): void {}

/** A first-in, first-out queue of promises that wait. */
export class WaitQueue<Payload, Result> {
  /** In the order that they came; a set, since any one may leave. */
  readonly #waiters = new Set<Waiter<Payload, Result>>();
  readonly #aborts: AbortGroups<Waiter<Payload, Result>>;

  /**
   * @param onEmpty Called when an aborted wait leaves the queue empty.
   */
  constructor(onEmpty: () => void = nothing) {
    this.#aborts = new AbortGroups((waiters, reason) => {
      for (const waiter of waiters) {
        this.#waiters.delete(waiter);
        waiter.reject(reason);
      }
      if (this.length === 0) onEmpty();
    });
  }

  /** How many wait. */
  get length(): number {
    return this.#waiters.size;
  }

  /** Waits at the end of the queue; rejects with the signal's reason. */
  wait(payload: Payload, signal: AbortSignal | undefined): Promise<Result> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const waiter = { payload, signal, resolve, reject };
      this.#waiters.add(waiter);
      if (signal !== undefined) this.#aborts.add(waiter, signal);
    });
  }

  /** Takes the first that waits. The queue must not be empty. */
  shift(): Waiter<Payload, Result> {
    const waiter = this.#waiters.values().next().value!;
    this.#waiters.delete(waiter);
    if (waiter.signal !== undefined) this.#aborts.delete(waiter, waiter.signal);
    return waiter;
  }

  /** Rejects all that wait, and says whether there were any. */
  rejectAll(reason: unknown): boolean {
    const any = this.length > 0;
    while (this.length > 0) this.shift().reject(reason);
    return any;
  }
}

/** The longest that a timer can wait; a longer timeout is none. */
export const MAX_TIMER = 2 ** 31 - 1;

/** Whether a promise settles before the time is up. Leaves no timer behind. */
export async function settlesWithin(
  promise: Promise<unknown>,
  timeout: number,
): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), Math.min(timeout, MAX_TIMER));
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
