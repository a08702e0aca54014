// Copyright 2026 the Duplex authors. MIT license.

/**
 * A Web Worker and its life: started with exactly the permissions that it is
 * given, ended when it is told to, and noticed when it dies. Deno tells nobody
 * that a worker is gone; but a worker takes a Web Lock at its start (see
 * `_thread/scope.ts`), and the lock is free again when there is no worker.
 *
 * What a worker throws does not end this process; it is told in the error that
 * everything pending rejects with. A worker whose heap grows too large ends
 * itself (see `_thread/parent_memory.ts`).
 *
 * @module
 */

import { PeerExitError } from "../_base/errors.ts";
import { checkPositive, checkSignal } from "../_base/options.ts";
import { ALL, checkRuntime } from "../_base/runtime.ts";
import { absolutePath, isUrl } from "../_permissions/path.ts";
import { threadPermissions } from "./permissions.ts";
import { reasonText, show } from "../_base/text.ts";
import { GONE, locks, type Port, post, READY, threadName } from "./scope.ts";
import { settlesWithin } from "../_base/waiting.ts";
import type { Permissions } from "../permissions.ts";

/**
 * Milliseconds that a worker has to hear how its duplex ended, before it is
 * terminated. One that comes to its event loop says so and does not use them.
 */
const GRACE = 1_000;

/** Milliseconds in which a worker that is terminated is gone, unless it is busy. */
const LAST_MOMENT = 200;

/** Options for transports whose workers are Web Workers. */
export interface ThreadOptions {
  /**
   * Permissions of each worker. The caller must hold them.
   *
   * @default {"none"}
   */
  permissions?: Permissions;
  /**
   * Bytes of each worker's JavaScript heap, at most Deno's limit: 4 GiB on a machine
   * with 16 GiB, less on a smaller one, more with `--v8-flags=--max-old-space-size`.
   * A worker whose heap is larger ends. The heap is measured ten times a second, when
   * the worker returns to its event loop; a worker that fills its heap in one step
   * ends the process. The default leaves a quarter for growth between two
   * measurements.
   *
   * @default {three quarters of Deno's limit}
   */
  memory?: number;
  /**
   * Milliseconds for each worker to start and say hello, also for a replacement.
   *
   * @default {10000}
   */
  openTimeout?: number;
  /** Cancels the opening: the workers are ended, and it rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** {@linkcode ThreadOptions} with their defaults. */
export interface CompleteThreadOptions {
  readonly permissions: Permissions;
  readonly memory: number | undefined;
  readonly openTimeout: number;
  readonly signal: AbortSignal | undefined;
}

/** As {@linkcode ThreadOptions.memory}: the share of the heap that Deno gives. */
const DEFAULT_MEMORY_SHARE = 3 / 4;

/** As {@linkcode ThreadOptions.openTimeout}: what a start on a busy machine takes, a hundred times over. */
const DEFAULT_TIMEOUT = 10_000;

/**
 * The options of a Web Worker, checked and completed.
 *
 * @param action What is attempted, for errors.
 */
export function threadOptions(
  action: string,
  options: ThreadOptions,
): CompleteThreadOptions {
  checkRuntime(action, ALL);
  const {
    permissions = "none",
    memory,
    openTimeout = DEFAULT_TIMEOUT,
    signal,
  } = options;
  checkPositive(action, "memory", memory ?? 1);
  checkPositive(action, "openTimeout", openTimeout);
  checkSignal(action, signal);
  signal?.throwIfAborted();
  return { permissions, memory, openTimeout, signal };
}

/** The bytes that a worker's heap may hold. */
async function memoryLimit(
  action: string,
  memory: number | undefined,
): Promise<number> {
  const { getHeapStatistics } = await import("node:v8");
  const { heap_size_limit: most } = getHeapStatistics();
  if (memory === undefined) return Math.floor(most * DEFAULT_MEMORY_SHARE);
  checkPositive(action, "memory", memory, { most });
  return Math.ceil(memory);
}

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
  /** Whether the worker's end of the duplex has ended. */
  #isGone = false;
  /** What was posted before the worker listens, which would be lost. */
  #unposted: [unknown, Transferable[]][] | undefined = [];
  /** What came before anybody asked for it. */
  #early: unknown[] = [];
  #onMessage: (message: unknown) => void = (message) =>
    this.#early.push(message);
  #error = "";

