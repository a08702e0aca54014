// Copyright 2026 the Duplex authors. MIT license.

/**
 * The waits of one thread in the queue of a lock, which is in shared memory
 * (`_sync/slots.ts`).
 *
 * - A wait has a slot of its own while there are enough. If the only free slots
 *   are those kept for other threads, further tasks of a thread share the slot that
 *   the thread acquired last. So any number of tasks of a thread can wait.
 * - `Atomics.waitAsync` cannot be cancelled. So there is one promise for each slot,
 *   and freeing the slot ends it.
 * - A wait that is cancelled and finds its slot granted accepts the grant, so no
 *   grant is lost.
 * - A call that does not acquire the latch in time leaves its slot to the timer of
 *   `_sync/timers.ts`, which frees it later.
 *
 * @module
 */

import { ownId, releaseId, retainId } from "./liveness.ts";
import type { Core } from "./lock.ts";
import {
  damageError,
  LATCH_GRACE_MS,
  LATCH_LIMIT_MS,
  latchError,
  type LatchTime,
  type Memory,
} from "./memory.ts";
import { ORDERED, type WaitLimits } from "./options.ts";
import {
  COUNT,
  GRANTS,
  MUST_WAIT,
  NONE,
  RESULT,
  type Rules,
  Slots,
} from "./slots.ts";
import {
  areTimersLoaded,
  CHECK_MS,
  loadTimers,
  TaskWait,
  unwatch,
  watch,
  type Watched,
} from "./timers.ts";

/** Milliseconds between two failures to acquire the latch that may be unrelated. */
const STUCK_GAP_MS = 1000;

/** The error of a wait for which there is no slot. */
export class FullError extends RangeError {}

/** How grants of a kind of lock may be used. */
export interface Traits {
  /** Whether all grants are equal. A wait can then share a slot with grants. */
  readonly isUniform?: boolean;
  /** Whether a call that blocks its thread may use a grant of the thread's tasks. */
  readonly isExchangeable?: boolean;
  /** Whether grants are settled by {@linkcode QueuedCore.settle}, not when received. */
  readonly isKept?: boolean;
}

/** One wait. */
export class Wait extends TaskWait<number> {
  readonly slot: OwnSlot;
  /** The number of waits that were in the queue before. */
  readonly ahead: number;
  readonly #queue: QueuedCore;
  /** The result, once it is granted. */
  result: number | undefined;
  /** The neighbours among the waits of the slot. */
  next: Wait | undefined;
  previous: Wait | undefined;

  constructor(slot: OwnSlot, ahead: number, queue: QueuedCore) {
    super();
    this.slot = slot;
    this.ahead = ahead;
    this.#queue = queue;
  }

  protected override onLimit(reason: unknown): void {
    this.#queue.cancel(this, reason);
  }
}

/** A slot of this thread, and the waits that share it. */
class OwnSlot {
  readonly index: number;
  readonly tag: number;
  /** Whether a call that blocks the thread uses it. */
  readonly isSync: boolean;
  /** Grants that waits have received and that are not settled in shared memory. */
  received = 0;
  /** Of these, the ones to settle when the latch is acquired next. */
  settling = 0;
  /** Cancelled waits, to be removed when the latch is acquired next. */
  leaving = 0;
  /** Whether a promise of `Atomics.waitAsync` is pending. */
  isAsleep = false;
  /** Whether the slot was freed. */
  isFreed = false;
  #first: Wait | undefined;
  #last: Wait | undefined;

  constructor(index: number, tag: number, isSync: boolean) {
    this.index = index;
    this.tag = tag;
    this.isSync = isSync;
  }

  /** Whether any wait has no result yet. */
  get hasWaits(): boolean {
    return this.#first !== undefined;
  }

