// Copyright 2026 the Duplex authors. MIT license.

/**
 * The room for tasks in the queue of a pool, and the promises that wait for it, in
 * their order. Room for which a promise was resolved is kept for some microtasks, in
 * which its program can add a task.
 *
 * @module
 */

import { AbortGroups, Deque, MAX_TIMER } from "../_base/waiting.ts";

/**
 * Microtasks for which room is kept: `await pool.ready()` takes one, and each function
 * and combination of promises around it a few more.
 */
const KEPT_TICKS = 16;

/** A promise that waits for room. */
class Place {
  readonly settle = Promise.withResolvers<void>();
  readonly signal: AbortSignal | undefined;
  timer: ReturnType<typeof setTimeout> | undefined;
  isSettled = false;

  constructor(signal: AbortSignal | undefined) {
    this.signal = signal;
  }
}

/** The room for tasks in a queue. */
export class Room {
  readonly #max: number;
  #used = 0;
  /** Places kept for promises that were resolved. */
  #kept = 0;
  /** Promises that were resolved, of all time. */
  #resolved = 0;
  #isExpiring = false;
  readonly #places = new Deque<Place>();
  /** Promises that wait: the others keep their places for a while. */
  #waiting = 0;
  readonly #aborts = new AbortGroups<Place>((places, reason) => {
    for (const place of [...places]) this.#reject(place, reason);
  });

  /** @param max The number of tasks. */
  constructor(max: number) {
    this.#max = max;
  }

  /** Takes room for a task; returns whether there was any. */
  take(): boolean {
    if (this.#used >= this.#max) return false;
    this.#used++;
    if (this.#kept > 0) this.#kept--;
    return true;
  }

  /** Gives back the room of a task. */
  give(): void {
    this.#used--;
    if (this.#waiting > 0) this.#grant();
  }

  /** Resolves when there is room; rejects with the signal's reason, or a "TimeoutError". */
  ready(signal: AbortSignal | undefined, timeout: number): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#max === Infinity) return Promise.resolve();
    const place = new Place(signal);
    this.#places.push(place);
    this.#waiting++;
    this.#grant();
    if (place.isSettled) return place.settle.promise;
    if (signal !== undefined) this.#aborts.add(place, signal);
    if (timeout <= MAX_TIMER) {
      place.timer = setTimeout(
        () => this.#reject(place, timeoutError(timeout)),
        timeout,
      );
    }
    return place.settle.promise;
  }

  /** Rejects all that wait. */
  fail(error: unknown): void {
    while (this.#places.length > 0) this.#reject(this.#places.first, error);
  }

  /** Resolves as many promises as there is room. */
  #grant(): void {
    while (this.#waiting > 0 && this.#used + this.#kept < this.#max) {
      const place = this.#places.first;
      this.#kept++;
      this.#resolved++;
      this.#end(place);
      place.settle.resolve();
    }
    if (this.#kept > 0 && !this.#isExpiring) this.#expire();
  }

  /** Ends the keeping of room after a number of microtasks. Never rejects. */
  async #expire(): Promise<void> {
    this.#isExpiring = true;
    for (let resolved = -1; resolved !== this.#resolved;) {
      resolved = this.#resolved;
      for (let tick = 0; tick < KEPT_TICKS; tick++) await undefined;
    }
    this.#isExpiring = false;
    this.#kept = 0;
    this.#grant();
  }

  #reject(place: Place, error: unknown): void {
    if (place.isSettled) return;
    this.#end(place);
    place.settle.reject(error);
  }

  /** Removes a place, and settled ones before it. */
  #end(place: Place): void {
    place.isSettled = true;
    this.#waiting--;
    clearTimeout(place.timer);
    if (place.signal !== undefined) this.#aborts.delete(place, place.signal);
    while (this.#places.length > 0 && this.#places.first.isSettled) {
      this.#places.shift();
    }
    if (this.#waiting * 2 >= this.#places.length) return;
    this.#places.retain(({ isSettled }) => !isSettled);
  }
}

function timeoutError(timeout: number): DOMException {
  return new DOMException(
    `Cannot wait for room in the queue: there was none within ${timeout} ms`,
    "TimeoutError",
  );
}
