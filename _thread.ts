// Copyright 2026 the Duplex authors. MIT license.

/**
 * A Web Worker and its life: started with exactly the permissions that it is
 * given, ended when it is told to, and noticed when it dies. Deno tells nobody
 * that a worker is gone; but a worker takes a Web Lock at its start (see
 * `_parent_thread.ts`), and the lock is free again when there is no worker.
 *
 * What a worker throws does not end this process; it is told in the error that
 * everything pending rejects with. What cannot be held back is a worker whose
 * heap is full: Deno 2.9 ends the process then.
 *
 * @module
 */

import { PeerExitError } from "./_errors.ts";
import { absolutePath } from "./_permissions_path.ts";
import { threadPermissions } from "./_permissions_thread.ts";
import { GONE, locks, type Port, threadName } from "./_port.ts";
import { settlesWithin } from "./_waiting.ts";
import type { Permissions } from "./permissions.ts";

/**
 * Milliseconds that a worker has to hear how its duplex ended, before it is
 * terminated. One that comes to its event loop says so and does not use them.
 */
const GRACE = 1_000;

/** A Web Worker that runs a script. */
export class Thread {
  /** What the script is called in errors. */
  readonly label: string;
  readonly #worker: Worker;
  readonly #lock: string;
  readonly #gone = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();
  #watch: AbortController | undefined;
  #isEnded = false;
  #error = "";

  private constructor(label: string, worker: Worker, lock: string) {
    this.label = label;
    this.#worker = worker;
    this.#lock = lock;
    worker.addEventListener("error", (event) => {
      // Deno ends this process otherwise.
      event.preventDefault();
      this.#error ||= event.message;
      this.#onEnd();
    });
  }

  /**
   * Starts a worker.
   *
   * @param action What is attempted, for errors.
   * @param transport What the worker's own end must open.
   * @param script The worker script.
   * @param permissions What it may do.
   */
  static async start(
    action: string,
    transport: string,
    script: string | URL,
    permissions: Permissions,
  ): Promise<Thread> {
    const url = scriptUrl(action, script);
    const options = await threadPermissions(action, permissions);
    const lock = threadName(transport);
    const worker = new Worker(url, { type: "module", name: lock, ...options });
    return new Thread(nameOf(url), worker, lock);
  }

  /** Settles when the worker has ended, for whatever reason. Never rejects. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** The way to talk to the worker. What it says of its end is kept here. */
  get port(): Port {
    const worker = this.#worker;
    // What is posted before the worker listens is lost, so it speaks first.
    let early: [unknown, Transferable[]][] | undefined = [];
    const post = (message: unknown, transfer: Transferable[]) => {
      // Deno posts faster where nothing is transferred.
      if (transfer.length === 0) worker.postMessage(message);
      else worker.postMessage(message, transfer);
    };
    return {
      postMessage: (message, transfer) => {
        if (early === undefined) post(message, transfer);
        else early.push([message, transfer]);
      },
      listen: (onMessage) => {
        worker.onmessage = ({ data }) => {
          if (data === GONE) return this.#gone.resolve();
          if (early !== undefined) {
            this.#watchLock();
            for (const [message, transfer] of early) post(message, transfer);
            early = undefined;
          }
          onMessage(data);
        };
        worker.onmessageerror = ({ data }) => onMessage(data);
      },
    };
  }

  /** The error of a worker that ended without a goodbye. */
  exitError(cause: unknown, unsent: readonly unknown[]): PeerExitError {
    const why = this.#error === "" ? "" : `: ${this.#error}`;
    return new PeerExitError(
      `The worker "${this.label}" ended without a goodbye${why}`,
      { cause, unsent, stderr: this.#error },
    );
  }

  /** Ends the worker after both goodbyes, within `timeout` milliseconds. */
  async close(timeout: number): Promise<void> {
    const gone = Promise.race([this.#gone.promise, this.#ended.promise]);
    await settlesWithin(gone, Math.min(timeout, GRACE));
    await this.terminate(timeout);
  }

  /** Ends the worker once it has heard of the end, or after a grace. */
  async destroy(): Promise<void> {
    await this.close(GRACE);
  }

  /**
   * Ends the worker now, and waits up to `timeout` milliseconds until it is gone.
   * Deno cannot end a worker that never comes to its event loop: it goes on until
   * the process ends, with nobody to talk to.
   */
  async terminate(timeout: number): Promise<void> {
    this.#worker.terminate();
    if (this.#watch === undefined) return this.#onEnd();
    await settlesWithin(this.#ended.promise, Math.min(timeout, GRACE));
    this.#onEnd();
    this.#watch.abort();
  }

  /** The worker holds its lock by the time that it says anything. */
  #watchLock(): void {
    if (this.#watch !== undefined || this.#isEnded) return;
    this.#watch = new AbortController();
    const { signal } = this.#watch;
    const onEnd = () => this.#onEnd();
    locks.request(this.#lock, { signal }, onEnd).catch(onEnd);
  }

  #onEnd(): void {
    this.#isEnded = true;
    this.#ended.resolve();
  }
}

/** The address of a worker script: a URL, or a path. */
function scriptUrl(action: string, script: string | URL): URL {
  if (typeof script !== "string" && !(script instanceof URL)) {
    throw new TypeError(
      `${action} as the script must be a URL or a path: current value is ${script}`,
    );
  }
  if (script instanceof URL || URL.canParse(script)) return new URL(script);
  const url = new URL("file:///");
  url.pathname = absolutePath(script).replaceAll("%", "%25");
  return url;
}

/** What a script is called in errors. */
function nameOf({ protocol, pathname }: URL): string {
  return protocol === "data:" ? "data:" : pathname.split("/").at(-1)!;
}
