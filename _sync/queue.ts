// Copyright 2026 the Duplex authors. MIT license.

/**
 * Waiting for a lock. The queue in shared memory is in `_sync/slots.ts`; this is
 * what one thread does with it.
 *
 * - A wait has a slot of its own as long as there are enough. When only those are
 *   left that are kept for other threads, further tasks of a thread share the slot
 *   that the thread took last. So one thread may wait in any number of tasks.
 * - `Atomics.waitAsync` has no way to cancel, so there is one promise for each
 *   slot, and freeing the slot ends it.
 * - A wait that is given up and finds its slot granted takes the grant, so none is
 *   lost.
 * - A call that cannot have the latch in time leaves its slot to the timer of
 *   `_sync/watch.ts`, which frees it later.
 *
 * @module
 */

import { checkWhole } from "./checks.ts";
import { claim, ownId, release } from "./life.ts";
import type { WaitLimits } from "./limits.ts";
import {
  damageError,
  LATCH_GRACE_MS,
  LATCH_LIMIT_MS,
  latchError,
  type LatchTime,
  type Memory,
} from "./memory.ts";
import { GRANTS, MUST_WAIT, NONE, type Rules, Slots } from "./slots.ts";
import { Place, Wait, type Waiter } from "./wait.ts";
import {
  CHECK_MS,
  hasTimers,
  loadTimers,
  unwatch,
  watch,
  type Watched,
} from "./watch.ts";

/** Slots beyond those kept for threads, so that so many waits are in order. */
const ORDERED = 128;

/** Threads that can always wait: more than most machines have the memory for. */
export const DEFAULT_THREADS = 64;

/** With so many threads the memory of a lock takes 1.8 MB. */
const MAX_THREADS = 65_536;

/** Options for the memory of a lock. */
export interface LockMemoryOptions {
  /**
   * How many threads can always wait for the lock at the same time, whatever else
   * waits, a whole number from 1 to 65536. Each takes 28 bytes of memory. A call in
   * a further thread throws a `RangeError` if there is no place left. The number
   * of waits in one thread is not limited.
   *
   * @default {64}
   */
  threads?: number;
}

/** How many slots a lock has for so many threads. */
export function capacityFor(
  action: string,
  threads: unknown = DEFAULT_THREADS,
): number {
  return ORDERED + checkWhole(action, "threads", threads, 1, MAX_THREADS);
}

/** Looks that are further apart do not tell that the latch was taken in between. */
const STUCK_GAP_MS = 1000;

/** The error of a wait for which there is no slot. */
export class FullError extends RangeError {}

/** How results of a kind of lock may be used. */
export interface Traits {
  /**
   * Whether all grants are alike. A wait can then share a slot that was granted,
   * and a call that blocks its thread can take what was granted to a task of it.
   */
  readonly isUniform: boolean;
  /** Whether a call that blocks its thread takes grants of its tasks. */
  readonly isExchangeable: boolean;
  /** Whether grants are settled by {@linkcode Queue.settle}, not when taken over. */
  readonly isKept: boolean;
}

/** The traits of locks whose grants differ. */
export const DISTINCT: Traits = {
  isUniform: false,
  isExchangeable: false,
  isKept: false,
};

/** The traits of locks whose grants are all alike. */
export const ALIKE: Traits = { ...DISTINCT, isUniform: true };

/** The same where a call that blocks its thread may take the grant of a task. */
export const EXCHANGEABLE: Traits = { ...ALIKE, isExchangeable: true };

/** The same where grants are kept until they are settled. */
export const KEPT: Traits = { ...ALIKE, isKept: true };

/** What a thread remembers of its own waits in a queue. */
class Local {
  /** The slots of this thread. */
  readonly places = new Set<Place>();
  /** How many of them belong to tasks. */
  taskPlaces = 0;
  /** The place of a task that was made last, for each tag. */
  readonly newest: (Place | undefined)[] = [];
  /** Waits that have a result, to be ended after the latch is given back. */
  done: Wait[] = [];
  /** The places that are to be drained when the latch can be had. */
  readonly behind = new Set<Place>();
  /** Since when no look could have the latch, and when the last one tried. */
  stuckSince = -Infinity;
  stuckUntil = -Infinity;
}

/** The queue of one lock in one thread. */
export class Queue implements Watched, Waiter {
  readonly slots: Slots;
  readonly #memory: Memory;
  readonly #rules: Rules;
  readonly #traits: Traits;
  /** Made for the first wait, as there are many locks that no thread waits for. */
  #own: Local | undefined;

