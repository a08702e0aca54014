// Copyright 2026 the Duplex authors. MIT license.

/**
 * Pools whose workers are objects of this process, each at the far end of a real
 * duplex: what they do is then up to the test, step by step.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { Duplex } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { Pool, type PoolOptions } from "@duplex/ipc/pool";
import { expose } from "@duplex/ipc/rpc";
import { DESCRIBE, TAG } from "../../_rpc/messages.ts";

/** Opens duplexes, and keeps them. */
export class Opener {
  /** This side's ends, and the far ones. */
  readonly near: Duplex[] = [];
  readonly far: Duplex[] = [];
  readonly #methods: (worker: number) => object;

  /** @param methods Makes the methods of a worker, from 0. */
  constructor(methods: (worker: number) => object) {
    this.#methods = methods;
  }

  readonly open = (): Promise<Duplex> => {
    const [near, far] = duplexPair();
    expose(this.#methods(this.near.length), far);
    this.near.push(near);
    this.far.push(far);
    return Promise.resolve(near);
  };

  /** Messages that went to workers. */
  get sent(): number {
    return this.near.reduce((sum, { stats }) => sum + stats.sent, 0);
  }

  /** Settles when nothing is left of any worker. */
  async gone(): Promise<void> {
    await Promise.allSettled(
      [...this.near, ...this.far].map((end) => end.closed),
    );
  }
}

/** A pool of one worker in this process. */
export function poolOf<T extends object>(
  methods: T,
  options: PoolOptions = {},
): [Pool<T>, Opener] {
  const opener = new Opener(() => methods);
  return [new Pool<T>(opener.open, { workers: 1, ...options }), opener];
}

/** A message to a peer, or from it. */
export type Raw = [tag: number, id: number, ...unknown[]];

/** A pool of one worker at a time, whose peers answer message by message. */
export function rawPool(
  onMessage: (message: Raw, far: Duplex, worker: number) => void,
  options: PoolOptions = {},
): Pool {
  let workers = 0;
  const serve = async (far: Duplex) => {
    const worker = workers++;
    // The pool first waits for an answer, which shows that methods are exposed.
    const [, id, method] = await far.receive() as Raw;
    assertEquals(method, DESCRIBE);
    await far.send([TAG.value, id, {}]);
    for (;;) onMessage(await far.receive() as Raw, far, worker);
  };
  return new Pool(() => {
    const [near, far] = duplexPair();
    serve(far).catch(() => far.close()).catch(() => {});
    return Promise.resolve(near);
  }, { workers: 1, ...options });
}

/** Computes without a pause. */
export function compute(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

/** Something that happens once, and can be waited for. */
export class Gate {
  readonly #opened = Promise.withResolvers<void>();

  open(): void {
    this.#opened.resolve();
  }

  get opened(): Promise<void> {
    return this.#opened.promise;
  }
}

/** Steps that a test waits for, counted. */
export class Steps {
  count = 0;
  readonly #waiting = new Map<number, PromiseWithResolvers<void>>();

  step(): void {
    this.count++;
    this.#waiting.get(this.count)?.resolve();
  }

  /** Settles when there were so many. */
  async until(count: number): Promise<void> {
    if (this.count >= count) return;
    const waiting = this.#waiting.get(count) ?? Promise.withResolvers<void>();
    this.#waiting.set(count, waiting);
    await waiting.promise;
  }
}

/** Has timers of one length be up at once, or all, until it is disposed of. */
export class NoWaiting implements Disposable {
  readonly #setTimeout = globalThis.setTimeout;
  /** How long it was not waited. */
  readonly lengths: number[] = [];

  constructor(length?: number) {
    const start = (run: () => void, ms = 0) => {
      if (length !== undefined && ms !== length) {
        return this.#setTimeout(run, ms);
      }
      this.lengths.push(ms);
      return this.#setTimeout(run, 0);
    };
    globalThis.setTimeout = start as typeof setTimeout;
  }

  [Symbol.dispose](): void {
    globalThis.setTimeout = this.#setTimeout;
  }
}

/** Counts the listeners of a signal. */
export function listenersOf(signal: AbortSignal): { count: number } {
  const listeners = { count: 0 };
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    listeners.count++;
    add(...args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    listeners.count--;
    remove(...args);
  };
  return listeners;
}

/** The numbers from 0 to below a count. */
export function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, number) => number);
}

/** Numbers forever, or up to a count, and what became of them. */
export class Source {
  read = 0;
  returned = 0;
  readonly #count: number;

  constructor(count: number = Infinity) {
    this.#count = count;
  }

  get sync(): Iterable<number> {
    return { [Symbol.iterator]: () => this.#iterator() };
  }

  get async(): AsyncIterable<number> {
    const iterator = this.#iterator();
    return {
      [Symbol.asyncIterator]: () => ({
        next: () => Promise.resolve(iterator.next()),
        return: () => Promise.resolve(iterator.return!()),
      }),
    };
  }

  #iterator(): Iterator<number> {
    return {
      next: () =>
        this.read < this.#count
          ? { value: this.read++, done: false }
          : { value: undefined, done: true },
      return: () => {
        this.returned++;
        return { value: undefined, done: true };
      },
    };
  }
}

/** Both kinds of a source. */
export const KINDS = ["sync", "async"] as const;

/** Lets everything run that waits for nothing. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
