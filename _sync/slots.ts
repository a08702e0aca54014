// Copyright 2026 the Duplex authors. MIT license.

/**
 * The queue of a lock in shared memory. Words of the header:
 *
 * | word   | content                                                           |
 * | ------ | ----------------------------------------------------------------- |
 * | 7, 8   | the queue: its first and last slot, plus 1; 0 is none             |
 * | 9, 10  | the slots that were granted and are not settled, likewise         |
 * | 11     | free slots, linked by "next", plus 1; 0 is none                   |
 * | 12, 13 | how many slots were ever used, and how many are used now          |
 * | 14     | how many waits are in the queue                                   |
 * | 15     | the time of the last sweep, `Date.now()` mod 2^32                 |
 *
 * A slot holds one or more waits of one thread:
 *
 * | word | content                                                             |
 * | ---- | ------------------------------------------------------------------- |
 * | 0    | the number of the thread (`_sync/life.ts`)                          |
 * | 1    | a tag that the kind gives a meaning                                 |
 * | 2    | how many waits of the slot are in the queue                         |
 * | 3    | how many were granted and are not settled: the word to sleep on     |
 * | 4    | the result of those                                                 |
 * | 5, 6 | the next slot in its list and the one before, plus 1; 0 is none     |
 *
 * - **To wait:** try under the latch; if that fails, take a slot, put it at the
 *   end of the queue, release the latch, and sleep while word 3 is as it was.
 * - **To grant:** take a wait from the first slot of the queue, write the result,
 *   add 1 to word 3 and notify it. What is granted belongs to that thread; a call
 *   that comes later cannot take it. A slot with more waits goes to the end of the
 *   queue, so that the other threads get their turns.
 * - **To settle:** subtract what was granted and has been taken over; an empty
 *   slot is freed. Until then it is given back if the thread dies.
 * - **To leave:** subtract from word 2; an empty slot is freed.
 * - **To bury:** free the slot of a dead thread, and give back what was granted to
 *   it. The first in the queue is looked up before it is granted something, and
 *   the granted ones before a call waits; a sweep looks up all. At most one sweep
 *   is made in {@linkcode SWEEP_MS}, however many threads wait.
 *
 * Everything here runs under the latch and takes the same time however many wait,
 * except a sweep and a grant to all.
 *
 * @module
 */

import { beginLook, endLook, isAlive } from "./life.ts";
import { type LatchTime, type Memory, QUEUE } from "./memory.ts";

/** Milliseconds between two sweeps. */
export const SWEEP_MS = 10;

/** The lists by their first slot; the word after it has their last slot. */
const FIRST = QUEUE;
const LAST = QUEUE + 1;
const GRANTED_FIRST = QUEUE + 2;
const FREE = QUEUE + 4;
const USED = QUEUE + 5;
const IN_USE = QUEUE + 6;
const WAITS = QUEUE + 7;
const SWEPT = QUEUE + 8;

const THREAD = 0;
const TAG = 1;
const COUNT = 2;
/** The word of a slot to sleep on. */
export const GRANTS = 3;
const RESULT = 4;
const NEXT = 5;
const BEFORE = 6;

/** No slot. */
export const NONE = -1;
/** The answer of an attempt that must wait. */
export const MUST_WAIT = -1;

/** What a kind of lock does; every function is called under the latch. */
export interface Rules {
  /** Takes what is wanted and returns a result, or {@linkcode MUST_WAIT}. */
  attempt(tag: number): number;
  /** Gives back what was granted to so many waits and is not needed. */
  revoke(result: number, count: number): void;
  /** So many waits have left the queue without a result. */
  onLeave?(count: number): void;
  /** Whether something else may be left of a dead thread; also without the latch. */
  suspects?(): boolean;
  /** Cleans up what a dead thread has left. */
  inspect?(): void;
}

/** What is to be done when the queue is whole again. */
interface Owed {
  readonly result: number;
  readonly grants: number;
  readonly leaves: number;
}

/** The queue of a lock in shared memory. */
export class Slots {
  readonly memory: Memory;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #rules: Rules;
  /** Made when it is needed, as there are many locks that no thread waits for. */
  #owed: Owed[] | undefined;
  /** The first word to notify when the latch is free, or 0, and the others. */
  #wake = 0;
  #wakes: number[] | undefined;

  constructor(memory: Memory, rules: Rules) {
    this.memory = memory;
    this.#words = memory.words;
    this.#rules = rules;
  }

  /** Takes the latch; see {@linkcode Memory.enter}. */
  enter(time: LatchTime): boolean {
    if (!this.memory.enter(time)) return false;
    beginLook();
    return true;
  }