  constructor(memory: Memory, rules: Rules, traits: Traits) {
    this.#memory = memory;
    this.#rules = rules;
    this.#traits = traits;
    this.slots = new Slots(memory, rules);
  }

  /** Runs a function under the latch. It must be short and must not wait. */
  latched<T>(action: string, run: () => T): T {
    if (!this.slots.enter(LATCH_LIMIT_MS)) throw latchError(action);
    try {
      return run();
    } finally {
      this.slots.leave();
    }
  }

  /** Looks for dead threads if they may hold something back. */
  look(action: string): void {
    if (!this.slots.hasGrants && !this.slots.isDue) return;
    this.latched(action, () => this.slots.look());
  }

  /** Takes what is wanted if it can be had now, else {@linkcode MUST_WAIT}. */
  tryNow(action: string, tag = 0): number {
    if (!this.slots.enter(LATCH_LIMIT_MS)) throw latchError(action);
    try {
      return this.#attempt(tag);
    } finally {
      this.slots.leave();
    }
  }

  /** Waits with the thread blocked. Throws the limits' error. */
  waitSync(limits: WaitLimits, tag = 0): number {
    const wait = this.begin(limits, tag, true);
    return typeof wait === "number" ? wait : this.finishSync(wait, limits);
  }

  /** Waits in a task. Throws, or rejects with, the limits' error or reason. */
  wait(limits: WaitLimits, tag = 0): Promise<number> | number {
    limits.signal?.throwIfAborted();
    const wait = this.begin(limits, tag, false);
    return typeof wait === "number" ? wait : this.finish(wait, limits);
  }

  /**
   * Tries, and gets into the queue if it must wait. Its caller must go on to
   * {@linkcode finish}, {@linkcode finishSync} or {@linkcode cancel}.
   *
   * @throws {RangeError} If there is no slot.
   */
  begin(limits: WaitLimits, tag: number, isSync: boolean): Wait | number {
    const isReady = ownId() !== 0 && (isSync || hasTimers());
    const begun = this.#begin(limits, tag, isSync, isReady);
    if (begun !== undefined) return begun;
    // Both take long, so they are done without the latch.
    if (!isSync) loadTimers();
    claim();
    try {
      return this.#begin(limits, tag, isSync, true)!;
    } finally {
      release();
    }
  }

