// Copyright 2026 the Duplex authors. MIT license.

/**
 * The waits of this thread in the queue of a lock, and the slots that they use.
 *
 * @module
 */

import { TaskWait } from "./timers.ts";

/** The queue of a wait. */
export interface Canceller {
  /** Cancels a wait of a task, whose promise then rejects with the reason. */
  cancel(wait: Wait, reason: unknown): void;
}

/** One wait. */
export class Wait extends TaskWait<number> {
  readonly slot: OwnSlot;
  /** The number of waits that were in the queue before. */
  readonly ahead: number;
  readonly #queue: Canceller;
  /** The result, once it is granted. */
  result: number | undefined;
  /** The neighbours among the waits of the slot. */
  next: Wait | undefined;
  previous: Wait | undefined;

  constructor(slot: OwnSlot, ahead: number, queue: Canceller) {
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
export class OwnSlot {
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