  /** Adds a wait at the end. */
  push(wait: Wait): void {
    wait.previous = this.#last;
    if (this.#last === undefined) this.#first = wait;
    else this.#last.next = wait;
    this.#last = wait;
  }

  /** Removes and returns the first wait, if there is one. */
  shift(): Wait | undefined {
    const wait = this.#first;
    if (wait !== undefined) this.remove(wait);
    return wait;
  }

  /** Removes a wait. */
  remove(wait: Wait): void {
    const { next, previous } = wait;
    if (previous === undefined) this.#first = next;
    else previous.next = next;
    if (next === undefined) this.#last = previous;
    else next.previous = previous;
    wait.next = wait.previous = undefined;
  }
}

/** The state of this thread's waits in a queue. */
class OwnWaits {
  /** The slots of this thread. */
  readonly slots = new Set<OwnSlot>();
  /** How many of them belong to tasks. */
  taskSlots = 0;
  /** The slot of a task that was added last, for each tag. */
  readonly newest: (OwnSlot | undefined)[] = [];
  /** Waits with a result, to be resolved after the latch is released. */
  done: Wait[] = [];
  /** The slots to reconcile when the latch is acquired next. */
  readonly postponed = new Set<OwnSlot>();
  /** Times of the first and last failure to acquire the latch in a row. */
  stuckSince = -Infinity;
  stuckUntil = -Infinity;
}

/** A lock with a queue as one thread uses it. The kinds of locks extend it. */
export abstract class QueuedCore implements Core, Rules, Watched {
  readonly memory: Memory;
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly slots: Slots;
  readonly #isUniform: boolean;
  readonly #isExchangeable: boolean;
  readonly #isKept: boolean;
  /** Created for the first wait, as most locks have none. */
  #own: OwnWaits | undefined;

  constructor(memory: Memory, traits: Traits = {}) {
    this.memory = memory;
    this.words = memory.words;
    this.#isUniform = traits.isUniform ?? false;
    this.#isExchangeable = traits.isExchangeable ?? false;
    this.#isKept = traits.isKept ?? false;
    this.slots = new Slots(memory, this);
  }

  abstract attempt(tag: number): number;
  abstract revoke(result: number, count: number): void;

  /** Runs a function under the latch. It must be short and must not wait. */
  withLatch<T>(action: string, run: () => T): T {
    if (!this.slots.enter(LATCH_LIMIT_MS)) throw latchError(action);
    try {
      return run();
    } finally {
      this.slots.leave();
    }
  }

  /** Checks for dead threads if there may be any. */
  checkThreads(action: string): void {
    if (!this.slots.hasGrants && !this.slots.isCheckDue) return;
    this.withLatch(action, () => this.slots.check());
  }

  /** Acquires the lock if it is free, else returns {@linkcode MUST_WAIT}. */
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
   * Tries to acquire the lock, and enters the queue if that fails. The caller must
   * then call {@linkcode finish}, {@linkcode finishSync} or {@linkcode abandon}.
   *
   * @throws {RangeError} If there is no slot.
   */
  begin(limits: WaitLimits, tag: number, isSync: boolean): Wait | number {
    const isReady = ownId() !== 0 && (isSync || areTimersLoaded);
    const begun = this.#begin(limits, tag, isSync, isReady);
    if (begun !== undefined) return begun;
    // Both take long, so they happen without the latch.
    if (!isSync) loadTimers();
    retainId();
    try {
      return this.#begin(limits, tag, isSync, true)!;
    } finally {
      releaseId();
    }
  }

