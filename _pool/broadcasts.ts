// Copyright 2026 the Duplex authors. MIT license.

/**
 * Calls of a method in all workers of a pool, and in later ones as a part of their
 * start.
 *
 * @module
 */

import { NO_LIMITS } from "../_rpc/caller.ts";
import { RpcEndpoint } from "../_rpc/endpoint.ts";
import type { Duplex } from "../duplex.ts";
import type { PoolWorker } from "./worker.ts";

/** A call in all workers. */
export interface Broadcast {
  readonly method: string;
  readonly args: readonly unknown[];
  /** Milliseconds for each worker. */
  readonly timeout: number;
  readonly signal: AbortSignal | undefined;
}

/** The calls in all workers of a pool. */
export class Broadcasts {
  /**
   * Calls in later workers, in order. The last one of a method replaces the ones
   * before, so that the list does not grow with the calls.
   */
  readonly #later = new Map<string, Broadcast>();
  readonly #running = new Set<Promise<unknown>>();

  /**
   * Calls a method in workers.
   *
   * @param onIdle Called with each worker when it has answered.
   * @returns The results, in the order of the workers.
   */
  async call(
    workers: PoolWorker[],
    broadcast: Broadcast,
    isLater: boolean,
    onIdle: (worker: PoolWorker) => void,
  ): Promise<unknown[]> {
    const { method, args, timeout, signal } = broadcast;
    if (isLater) {
      this.#later.delete(method);
      this.#later.set(method, broadcast);
    }
    const calls = workers.map(async (worker) => {
      try {
        return await worker.call(method, args, {
          ...NO_LIMITS,
          timeout,
          signal,
        });
      } finally {
        onIdle(worker);
      }
    });
    const running = Promise.allSettled(calls);
    this.#running.add(running);
    running.then(() => this.#running.delete(running));
    try {
      return await Promise.all(calls);
    } catch (error) {
      // Later workers would fail in the same way, and no task could be run.
      if (this.#later.get(method) === broadcast) this.#later.delete(method);
      throw error;
    }
  }

  /** The calls to make in a worker that starts. */
  laterCalls(duplex: Duplex): LaterCalls {
    return new LaterCalls(this.#later, duplex);
  }

  /** Settles when no call is running. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#running);
  }
}

/** The calls to make in a worker that starts. Others may be added meanwhile. */
export class LaterCalls {
  readonly #later: ReadonlyMap<string, Broadcast>;
  readonly #duplex: Duplex;
  readonly #done = new Set<Broadcast>();

  constructor(later: ReadonlyMap<string, Broadcast>, duplex: Duplex) {
    this.#later = later;
    this.#duplex = duplex;
  }

  /** Whether all calls were made. */
  get isDone(): boolean {
    return this.#first === undefined;
  }

  /** Makes the next call. */
  async next(): Promise<void> {
    const call = this.#first;
    if (call === undefined) return;
    this.#done.add(call);
    const { method, args, timeout } = call;
    const limits = { ...NO_LIMITS, timeout };
    await RpcEndpoint.of(this.#duplex).call(method, args, limits);
  }

  get #first(): Broadcast | undefined {
    for (const call of this.#later.values()) {
      if (!this.#done.has(call)) return call;
    }
    return undefined;
  }
}
