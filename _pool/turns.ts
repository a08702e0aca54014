// Copyright 2026 the Duplex authors. MIT license.

/**
 * The sources of a pool that may have tasks, in the order of their turns. Adding
 * one, removing one and moving the first one to the end cost the same however many
 * there are: a set would walk over those that were removed to find its first.
 *
 * @module
 */

/** Something that is listed at most once. */
export interface Listed {
  /** Its place in the list, which belongs to the list. */
  turn: Turn | undefined;
}

/** A place in the list. */
interface Turn {
  previous: Listed | undefined;
  next: Listed | undefined;
  isListed: boolean;
}

/** What is listed, in the order of the turns. */
export class Turns<T extends Listed> implements Iterable<T> {
  #first: T | undefined;
  #last: T | undefined;

  /** Whose turn is next. */
  get first(): T | undefined {
    return this.#first;
  }

  /** Adds one at the end, unless it is there. */
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

  /** Removes one, and says whether it was there. */
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

  /** All in their order. The one that was given last may be removed. */
  *[Symbol.iterator](): Iterator<T> {
    let item = this.#first;
    while (item !== undefined) {
      yield item;
      item = item.turn!.next as T | undefined;
    }
  }
}
