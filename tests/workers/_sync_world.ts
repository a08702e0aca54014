// Copyright 2026 the Duplex authors. MIT license.

/**
 * State shared by the threads of a campaign (`_sync_campaign.ts`): the locks,
 * the data that they protect, a history, and operations that check the data.
 *
 * @module
 */

import {
  AtomicCounter,
  Barrier,
  Condition,
  Mutex,
  type MutexGuard,
  OwnerDiedError,
  ResetEvent,
  Semaphore,
  type WaitOptions,
} from "../../sync.ts";

/** Workers that one campaign may start. */
export const SEATS = 64;

/** Entries of the history that are kept. */
const ENTRIES = 4096;

/** Milliseconds after which a thread that is blocked counts as stuck. */
const STUCK_TIMEOUT = 20_000;

/** Words of the data. */
export const WORD = {
  /** 1 while a thread is between lock and unlock of the mutex. */
  inside: 0,
  /** Incremented in two steps under the mutex, and in one step without it. */
  sections: 1,
  entered: 2,
  /** Permits of the semaphore in use. */
  held: 3,
  /** Data of the condition. */
  items: 4,
  stop: 5,
  /** Ends busy threads. */
  go: 6,
  operations: 7,
  history: 8,
  /** Threads that died during a call for the mutex that may have succeeded. */
  mayHold: 9,
  /** Permits held by each worker. */
  holding: 16,
  /** Total that each worker has added to the counter. */
  added: 16 + SEATS,
  /**
   * The number of parties that arrived in each generation of the barrier, and
   * their numbers.
   */
  arrived: 16 + 2 * SEATS,
  numbers: 48 + 2 * SEATS,
} as const;

/** Maximum number of generations of the barrier in one round. */
export const GENERATIONS = 32;

/** The memory that the threads share. */
export interface Memories {
  readonly mutex: SharedArrayBuffer;
  readonly semaphore: SharedArrayBuffer;
  readonly condition: SharedArrayBuffer;
  readonly automatic: SharedArrayBuffer;
  readonly manual: SharedArrayBuffer;
  readonly barrier: SharedArrayBuffer;
  readonly counter: SharedArrayBuffer;
  /** Counts the operations in a round of turns. */
  readonly done: SharedArrayBuffer;
  readonly data: SharedArrayBuffer;
  readonly history: SharedArrayBuffer;
}

/** How and when a thread dies. */
export interface PlannedDeath {
  readonly how: "close" | "exit" | "throw";
  /** The operation before or in which it dies. */
  readonly at: number;
  readonly where: "outside" | "inside" | "waiting";
}

/** The events by their number in the history. */
const EVENTS = [
  "begins",
  "enters the mutex",
  "leaves the mutex",
  "recovers the mutex",
  "is refused the mutex",
  "gives up",
  "has a permit",
  "releases a permit",
  "waits at the condition",
  "is notified",
  "notifies",
  "dies",
  "passes the barrier",
  "finds the barrier broken",
  "has a turn",
  "is terminated",
  "has ended",
] as const;
type Event = typeof EVENTS[number];

/** Thrown to end a thread with an uncaught error. */
export class Death extends Error {}

/** The reason of signals that abort. */
const ABORTED = new Error("Aborted");

/** The part of one thread in a campaign. */
export class World {
  readonly mutex: Mutex;
  readonly semaphore: Semaphore;
  readonly condition: Condition;
  readonly automatic: ResetEvent;
  readonly manual: ResetEvent;
  readonly barrier: Barrier;
  readonly counter: AtomicCounter;
  readonly done: AtomicCounter;
  readonly data: Int32Array;
  readonly #history: Int32Array;
  readonly #permits: number;
  readonly seat: number;
  readonly draw: () => number;
  /** How this thread dies, if it does; the main thread does not. */
  death: PlannedDeath | undefined;
  #step = -1;