  private constructor(label: string, worker: Worker, lock: string) {
    this.label = label;
    this.#worker = worker;
    this.#lock = lock;
    // At once: what comes before there is a listener is lost.
    worker.onmessage = ({ data }) => this.#receive(data);
    worker.onmessageerror = ({ data }) => this.#receive(data);
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
   * @param options What it may do and hold.
   */
  static async start(
    action: string,
    transport: string,
    script: string | URL,
    { permissions, memory }: CompleteThreadOptions,
  ): Promise<Thread> {
    const url = scriptUrl(action, script);
    const granted = await threadPermissions(action, permissions);
    const lock = threadName(transport, await memoryLimit(action, memory));
    const options = { type: "module", name: lock, ...granted } as const;
    return new Thread(nameOf(url), startWorker(action, url, options), lock);
  }

  /** Settles when the worker has ended, for whatever reason. Never rejects. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /**
   * Settles when the worker will post nothing more, because it has ended or its
   * end of the duplex has. What it posted before has arrived. Never rejects.
   */
  get left(): Promise<void> {
    return Promise.race([this.#gone.promise, this.#ended.promise]);
  }

  /** The way to talk to the worker. */
  get port(): Port {
    return {
      postMessage: (message, transfer) => {
        if (this.#unposted === undefined) post(this.#worker, message, transfer);
        else this.#unposted.push([message, transfer]);
      },
      listen: (onMessage) => {
        this.#onMessage = onMessage;
        for (const message of this.#early) onMessage(message);
        this.#early = [];
      },
    };
  }

  /** The error of a worker that ended without a goodbye. */
  exitError(cause: unknown, unsent: readonly unknown[]): PeerExitError {
    const why = this.#error === "" ? "" : `: ${reasonText(this.#error)}`;
    const how = this.#isGone
      ? "closed its end before this side did"
      : "ended without a goodbye";
    return new PeerExitError(
      `The worker "${this.label}" ${how}${why}`,
      { cause, unsent, stderr: this.#error },
    );
  }

  /**
   * Ends the worker after both goodbyes, within `timeout` milliseconds.
   *
   * @param unsent Messages that the worker is not known to have received.
   * @throws {PeerExitError} If its script ended with an error: what leaves an
   *   `await using` block says goodbye first.
   */
  async close(timeout: number, unsent: readonly unknown[]): Promise<void> {
    await this.#leave(timeout);
    if (this.#error === "") return;
    throw new PeerExitError(
      `The worker "${this.label}" ended with an error: ${
        reasonText(this.#error)
      }`,
      { unsent, stderr: this.#error },
    );
  }

  async #leave(timeout: number): Promise<void> {
    // One that never listened has nothing to say.
    if (this.#unposted === undefined) {
      await settlesWithin(this.left, Math.min(timeout, GRACE));
    }
    await this.#terminate();
  }

  /** Ends the worker once it has heard of the end, or after a grace. */
  async destroy(): Promise<void> {
    await this.#leave(GRACE);
  }

  /**
   * Ends the worker now. Deno cannot end one that never comes to its event loop:
   * it goes on until the process ends, with nobody to talk to.
   */
  async #terminate(): Promise<void> {
    this.#worker.terminate();
    if (this.#watch === undefined) return this.#onEnd();
    await settlesWithin(this.#ended.promise, LAST_MOMENT);
    this.#onEnd();
    this.#watch.abort();
  }

  /** Takes what the worker says of itself, and hands on the rest. */
  #receive(message: unknown): void {
    if (message === READY) {
      for (const [early, transfer] of this.#unposted ?? []) {
        post(this.#worker, early, transfer);
      }
      this.#unposted = undefined;
      this.#watchLock();
    } else if (message === GONE) {
      this.#isGone = true;
      this.#gone.resolve();
    } else {
      this.#onMessage(message);
    }
  }

  /** The worker holds its lock by the time that it says it listens. */
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

/** Starts a worker; what Deno finds wrong with its options is told as such. */
function startWorker(action: string, url: URL, options: WorkerOptions): Worker {
  try {
    return new Worker(url, options);
  } catch (cause) {
    if ((cause as Error).name === "NotCapable") throw cause;
    throw new TypeError(
      `${action} as Deno does not take the permissions: ${
        (cause as Error).message
      }`,
      { cause },
    );
  }
}

/** The address of a worker script: a URL, or a path. */
function scriptUrl(action: string, script: string | URL): URL {
  if (typeof script !== "string" && !(script instanceof URL)) {
    throw new TypeError(
      `${action} as the script must be a URL or a path: current value is ${
        show(script)
      }`,
    );
  }
  if (script instanceof URL || isUrl(script)) return new URL(script);
  const url = new URL("file:///");
  url.pathname = absolutePath(script).replaceAll("%", "%25");
  return url;
}

/** What a script is called in errors. */
function nameOf({ protocol, pathname }: URL): string {
  return protocol === "data:" ? "data:" : pathname.split("/").at(-1)!;
}
