// Copyright 2026 the Duplex authors. MIT license.

/**
 * A function in a Web Worker of its own that is called by blocking the thread. The
 * worker starts with the first call, without the event loop, and is replaced after a
 * timeout or if it has ended.
 *
 * @module
 */

import { ClosedError, isEnd, isInstance } from "../_base/errors.ts";
import { RpcEndpoint } from "../_rpc/endpoint.ts";
import { openThreadSync, type SyncThread } from "../_shm/opener.ts";
import type { ThreadOptions } from "../_thread/thread.ts";

const ACTION = "Cannot call a task in a blocked thread";

/** Calls the function of a task by blocking the thread. */
export class SyncTask {
  readonly #script: string;
  readonly #options: ThreadOptions;
  readonly #timeout: number;
  #worker: SyncThread | undefined;
  #isClosed = false;
  /** Settle when the workers that were dropped have ended. */
  readonly #dropped: Promise<void>[] = [];

  /**
   * @param script The worker script, as `taskScript` returns it.
   * @param options The permissions and the memory of the worker.
   * @param timeout Milliseconds that a call may take.
   */
  constructor(script: string, options: ThreadOptions, timeout: number) {
    this.#script = script;
    this.#options = options;
    this.#timeout = timeout;
  }

  /** Calls the function and blocks the thread until it has ended. */
  call(args: readonly unknown[]): unknown {
    if (this.#isClosed) {
      throw new ClosedError(`${ACTION}: the task is closed`);
    }
    this.#worker ??= openThreadSync(ACTION, this.#script, this.#options);
    const worker = this.#worker;
    const begun = performance.now();
    try {
      const endpoint = RpcEndpoint.of(worker.duplex);
      return endpoint.callSync("run", args, this.#timeout);
    } catch (error) {
      const isLate = performance.now() - begun >= this.#timeout &&
        isInstance(error, DOMException) && error.name === "TimeoutError";
      if (isLate || isEnd(error)) this.#drop(worker, error);
      throw error;
    }
  }

  /** Ends the worker. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const worker = this.#worker;
    this.#worker = undefined;
    await Promise.all([worker?.duplex.close(), ...this.#dropped]);
  }

  /** Ends the worker now. */
  async abort(reason: unknown): Promise<void> {
    this.#isClosed = true;
    if (this.#worker !== undefined) this.#drop(this.#worker, reason);
    await Promise.all(this.#dropped);
  }

  #drop(worker: SyncThread, reason: unknown): void {
    if (this.#worker === worker) this.#worker = undefined;
    worker.stop(reason);
    // It rejects with the reason, which the call has thrown.
    const ended = worker.duplex.closed.catch(() => {});
    this.#dropped.push(ended);
    ended.then(() => this.#dropped.splice(this.#dropped.indexOf(ended), 1));
  }
}
