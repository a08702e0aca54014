// Copyright 2026 the Duplex authors. MIT license.

/**
 * The sources of a pool that may have tasks, in the order of their turns: the highest
 * priority first, and within one the source that was added first. It is a heap:
 * adding and removing take logarithmic time, reading the first source constant time.
 *
 * @module
 */

/** An item that is in at most one list. */
export interface Listed {
  /** The priority with which it is added. */
  readonly priority: number;
  /** Its place, which belongs to the list. */
  turn: Turn | undefined;
}

/** The place of an item. */
export interface Turn {
  /** The list that has the item. */
  list: { delete(item: Listed): boolean } | undefined;
  /** Its index in the heap. */
  index: number;
  priority: number;
  /** When it was added, among all lists. */
  number: number;
}

/** Number of the latest turn: turns of all lists can be compared. */
let latest = 0;

/** Whether the turn of an item comes before that of another. */
export function isBefore(one: Listed, other: Listed): boolean {
  const [a, b] = [one.turn!, other.turn!];
  return a.priority > b.priority ||
    a.priority === b.priority && a.number < b.number;
}

/** A list of items in the order of their turns. */
export class Turns<T extends Listed> implements Iterable<T> {
  readonly #heap: T[] = [];

  /** The item whose turn is next. */
  get first(): T | undefined {
    return this.#heap[0];
  }

  /** Adds an item behind those of its priority, unless it is in a list. */
  add(item: T): void {
    const turn = item.turn ??= {
      list: undefined,
      index: 0,
      priority: 0,
      number: 0,
    };
    if (turn.list !== undefined) return;
    turn.list = this;
    turn.priority = item.priority;
    turn.number = ++latest;
    this.#heap.push(item);
    this.#raise(item, this.#heap.length - 1);
  }

  /** Removes an item; returns whether it was in the list. */
  delete(item: T): boolean {
    const { turn } = item;
    if (turn?.list !== this) return false;
    turn.list = undefined;
    const last = this.#heap.pop()!;
    if (last === item) return true;
    this.#raise(last, turn.index);
    this.#lower(last, last.turn!.index);
    return true;
  }

  /** Up to so many items, the first one among them. */
  some(most: number): T[] {
    return this.#heap.slice(0, most);
  }

  /** Iterates over the items of this moment, in any order. */
  [Symbol.iterator](): Iterator<T> {
    return this.#heap.slice().values();
  }

  /** Places an item at an index, or nearer to the first. */
  #raise(item: T, index: number): void {
    const heap = this.#heap;
    while (index > 0) {
      const parent = heap[(index - 1) >> 1]!;
      if (isBefore(parent, item)) break;
      index = this.#put(parent, index, (index - 1) >> 1);
    }
    this.#put(item, index, index);
  }

  /** Places an item at an index, or farther from the first. */
  #lower(item: T, index: number): void {
    const heap = this.#heap;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) {
        child++;
      }
      if (isBefore(item, heap[child]!)) break;
      index = this.#put(heap[child]!, index, child);
    }
    this.#put(item, index, index);
  }

  #put(item: T, index: number, next: number): number {
    this.#heap[index] = item;
    item.turn!.index = index;
    return next;
  }
}
