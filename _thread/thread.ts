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
  checkOptions,
  checkPositive,
  checkSignal,
  DEFAULT_OPEN_TIMEOUT,
} from "../_base/options.ts";
import { checkRuntime, MIN_DENO } from "../_base/runtime.ts";
import { builtinModule } from "../_base/worker_options.ts";
import { scriptName, scriptUrl } from "../_permissions/path.ts";
import {
  type ThreadPermissions,
  threadPermissions,
  threadPermissionsSync,
} from "./permissions.ts";
import { quoted } from "../_base/text.ts";
import { describeMemoryEnd } from "../_base/memory.ts";
import { Failure, type FailurePost, isFailurePost } from "./failure.ts";
import {
  CLOSED_POST,
  locks,
  type Port,
  post,
  READY_POST,
  type ThreadMemory,
  threadName,
} from "./scope.ts";
import { Deque, settlesWithin } from "../_base/waiting.ts";
import type { Permissions } from "../permissions.ts";

/**
 * Milliseconds for a worker to receive the end of its duplex before it is
 * terminated, and for its last post to arrive. A worker whose event loop runs reports
 * the end at once.
 */
const CLOSE_TIMEOUT = 1_000;

/** Milliseconds within which a terminated worker is gone, unless it is busy. */
const TERMINATE_TIMEOUT = 200;

/**
 * Turns of the event loop for the last post of a worker, which is there when its
 * error or its lock arrives.
 */
const REPORT_TURNS = 10;

/**
 * Closed workers that are terminated at the same time. The ends of V8's isolates wait
 * for each other: the time grows faster than their number.
 */
const MAX_ENDING: number = navigator.hardwareConcurrency;

/** Closed workers that are being terminated, and those that wait for their turn. */
let ending = 0;
const waiting = new Deque<() => void>();

/** Runs the end of a closed worker in its turn. */
async function endInTurn(end: () => Promise<void>): Promise<void> {
  if (ending < MAX_ENDING) ending++;
  else await new Promise<void>((resolve) => waiting.push(resolve));
  try {
    await end();
  } finally {
    if (waiting.length > 0) waiting.shift()();
    else ending--;
  }
}

/** Options for transports whose workers are Web Workers. */
export interface ThreadOptions {
  /**
   * Permissions of each worker. The caller must hold them.
   *
   * @default {"none"}
   */
  permissions?: Permissions;
  /**
   * Bytes of each worker's JavaScript heap and its buffers, at most Deno's limit of a
   * heap: 4 GiB on a machine with 16 GiB, less on a smaller one, more with
   * `--v8-flags=--max-old-space-size`. A worker that uses more ends, with an error
   * that says so. It measures ten times a second, when it returns to its event loop;
   * a worker that fills its heap in one step ends the process. Shared memory and
   * memory of WebAssembly do not count. The default leaves a quarter of the heap for
   * growth between two measurements.
   *
   * @default {three quarters of Deno's limit of the heap, none of buffers}
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
  checkOptions(action, options);
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

/** The part of "node:v8" for {@linkcode memoryLimit}. */
interface HeapModule {
  getHeapStatistics(): { readonly "heap_size_limit": number };
}

/** Returns the bytes that a worker's heap may hold. */
function memoryLimit(
  action: string,
  memory: number | undefined,
  { getHeapStatistics }: HeapModule,
): number {
  const { heap_size_limit: max } = getHeapStatistics();
  if (memory === undefined) return Math.floor(max * DEFAULT_MEMORY_SHARE);
  checkPositive(action, "memory", memory, { max });
  return Math.ceil(memory);
}

/** A Web Worker that runs a script. */
export class Thread {
  /** The name of the script in errors. */
  readonly label: string;
  /** The Web Lock that the worker holds as long as it lives. */
  readonly lock: string;
  readonly #worker: Worker;
  /** The limit of its memory, which is posted first. */
  readonly #memory: ThreadMemory;
  readonly #gone = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();
  #watch: AbortController | undefined;
  #isEnded = false;
  /** Whether this side ended the worker. */
  #isTerminated = false;
  /** Whether the worker has reported the end of its duplex. */
  #isGone = false;
  /** Posts to a worker that does not listen yet; they would be lost. */
  #unposted: [unknown, Transferable[]][] | undefined = [];
  /** Posts that arrived before there was a listener. */
  #early: unknown[] = [];
  #onMessage: (message: unknown) => void = (message) =>
    this.#early.push(message);
  /** What the worker has posted last of an error that may have ended it. */
  #posted: FailurePost | undefined;
  /** The error that ended the worker, whether it has arrived, and all of it. */
  #failure: Failure | undefined;
  readonly #failed = Promise.withResolvers<void>();
  readonly #reported = Promise.withResolvers<void>();

