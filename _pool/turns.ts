// Copyright 2026 the Duplex authors. MIT license.

/**
 * The sources of a pool that may have tasks, in the order of their turns: a linked
 * list. Adding, removing, and moving the first source to the end take constant time.
 * A `Set` would iterate over removed entries to find its first one.
 *
 * @module
 */

/** An item that is in at most one list. */
export interface Listed {
  /** Its links, which belong to the list. */
  turn: Turn | undefined;
}

/** The links of an item. */
interface Turn {
  previous: Listed | undefined;
  next: Listed | undefined;
  isListed: boolean;
}

/** A list of items in the order of their turns. */
export class Turns<T extends Listed> implements Iterable<T> {
  #first: T | undefined;
  #last: T | undefined;

  /** The item whose turn is next. */
  get first(): T | undefined {
    return this.#first;
  }

  /** Adds an item at the end, unless it is in the list. */
  add(item: T): void {
    const turn = item.turn ??= {
      previous: undefined,
      next: undefined,
      isListed: false,
    };
    if (turn.isListed) return;
    turn.isListed = true;
    turn.previous = this.#last;
    turn.next = undefined;
    if (this.#last === undefined) this.#first = item;
    else this.#last.turn!.next = item;
    this.#last = item;
  }

  /** Removes an item; returns whether it was in the list. */
  delete({ turn }: T): boolean {
    if (!turn?.isListed) return false;
    turn.isListed = false;
    const { previous, next } = turn;
    if (previous === undefined) this.#first = next as T | undefined;
    else previous.turn!.next = next;
    if (next === undefined) this.#last = previous as T | undefined;
    else next.turn!.previous = previous;
    return true;
  }

  /** Iterates in order. The current item may be removed. */
  *[Symbol.iterator](): Iterator<T> {
    let item = this.#first;
    while (item !== undefined) {
      yield item;
      item = item.turn!.next as T | undefined;
    }
  }
}
