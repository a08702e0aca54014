// Copyright 2026 the Duplex authors. MIT license.

/**
 * The events of a pool as asynchronous iterables. Each reader has its own buffer,
 * whose size is limited.
 *
 * @module
 */

import { Deque } from "../_base/waiting.ts";

/** Events that a reader may be behind: some kilobytes for each reader. */
const MAX_EVENTS = 1000;

/**
 * Why a worker has ended:
 *
 * - "closed": the pool was closed or aborted.
 * - "idleTimeout", "maxTasks", "maxMemory": the option of the pool with this name.
 * - "aborted": the pool has ended it after a timeout, a cancelled task, or a measurement
 *   of its memory without an answer.
 * - "exited": any other end of the worker or of its link.
 */
export type EndReason =
  | "closed"
  | "idleTimeout"
  | "maxTasks"
  | "maxMemory"
  | "aborted"
  | "exited";

/**
 * An event in the life of a pool. Workers have numbers, in the order of their starts,
 * from 1; a failed start has a number as well.
 */
export type PoolEvent =
  | {
    /** A worker runs and can take tasks. */
    readonly type: "started";
    readonly worker: number;
  }
  | {
    /** A worker has ended, and nothing of it is left. */
    readonly type: "ended";
    readonly worker: number;
    readonly reason: EndReason;
    /** How it ended, unless it ended with a goodbye. */
    readonly error?: unknown;
  }
  | {
    /** An attempt to start a worker has failed. */
    readonly type: "startFailed";
    readonly worker: number;
    readonly error: unknown;
    /** Attempts that have failed since a worker was started last. */
    readonly attempt: number;
    /**
     * Milliseconds until the next attempt, if a task waits then. `undefined` if the
     * error lasts: the next task that is added is the reason for another attempt.
     */
    readonly delay: number | undefined;
  }
  | {
    /** A task is run again: its worker ended, or it threw an error for `retryOn`. */
    readonly type: "retried";
    readonly method: string;
    /** The key of the task, if it has one. */
    readonly key?: string;
    /** Number of workers that may have begun it so far. */
    readonly attempts: number;
    /** Milliseconds until it waits for a worker. */
    readonly delay: number;
    readonly error: unknown;
  }
  | {
    /** The reader was more than 1000 events behind: the oldest were dropped. */
    readonly type: "dropped";
    readonly count: number;
  };

type Result = IteratorResult<PoolEvent, undefined>;

/** The events of a pool. */
export class EventLog {
  readonly #readers = new Set<EventReader>();
  #isEnded = false;

  /** Adds an event for all readers. */
  emit(event: PoolEvent): void {
    for (const reader of this.#readers) reader.push(event);
  }

  /** A reader of all later events. */
  read(): AsyncIterableIterator<PoolEvent> {
    const reader = new EventReader((reader) => this.#readers.delete(reader));
    if (this.#isEnded) reader.end();
    else this.#readers.add(reader);
    return reader;
  }

  /** No more events follow: readers end after those that they have. */
  end(): void {
    this.#isEnded = true;
    for (const reader of this.#readers) reader.end();
    this.#readers.clear();
  }
}

/** A reader of events, with a buffer. */
class EventReader implements AsyncIterableIterator<PoolEvent> {
  readonly #events = new Deque<PoolEvent>();
  readonly #waiting = new Deque<PromiseWithResolvers<Result>>();
  readonly #onReturn: (reader: EventReader) => void;
  #dropped = 0;
  #isEnded = false;

  constructor(onReturn: (reader: EventReader) => void) {
    this.#onReturn = onReturn;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  push(event: PoolEvent): void {
    if (this.#waiting.length > 0) {
      return this.#waiting.shift().resolve({ value: event, done: false });
    }
    this.#events.push(event);
    if (this.#events.length <= MAX_EVENTS) return;
    this.#events.shift();
    this.#dropped++;
  }

  end(): void {
    this.#isEnded = true;
    while (this.#waiting.length > 0) {
      this.#waiting.shift().resolve({ value: undefined, done: true });
    }
  }

  next(): Promise<Result> {
    const value = this.#take();
    if (value !== undefined) return Promise.resolve({ value, done: false });
    if (this.#isEnded) return Promise.resolve({ value, done: true });
    const waiting = Promise.withResolvers<Result>();
    this.#waiting.push(waiting);
    return waiting.promise;
  }

  return(): Promise<Result> {
    this.#onReturn(this);
    this.#events.clear();
    this.#dropped = 0;
    this.end();
    return Promise.resolve({ value: undefined, done: true });
  }

  #take(): PoolEvent | undefined {
    const count = this.#dropped;
    if (count > 0) {
      this.#dropped = 0;
      return { type: "dropped", count };
    }
    return this.#events.length > 0 ? this.#events.shift() : undefined;
  }
}