  constructor(
    memories: Memories,
    seat: number,
    permits: number,
    draw: () => number,
  ) {
    this.mutex = new Mutex(memories.mutex);
    this.semaphore = new Semaphore(memories.semaphore);
    this.condition = new Condition(memories.condition);
    this.automatic = new ResetEvent(memories.automatic);
    this.manual = new ResetEvent(memories.manual);
    this.barrier = new Barrier(memories.barrier);
    this.counter = new AtomicCounter(memories.counter);
    this.done = new AtomicCounter(memories.done);
    this.data = new Int32Array(memories.data);
    this.#history = new Int32Array(memories.history);
    this.#permits = permits;
    this.seat = seat;
    this.draw = draw;
  }

  /** Memory for a world's data and history. */
  static memory(): Pick<Memories, "data" | "history"> {
    return {
      data: new SharedArrayBuffer(4 * (WORD.numbers + GENERATIONS)),
      history: new SharedArrayBuffer(4 * 3 * ENTRIES),
    };
  }

  /** The last lines of the history. */
  get history(): string {
    const end = Atomics.load(this.data, WORD.history);
    const lines: string[] = [];
    for (let entry = Math.max(0, end - ENTRIES); entry < end; entry++) {
      const at = 3 * (entry % ENTRIES);
      const [seat, event, value] = this.#history.subarray(at, at + 3);
      const who = seat === 0 ? "main" : `worker ${seat}`;
      lines.push(`${entry} ${who} ${EVENTS[event!]} ${value}`);
    }
    return lines.join("\n");
  }

  note(event: Event, value = 0, seat = this.seat): void {
    const at = 3 * (Atomics.add(this.data, WORD.history, 1) % ENTRIES);
    this.#history.set([seat, EVENTS.indexOf(event), value], at);
  }

  fail(what: string): never {
    throw new Error(what);
  }

  chance(share: number): boolean {
    return this.draw() < share;
  }

  below(count: number): number {
    return Math.floor(this.draw() * count);
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }

  /** Lets other tasks or threads run. */
  async pause(): Promise<void> {
    if (this.chance(0.5)) return await Promise.resolve();
    await new Promise((resolve) => setTimeout(resolve, this.below(2)));
  }

  /** Timeouts that may end a wait when it is granted. */
  limits(): { timeout?: number; signal?: AbortSignal } {
    if (this.chance(0.5)) return { timeout: this.below(4) };
    const controller = new AbortController();
    const abort = () => controller.abort(ABORTED);
    if (this.chance(0.5)) queueMicrotask(abort);
    else setTimeout(abort, this.below(3));
    return { signal: controller.signal };
  }

  /** Whether an error is that of a cancelled wait. */
  isGivenUp(error: unknown): boolean {
    return error === ABORTED ||
      error instanceof DOMException && error.name === "TimeoutError";
  }

  /** Ends this thread if it is due to die. */
  mayDie(where: PlannedDeath["where"]): void {
    if (this.death?.at !== this.#step || this.death.where !== where) return;
    this.die(this.death.how);
  }

  die(how: PlannedDeath["how"]): never {
    this.note("dies");
    if (how === "close") self.close();
    if (how === "exit") Deno.exit();
    // The thread ends at the next step of its loop.
    while (how !== "throw");
    throw new Death("The end of a thread");
  }

  /**
   * Waits in more tasks than there are places in a queue, some with timeouts.
   */
  async flood(count: number): Promise<void> {
    const { mutex, semaphore } = this;
    const isMutex = this.chance(0.5);
    const acquire = (limits: WaitOptions) =>
      isMutex
        ? mutex.lock({ queue: true, recover: true, ...limits })
        : semaphore.acquire(limits);
    await Promise.all(Array.from({ length: count }, async () => {
      try {
        const got = await acquire(this.chance(0.2) ? this.limits() : {});
        if ("unlock" in got) {
          this.enter(got);
          this.exit(got);
        } else got.release();
      } catch (error) {
        if (!this.isGivenUp(error)) throw error;
      }
    }));
    Atomics.add(this.data, WORD.operations, count);
  }

  /** Performs a random operation. */
  async operate(): Promise<void> {
    this.#step++;
    Atomics.add(this.data, WORD.operations, 1);
    this.mayDie("outside");
    if (this.death?.at === this.#step && this.death.where === "waiting") {
      this.#dieWaiting();
    }
    const kind = this.below(20);
    if (kind < 8) await this.#section();
    else if (kind < 12) await this.#permit();
    else if (kind < 14) await this.#count();
    else if (kind < 16) await this.#manual();
    else if (kind < 18) await this.#automatic();
    else await this.#barrier();
  }

  /**
   * Ends with pending calls, except for a permit, since such a call might
   * succeed.
   */
  #dieWaiting(): void {
    const ignore = () => {};
    const waits = [
      () => {
        Atomics.add(this.data, WORD.mayHold, 1);
        return this.mutex.lock({ queue: true });
      },
      () => this.automatic.wait(),
      () => this.manual.wait(),
      () => this.barrier.wait(),
      () => this.counter.until(() => false),
    ];
    this.pick(waits)().catch(ignore);
    if (this.chance(0.5)) this.pick(waits)().catch(ignore);
    this.mayDie("waiting");
  }