  /** Waits in a task, after {@linkcode begin}. */
  finish(wait: Wait, limits: WaitLimits): Promise<number> {
    const { place } = wait;
    const promise = wait.start(limits, this);
    watch(this);
    if (!place.isArmed && !this.#arm(place)) this.#wake(place);
    return promise;
  }

  /** Waits with the thread blocked, after {@linkcode begin}. */
  finishSync(wait: Wait, limits: WaitLimits): number {
    const { words } = this.#memory;
    const word = this.#memory.at(wait.place.slot) + GRANTS;
    for (;;) {
      Atomics.wait(words, word, 0, Math.min(limits.left, CHECK_MS));
      if (this.#takeKept(wait.place)) return wait.result!;
      let time: LatchTime = limits;
      let error = latchError;
      if (Atomics.load(words, word) === 0 && limits.left > 0) {
        if (!this.slots.isDue) continue;
        const damage = this.#check(Math.min(limits.left, CHECK_MS));
        if (damage === undefined) continue;
        error = damage;
        time = LATCH_GRACE_MS;
      }
      if (!this.#giveUp(wait, time)) return wait.result!;
      throw limits.left === 0 ? limits.timeoutError() : error(limits.action);
    }
  }

  /** Ends a wait in a task at its timeout or abort. */
  giveUp(wait: Wait, reason: unknown): void {
    if (this.#giveUp(wait, LATCH_GRACE_MS)) wait.fail(reason);
  }

  /** Gives a wait up, after {@linkcode begin}. */
  cancel(wait: Wait): void {
    if (this.#giveUp(wait, LATCH_GRACE_MS)) return;
    if (this.#traits.isKept) this.pass(wait);
  }

  /** Says that a grant that is kept was used. */
  settle({ place }: Wait): void {
    place.settling++;
    this.#clear(place);
  }

  /** Gives a grant that is kept to another. */
  pass({ place }: Wait): void {
    place.taken--;
    place.leaving++;
    this.#clear(place);
  }

  /** Looks for the dead, and does what could not be done before. */
  tick(): void {
    if (this.#local.behind.size === 0 && !this.slots.isDue) return;
    // A busy latch is free soon, and the next tick comes soon as well.
    const damage = this.#check(1);
    if (damage !== undefined) this.#fail(damage);
  }

  #begin(
    limits: WaitLimits,
    tag: number,
    isSync: boolean,
    mayJoin: boolean,
  ): Wait | number | undefined {
    if (!this.slots.enter(limits)) {
      throw limits.left === 0
        ? limits.timeoutError()
        : latchError(limits.action);
    }
    try {
      if (isSync && this.#own !== undefined && this.#own.taskPlaces > 0) {
        const result = this.#takeFromTask();
        if (result !== MUST_WAIT) return result;
      }
      const result = this.#attempt(tag);
      if (result !== MUST_WAIT) return result;
      return mayJoin ? this.#join(limits.action, tag, isSync) : undefined;
    } finally {
      this.#leave();
    }
  }

  /**
   * Looks around under the latch. Returns what makes the error if the memory is
   * damaged.
   */
  #check(ms: number): ((action: string) => Error) | undefined {
    if (!this.slots.enter(ms)) return this.#isStuck() ? latchError : undefined;
    const { behind } = this.#local;
    this.#local.stuckUntil = -Infinity;
    try {
      try {
        for (const place of behind) this.#drain(place);
        this.slots.look();
      } finally {
        this.#leave();
      }
    } catch (error) {
      return () => error as Error;
    }
    const drained = [...behind];
    behind.clear();
    for (const place of drained) {
      if (place.isAwaited && !place.isArmed) this.#wake(place);
    }
  }

  /** Whether the looks of the last seconds could not have the latch. */
  #isStuck(): boolean {
    if (this.#memory.isBroken) return true;
    const local = this.#local;
    const now = performance.now();
    if (now - local.stuckUntil > STUCK_GAP_MS) local.stuckSince = now;
    local.stuckUntil = now;
    return now - local.stuckSince >= LATCH_LIMIT_MS;
  }

  /** Gives the latch back, and ends the waits that have got their result. */
  #leave(): void {
    try {
      this.slots.leave();
    } finally {
      const local = this.#own;
      if (local !== undefined && local.done.length > 0) {
        const { done } = local;
        local.done = [];
        for (const wait of done) wait.succeed();
      }
    }
  }

  get #local(): Local {
    return this.#own ??= new Local();
  }

  #attempt(tag: number): number {
    const result = this.#rules.attempt(tag);
    // Where grants are kept, there is nothing to take without a wait.
    if (result !== MUST_WAIT || this.#traits.isKept) return result;
    return this.slots.look() ? this.#rules.attempt(tag) : result;
  }

  /**
   * A blocked thread cannot take what was granted to one of its tasks, and might
   * wait for just that: it takes it, and the task waits again as the first.
   */
  #takeFromTask(): number {
    if (!this.#traits.isExchangeable) return MUST_WAIT;
    for (const place of this.#local.places) {
      if (place.isSync || this.slots.grantsOf(place.slot) === 0) continue;
      if (place.isAwaited) return this.slots.takeBack(place.slot);
    }
    return MUST_WAIT;
  }

  /** Gets into the queue. */
  #join(action: string, tag: number, isSync: boolean): Wait {
    const { waits } = this.slots;
    const place = this.#share(tag, isSync) ?? this.#take(tag, isSync);
    if (place === undefined) {
      throw new FullError(
        `Cannot ${action} as all ${this.#memory.capacity} places in its queue are taken: make it with more "threads", or wait for it in fewer threads`,
      );
    }
    const wait = new Wait(place, waits);
    place.push(wait);
    return wait;
  }

  /** The newest place for a task, if it is to be shared. */
  #share(tag: number, isSync: boolean): Place | undefined {
    const newest = isSync ? undefined : this.#local.newest[tag];
    if (newest === undefined) return undefined;
    const count = this.slots.countOf(newest.slot);
    const isScarce = this.slots.room <= this.#memory.capacity - ORDERED;
    // Once waits share a place, those that follow do, so that they stay in order.
    const isShared = count > 1 ||
      isScarce && (count > 0 || this.#traits.isUniform);
    if (!isShared) return undefined;
    this.slots.join(newest.slot);
    return newest;
  }

  /** A new place. */
  #take(tag: number, isSync: boolean): Place | undefined {
    const local = this.#local;
    if (this.slots.room <= this.#memory.capacity - ORDERED) {
      // What was granted to this thread and not taken over yet keeps places.
      for (const place of local.places) if (!place.isSync) this.#drain(place);
    }
    const thread = ownId();
    // A blocking call goes before the tasks of its thread: they could not go on.
    const next = isSync && local.taskPlaces > 0
      ? this.slots.firstOf(thread)
      : NONE;
    const slot = this.slots.append(thread, tag, next);
    if (slot === NONE) return undefined;
    claim();
    const place = new Place(slot, tag, isSync);
    local.places.add(place);
    if (!isSync) {
      local.taskPlaces++;
      local.newest[tag] = place;
    }
    return place;
  }

  /** Sleeps in a task until something is granted to a place, unless it was. */
  #arm(place: Place): boolean {
    const word = this.#memory.at(place.slot) + GRANTS;
    const asleep = Atomics.waitAsync(this.#memory.words, word, place.taken);
    if (!asleep.async) return false;
    place.isArmed = true;
    asleep.value.then(() => {
      place.isArmed = false;
      this.#wake(place);
    });
    return true;
  }

  /** Takes over what was granted to a place, and sleeps again if it is awaited. */
  #wake(place: Place): void {
    while (!place.isGone && (this.#takeKept(place) || this.#clear(place))) {
      if (!place.isAwaited || place.isArmed || this.#arm(place)) return;
    }
  }

  /**
   * Takes over grants that are kept. That changes nothing in shared memory, so it
   * needs no latch. Returns whether there were any.
   */
  #takeKept(place: Place): boolean {
    if (!this.#traits.isKept || place.leaving > 0) return false;
    const at = this.#memory.at(place.slot);
    const { words } = this.#memory;
    const grants = Atomics.load(words, at + GRANTS) - place.taken;
    for (let left = grants; left > 0 && place.isAwaited; left--) {
      const wait = place.shift()!;
      wait.result = this.slots.resultOf(place.slot);
      place.taken++;
      wait.succeed();
    }
    return grants > 0;
  }

  /**
   * Gives a wait up, unless it has a result; returns whether it has none. In that
   * case it has left the queue, or leaves when the latch can be had.
   */
  #giveUp(wait: Wait, time: LatchTime): boolean {
    if (wait.result !== undefined) return false;
    const { place } = wait;
    const isLatched = this.slots.enter(time);
    try {
      if (isLatched) this.#drain(place);
      if (wait.result !== undefined) return false;
      place.remove(wait);
      place.leaving++;
      if (isLatched) this.#drain(place);
      else this.#postpone(place);
      return true;
    } finally {
      if (isLatched) this.#leave();
    }
  }

  /** Drains a place, now or, if the latch cannot be had, later. */
  #clear(place: Place): boolean {
    if (!this.slots.enter(LATCH_GRACE_MS)) {
      this.#postpone(place);
      return false;
    }
    try {
      try {
        this.#drain(place);
      } finally {
        this.#leave();
      }
      return true;
    } catch (error) {
      this.#fail(() => error as Error);
      return false;
    }
  }

