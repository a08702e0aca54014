// Copyright 2026 the Duplex authors. MIT license.

/**
 * The queue of a lock in shared memory. Words of the header:
 *
 * | word   | content                                                           |
 * | ------ | ----------------------------------------------------------------- |
 * | 7, 8   | the queue: its first and last slot, plus 1; 0 if it is empty      |
 * | 9, 10  | the slots with grants that are not settled, likewise              |
 * | 11     | the first free slot, plus 1, linked by "next"; 0 if there is none |
 * | 12, 13 | the number of slots that were ever used, and that are in use      |
 * | 14     | the number of waits in the queue                                  |
 * | 15     | the time of the last sweep, `Date.now()` mod 2^32                 |
 *
 * A slot holds one or more waits of one thread:
 *
 * | word | content                                                             |
 * | ---- | ------------------------------------------------------------------- |
 * | 0    | the number of the thread (`_sync/liveness.ts`)                      |
 * | 1    | a tag whose meaning the kind defines                                |
 * | 2    | the number of its waits in the queue                                |
 * | 3    | the number of its grants that are not settled: the word to sleep on |
 * | 4    | the result of these                                                 |
 * | 5, 6 | the next and the previous slot in its list, plus 1; 0 at the end    |
 *
 * - **To wait:** try under the latch; if that fails, append a slot to the queue,
 *   release the latch, and sleep while word 3 is unchanged.
 * - **To grant:** remove a wait from the first slot of the queue, write the result,
 *   add 1 to word 3 and notify it. The grant belongs to that thread; no later call
 *   can overtake it. A slot that has more waits moves to the end of the queue, so
 *   that threads take turns.
 * - **To settle:** subtract the grants that the thread has received; a slot without
 *   waits and grants is freed. Until then a grant is returned if the thread dies.
 * - **To cancel:** subtract from word 2; a slot without waits and grants is freed.
 * - **If a thread died:** free its slot, and return its grants. The thread of the
 *   first slot is checked before each grant, those with grants before each call
 *   that would wait. A sweep checks all, at most once in {@linkcode SWEEP_MS}
 *   however many threads wait.
 *
 * All this happens under the latch and takes the same time however many wait,
 * except a sweep and a grant to all.
 *
 * @module
 */

import { beginCheck, endCheck, isAlive } from "./liveness.ts";
import { type LatchTime, type Memory, QUEUE } from "./memory.ts";

/** Milliseconds between two sweeps: half the interval of the checking timer. */
const SWEEP_MS = 10;

/** The lists by their first slot; the word after it has their last slot. */
const FIRST = QUEUE;
const LAST = QUEUE + 1;
const GRANTED_FIRST = QUEUE + 2;
const FREE = QUEUE + 4;
const USED = QUEUE + 5;
const IN_USE = QUEUE + 6;
const WAITS = QUEUE + 7;
const SWEPT = QUEUE + 8;

/** The words of a slot. */
export const THREAD = 0;
export const TAG = 1;
export const COUNT = 2;
/** The word of a slot to sleep on. */
export const GRANTS = 3;
export const RESULT = 4;
const NEXT = 5;
const PREVIOUS = 6;

/** No slot. */
export const NONE = -1;
/** The result of an attempt that must wait. */
export const MUST_WAIT = -1;

/** How a kind of lock behaves; every function is called under the latch. */
export interface Rules {
  /** Acquires the lock and returns a result, or {@linkcode MUST_WAIT}. */
  attempt(tag: number): number;
  /** Returns grants of this result that their waits do not use. */
  revoke(result: number, count: number): void;
  /** Called when waits have left the queue without a result. */
  onLeave?(count: number): void;
  /** Whether the holder is dead; also called without the latch. */
  hasDeadHolder?(): boolean;
  /** Takes the lock from its dead holder. */
  removeDeadHolder?(): void;
}

/** A change that must wait until the lists are consistent. */
interface Deferred {
  readonly result: number;
  readonly grants: number;
  readonly leaves: number;
}

/** The queue of a lock in shared memory. */
export class Slots {
  readonly memory: Memory;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #rules: Rules;
  /** Created when needed, as most locks have no waits. */
  #deferred: Deferred[] | undefined;
  /** The first word to notify after the latch is released, or 0, and the others. */
  #wake = 0;
  #wakes: number[] | undefined;

