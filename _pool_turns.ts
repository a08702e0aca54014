// Copyright 2026 the Duplex authors. MIT license.

/**
 * The sources of a pool that may have tasks, in the order of their turns. Adding
 * one, removing one and moving the first one to the end cost the same however many
 * there are: a set would walk over those that were removed to find its first.
 *
 * @module
 */

import type { Source } from "./_pool_task.ts";

/** A source in the list. */
interface Turn {
  readonly source: Source;
  previous: Turn | undefined;
  next: Turn | undefined;
}

/** Sources in the order of their turns. */
export class Turns implements Iterable<Source> {
  readonly #turns = new Map<Source, Turn>();
  #first: Turn | undefined;
  #last: Turn | undefined;

  /** The source whose turn is next. */
  get first(): Source | undefined {
    return this.#first?.source;
  }

  /** Adds a source at the end, unless it is there. */
  add(source: Source): void {
    if (this.#turns.has(source)) return;
    const turn: Turn = { source, previous: this.#last, next: undefined };
    this.#turns.set(source, turn);
    if (this.#last === undefined) this.#first = turn;
    else this.#last.next = turn;
    this.#last = turn;
  }

  /** Removes a source, and says whether it was there. */
  delete(source: Source): boolean {
    const turn = this.#turns.get(source);
    if (turn === undefined) return false;
    this.#turns.delete(source);
    const { previous, next } = turn;
    if (previous === undefined) this.#first = next;
    else previous.next = next;
    if (next === undefined) this.#last = previous;
    else next.previous = previous;
    return true;
  }

  /** The sources in their order. The one that was given last may be removed. */
  *[Symbol.iterator](): Iterator<Source> {
    for (let turn = this.#first; turn !== undefined; turn = turn.next) {
      yield turn.source;
    }
  }
}
