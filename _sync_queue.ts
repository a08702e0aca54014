// Copyright 2026 the Duplex authors. MIT license.

/**
 * The queue of those who wait at a lock, in shared memory. Each has a slot:
 *
 * | word | what                                                            |
 * | ---- | --------------------------------------------------------------- |
 * | 0    | the state: 0 free, 1 waiting, 2 granted                         |
 * | 1    | the number of the thread (`_sync_life.ts`)                      |
 * | 2    | a tag that the kind gives a meaning                             |
 * | 3    | the result, when it is granted                                  |
 * | 4, 5 | the next and the one before in the queue, plus 1; 0 is none     |
 *
 * - **To wait:** under the latch, try; if it cannot be had, take a slot, put it
 *   at the end of the queue and set it to waiting. Then sleep while the state is
 *   waiting.
 * - **To grant:** under the latch, take the first out of the queue, write the
 *   result, set it to granted, wake it. What is granted is its own from then
 *   on: nobody who comes later can take it.
 * - **To leave:** under the latch, free the slot and wake who still sleeps on it,
 *   so that nobody is left on a slot that another takes. Whoever gives up and
 *   finds the slot granted takes the grant, so none is lost.
 * - **To die:** everybody who waits looks around every {@linkcode CHECK_MS}: the
 *   slots of the dead are freed, what had been granted to them is given back.
 *   The first in the queue is looked at before it is granted something.
 *
 * @module
 */

import { claim, isAlive, ownId, release } from "./_sync_life.ts";
import { ALWAYS_ZERO, type Memory } from "./_sync_memory.ts";
import { sleep, type WaitLimits } from "./_sync_sleep.ts";

/** Milliseconds between two looks at who has died. */
export const CHECK_MS = 20;

const FIRST = 6;
const LAST = 7;
const FREE = 8;
const USED = 9;

const STATE = 0;
const THREAD = 1;
const TAG = 2;
const RESULT = 3;
const NEXT = 4;
const BEFORE = 5;

const WAITING = 1;
const GRANTED = 2;

/** The answer of a try that must wait. */
export const MUST_WAIT = -1;
/** No slot. */
const NONE = -1;

/** What a kind of lock does; every function is called under the latch. */
export interface Rules {
  /** Takes what is wanted and returns a result, or {@linkcode MUST_WAIT}. */
  attempt(tag: number): number;
  /** Gives back what was granted to a thread that died before it took it. */
  revoke?(result: number, thread: number): void;
  /** Looks for other traces of dead threads. */
  inspect?(): void;
  /** One who waited has given up or died. */
  onLeave?(): void;
  /**
   * Whether what was granted to a task does as well for a call that blocks the
   * task's thread, as one permit does for another.
   */
  readonly exchangeable?: boolean;
}

/** Where a call stands: it has a result, waits in a slot, or found none free. */
export type Place =
  | { state: "done"; result: number }
  | { state: "waiting"; slot: number }
  | { state: "full" };

/** One who waits, as {@linkcode Queue.first} finds it. */
export interface Waiting {
  readonly slot: number;
  readonly thread: number;
  readonly tag: number;
}