  constructor(memory: Memory, rules: Rules) {
    this.memory = memory;
    this.#words = memory.words;
    this.#rules = rules;
  }

  /** Acquires the latch; see {@linkcode Memory.enter}. */
  enter(time: LatchTime): boolean {
    if (!this.memory.enter(time)) return false;
    beginCheck();
    return true;
  }

  /** Makes the deferred changes, and releases the latch. */
  leave(): void {
    try {
      if (this.#deferred !== undefined) this.runDeferred();
    } finally {
      endCheck();
      this.memory.leave();
      if (this.#wake !== 0) this.#wakeAll();
    }
  }

  /** Makes the deferred changes. */
  runDeferred(): void {
    for (let change; (change = this.#deferred?.pop()) !== undefined;) {
      if (change.leaves > 0) this.#rules.onLeave?.(change.leaves);
      if (change.grants > 0) this.#rules.revoke(change.result, change.grants);
    }
    this.#deferred = undefined;
  }

  /**
   * Wakes the threads with new grants. They acquire the latch at once, so they are
   * not woken before it is free.
   */
  #wakeAll(): void {
    Atomics.notify(this.#words, this.#wake);
    this.#wake = 0;
    if (this.#wakes === undefined) return;
    for (const word of this.#wakes) Atomics.notify(this.#words, word);
    this.#wakes = undefined;
  }

  /** Defers what the rules do about unused grants, and waits that have left. */
  defer(result: number, grants: number, leaves = 0): void {
    (this.#deferred ??= []).push({ result, grants, leaves });
  }

  /** Whether any slot is in use; also without the latch. */
  get isInUse(): boolean {
    return Atomics.load(this.#words, IN_USE) > 0;
  }

  /** The number of free slots. */
  get free(): number {
    return this.memory.capacity - this.#words[IN_USE]!;
  }

  /** The number of waits in the queue; also without the latch. */
  get waits(): number {
    return Atomics.load(this.#words, WAITS);
  }

  /** The first slot of the queue whose thread is alive, or {@linkcode NONE}. */
  first(): number {
    for (;;) {
      const slot = this.#words[FIRST]! - 1;
      if (slot === NONE || isAlive(this.read(slot, THREAD))) return slot;
      this.#freeDead(slot);
    }
  }

  /** The first slot of a thread in the queue, or {@linkcode NONE}. */
  firstOf(thread: number): number {
    let slot = this.#words[FIRST]! - 1;
    while (slot !== NONE && this.read(slot, THREAD) !== thread) {
      slot = this.#next(slot);
    }
    return slot;
  }

  /** Reads a word of a slot. */
  read(slot: number, word: number): number {
    return this.#words[this.memory.at(slot) + word]!;
  }

  /** Adds a slot with one wait, before another slot or at the end of the queue. */
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

  /** Adds a wait to a slot, which is in the queue afterwards. */
  addWait(slot: number): void {
    const words = this.#words;
    words[WAITS]!++;
    if (words[this.memory.at(slot) + COUNT]!++ > 0) return;
    this.#unlink(GRANTED_FIRST, slot);
    this.#link(FIRST, slot, NONE);
  }

  /** Makes a granted wait the first in the queue again; returns its result. */
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

  /** Grants a result to waits of a slot of the queue, and wakes its thread. */
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

  /** Grants a result to all waits; returns their number. */
  grantAll(result: number): number {
    let granted = 0;
    for (let slot; (slot = this.first()) !== NONE;) {
      const count = this.read(slot, COUNT);
      this.grant(slot, result, count);
      granted += count;
    }
    return granted;
  }

  /** Settles grants of a slot; returns whether that freed the slot. */
  settle(slot: number, count: number): boolean {
    const words = this.#words;
    const at = this.memory.at(slot);
    const left = Atomics.sub(words, at + GRANTS, count) - count;
    if (left > 0 || words[at + COUNT]! > 0) return false;
    this.#unlink(GRANTED_FIRST, slot);
    this.#free(slot);
    return true;
  }

  /** Removes waits of a slot from the queue; returns whether that freed the slot. */
  removeWaits(slot: number, count: number): boolean {
    const words = this.#words;
    const at = this.memory.at(slot);
    words[WAITS]! -= count;
    words[at + COUNT]! -= count;
    this.defer(0, 0, count);
    if (words[at + COUNT]! > 0) return false;
    this.#unlink(FIRST, slot);
    const isFree = words[at + GRANTS] === 0;
    if (isFree) this.#free(slot);
    else this.#link(GRANTED_FIRST, slot, NONE);
    return isFree;
  }

  /** Whether any grant is not settled; also without the latch. */
  get hasGrants(): boolean {
    return Atomics.load(this.#words, GRANTED_FIRST) !== 0;
  }

  /** Whether {@linkcode check} is due; also without the latch. */
  get isCheckDue(): boolean {
    return this.#isSweepDue || this.#rules.hasDeadHolder?.() === true;
  }

  /** Removes what belongs to dead threads; returns whether there was any. */
  check(): boolean {
    const isHolderDead = this.#rules.hasDeadHolder?.() === true;
    if (isHolderDead) this.#rules.removeDeadHolder?.();
    if (!this.isInUse) return isHolderDead;
    if (this.#isSweepDue) return this.sweep() || isHolderDead;
    // This list is short, and grants of a dead thread can be used at once.
    const isAnyDead = this.#sweep(GRANTED_FIRST);
    this.runDeferred();
    return isAnyDead || isHolderDead;
  }

  /** Frees the slots of all dead threads; returns whether there were any. */
  sweep(): boolean {
    Atomics.store(this.#words, SWEPT, Date.now() | 0);
    const hadWaits = this.#sweep(FIRST);
    const hadGrants = this.#sweep(GRANTED_FIRST);
    this.runDeferred();
    return hadWaits || hadGrants;
  }

  get #isSweepDue(): boolean {
    if (!this.isInUse) return false;
    const passed = (Date.now() | 0) - Atomics.load(this.#words, SWEPT);
    // Unsigned, so that it is due also if the system's clock was set back.
    return passed >>> 0 >= SWEEP_MS;
  }

  #sweep(head: number): boolean {
    let isAnyDead = false;
    for (let slot = this.#words[head]! - 1; slot !== NONE;) {
      const next = this.#next(slot);
      if (!isAlive(this.read(slot, THREAD))) {
        this.#freeDead(slot);
        isAnyDead = true;
      }
      slot = next;
    }
    return isAnyDead;
  }

  #next(slot: number): number {
    return this.#words[this.memory.at(slot) + NEXT]! - 1;
  }

  /** Frees the slot of a dead thread. */
  #freeDead(slot: number): void {
    const words = this.#words;
    const at = this.memory.at(slot);
    const leaves = words[at + COUNT]!;
    const grants = words[at + GRANTS]!;
    this.defer(words[at + RESULT]!, grants, leaves);
    this.#unlink(leaves > 0 ? FIRST : GRANTED_FIRST, slot);
    words[WAITS]! -= leaves;
    words[at + COUNT] = 0;
    this.#free(slot);
  }

  /** Frees a slot, and wakes all that sleep on it, before it is used again. */
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

  /** Inserts a slot into a list, before another or at the end. */
  #link(head: number, slot: number, next: number): void {
    const words = this.#words;
    const at = this.memory.at(slot);
    const back = next === NONE ? head + 1 : this.memory.at(next) + PREVIOUS;
    const previous = words[back]! - 1;
    words[at + NEXT] = next + 1;
    words[at + PREVIOUS] = previous + 1;
    words[back] = slot + 1;
    words[previous === NONE ? head : this.memory.at(previous) + NEXT] = slot +
      1;
  }

  #unlink(head: number, slot: number): void {
    const words = this.#words;
    const at = this.memory.at(slot);
    const next = words[at + NEXT]! - 1;
    const previous = words[at + PREVIOUS]! - 1;
    words[previous === NONE ? head : this.memory.at(previous) + NEXT] = next +
      1;
    words[next === NONE ? head + 1 : this.memory.at(next) + PREVIOUS] =
      previous + 1;
  }
}
