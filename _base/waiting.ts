// Copyright 2026 the Duplex authors. MIT license.

/**
 * A queue with constant time for its operations, a queue of promises that can be
 * cancelled with an `AbortSignal`, and waiting with a time limit.
 *
 * @module
 */

const INITIAL_CAPACITY = 16;

/** Places up to which an empty queue keeps its memory: twice the default window. */
const MAX_IDLE_CAPACITY = 8192;

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

  /** Adds an item before the first. */
  unshift(item: T): void {
    if (this.#length === this.#items.length) this.#grow();
    this.#head = (this.#head - 1) & (this.#items.length - 1);
    this.#items[this.#head] = item;
    this.#length++;
  }

  /** The first item. The queue must not be empty. */
  get first(): T {
    return this.#items[this.#head] as T;
  }

  /** Removes and returns the first item. The queue must not be empty. */
  shift(): T {
    const item = this.#items[this.#head] as T;
    this.#items[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#items.length - 1);
    this.#length--;
    if (this.#length === 0 && this.#items.length > MAX_IDLE_CAPACITY) {
      this.clear();
    }
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

  /** Drops every item that is not to be kept; the others stay in order. */
  retain(isKept: (item: T) => boolean): void {
    const kept = this.toArray().filter(isKept);
    this.clear();
    for (const item of kept) this.push(item);
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

/** The items of one signal. */
interface Group<T> {
  readonly items: Set<T>;
  onAbort(): void;
}

/**
 * Items that end when their signal aborts. It listens to a signal once for all
 * items, because the cost of removing a listener grows with their number.
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

  /** Removes an item, if it is there. */
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

/** A promise that waits, with its argument. */
export class Waiter<Payload, Result> {
  /** The argument of the waiting call. */
  readonly payload: Payload;
  /** The signal that cancels the wait. */
  readonly signal: AbortSignal | undefined;
  /** Fulfils the waiting promise. */
  readonly resolve: (result: Result) => void;
  /** Rejects the waiting promise. */
  readonly reject: (reason: unknown) => void;
  #isCancelled = false;

  constructor(
    payload: Payload,
    signal: AbortSignal | undefined,
    resolve: (result: Result) => void,
    reject: (reason: unknown) => void,
  ) {
    this.payload = payload;
    this.signal = signal;
    this.resolve = resolve;
    this.reject = reject;
  }

  /** Whether the wait was cancelled, and its place in the queue is void. */
  get isCancelled(): boolean {
    return this.#isCancelled;
  }

  /** Rejects the waiting promise; the place in the queue is left for later. */
  cancel(reason: unknown): void {
    this.#isCancelled = true;
    this.reject(reason);
  }
}

function nothing(): void {}

/**
 * A first-in, first-out queue of promises that wait. Every operation takes
 * constant time on average, however many wait and whichever are cancelled: a
 * cancelled wait keeps its place until it is the first, or until half of the
 * places are void and the queue is compacted.
 */
export class WaitQueue<Payload, Result> {
  readonly #waiters = new Deque<Waiter<Payload, Result>>();
  /** Cancelled waits that have their places still. */
  #void = 0;
  readonly #aborts: AbortGroups<Waiter<Payload, Result>>;

  /**
   * @param onEmpty Called when an aborted wait leaves the queue empty.
   */
  constructor(onEmpty: () => void = nothing) {
    this.#aborts = new AbortGroups((waiters, reason) => {
      this.#cancel(waiters, reason);
      if (this.length === 0) onEmpty();
    });
  }

  /** How many wait. */
  get length(): number {
    return this.#waiters.length - this.#void;
  }

  /** Waits at the end of the queue; rejects with the signal's reason. */
  wait(payload: Payload, signal: AbortSignal | undefined): Promise<Result> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) =>
      this.add(payload, signal, resolve, reject)
    );
  }

  /** As {@linkcode WaitQueue.wait}, with functions in place of the promise. */
  add(
    payload: Payload,
    signal: AbortSignal | undefined,
    resolve: (result: Result) => void,
    reject: (reason: unknown) => void,
  ): void {
    const waiter = new Waiter(payload, signal, resolve, reject);
    this.#waiters.push(waiter);
    if (signal !== undefined) this.#aborts.add(waiter, signal);
  }

  /** Removes and returns the first wait. The queue must not be empty. */
  shift(): Waiter<Payload, Result> {
    let waiter = this.#waiters.shift();
    while (waiter.isCancelled) {
      this.#void--;
      waiter = this.#waiters.shift();
    }
    if (waiter.signal !== undefined) this.#aborts.delete(waiter, waiter.signal);
    return waiter;
  }

  /** Rejects all waits; returns whether there were any. */
  rejectAll(reason: unknown): boolean {
    const any = this.length > 0;
    while (this.length > 0) this.shift().reject(reason);
    return any;
  }

  #cancel(waiters: Iterable<Waiter<Payload, Result>>, reason: unknown): void {
    for (const waiter of waiters) {
      waiter.cancel(reason);
      this.#void++;
    }
    if (this.#void * 2 <= this.#waiters.length) return;
    this.#waiters.retain((waiter) => !waiter.isCancelled);
    this.#void = 0;
  }
}