  /** Waits in a task, after {@linkcode begin}. */
  finish(wait: Wait, limits: WaitLimits): Promise<number> {
    const { slot } = wait;
    const promise = wait.start(limits);
    watch(this);
    if (!slot.isAsleep && !this.#sleep(slot)) this.#onWake(slot);
    return promise;
  }

  /** Waits with the thread blocked, after {@linkcode begin}. */
  finishSync(wait: Wait, limits: WaitLimits): number {
    const { words } = this;
    const word = this.memory.at(wait.slot.index) + GRANTS;
    for (;;) {
      Atomics.wait(words, word, 0, Math.min(limits.left, CHECK_MS));
      if (this.#receiveKept(wait.slot)) return wait.result!;
      let time: LatchTime = limits;
      let error = latchError;
      if (Atomics.load(words, word) === 0 && limits.left > 0) {
        if (!this.slots.isCheckDue) continue;
        const damage = this.#check(Math.min(limits.left, CHECK_MS));
        if (damage === undefined) continue;
        error = damage;
        time = LATCH_GRACE_MS;
      }
      if (!this.#cancel(wait, time)) return wait.result!;
      throw limits.left === 0 ? limits.timeoutError() : error(limits.action);
    }
  }

  /** Cancels a wait in a task at its timeout or abort. */
  cancel(wait: Wait, reason: unknown): void {
    if (this.#cancel(wait, LATCH_GRACE_MS)) wait.reject(reason);
  }

  /** Cancels a wait after {@linkcode begin}. */
  abandon(wait: Wait): void {
    if (this.#cancel(wait, LATCH_GRACE_MS)) return;
    if (this.#isKept) this.passOn(wait);
  }

  /** Settles a kept grant, which was used. */
  settle({ slot }: Wait): void {
    slot.settling++;
    this.#update(slot);
  }

  /** Passes a kept grant on to another wait. */
  passOn({ slot }: Wait): void {
    slot.received--;
    slot.leaving++;
    this.#update(slot);
  }

  /** Checks for dead threads, and reconciles the postponed slots. */
  tick(): void {
    if (this.#waits.postponed.size === 0 && !this.slots.isCheckDue) return;
    // A busy latch is free soon, and the next tick is soon as well.
    const damage = this.#check(1);
    if (damage !== undefined) this.#fail(damage);
  }

  #begin(
    limits: WaitLimits,
    tag: number,
    isSync: boolean,
    mayEnqueue: boolean,
  ): Wait | number | undefined {
    if (!this.slots.enter(limits)) {
      throw limits.left === 0
        ? limits.timeoutError()
        : latchError(limits.action);
    }
    try {
      if (isSync && this.#own !== undefined && this.#own.taskSlots > 0) {
        const result = this.#takeFromTask();
        if (result !== MUST_WAIT) return result;
      }
      const result = this.#attempt(tag);
      if (result !== MUST_WAIT) return result;
      return mayEnqueue ? this.#enqueue(limits.action, tag, isSync) : undefined;
    } finally {
      this.#leave();
    }
  }

  /**
   * Checks for dead threads under the latch. Returns a function that creates the
   * error if the memory is damaged.
   */
  #check(ms: number): ((action: string) => Error) | undefined {
    if (!this.slots.enter(ms)) {
      return this.#isLatchStuck() ? latchError : undefined;
    }
    const { postponed } = this.#waits;
    this.#waits.stuckUntil = -Infinity;
    try {
      try {
        for (const slot of postponed) this.#reconcile(slot);
        this.slots.check();
      } finally {
        this.#leave();
      }
    } catch (error) {
      return () => error as Error;
    }
    const reconciled = [...postponed];
    postponed.clear();
    for (const slot of reconciled) {
      if (slot.hasWaits && !slot.isAsleep) this.#onWake(slot);
    }
    return undefined;
  }

  /** Whether no check of the last seconds acquired the latch. */
  #isLatchStuck(): boolean {
    if (this.memory.isLatchDamaged) return true;
    const own = this.#waits;
    const now = performance.now();
    if (now - own.stuckUntil > STUCK_GAP_MS) own.stuckSince = now;
    own.stuckUntil = now;
    return now - own.stuckSince >= LATCH_LIMIT_MS;
  }

  /** Releases the latch, and resolves the waits that have received a result. */
  #leave(): void {
    try {
      this.slots.leave();
    } finally {
      const own = this.#own;
      if (own !== undefined && own.done.length > 0) {
        const { done } = own;
        own.done = [];
        for (const wait of done) wait.resolve(wait.result!);
      }
    }
  }

  get #waits(): OwnWaits {
    return this.#own ??= new OwnWaits();
  }

  #attempt(tag: number): number {
    const result = this.attempt(tag);
    // A lock that keeps grants is never acquired without a wait.
    if (result !== MUST_WAIT || this.#isKept) return result;
    return this.slots.check() ? this.attempt(tag) : result;
  }

  /**
   * Takes a grant from a task of this thread, which waits again as the first. The
   * thread is about to block, so the task could not use its grant, and this call
   * might wait for just that grant.
   */
  #takeFromTask(): number {
    if (!this.#isExchangeable) return MUST_WAIT;
    for (const slot of this.#waits.slots) {
      if (slot.isSync || this.slots.read(slot.index, GRANTS) === 0) continue;
      if (slot.hasWaits) return this.slots.takeBack(slot.index);
    }
    return MUST_WAIT;
  }

  /** Adds a wait to the queue. */
  #enqueue(action: string, tag: number, isSync: boolean): Wait {
    const { waits } = this.slots;
    const slot = this.#sharedSlot(tag, isSync) ?? this.#newSlot(tag, isSync);
    if (slot === undefined) {
      throw new FullError(
        `Cannot ${action} as all ${this.memory.capacity} slots of its queue are in use: create it with more "threads", or wait for it in fewer threads`,
      );
    }
    const wait = new Wait(slot, waits, this);
    slot.push(wait);
    return wait;
  }

  /** The newest slot of a task, if a further task must share it. */
  #sharedSlot(tag: number, isSync: boolean): OwnSlot | undefined {
    const newest = isSync ? undefined : this.#waits.newest[tag];
    if (newest === undefined) return undefined;
    const count = this.slots.read(newest.index, COUNT);
    const isScarce = this.slots.free <= this.memory.capacity - ORDERED;
    // Once waits share a slot, later ones do as well, so that they stay in order.
    const isShared = count > 1 ||
      isScarce && (count > 0 || this.#isUniform);
    if (!isShared) return undefined;
    this.slots.addWait(newest.index);
    return newest;
  }

  #newSlot(tag: number, isSync: boolean): OwnSlot | undefined {
    const own = this.#waits;
    if (this.slots.free <= this.memory.capacity - ORDERED) {
      // Grants of this thread that it has not received yet occupy slots.
      for (const slot of own.slots) if (!slot.isSync) this.#reconcile(slot);
    }
    const thread = ownId();
    // A blocking call goes before the tasks of its thread, which it blocks.
    const next = isSync && own.taskSlots > 0
      ? this.slots.firstOf(thread)
      : NONE;
    const index = this.slots.append(thread, tag, next);
    if (index === NONE) return undefined;
    retainId();
    const slot = new OwnSlot(index, tag, isSync);
    own.slots.add(slot);
    if (!isSync) {
      own.taskSlots++;
      own.newest[tag] = slot;
    }
    return slot;
  }

