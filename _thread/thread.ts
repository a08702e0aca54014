// Copyright 2026 the Duplex authors. MIT license.

/**
 * A Web Worker and its life: how it is started with exactly the permissions that it
 * is given, how it is ended, and how its end is noticed. Deno does not report the
 * end of a worker; but a worker takes a Web Lock at its start (see
 * `_thread/scope.ts`), which is free again when the worker is gone.
 *
 * What a worker throws does not end this process; it is reported by the error that
 * everything pending rejects with. A worker whose heap grows too large ends itself
 * (see `_thread/parent_end.ts`).
 *
 * @module
 */

import { PeerExitError } from "../_base/errors.ts";
import {
  checkPositive,
  checkSignal,
  DEFAULT_OPEN_TIMEOUT,
} from "../_base/options.ts";
import { checkRuntime, MIN_DENO } from "../_base/runtime.ts";
import { absolutePath, isUrl } from "../_permissions/path.ts";
import { threadPermissions } from "./permissions.ts";
import { reasonText, show } from "../_base/text.ts";
import {
  CLOSED_POST,
  locks,
  type Port,
  post,
  READY_POST,
  threadName,
} from "./scope.ts";
import { settlesWithin } from "../_base/waiting.ts";
import type { Permissions } from "../permissions.ts";

/**
 * Milliseconds for a worker to receive the end of its duplex before it is
 * terminated. A worker whose event loop runs reports it at once.
 */
const CLOSE_TIMEOUT = 1_000;

/** Milliseconds within which a terminated worker is gone, unless it is busy. */
const TERMINATE_TIMEOUT = 200;

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
   * Milliseconds for each worker to start and send its hello, also for a replacement.
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

/** The default of {@linkcode ThreadOptions.memory}, as a share of the heap. */
const DEFAULT_MEMORY_SHARE = 3 / 4;

/**
 * Checks the options of a Web Worker and adds the defaults.
 *
 * @param action What is attempted, for errors.
 */
export function threadOptions(
  action: string,
  options: ThreadOptions,
): CompleteThreadOptions {
  checkRuntime(action, MIN_DENO);
  const {
    permissions = "none",
    memory,
    openTimeout = DEFAULT_OPEN_TIMEOUT,
    signal,
  } = options;
  checkPositive(action, "memory", memory ?? 1);
  checkPositive(action, "openTimeout", openTimeout);
  checkSignal(action, signal);
  signal?.throwIfAborted();
  return { permissions, memory, openTimeout, signal };
}

/** Returns the bytes that a worker's heap may hold. */
async function memoryLimit(
  action: string,
  memory: number | undefined,
): Promise<number> {
  const { getHeapStatistics } = await import("node:v8");
  const { heap_size_limit: max } = getHeapStatistics();
  if (memory === undefined) return Math.floor(max * DEFAULT_MEMORY_SHARE);
  checkPositive(action, "memory", memory, { max });
  return Math.ceil(memory);
}

/** A Web Worker that runs a script. */
export class Thread {
  /** The name of the script in errors. */
  readonly label: string;
  readonly #worker: Worker;
  readonly #lock: string;
  readonly #gone = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();
  #watch: AbortController | undefined;
  #isEnded = false;
  /** Whether the worker has reported the end of its duplex. */
  #isGone = false;
  /** Posts to a worker that does not listen yet; they would be lost. */
  #unposted: [unknown, Transferable[]][] | undefined = [];
  /** Posts that arrived before there was a listener. */
  #early: unknown[] = [];
  #onMessage: (message: unknown) => void = (message) =>
    this.#early.push(message);
  #error = "";

  private constructor(label: string, worker: Worker, lock: string) {
    this.label = label;
    this.#worker = worker;
    this.#lock = lock;
    // At once: a post that arrives before there is a listener is lost.
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
   * @param transport The transport that the worker must open.
   * @param script The worker script.
   * @param options Its permissions and its memory.
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
   * Settles when the worker will post nothing more, because it or its duplex has
   * ended. What it posted before has arrived. Never rejects.
   */
  get left(): Promise<void> {
    return Promise.race([this.#gone.promise, this.#ended.promise]);
  }

  /** The port to the worker. */
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

  /** Returns the error for a worker that ended without a goodbye. */
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
   * @param unsent Messages that the worker has not acknowledged.
   * @throws {PeerExitError} If its script ended with an error: an error that leaves
   *   an `await using` block sends a goodbye first.
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
    // A worker that has never listened reports nothing.
    if (this.#unposted === undefined) {
      await settlesWithin(this.left, Math.min(timeout, CLOSE_TIMEOUT));
    }
    await this.#terminate();
  }

  /** Ends the worker once it has received the end, or after a time limit. */
  async destroy(): Promise<void> {
    await this.#leave(CLOSE_TIMEOUT);
  }

  /**
   * Ends the worker now. Deno cannot end a worker whose event loop does not run: it
   * goes on until the process ends.
   */
  async #terminate(): Promise<void> {
    this.#worker.terminate();
    if (this.#watch === undefined) return this.#onEnd();
    await settlesWithin(this.#ended.promise, TERMINATE_TIMEOUT);
    this.#onEnd();
    this.#watch.abort();
  }

  /** Handles the posts about the worker itself, and passes on the others. */
  #receive(message: unknown): void {
    if (message === READY_POST) {
      for (const [early, transfer] of this.#unposted ?? []) {
        post(this.#worker, early, transfer);
      }
      this.#unposted = undefined;
      this.#watchLock();
    } else if (message === CLOSED_POST) {
      this.#isGone = true;
      this.#gone.resolve();
    } else {
      this.#onMessage(message);
    }
  }

  /** The worker holds its lock before it reports that it listens. */
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

/** Starts a worker; explains what Deno refuses of its options. */
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

/** Returns the URL of a worker script. */
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

/** Returns the name of a script in errors. */
function nameOf({ protocol, pathname }: URL): string {
  return protocol === "data:" ? "data:" : pathname.split("/").at(-1)!;
}