  private constructor(
    label: string,
    worker: Worker,
    lock: string,
    memory: ThreadMemory,
  ) {
    this.label = label;
    this.#worker = worker;
    this.lock = lock;
    this.#memory = memory;
    // At once: a post that arrives before there is a listener is lost.
    worker.onmessage = ({ data }) => this.#receive(data);
    worker.onmessageerror = ({ data }) => this.#receive(data);
    worker.addEventListener("error", (event) => {
      // Deno ends this process otherwise.
      event.preventDefault();
      if (this.#failure === undefined) this.#onFailure(event);
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
    const limit = memoryLimit(action, memory, await import("node:v8"));
    const hasBuffers = memory !== undefined;
    const limits = { bytes: limit, hasBuffers };
    return Thread.#start(action, transport, url, granted, limits);
  }

  /**
   * As {@linkcode Thread.start}, for a thread that is blocked until the worker
   * answers. The worker's posts do not arrive meanwhile, so posts are sent before it
   * listens. They are lost unless its script imports this package, without awaiting
   * anything before.
   */
  static startSync(
    action: string,
    transport: string,
    script: string | URL,
    { permissions, memory }: CompleteThreadOptions,
  ): Thread {
    const url = scriptUrl(action, script);
    const granted = threadPermissionsSync(action, permissions);
    const v8 = builtinModule<HeapModule>("node:v8");
    const limit = memoryLimit(action, memory, v8);
    const hasBuffers = memory !== undefined;
    const limits = { bytes: limit, hasBuffers };
    const thread = Thread.#start(action, transport, url, granted, limits);
    thread.#postWaiting();
    return thread;
  }

  static #start(
    action: string,
    transport: string,
    url: URL,
    granted: ThreadPermissions,
    memory: ThreadMemory,
  ): Thread {
    const label = scriptName(url);
    const name = threadName(label, transport);
    const options = { type: "module", name, ...granted } as const;
    const worker = startWorker(action, url, options);
    return new Thread(label, worker, name, memory);
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
    const failure = this.#failure;
    const why = failure === undefined ? "" : `: ${failure.text}`;
    const how = this.#isGone
      ? "closed its end before this side did"
      : "ended without a goodbye";
    const end = describeMemoryEnd(failure?.text ?? "", this.#memory.bytes) ??
      how;
    return new PeerExitError(
      `The worker ${quoted(this.label)} ${end}${why}`,
      { cause: failure?.cause ?? cause, unsent, stderr: failure?.stack ?? "" },
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
    const hasLeft = await this.#hasLeft(timeout);
    // A worker that has closed its end is idle, so that its turn is short.
    if (hasLeft && !this.#isEnded) await endInTurn(() => this.#terminate());
    else await this.#terminate();
    if (this.#failure === undefined) return;
    const { text, cause, stack } = this.#failure;
    throw new PeerExitError(
      `The worker ${quoted(this.label)} ${
        describeMemoryEnd(text, this.#memory.bytes) ?? "ended with an error"
      }: ${text}`,
      { ...(cause && { cause }), unsent, stderr: stack },
    );
  }

  /** Whether the worker has received the end within a time limit. */
  async #hasLeft(timeout: number): Promise<boolean> {
    // A worker that has never listened reports nothing.
    if (this.#unposted !== undefined) return false;
    return await settlesWithin(this.left, Math.min(timeout, CLOSE_TIMEOUT));
  }

  /** Ends the worker now, without the event loop; `destroy` must follow. */
  stop(): void {
    this.#isTerminated = true;
    this.#worker.terminate();
    this.#onEnd();
  }

  /** Ends the worker once it has received the end, or after a time limit. */
  async destroy(): Promise<void> {
    await this.#hasLeft(CLOSE_TIMEOUT);
    await this.#terminate();
  }

  /**
   * Ends the worker now. Deno cannot end a worker whose event loop does not run: it
   * goes on until the process ends.
   */
  async #terminate(): Promise<void> {
    this.#isTerminated = true;
    this.#worker.terminate();
    if (this.#watch === undefined) return this.#onEnd();
    await settlesWithin(this.#ended.promise, TERMINATE_TIMEOUT);
    this.#onEnd();
    this.#watch.abort();
  }

  /** Handles the posts about the worker itself, and passes on the others. */
  #receive(message: unknown): void {
    if (message === READY_POST) {
      this.#postWaiting();
      this.#watchLock();
    } else if (message === CLOSED_POST) {
      this.#isGone = true;
      this.#gone.resolve();
    } else if (isFailurePost(message)) {
      this.#posted = message;
      if (this.#failure?.add(message)) this.#reported.resolve();
    } else {
      this.#onMessage(message);
    }
  }

  /** Posts what waits until the worker listens; the limit of its memory is the first. */
  #postWaiting(): void {
    if (this.#unposted === undefined) return;
    post(this.#worker, this.#memory, []);
    for (const [early, transfer] of this.#unposted) {
      post(this.#worker, early, transfer);
    }
    this.#unposted = undefined;
  }

  /** The worker holds its lock before it reports that it listens. */
  #watchLock(): void {
    if (this.#watch !== undefined || this.#isEnded) return;
    this.#watch = new AbortController();
    const { signal } = this.#watch;
    // Shared with the watcher of a blocked thread, see `_thread/watch.ts`.
    locks.request(
      this.lock,
      { mode: "shared", signal },
      () => this.#onUnlocked(),
    )
      .catch(() => this.#onEnd());
  }

  /** The error that ended the worker may arrive later than its lock. */
  async #onUnlocked(): Promise<void> {
    const isDone = () => this.#failure !== undefined || this.#isTerminated;
    await this.#turnsUntil(() => isDone() || this.#posted !== undefined);
    if (!isDone() && this.#posted !== undefined) {
      await settlesWithin(this.#failed.promise, CLOSE_TIMEOUT);
    }
    if (this.#failure === undefined) this.#onEnd();
  }

  /** The worker has ended with an error, which it has posted if it could. */
  async #onFailure(event: ErrorEvent): Promise<void> {
    const failure = this.#failure = new Failure(event);
    this.#failed.resolve();
    if (this.#posted !== undefined && failure.add(this.#posted)) {
      this.#reported.resolve();
    }
    // A script that failed before it loaded this package posts nothing.
    await this.#turnsUntil(() => this.#unposted === undefined);
    if (this.#unposted === undefined) {
      await settlesWithin(this.#reported.promise, CLOSE_TIMEOUT);
    }
    this.#onEnd();
  }

  /** Waits some turns of the event loop for what is there and has not arrived. */
  async #turnsUntil(isDone: () => boolean): Promise<void> {
    for (let turn = 0; turn < REPORT_TURNS && !isDone(); turn++) {
      await new Promise((resolve) => setImmediate(resolve));
    }
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