/** The queue of one lock. */
export class Queue {
  readonly #memory: Memory;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #rules: Rules;
  /** How many tasks of this thread wait here, and the timer that looks around. */
  #watchers = 0;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(memory: Memory, rules: Rules) {
    this.#memory = memory;
    this.#words = memory.words;
    this.#rules = rules;
  }

  /** Takes what is wanted if it can be had now, else {@linkcode MUST_WAIT}. */
  tryNow(tag = 0): number {
    return this.#memory.latched(() => {
      const result = this.#rules.attempt(tag);
      if (result !== MUST_WAIT) return result;
      this.#look();
      return this.#rules.attempt(tag);
    });
  }

  /** Waits with the thread blocked. Throws the limits' error. */
  waitSync(limits: WaitLimits, tag = 0): number {
    for (;;) {
      const place = this.begin(tag, true);
      if (place.state === "done") return place.result;
      if (place.state === "waiting") return this.finishSync(place, limits);
      this.#nap(ALWAYS_ZERO, 0, limits);
      if (performance.now() >= limits.deadline) throw limits.timeoutError();
    }
  }

  /** Waits in a task. Rejects with the limits' error or the signal's reason. */
  async wait(limits: WaitLimits, tag = 0): Promise<number> {
    limits.signal?.throwIfAborted();
    for (;;) {
      const place = this.begin(tag, false);
      if (place.state === "done") return place.result;
      if (place.state === "waiting") return await this.finish(place, limits);
      await sleep(this.#words, ALWAYS_ZERO, 0, limits, CHECK_MS);
    }
  }

  /**
   * Tries, and takes a slot if it must wait. Who gets one must go on to
   * {@linkcode finish} or {@linkcode finishSync}.
   */
  begin(tag: number, sync: boolean): Place {
    return this.#memory.latched(() => {
      if (sync && this.#rules.exchangeable) {
        const result = this.#takeFromOwnTask();
        if (result !== MUST_WAIT) return { state: "done", result };
      }
      let result = this.#rules.attempt(tag);
      if (result === MUST_WAIT) {
        this.#look();
        result = this.#rules.attempt(tag);
      }
      if (result !== MUST_WAIT) return { state: "done", result };
      const slot = this.#append(tag, sync);
      return slot === NONE ? { state: "full" } : { state: "waiting", slot };
    });
  }

  /** Waits in a slot with the thread blocked. */
  finishSync({ slot }: { slot: number }, limits: WaitLimits): number {
    const word = this.#memory.slotAt(slot) + STATE;
    try {
      for (;;) {
        this.#nap(word, WAITING, limits);
        if (Atomics.load(this.#words, word) === WAITING) this.look();
        const late = performance.now() >= limits.deadline;
        const result = this.#collect(slot, late);
        if (result !== MUST_WAIT) return result;
        if (late) throw limits.timeoutError();
      }
    } finally {
      release();
    }
  }

  /** Waits in a slot, in a task. */
  async finish(
    { slot }: { slot: number },
    limits: WaitLimits,
  ): Promise<number> {
    const word = this.#memory.slotAt(slot) + STATE;
    this.#watch();
    try {
      for (;;) {
        await sleep(this.#words, word, WAITING, limits);
        const result = this.#collect(slot, false);
        if (result !== MUST_WAIT) return result;
      }
    } catch (reason) {
      const result = this.#collect(slot, true);
      if (result === MUST_WAIT) throw reason;
      return result;
    } finally {
      this.#unwatch();
      release();
    }
  }

  /** Looks for the dead among those who wait and what they left behind. */
  look(): void {
    this.#memory.latched(() => this.#look());
  }

  /** The first that waits and lives. Under the latch. */
  first(): Waiting | undefined {
    const words = this.#words;
    for (;;) {
      const slot = words[FIRST]! - 1;
      if (slot === NONE) return undefined;
      const at = this.#memory.slotAt(slot);
      const thread = words[at + THREAD]!;
      if (isAlive(thread)) return { slot, thread, tag: words[at + TAG]! };
      this.#unlink(slot);
      this.#free(slot);
      this.#rules.onLeave?.();
    }
  }

  /** Grants a result to one who waits. Under the latch. */
  grant({ slot }: Waiting, result: number): void {
    const at = this.#memory.slotAt(slot);
    this.#unlink(slot);
    this.#words[at + RESULT] = result;
    Atomics.store(this.#words, at + STATE, GRANTED);
    Atomics.notify(this.#words, at + STATE);
  }

  /** Grants a result to all who wait. Under the latch. */
  grantAll(result: number): void {
    for (let who; (who = this.first()) !== undefined;) this.grant(who, result);
  }

  /** Everybody who waits, the dead too, the first first. Under the latch. */
  waiting(): Waiting[] {
    const words = this.#words;
    const all: Waiting[] = [];
    for (let slot = words[FIRST]! - 1; slot !== NONE;) {
      const at = this.#memory.slotAt(slot);
      all.push({ slot, thread: words[at + THREAD]!, tag: words[at + TAG]! });
      slot = words[at + NEXT]! - 1;
    }
    return all;
  }

  /** Sleeps with the thread blocked, no longer than to the next look around. */
  #nap(word: number, expected: number, { deadline }: WaitLimits): void {
    const left = Math.max(0, deadline - performance.now());
    Atomics.wait(this.#words, word, expected, Math.min(left, CHECK_MS));
  }

  #look(): void {
    const words = this.#words;
    const dead = new Map<number, boolean>();
    for (let slot = 0; slot < words[USED]!; slot++) {
      const at = this.#memory.slotAt(slot);
      const state = words[at + STATE];
      if (state === 0) continue;
      const thread = words[at + THREAD]!;
      if (!dead.has(thread)) dead.set(thread, !isAlive(thread));
      if (!dead.get(thread)) continue;
      if (state === WAITING) this.#unlink(slot);
      this.#free(slot);
      if (state === WAITING) this.#rules.onLeave?.();
      else this.#rules.revoke?.(words[at + RESULT]!, thread);
    }
    this.#rules.inspect?.();
  }

  /**
   * A blocked thread cannot take what was granted to one of its tasks, and might
   * wait for just that: it takes it, and the task waits again as the first.
   */
  #takeFromOwnTask(): number {
    const words = this.#words;
    const own = ownId();
    if (own === 0) return MUST_WAIT;
    for (let slot = 0; slot < words[USED]!; slot++) {
      const at = this.#memory.slotAt(slot);
      if (words[at + STATE] !== GRANTED || words[at + THREAD] !== own) continue;
      this.#link(slot, words[FIRST]! - 1);
      Atomics.store(words, at + STATE, WAITING);
      return words[at + RESULT]!;
    }
    return MUST_WAIT;
  }

  /** Takes a slot at the end; a blocking call goes before its thread's tasks. */
  #append(tag: number, sync: boolean): number {
    const words = this.#words;
    let slot = words[FREE]! - 1;
    if (slot !== NONE) {
      words[FREE] = words[this.#memory.slotAt(slot) + NEXT]!;
    } else if (words[USED]! < this.#memory.slots) {
      slot = words[USED]!++;
    } else {
      return NONE;
    }
    const thread = claim();
    const at = this.#memory.slotAt(slot);
    words[at + THREAD] = thread;
    words[at + TAG] = tag;
    const own = sync
      ? this.waiting().find((who) => who.thread === thread)
      : undefined;
    this.#link(slot, own?.slot ?? NONE);
    Atomics.store(words, at + STATE, WAITING);
    return slot;
  }

  /** Takes the grant, or leaves if `giveUp`. */
  #collect(slot: number, giveUp: boolean): number {
    return this.#memory.latched(() => {
      const at = this.#memory.slotAt(slot);
      if (this.#words[at + STATE] === GRANTED) {
        this.#free(slot);
        return this.#words[at + RESULT]!;
      }
      if (giveUp) {
        this.#unlink(slot);
        this.#free(slot);
        this.#rules.onLeave?.();
      }
      return MUST_WAIT;
    });
  }

  #free(slot: number): void {
    const at = this.#memory.slotAt(slot);
    Atomics.store(this.#words, at + STATE, 0);
    Atomics.notify(this.#words, at + STATE);
    this.#words[at + NEXT] = this.#words[FREE]!;
    this.#words[FREE] = slot + 1;
  }

  /** Puts a slot into the queue before another, or at the end. */
  #link(slot: number, next: number): void {
    const words = this.#words;
    const at = this.#memory.slotAt(slot);
    const follower = next === NONE ? LAST : this.#memory.slotAt(next) + BEFORE;
    const before = words[follower]! - 1;
    words[at + NEXT] = next + 1;
    words[at + BEFORE] = before + 1;
    words[follower] = slot + 1;
    words[before === NONE ? FIRST : this.#memory.slotAt(before) + NEXT] = slot +
      1;
  }

  #unlink(slot: number): void {
    const words = this.#words;
    const at = this.#memory.slotAt(slot);
    const next = words[at + NEXT]! - 1;
    const before = words[at + BEFORE]! - 1;
    words[before === NONE ? FIRST : this.#memory.slotAt(before) + NEXT] = next +
      1;
    words[next === NONE ? LAST : this.#memory.slotAt(next) + BEFORE] = before +
      1;
  }

  #watch(): void {
    if (this.#watchers++ > 0) return;
    this.#timer = setInterval(() => this.look(), CHECK_MS);
  }

  #unwatch(): void {
    if (--this.#watchers === 0) clearInterval(this.#timer);
  }
}