  /** Sleeps in a task until the slot has another grant, unless it has one now. */
  #sleep(slot: OwnSlot): boolean {
    const word = this.memory.at(slot.index) + GRANTS;
    const asleep = Atomics.waitAsync(this.words, word, slot.received);
    if (!asleep.async) return false;
    slot.isAsleep = true;
    asleep.value.then(() => {
      slot.isAsleep = false;
      this.#onWake(slot);
    });
    return true;
  }

  /** Receives the grants of a slot, and sleeps again if it has more waits. */
  #onWake(slot: OwnSlot): void {
    while (!slot.isFreed && (this.#receiveKept(slot) || this.#update(slot))) {
      if (!slot.hasWaits || slot.isAsleep || this.#sleep(slot)) return;
    }
  }

  /**
   * Receives kept grants. That changes nothing in shared memory, so it needs no
   * latch. Returns whether there were any.
   */
  #receiveKept(slot: OwnSlot): boolean {
    if (!this.#isKept || slot.leaving > 0) return false;
    const at = this.memory.at(slot.index);
    const grants = Atomics.load(this.words, at + GRANTS) - slot.received;
    for (let left = grants; left > 0 && slot.hasWaits; left--) {
      const wait = slot.shift()!;
      wait.result = this.slots.read(slot.index, RESULT);
      slot.received++;
      wait.resolve(wait.result);
    }
    return grants > 0;
  }

  /**
   * Cancels a wait unless it has a result; returns whether it did. The wait has
   * then left the queue, or leaves it when the latch is acquired next.
   */
  #cancel(wait: Wait, time: LatchTime): boolean {
    if (wait.result !== undefined) return false;
    const { slot } = wait;
    const hasLatch = this.slots.enter(time);
    try {
      if (hasLatch) this.#reconcile(slot);
      if (wait.result !== undefined) return false;
      slot.remove(wait);
      slot.leaving++;
      if (hasLatch) this.#reconcile(slot);
      else this.#postpone(slot);
      return true;
    } finally {
      if (hasLatch) this.#leave();
    }
  }