  #postpone(place: Place): void {
    this.#local.behind.add(place);
    watch(this);
  }

  /** Brings a place and its slot in shared memory to the same state. */
  #drain(place: Place): void {
    const { slots } = this;
    const { slot } = place;
    let isFree = false;
    let settled = place.settling;
    place.taken -= settled;
    place.settling = 0;
    const leaves = Math.min(place.leaving, slots.countOf(slot));
    if (leaves > 0) {
      place.leaving -= leaves;
      isFree = slots.depart(slot, leaves);
    }
    let grants = isFree ? 0 : slots.grantsOf(slot) - settled - place.taken;
    if (grants < 0) throw damageError(`${grants} waits were granted`);
    for (; grants > 0 && place.isAwaited; grants--) {
      const wait = place.shift()!;
      wait.result = slots.resultOf(slot);
      this.#local.done.push(wait);
      if (this.#traits.isKept) place.taken++;
      else settled++;
    }
    if (grants > 0) {
      // They are for waits that were given up without the latch.
      place.leaving -= grants;
      settled += grants;
      slots.owe(slots.resultOf(slot), grants);
    }
    if (settled > 0) isFree = slots.settle(slot, settled);
    if (isFree) this.#drop(place);
  }

  /** Forgets a place whose slot is free. */
  #drop(place: Place): void {
    const { places, behind, newest } = this.#local;
    place.isGone = true;
    places.delete(place);
    behind.delete(place);
    if (!place.isSync) {
      this.#local.taskPlaces--;
      if (newest[place.tag] === place) newest[place.tag] = undefined;
    }
    if (places.size === 0) unwatch(this);
    release();
  }

  /** Ends all waits, since the memory is damaged. */
  #fail(damage: (action: string) => Error): void {
    for (const place of this.#local.places) {
      for (let wait; (wait = place.shift()) !== undefined;) {
        wait.fail(damage(wait.action));
      }
      const word = this.#memory.at(place.slot) + GRANTS;
      this.#drop(place);
      // Ends the promise of `Atomics.waitAsync`.
      Atomics.notify(this.#memory.words, word);
    }
  }
}
