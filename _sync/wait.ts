// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a thread remembers of its own waits: each wait, and the place in the queue
 * that one or more of them have.
 *
 * @module
 */

import type { WaitLimits } from "./limits.ts";
import { type Abortable, aborts } from "./watch.ts";
import { MAX_TIMER } from "../_base/waiting.ts";

/** Where a wait waits. */
export interface Waiter {
  /** Called at the end of a wait's limits, with the error that its caller gets. */
  giveUp(wait: Wait, reason: unknown): void;
}

/** One wait. */
export class Wait implements Abortable {
  readonly place: Place;
  /** How many waits were in the queue before it. */
  readonly ahead: number;
  /** The result, once it is granted. */
  result: number | undefined;
  /** Its neighbours among the waits of the place. */
  next: Wait | undefined;
  before: Wait | undefined;
  #promise: PromiseWithResolvers<number> | undefined;
  #limits: WaitLimits | undefined;
  #waiter: Waiter | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(place: Place, ahead: number) {
    this.place = place;
    this.ahead = ahead;
  }

  /** What is done, as "Cannot `action`" names it. */
  get action(): string {
    return this.#limits?.action ?? "wait for the lock";
  }

  /** Starts to wait in a task. */
  start(limits: WaitLimits, waiter: Waiter): Promise<number> {
    this.#promise = Promise.withResolvers();
    this.#limits = limits;
    this.#waiter = waiter;
    if (limits.signal !== undefined) aborts.add(this, limits.signal);
    this.#startTimer();
    return this.#promise.promise;
  }

  abort(reason: unknown): void {
    this.#waiter?.giveUp(this, reason);
  }

  /** Ends the wait in a task with its result. */
  succeed(): void {
    this.#end();
    this.#promise?.resolve(this.result!);
  }

  /** Ends the wait in a task with an error. */
  fail(reason: unknown): void {
    this.#end();
    this.#promise?.reject(reason);
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#waiter = undefined;
    const signal = this.#limits?.signal;
    if (signal !== undefined) aborts.delete(this, signal);
  }

  #startTimer(): void {
    const { left } = this.#limits!;
    if (left === Infinity) return;
    const delay = Math.min(Math.ceil(left), MAX_TIMER);
    this.#timer = setTimeout(() => this.#onTime(), delay);
  }

  #onTime(): void {
    if (this.#limits!.left > 0) return this.#startTimer();
    this.#waiter?.giveUp(this, this.#limits!.timeoutError());
  }
}

/** A slot of this thread, and the waits that share it. */
export class Place {
  readonly slot: number;
  readonly tag: number;
  /** Whether it belongs to a call that blocks the thread. */
  readonly isSync: boolean;
  /** Grants that were taken over and are not settled in shared memory. */
  taken = 0;
  /** Of these, the ones that are to be settled when the latch can be had. */
  settling = 0;
  /** Waits that were given up and are to leave when the latch can be had. */
  leaving = 0;
  /** Whether a promise of `Atomics.waitAsync` is pending. */
  isArmed = false;
  /** Whether the slot is free again. */
  isGone = false;
  #first: Wait | undefined;
  #last: Wait | undefined;

  constructor(slot: number, tag: number, isSync: boolean) {
    this.slot = slot;
    this.tag = tag;
    this.isSync = isSync;
  }

  /** Whether any wait has no result yet. */
  get isAwaited(): boolean {
    return this.#first !== undefined;
  }

  /** Adds a wait at the end. */
  push(wait: Wait): void {
    wait.before = this.#last;
    if (this.#last === undefined) this.#first = wait;
    else this.#last.next = wait;
    this.#last = wait;
  }

  /** Takes the first wait, if there is one. */
  shift(): Wait | undefined {
    const wait = this.#first;
    if (wait !== undefined) this.remove(wait);
    return wait;
  }

  /** Takes a wait out. */
  remove(wait: Wait): void {
    const { next, before } = wait;
    if (before === undefined) this.#first = next;
    else before.next = next;
    if (next === undefined) this.#last = before;
    else next.before = before;
    wait.next = wait.before = undefined;
  }
}