/** The longest delay of a timer in milliseconds; a longer timeout sets no limit. */
export const MAX_TIMER: number = 2 ** 31 - 1;

/** Parts of a timeout that are counted one by one: a stop counts as one at most. */
const STEPS = 10;

/** The least milliseconds of such a part, so that short timeouts take one timer. */
const MIN_STEP = 1_000;

/**
 * Milliseconds after which a timer that is late shows that this process was stopped or
 * busy: longer than a turn of most event loops.
 */
const MAX_DELAY = 250;

/**
 * A timer that counts the time in which this process runs. The clock goes on while a
 * process is stopped, as by Ctrl+Z. All plain timers that are due then fire when it
 * continues, before anything that has arrived is read. This one counts in steps, and
 * repeats the last step once if it was late.
 */
export class RunningTimer {
  readonly #act: () => void;
  readonly #stepMs: number;
  /** Milliseconds after the current step. */
  #rest: number;
  #canRepeat = true;
  #due = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * @param ms Milliseconds, of which {@linkcode MAX_TIMER} count at most.
   * @param act Called after this time.
   */
  constructor(ms: number, act: () => void) {
    this.#act = act;
    this.#rest = Math.min(ms, MAX_TIMER);
    this.#stepMs = Math.min(this.#rest, Math.max(MIN_STEP, this.#rest / STEPS));
    this.#step();
  }

  /** Milliseconds until it acts, at least. */
  get left(): number {
    const step = this.#due - performance.now();
    const isRepeated = this.#canRepeat && step < -MAX_DELAY;
    return this.#rest + (isRepeated ? this.#stepMs : Math.max(0, step));
  }

  clear(): void {
    clearTimeout(this.#timer);
  }

  #step(): void {
    const ms = Math.min(this.#rest, this.#stepMs);
    this.#rest -= ms;
    this.#due = performance.now() + ms;
    this.#timer = setTimeout(() => this.#onStep(), ms);
  }

  #onStep(): void {
    if (this.#rest > 0) return this.#step();
    const isLate = performance.now() - this.#due > MAX_DELAY;
    if (!isLate || !this.#canRepeat) return this.#act();
    this.#canRepeat = false;
    this.#rest = this.#stepMs;
    this.#step();
  }
}

/** A word of this thread alone, to sleep on. */
const ownWord: Int32Array<SharedArrayBuffer> = new Int32Array(
  new SharedArrayBuffer(4),
);

/**
 * Waits for one turn of the event loop, which this does not keep alive. An immediate
 * costs twice as much, and the first one of a thread 4 ms, like its first timer.
 */
export async function nextTurn(): Promise<void> {
  const sleep = Atomics.waitAsync(ownWord, 0, 0);
  Atomics.notify(ownWord, 0);
  await sleep.value;
}

/** Whether a promise settles before the time is up. Leaves no timer behind. */
export async function settlesWithin(
  promise: Promise<unknown>,
  timeout: number,
): Promise<boolean> {
  let timer: RunningTimer | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = new RunningTimer(timeout, () => resolve(false));
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    timer?.clear();
  }
}