  /** Locks with a long timeout, so that the campaign ends in any case. */
  #lockSync(recover: boolean): MutexGuard {
    try {
      return this.mutex.lockSync({ recover, timeout: STUCK_TIMEOUT });
    } catch (error) {
      if (!this.isGivenUp(error)) throw error;
      this.fail("A blocked thread does not get the mutex");
    }
  }

  /** Locks in one of the forms; `undefined` if the mutex was not acquired. */
  async #lock(): Promise<MutexGuard | undefined> {
    const { mutex } = this;
    const recover = this.chance(0.2);
    try {
      switch (this.below(6)) {
        case 0:
          return this.#lockSync(recover);
        case 1:
          return mutex.lockSync({ recover, timeout: this.below(4) });
        case 2:
          return mutex.tryLock({ recover });
        case 3:
          return await mutex.lock({ recover, queue: true, ...this.limits() });
        default:
          return await mutex.lock({ recover, queue: true });
      }
    } catch (error) {
      if (this.isGivenUp(error)) return void this.note("gives up", 1);
      if (!(error instanceof OwnerDiedError)) {
        // Another task of this thread holds it or waits for it.
        if ((error as Error).name === "InvalidStateError") return;
        throw error;
      }
      this.note("is refused the mutex");
    }
    return await mutex.lock({ recover: true, queue: true });
  }

  /**
   * Records that this thread holds the mutex, and checks that no other thread
   * does. Returns whether a holder died.
   */
  enter(guard: MutexGuard, isAfterWait = false): boolean {
    const { data } = this;
    const before = Atomics.exchange(data, WORD.inside, 1);
    if (before !== 0 && !guard.ownerDied) {
      this.fail("Two threads hold the mutex");
    }
    // After a wait, the guard may still report a death before the wait.
    if (before === 0 && guard.ownerDied && !isAfterWait) {
      if (Atomics.sub(data, WORD.mayHold, 1) <= 0) {
        this.fail("A mutex was recovered that no thread died with");
      }
    }
    if (before !== 0) {
      this.note("recovers the mutex");
      data[WORD.sections] = data[WORD.entered]!;
    }
    this.note("enters the mutex");
    return before !== 0;
  }

  /** Unlocks. */
  exit(guard: MutexGuard): void {
    this.note("leaves the mutex");
    Atomics.store(this.data, WORD.inside, 0);
    if (this.chance(0.3)) this.mutex.unlock();
    else guard.unlock();
  }

  async #section(): Promise<void> {
    const { data } = this;
    const guard = await this.#lock();
    if (guard === undefined) return;
    this.enter(guard);
    this.mayDie("inside");
    const before = data[WORD.sections]!;
    if (this.chance(0.3)) await this.pause();
    this.mayDie("inside");
    data[WORD.sections] = before + 1;
    Atomics.add(data, WORD.entered, 1);
    if (this.chance(0.3) && !await this.#waitInside(guard)) return;
    this.exit(guard);
    if (this.chance(0.3)) this.condition.notify(1 + this.below(3));
  }

  /**
   * Waits at the condition for a short time; returns whether the guard holds
   * the mutex again.
   */
  async #waitInside(guard: MutexGuard): Promise<boolean> {
    const { condition, data } = this;
    const recover = this.chance(0.5);
    this.note("waits at the condition");
    Atomics.store(data, WORD.inside, 0);
    try {
      // The main thread does not block if it could not cancel the wait.
      if (this.seat === 0 || this.chance(0.5)) {
        await condition.wait(guard, { recover, ...this.limits() });
      } else {
        condition.waitSync(guard, { recover, timeout: this.below(4) });
      }
    } catch (error) {
      if (error instanceof OwnerDiedError) return false;
      // Tasks of this thread wait for the mutex, which the guard still holds.
      const isState = (error as Error).name === "InvalidStateError";
      if (!isState && !this.isGivenUp(error)) throw error;
    }
    this.enter(guard, true);
    return true;
  }

  async #permit(): Promise<void> {
    const { semaphore, data, seat } = this;
    let permit;
    try {
      switch (this.below(5)) {
        case 0:
          permit = semaphore.tryAcquire();
          break;
        case 1:
          permit = semaphore.acquireSync({ timeout: this.below(4) });
          break;
        case 2:
          permit = await semaphore.acquire(this.limits());
          break;
        default:
          permit = await semaphore.acquire();
      }
    } catch (error) {
      if (!this.isGivenUp(error)) throw error;
      return this.note("gives up", 2);
    }
    if (permit === undefined) return;
    Atomics.add(data, WORD.holding + seat, 1);
    if (Atomics.add(data, WORD.held, 1) >= this.#permits) {
      this.fail("More permits are in use than there are");
    }
    this.note("has a permit");
    this.mayDie("inside");
    if (this.chance(0.5)) await this.pause();
    Atomics.sub(data, WORD.held, 1);
    Atomics.sub(data, WORD.holding + seat, 1);
    this.note("releases a permit");
    permit.release();
  }

  async #count(): Promise<void> {
    const { counter } = this;
    const amount = this.below(7) - 3;
    Atomics.add(this.data, WORD.added + this.seat, amount);
    if (this.chance(0.5)) counter.add(amount);
    else {
      for (;;) {
        const { value } = counter;
        if (counter.compareExchange(value, value + amount)) break;
      }
    }
    if (this.chance(0.5)) return;
    const isOdd = (value: number) => value % 2 !== 0;
    try {
      if (this.chance(0.5)) await counter.until(isOdd, this.limits());
      else counter.untilSync(isOdd, { timeout: this.below(3) });
    } catch (error) {
      if (!this.isGivenUp(error)) throw error;
    }
  }

  async #manual(): Promise<void> {
    const { manual } = this;
    if (this.chance(0.3)) return manual.set();
    if (this.chance(0.2)) return manual.reset();
    try {
      if (this.chance(0.5)) await manual.wait(this.limits());
      else manual.waitSync({ timeout: this.below(4) });
    } catch (error) {
      if (!this.isGivenUp(error)) throw error;
    }
  }

  async #automatic(): Promise<void> {
    const { automatic } = this;
    if (this.chance(0.5)) return automatic.set();
    try {
      if (this.chance(0.5)) await automatic.wait(this.limits());
      else automatic.waitSync({ timeout: this.below(4) });
    } catch (error) {
      if (!this.isGivenUp(error)) throw error;
    }
  }

  async #barrier(): Promise<void> {
    const { barrier } = this;
    try {
      if (this.chance(0.5)) await barrier.wait(this.limits());
      else barrier.waitSync({ timeout: this.below(3) });
    } catch (error) {
      const isBroken = (error as Error).name === "BrokenBarrierError";
      if (!isBroken && !this.isGivenUp(error)) throw error;
      if (this.chance(0.5)) barrier.reset();
    }
  }
}
