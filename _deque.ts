// Copyright 2026 the Duplex authors. MIT license.

/**
 * A queue with constant-time ends, for what waits inside a session. An array's
 * `shift` moves every item, which a window full of messages would feel.
 *
 * @module
 */

const INITIAL_CAPACITY = 16;

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

  /** Takes the first item. The queue must not be empty. */
  shift(): T {
    const item = this.#items[this.#head] as T;
    this.#items[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#items.length - 1);
    this.#length--;
    return item;
  }

  /** Removes one item, wherever it stands; `false` if it is not there. */
  remove(item: T): boolean {
    const items = this.toArray();
    const index = items.indexOf(item);
    if (index === -1) return false;
    items.splice(index, 1);
    this.clear();
    for (const rest of items) this.push(rest);
    return true;
  }

  /** The items in order. */
  toArray(): T[] {
    const mask = this.#items.length - 1;
    return Array.from(
      { length: this.#length },
      (_, index) => this.#items[(this.#head + index) & mask] as T,
    );
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
