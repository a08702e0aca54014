// Copyright 2026 the Duplex authors. MIT license.

/**
 * The workers of a pool: starts them while tasks wait for them, retires them, and
 * ends them with the pool. A failed start is repeated after a delay as long as tasks
 * wait.
 *
 * @module
 */

import { ClosedError } from "../_base/errors.ts";
import { isLasting, markLasting } from "../_base/lasting.ts";
import { checkDuplex, RpcEndpoint } from "../_rpc/endpoint.ts";
import { MAX_TIMER, settlesWithin } from "../_base/waiting.ts";
import type { Duplex } from "../duplex.ts";
import { type Broadcast, Broadcasts } from "./broadcasts.ts";
import type { EndReason, EventLog } from "./events.ts";
import { StartFailures } from "./start_failures.ts";
import { abort, PoolWorker, type WorkerEvents } from "./worker.ts";

/** Milliseconds that the end of the pool waits for a worker that is starting. */
const END_TIMEOUT = 5_000;

/**
 * Milliseconds after which an idle worker of an unreferenced pool is closed if it
 * cannot be unreferenced: longer than the pauses of most programs between two tasks,
 * and a short delay of the program's end.
 */
const UNREF_TIMEOUT = 100;

/** The options of the workers of a pool. */
export interface WorkerSetOptions {
  readonly open: () => Promise<Duplex>;
  readonly workers: number;
  readonly minWorkers: number;
  readonly idleTimeout: number;
  readonly startTimeout: number;
  readonly init: ((worker: Duplex) => Promise<void> | void) | undefined;
  readonly events: EventLog;
}

/** What the workers of a pool need of their scheduler. */
export interface WorkerSetHost extends WorkerEvents {
  /** Whether the pool has ended. */
  readonly isOver: boolean;
  /** Throws if the pool has ended. */
  check(): void;
  /** Number of waiting tasks, up to `most`. */
  countWaiting(most: number): number;
  /** Called when a worker was started or has failed to start, and after a delay. */
  wake(): void;
  /** A worker is no longer used. */
  onRetired(worker: PoolWorker): void;
  /** Rejects the tasks that wait: no worker can be started now. */
  failWaiting(error: unknown): void;
}

/** A wait for a number of workers. */
interface Warming {
  readonly count: number;
  readonly settle: PromiseWithResolvers<void>;
}