  /** Completes what is owed, and gives the latch back. */
  leave(): void {
    try {
      if (this.#owed !== undefined) this.pay();
    } finally {
      endLook();
      this.memory.leave();
      if (this.#wake !== 0) this.#wakeAll();
    }
  }

  /** Does for the dead slots what had to wait until the lists were whole again. */
  pay(): void {
    for (let owed; (owed = this.#owed?.pop()) !== undefined;) {
      if (owed.leaves > 0) this.#rules.onLeave?.(owed.leaves);
      if (owed.grants > 0) this.#rules.revoke(owed.result, owed.grants);
    }
    this.#owed = undefined;
  }

  /**
   * Wakes the threads that were granted something. They take the latch at once, so
   * they are not woken before it is free.
   */
  #wakeAll(): void {
    Atomics.notify(this.#words, this.#wake);
    this.#wake = 0;
    if (this.#wakes === undefined) return;
    for (const word of this.#wakes) Atomics.notify(this.#words, word);
    this.#wakes = undefined;
  }

  /** Has the rules give back what was granted, before the latch is given back. */
  owe(result: number, grants: number): void {
    this.#owe(result, grants, 0);
  }

  /** Whether any slot is in use; also without the latch. */
  get inUse(): boolean {
    return Atomics.load(this.#words, IN_USE) > 0;
  }

  /** How many slots are free. */
  get room(): number {
    return this.memory.capacity - this.#words[IN_USE]!;
  }

  /** How many waits are in the queue; also without the latch. */
  get waits(): number {
    return Atomics.load(this.#words, WAITS);
  }

  /** The first slot of the queue whose thread lives, or {@linkcode NONE}. */
  first(): number {
    for (;;) {
      const slot = this.#words[FIRST]! - 1;
      if (slot === NONE || isAlive(this.threadOf(slot))) return slot;
      this.#bury(slot);
    }
  }

  /** The first slot of a thread in the queue, or {@linkcode NONE}. */
  firstOf(thread: number): number {
    let slot = this.#words[FIRST]! - 1;
    while (slot !== NONE && this.threadOf(slot) !== thread) {
      slot = this.#next(slot);
    }
    return slot;
  }

  threadOf(slot: number): number {
    return this.#words[this.memory.at(slot) + THREAD]!;
  }

  tagOf(slot: number): number {
    return this.#words[this.memory.at(slot) + TAG]!;
  }

  /** How many waits of a slot are in the queue. */
  countOf(slot: number): number {
    return this.#words[this.memory.at(slot) + COUNT]!;
  }

  /** How many waits of a slot were granted and are not settled. */
  grantsOf(slot: number): number {
    return this.#words[this.memory.at(slot) + GRANTS]!;
  }

  resultOf(slot: number): number {
    return this.#words[this.memory.at(slot) + RESULT]!;
  }

  /** Takes a slot for one wait, before another slot or at the end of the queue. */
  append(thread: number, tag: number, next: number): number {
    const words = this.#words;
    let slot = words[FREE]! - 1;
    if (slot !== NONE) words[FREE] = words[this.memory.at(slot) + NEXT]!;
    else if (words[USED]! < this.memory.capacity) slot = words[USED]!++;
    else return NONE;
    Atomics.add(words, IN_USE, 1);
    const at = this.memory.at(slot);
    words[at + THREAD] = thread;
    words[at + TAG] = tag;
    words[at + COUNT] = 1;
    words[WAITS]!++;
    this.#link(FIRST, slot, next);
    return slot;
  }

  /** Adds a wait to a slot, which then is in the queue. */
  join(slot: number): void {
    const words = this.#words;
    words[WAITS]!++;
    if (words[this.memory.at(slot) + COUNT]!++ > 0) return;
    this.#unlink(GRANTED_FIRST, slot);
    this.#link(FIRST, slot, NONE);
  }

  /** Makes a granted wait wait again, as the first in the queue. */
  takeBack(slot: number): number {
    const words = this.#words;
    const at = this.memory.at(slot);
    this.#unlink(words[at + COUNT]! > 0 ? FIRST : GRANTED_FIRST, slot);
    words[at + COUNT]!++;
    words[WAITS]!++;
    Atomics.sub(words, at + GRANTS, 1);
    this.#link(FIRST, slot, words[FIRST]! - 1);
    return words[at + RESULT]!;
  }

  /** Grants a result to so many waits of a slot of the queue, and wakes its thread. */
  grant(slot: number, result: number, count = 1): void {
    const words = this.#words;
    const at = this.memory.at(slot);
    words[WAITS]! -= count;
    words[at + COUNT]! -= count;
    words[at + RESULT] = result;
    if (words[at + COUNT] === 0) {
      this.#unlink(FIRST, slot);
      this.#link(GRANTED_FIRST, slot, NONE);
    } else if (words[LAST] !== slot + 1) {
      this.#unlink(FIRST, slot);
      this.#link(FIRST, slot, NONE);
    }
    Atomics.add(words, at + GRANTS, count);
    if (this.#wake === 0) this.#wake = at + GRANTS;
    else (this.#wakes ??= []).push(at + GRANTS);
  }

  /** Grants a result to all waits, and returns how many there were. */
  grantAll(result: number): number {
    let granted = 0;
    for (let slot; (slot = this.first()) !== NONE;) {
      const count = this.countOf(slot);
      this.grant(slot, result, count);
      granted += count;
    }
    return granted;
  }

  /** Settles so many grants of a slot; returns whether the slot is free now. */
  settle(slot: number, count: number): boolean {
    const words = this.#words;
    const at = this.memory.at(slot);
    const left = Atomics.sub(words, at + GRANTS, count) - count;
    if (left > 0 || words[at + COUNT]! > 0) return false;
    this.#unlink(GRANTED_FIRST, slot);
    this.#free(slot);
    return true;
  }

  /** Takes so many waits out of the queue; returns whether the slot is free now. */
  depart(slot: number, count: number): boolean {
    const words = this.#words;
    const at = this.memory.at(slot);
    words[WAITS]! -= count;
    words[at + COUNT]! -= count;
    this.#owe(0, 0, count);
    if (words[at + COUNT]! > 0) return false;
    this.#unlink(FIRST, slot);
    const isFree = words[at + GRANTS] === 0;
    if (isFree) this.#free(slot);
    else this.#link(GRANTED_FIRST, slot, NONE);
    return isFree;
  }

  /** Whether any slot was granted and is not settled; also without the latch. */
  get hasGrants(): boolean {
    return Atomics.load(this.#words, GRANTED_FIRST) !== 0;
  }

  /** Whether a look is due; also without the latch. */
  get isDue(): boolean {
    return this.#isSweepDue || this.#rules.suspects?.() === true;
  }

  /** Looks for what dead threads have left; returns whether there may be a change. */
  look(): boolean {
    const suspects = this.#rules.suspects?.() === true;
    if (suspects) this.#rules.inspect?.();
    if (!this.inUse) return suspects;
    if (this.#isSweepDue) return this.sweep() || suspects;
    // There are few of them, and what was granted to a dead thread is free.
    const isAnyDead = this.#sweep(GRANTED_FIRST);
    this.pay();
    return isAnyDead || suspects;
  }

  /** Buries the slots of all dead threads; returns whether there were any. */
  sweep(): boolean {
    Atomics.store(this.#words, SWEPT, Date.now() | 0);
    const waited = this.#sweep(FIRST);
    const granted = this.#sweep(GRANTED_FIRST);
    this.pay();
    return waited || granted;
  }

  #owe(result: number, grants: number, leaves: number): void {
    (this.#owed ??= []).push({ result, grants, leaves });
  }

  get #isSweepDue(): boolean {
    if (!this.inUse) return false;
    const passed = (Date.now() | 0) - Atomics.load(this.#words, SWEPT);
    // Also if the system's clock was set back.
    return passed >>> 0 >= SWEEP_MS;
  }

  #sweep(head: number): boolean {
    let isAnyDead = false;
    for (let slot = this.#words[head]! - 1; slot !== NONE;) {
      const next = this.#next(slot);
      if (!isAlive(this.threadOf(slot))) {
        this.#bury(slot);
        isAnyDead = true;
      }
      slot = next;
    }
    return isAnyDead;
  }

  #next(slot: number): number {
    return this.#words[this.memory.at(slot) + NEXT]! - 1;
  }

  #bury(slot: number): void {
    const words = this.#words;
    const at = this.memory.at(slot);
    const leaves = words[at + COUNT]!;
    const grants = words[at + GRANTS]!;
    this.#owe(words[at + RESULT]!, grants, leaves);
    this.#unlink(leaves > 0 ? FIRST : GRANTED_FIRST, slot);
    words[WAITS]! -= leaves;
    words[at + COUNT] = 0;
    this.#free(slot);
  }

  /** Frees a slot, and wakes what still sleeps on it, before another takes it. */
  #free(slot: number): void {
    const words = this.#words;
    const at = this.memory.at(slot);
    words[at + THREAD] = 0;
    Atomics.store(words, at + GRANTS, 0);
    Atomics.notify(words, at + GRANTS);
    words[at + NEXT] = words[FREE]!;
    words[FREE] = slot + 1;
    Atomics.sub(words, IN_USE, 1);
  }

  /** Puts a slot into a list, before another or at the end. */
  #link(head: number, slot: number, next: number): void {
    const words = this.#words;
    const at = this.memory.at(slot);
    const follower = next === NONE ? head + 1 : this.memory.at(next) + BEFORE;
    const before = words[follower]! - 1;
    words[at + NEXT] = next + 1;
    words[at + BEFORE] = before + 1;
    words[follower] = slot + 1;
    words[before === NONE ? head : this.memory.at(before) + NEXT] = slot + 1;
  }

  #unlink(head: number, slot: number): void {
    const words = this.#words;
    const at = this.memory.at(slot);
    const next = words[at + NEXT]! - 1;
    const before = words[at + BEFORE]! - 1;
    words[before === NONE ? head : this.memory.at(before) + NEXT] = next + 1;
    words[next === NONE ? head + 1 : this.memory.at(next) + BEFORE] = before +
      1;
  }
}