  /** Reconciles a slot, later if the latch cannot be acquired now. */
  #update(slot: OwnSlot): boolean {
    if (!this.slots.enter(LATCH_GRACE_MS)) {
      this.#postpone(slot);
      return false;
    }
    try {
      try {
        this.#reconcile(slot);
      } finally {
        this.#leave();
      }
      return true;
    } catch (error) {
      this.#fail(() => error as Error);
      return false;
    }
  }

  #postpone(slot: OwnSlot): void {
    this.#waits.postponed.add(slot);
    watch(this);
  }

  /** Brings a slot and its words in shared memory to the same state. */
  #reconcile(slot: OwnSlot): void {
    const { slots } = this;
    const { index } = slot;
    let isFree = false;
    let settled = slot.settling;
    slot.received -= settled;
    slot.settling = 0;
    const leaves = Math.min(slot.leaving, slots.read(index, COUNT));
    if (leaves > 0) {
      slot.leaving -= leaves;
      isFree = slots.removeWaits(index, leaves);
    }
    let grants = isFree
      ? 0
      : slots.read(index, GRANTS) - settled - slot.received;
    if (grants < 0) throw damageError(`${grants} waits were granted`);
    for (; grants > 0 && slot.hasWaits; grants--) {
      const wait = slot.shift()!;
      wait.result = slots.read(index, RESULT);
      this.#waits.done.push(wait);
      if (this.#isKept) slot.received++;
      else settled++;
    }
    if (grants > 0) {
      // They belong to waits that were cancelled without the latch.
      slot.leaving -= grants;
      settled += grants;
      slots.defer(slots.read(index, RESULT), grants);
    }
    if (settled > 0) isFree = slots.settle(index, settled);
    if (isFree) this.#forget(slot);
  }

  /** Forgets a slot that was freed. */
  #forget(slot: OwnSlot): void {
    const { slots, postponed, newest } = this.#waits;
    slot.isFreed = true;
    slots.delete(slot);
    postponed.delete(slot);
    if (!slot.isSync) {
      this.#waits.taskSlots--;
      if (newest[slot.tag] === slot) newest[slot.tag] = undefined;
    }
    if (slots.size === 0) unwatch(this);
    releaseId();
  }

  /** Rejects all waits, since the memory is damaged. */
  #fail(damage: (action: string) => Error): void {
    for (const slot of this.#waits.slots) {
      for (let wait; (wait = slot.shift()) !== undefined;) {
        wait.reject(damage(wait.action));
      }
      const word = this.memory.at(slot.index) + GRANTS;
      this.#forget(slot);
      // Ends the promise of `Atomics.waitAsync`.
      Atomics.notify(this.words, word);
    }
  }
}