/** The workers of a pool. */
export class WorkerSet implements Iterable<PoolWorker> {
  readonly #options: WorkerSetOptions;
  readonly #host: WorkerSetHost;
  readonly #workers = new Set<PoolWorker>();
  /** Workers that are starting. */
  readonly #starts = new Set<Promise<void>>();
  /** Duplexes of workers that are open and not ready. */
  readonly #opened = new Set<Duplex>();
  /** Duplexes of ended workers until they are closed. */
  readonly #leaving = new Map<Duplex, Promise<void>>();
  readonly #warming = new Set<Warming>();
  readonly #broadcasts = new Broadcasts();
  readonly #failures: StartFailures;
  /** Number of the last start, and of the last one before tasks were failed. */
  #started = 0;
  /** Number of starts without an outcome. */
  #opening = 0;
  #lastFailed = 0;
  #ended = 0;
  /** Whether `minWorkers` are started although no task waits. */
  #keepsMin = true;
  #isRef = true;
  #idleTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: WorkerSetOptions, host: WorkerSetHost) {
    this.#options = options;
    this.#host = host;
    this.#failures = new StartFailures(options.startTimeout, {
      onDelay: () => host.wake(),
      onTimeout: (error) => this.#onTimeout(error),
    });
  }

  /** Iterates over the running workers. The current worker may be retired. */
  [Symbol.iterator](): Iterator<PoolWorker> {
    return this.#workers.values();
  }

  /** Number of running workers. */
  get size(): number {
    return this.#workers.size;
  }

  /** Number of workers that are starting. */
  get starting(): number {
    return this.#starts.size;
  }

  /** Number of workers that have ended. */
  get ended(): number {
    return this.#ended;
  }

  /** The error of the last start if no worker runs; `undefined` if none has failed. */
  get startError(): Error | undefined {
    return this.#failures.count > 0 && this.size === 0
      ? this.#failures.error()
      : undefined;
  }

  /** Starts as many workers as there are tasks waiting for one, and as are kept. */
  start(): void {
    if (this.#host.isOver) return;
    const room = this.#options.workers - this.size;
    const starting = this.starting;
    if (room <= starting) return;
    const waiting = this.#host.countWaiting(room);
    const wanted = Math.max(waiting, this.#kept - this.size);
    if (this.#failures.count > 0) {
      if (wanted <= 0) return this.#failures.pause();
      if (this.size === 0 || this.#warming.size > 0) this.#failures.limit();
      else this.#failures.unlimit();
      if (!this.#failures.mayStart()) return;
    }
    // After a failure, one at a time.
    const most = this.#failures.count > 0 ? Math.min(1, wanted) : wanted;
    const count = most - starting;
    for (let index = 0; index < count; index++) this.#start();
  }

  /** Settles when so many workers run. */
  async warm(count: number): Promise<void> {
    if (this.size >= count) return;
    const settle = Promise.withResolvers<void>();
    this.#warming.add({ count, settle });
    this.#host.wake();
    await settle.promise;
  }

  /** Calls a method in all workers, and in later ones if `isLater`. */
  async broadcast(call: Broadcast, isLater: boolean): Promise<unknown[]> {
    call.signal?.throwIfAborted();
    const workers = [...this.#workers];
    for (const worker of workers) this.onBusy(worker);
    return await this.#broadcasts.call(
      workers,
      call,
      isLater,
      (worker) => this.onIdle(worker),
    );
  }

  /** A worker was given tasks. */
  onBusy(worker: PoolWorker): void {
    if (!this.#isRef) setRef(worker.duplex, true);
  }

  /** A worker has no more tasks. */
  onIdle(worker: PoolWorker): void {
    if (!this.#workers.has(worker)) return;
    worker.idleSince = performance.now();
    if (!this.#isRef && worker.isUnused) setRef(worker.duplex, false);
    const mayEnd = !this.#isRef || this.#options.idleTimeout < Infinity;
    if (mayEnd && this.#idleTimer === undefined) this.#watchIdle();
  }

  /** Whether workers keep the program running although they are idle. */
  setRef(isRef: boolean): void {
    this.#isRef = isRef;
    for (const worker of this.#workers) {
      setRef(worker.duplex, isRef || !worker.isUnused);
    }
    this.#watchIdle();
  }

  /** Removes a worker; another is started when tasks wait. */
  retire(worker: PoolWorker, reason: EndReason): void {
    if (!this.#workers.delete(worker)) return;
    this.#ended++;
    this.#host.onRetired(worker);
    const { duplex } = worker;
    this.#leaving.set(duplex, this.#leave(worker, reason));
  }

  /** Starts no more workers and closes all; returns the errors of those that failed. */
  async close(): Promise<unknown[]> {
    this.#stop(new ClosedError("Cannot start a worker: the pool is closed"));
    await this.#broadcasts.idle();
    const results = await Promise.allSettled([
      ...[...this.#workers].map(async ({ duplex }) => await duplex.close()),
      ...this.#leaving.values(),
      this.#startsEnded(),
    ]);
    await this.#end(new ClosedError("The pool is closed"));
    return results.filter(({ status }) => status === "rejected")
      .map((result) => (result as PromiseRejectedResult).reason);
  }

  /** Starts no more workers and ends all. Never rejects. */
  async abort(error: unknown): Promise<void> {
    this.#stop(error);
    for (const duplex of this.#leaving.keys()) abort(duplex, error);
    for (const duplex of this.#opened) abort(duplex, error);
    const workers = [...this.#workers];
    for (const worker of workers) worker.kill(error);
    await Promise.allSettled([
      ...workers.map(async ({ duplex }) => await duplex.closed),
      ...this.#leaving.values(),
      this.#startsEnded(),
    ]);
    await this.#end(error);
  }

  #stop(error: unknown): void {
    // Otherwise the program may end before the workers have ended.
    for (const { duplex } of this.#workers) setRef(duplex, true);
    for (const duplex of this.#leaving.keys()) setRef(duplex, true);
    this.#failures.pause();
    clearTimeout(this.#idleTimer);
    this.#rejectWarming(error);
  }

  /** Ends workers that are still starting, and the events. */
  async #end(error: unknown): Promise<void> {
    for (const duplex of this.#opened) abort(duplex, error);
    // Workers that have just closed are leaving.
    await Promise.all(this.#leaving.values());
    this.#options.events.end();
  }

  /** Number of workers that run although no task waits for them. */
  get #kept(): number {
    let kept = this.#keepsMin && this.#isRef ? this.#options.minWorkers : 0;
    for (const { count } of this.#warming) kept = Math.max(kept, count);
    return kept;
  }

  #start(): void {
    const started = this.#open(++this.#started);
    this.#starts.add(started);
    started.then(() => {
      this.#starts.delete(started);
      this.#host.wake();
    });
  }

  /** Opens a duplex to a new worker. Never rejects. */
  async #open(number: number): Promise<void> {
    let duplex: Duplex | undefined;
    this.#opening++;
    try {
      const opened = await this.#options.open();
      checkDuplex('Cannot start a worker as "open" must give a duplex', opened);
      duplex = opened;
      this.#opened.add(duplex);
      this.#host.check();
      await settledBefore(duplex, this.#prepare(duplex));
      const later = this.#broadcasts.laterCalls(duplex);
      while (!later.isDone) await settledBefore(duplex, later.next());
      this.#opened.delete(duplex);
      this.#host.check();
      this.#onStarted(new PoolWorker(duplex, this.#host, number));
    } catch (error) {
      if (duplex !== undefined) {
        abort(duplex, error);
        await duplex.closed.catch(() => {});
        this.#opened.delete(duplex);
      }
      this.#opening--;
      if (!this.#host.isOver) this.#onFailure(error, number);
    }
  }

  /** Does what comes before the first task of a worker. */
  async #prepare(duplex: Duplex): Promise<void> {
    await this.#options.init?.(duplex);
    await this.#checkExposed(RpcEndpoint.of(duplex));
  }

  /** Waits until the worker answers, which shows that it has called `expose`. */
  async #checkExposed(endpoint: RpcEndpoint): Promise<void> {
    const { startTimeout } = this.#options;
    let hasEnded = false;
    endpoint.ended.then(() => hasEnded = true);
    const described = endpoint.describe().catch(async (error) => {
      // When the worker ends, calls reject before `ended` settles.
      await Promise.resolve();
      // A peer that does not describe itself has answered as well.
      if (hasEnded) throw error;
    });
    if (startTimeout > MAX_TIMER) return void await described;
    if (await settlesWithin(described, startTimeout)) return;
    throw markLasting(
      new DOMException(
        `The worker did not answer within ${startTimeout} ms: does it call expose()?`,
        "TimeoutError",
      ),
    );
  }

  #onStarted(worker: PoolWorker): void {
    this.#opening--;
    this.#failures.clear();
    this.#keepsMin = true;
    this.#workers.add(worker);
    this.#options.events.emit({ type: "started", worker: worker.number });
    for (const warming of this.#warming) {
      if (warming.count > this.size) continue;
      this.#warming.delete(warming);
      warming.settle.resolve();
    }
    // Now it may be one that is not kept.
    this.onIdle(worker);
  }

  #onFailure(error: unknown, worker: number): void {
    const failures = this.#failures;
    // Workers that run, or are starting, may be able to run the tasks.
    const isAlone = this.size === 0 && this.#opening === 0;
    const isFinal = isAlone && isLasting(error);
    const delay = isFinal ? undefined : failures.add(error);
    if (isFinal) failures.addLasting(error);
    this.#options.events.emit({
      type: "startFailed",
      worker,
      error,
      attempt: failures.count,
      delay,
    });
    if (!isFinal) {
      const isLast = this.#opening === 0;
      if (isLast && isLasting(error)) this.#rejectWarming(failures.error());
      return;
    }
    this.#keepsMin = false;
    // Tasks that were added after others were failed wait for an attempt of their own.
    if (worker > this.#lastFailed) this.#failWaiting(failures.error());
  }

  #onTimeout(error: Error): void {
    // Otherwise tasks wait for the workers that run.
    if (this.size === 0) this.#failWaiting(error);
    else this.#rejectWarming(error);
  }

  #failWaiting(error: Error): void {
    this.#lastFailed = this.#started;
    this.#rejectWarming(error);
    this.#host.failWaiting(error);
  }

  #rejectWarming(error: unknown): void {
    for (const { settle } of this.#warming) settle.reject(error);
    this.#warming.clear();
  }

  /** Settles when no worker is starting, or after a timeout. */
  async #startsEnded(): Promise<void> {
    if (this.#starts.size === 0) return;
    await settlesWithin(Promise.all(this.#starts), END_TIMEOUT);
  }

  /** Closes the duplex of a worker. Never rejects. */
  async #leave(worker: PoolWorker, reason: EndReason): Promise<void> {
    const { duplex, number } = worker;
    let failure = worker.killed;
    try {
      await duplex.close();
    } catch (error) {
      // The tasks of the worker have their outcome, or are run again.
      failure ??= { error };
    }
    // `retire` must have added it before it is removed.
    await undefined;
    this.#leaving.delete(duplex);
    this.#options.events.emit({
      type: "ended",
      worker: number,
      reason: this.#host.isOver && reason === "exited" ? "closed" : reason,
      ...failure,
    });
  }

  /** Whether a worker keeps the program running although the pool must not. */
  #isHolding({ duplex }: PoolWorker): boolean {
    return !this.#isRef && !canUnref(duplex);
  }

  /** Whether a worker is kept although it is idle. */
  #isKept(worker: PoolWorker): boolean {
    const kept = Math.max(this.#kept, this.#options.minWorkers);
    return this.size <= kept && !this.#isHolding(worker);
  }

  /** The milliseconds after which an idle worker is closed. */
  #idleLimit(worker: PoolWorker): number {
    const { idleTimeout } = this.#options;
    return this.#isHolding(worker)
      ? Math.min(idleTimeout, UNREF_TIMEOUT)
      : idleTimeout;
  }

  /** Starts the timer for the worker that is closed next, if one is to be closed. */
  #watchIdle(): void {
    clearTimeout(this.#idleTimer);
    this.#idleTimer = undefined;
    if (this.#host.isOver) return;
    let next = Infinity;
    for (const worker of this.#workers) {
      if (!worker.isUnused || this.#isKept(worker)) continue;
      next = Math.min(next, worker.idleSince + this.#idleLimit(worker));
    }
    const left = next - performance.now();
    if (left > MAX_TIMER) return;
    const timer = setTimeout(() => this.#closeIdle(), Math.max(0, left));
    if (!this.#isRef) unrefTimer(timer);
    this.#idleTimer = timer;
  }

  /** Closes workers that were idle for too long. */
  #closeIdle(): void {
    const now = performance.now();
    // Tasks are given to the first free worker, so the last ones are needed least.
    for (const worker of [...this.#workers].reverse()) {
      if (this.#isKept(worker)) continue;
      // A timer may be early by a fraction of a millisecond.
      const isDue = now - worker.idleSince >= this.#idleLimit(worker) - 1;
      if (worker.isUnused && isDue) this.retire(worker, "idleTimeout");
    }
    this.#watchIdle();
  }
}

/** Settles as a promise does, or rejects if the duplex ends before. */
async function settledBefore(
  duplex: Duplex,
  promise: Promise<unknown>,
): Promise<void> {
  const ended = duplex.closed.then(() => {
    throw new ClosedError("The worker has closed before it was ready");
  });
  await Promise.race([promise, ended]);
}

/**
 * Lets the program end before a timer. In an older Deno, whose timers are numbers, the
 * program runs until the idle workers are closed.
 */
function unrefTimer(timer: unknown): void {
  const { unref } = timer as { unref?: () => void };
  if (typeof unref === "function") unref.call(timer);
}

/** A duplex that can be unreferenced. */
type Unrefable = Duplex & { ref(): void; unref(): void };

function canUnref(duplex: Duplex): duplex is Unrefable {
  return "unref" in duplex && typeof duplex.unref === "function" &&
    "ref" in duplex && typeof duplex.ref === "function";
}

function setRef(duplex: Duplex, isRef: boolean): void {
  if (!canUnref(duplex)) return;
  if (isRef) duplex.ref();
  else duplex.unref();
}
