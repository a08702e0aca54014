// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker of a pool, and the tasks that it has in hand: a batch of one job, run
 * one after the other. What is reported is settled; when the worker ends, what is
 * not may have been begun, and goes back to the pool.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { type CallLimits, type Pending, unsendable } from "../_rpc/caller.ts";
import { DESCRIBE, TAG } from "../_rpc/messages.ts";
import { DEFAULT_READ_AHEAD, Peer } from "../_rpc/peer.ts";
import { findPlaced } from "../_rpc/places.ts";
import { MAX_TIMER } from "../_base/waiting.ts";
import { type Task, timeoutError } from "./task.ts";
import { messageOf, quoted } from "../_base/text.ts";
import type { Duplex } from "../duplex.ts";

/**
 * Milliseconds after which what is left of a batch is called back: ten times of
 * what it should take. Its tasks are longer than those before, and others wait
 * behind them that another worker could do.
 */
const RECALL_AFTER = 20;

/** Milliseconds that tasks which were taken back have to end by themselves. */
const CANCEL_GRACE = 1_000;

/** Milliseconds that a worker with nothing in hand has to tell its memory. */
const MEMORY_LIMIT = 5_000;

const LIMITS: CallLimits = {
  signal: undefined,
  timeout: Infinity,
  readAhead: DEFAULT_READ_AHEAD,
};

/** What a worker tells its pool. */
export interface WorkerEvents {
  /** A task gave a value. */
  onFulfilled(task: Task, value: unknown): void;
  /** A task threw. */
  onRejected(task: Task, error: unknown): void;
  /** Tasks that were not begun are given back. */
  onReturned(tasks: Task[]): void;
  /** Tasks that may have been begun when their worker ended. */
  onLost(tasks: Task[], error: unknown): void;
  /** The batch is through: how many tasks, in how many milliseconds. */
  onIdle(worker: PoolWorker, method: string, count: number, ms: number): void;
  /** Several outcomes have come. */
  onReport(): void;
  /** The worker is gone. */
  onEnded(worker: PoolWorker): void;
}

/** A worker of a pool. */
export class PoolWorker implements Pending {
  readonly duplex: Duplex;
  /** Tasks that were given to it. */
  given = 0;
  readonly #events: WorkerEvents;
  readonly #peer: Peer;
  #tasks: Task[] = [];
  /** The first task that nothing is known of, and the first that it has no more. */
  #next = 0;
  #end = 0;
  /** The number of the batch; of a single call there is none. */
  #id: number | undefined;
  #since = 0;
  #recall: ReturnType<typeof setTimeout> | undefined;
  #limit: ReturnType<typeof setTimeout> | undefined;
  #isCancelled = false;
  /** Whether it was asked to begin no more of the batch. */
  #isRecalled = false;
  /** Whether it is being asked for its memory, and when it was last. */
  #isAsked = false;
  #askedAt = -Infinity;
  #isEnded = false;

  constructor(duplex: Duplex, events: WorkerEvents) {
    this.duplex = duplex;
    this.#events = events;
    this.#peer = Peer.of(duplex);
    this.#peer.ended.then(() => {
      this.#isEnded = true;
      events.onEnded(this);
    });
  }

  get label(): string {
    return quoted(this.#tasks[0]?.job.method ?? "nothing");
  }

  /** Tasks in hand. */
  get inFlight(): number {
    return this.#end - this.#next;
  }

  /** Whether it has nothing in hand. */
  get isIdle(): boolean {
    return this.#tasks.length === 0;
  }

  /** Whether it can be given tasks. */
  get isFree(): boolean {
    return this.isIdle && !this.#isEnded && !this.#isAsked;
  }

  /** Whether it has tasks of this job in hand. */
  has(job: unknown): boolean {
    return this.#tasks[0]?.job === job;
  }

  /** Takes tasks of one job in hand; it must be idle. */
  run(tasks: Task[]): void {
    this.#tasks = tasks;
    this.#next = 0;
    this.#end = tasks.length;
    this.#id = undefined;
    this.#since = performance.now();
    this.given += tasks.length;
    const [{ job: { method }, args, callsBack }] = tasks as [Task];
    for (const task of tasks) task.attempts++;
    this.#watch();
    if (tasks.length > 1) this.#recallLater();
    if (callsBack) this.#call(method, args);
    else {
      const list = tasks.map(({ args }) => args);
      const id = this.#peer.caller.batch(method, list, this);
      // What cannot be sent is told of at once.
      if (!this.isIdle) this.#id = id;
    }
  }

  /** Takes back what is in hand; who asked for it knows already. */
  cancel(reason: unknown): void {
    if (this.isIdle || this.#isCancelled) return;
    // Nothing tells when a single call that was taken back has ended.
    if (this.#id === undefined) return this.kill(reason);
    this.#isCancelled = this.#isRecalled = true;
    this.#peer.caller.cancel(this.#id, reason);
    this.#after(CANCEL_GRACE, () => this.kill(reason));
  }

  /** Ends the worker now. */
  kill(reason: unknown): void {
    abort(this.duplex, reason);
  }

  /**
   * Bytes that the worker's heap holds; 0 if it does not tell, or was asked less
   * than `interval` milliseconds ago. One that does not answer is ended.
   */
  async memory(interval: number): Promise<number> {
    const now = performance.now();
    if (now - this.#askedAt < interval) return 0;
    this.#askedAt = now;
    this.#isAsked = true;
    this.#after(MEMORY_LIMIT, () => this.kill(memoryError()));
    try {
      const found = await this.#peer.caller.call(DESCRIBE, [], LIMITS);
      const { memory } = found as { memory?: unknown };
      return typeof memory === "number" ? memory : 0;
    } catch {
      return 0;
    } finally {
      clearTimeout(this.#limit);
      this.#isAsked = false;
    }
  }

  onItems(values: unknown[]): void {
    if (values.length === 0 || values.length > this.inFlight) {
      throw this.#outOfPlace();
    }
    for (const value of values) {
      this.#events.onFulfilled(this.#tasks[this.#next++]!, value);
    }
    this.#onReport();
  }

  onError(thrown: unknown): void {
    if (this.inFlight === 0) throw this.#outOfPlace();
    this.#events.onRejected(this.#tasks[this.#next++]!, thrown);
    this.#onReport();
  }

  onRecalled(begun: number): void {
    if (!this.#isRecalled || begun < this.#next || begun >= this.#end) {
      throw this.#outOfPlace();
    }
    this.#return(begun);
  }

  /** What the next task gave, where it does not come among others. */
  onValue(value: unknown): void {
    this.onItems([value]);
  }

  onStream(): void {
    throw this.#outOfPlace();
  }

  /** The tasks could not be sent: one of them cannot, or they are too large together. */
  refuse(error: unknown): void {
    const isAlone = this.#tasks.length === 1;
    if (isAlone) this.onError(refusalOfOne(error, this.label));
    else this.#return(0);
  }

  fail(error: unknown): void {
    this.#isEnded = true;
    const rest = this.#tasks.slice(this.#next, this.#end);
    this.#settle();
    if (rest.length > 0) this.#events.onLost(rest, error);
  }

  /** Runs a task that calls back. Never rejects. */
  async #call(method: string, args: unknown[]): Promise<void> {
    const isSent = !isAborted(args);
    let value: unknown;
    let failure: { readonly error: unknown } | undefined;
    try {
      value = await this.#peer.caller.call(method, args, LIMITS);
      value = await this.#single(value);
    } catch (error) {
      failure = { error };
    }
    try {
      if (failure === undefined) this.onItems([value]);
      else await this.#onCallError(failure.error, isSent && isAborted(args));
    } catch (error) {
      // The worker must not be left with a task that has no outcome.
      this.kill(error);
      this.fail(error);
    }
  }

  async #onCallError(error: unknown, isTakenBack: boolean): Promise<void> {
    // A signal among the arguments took it back, and it may still be at work.
    if (isTakenBack && this.inFlight > 0) await this.#giveUp(error);
    // When the worker ends, what is pending fails; the end is told after that.
    await Promise.resolve();
    if (this.#isEnded) this.fail(error);
    else this.onError(error);
  }

  /** The task at work, the last one, has failed, and ends its worker. */
  #giveUp(error: unknown): Promise<void> {
    this.kill(error);
    this.#events.onRejected(this.#tasks[this.#next++]!, error);
    this.#events.onReport();
    return this.#peer.ended;
  }

  async #single(value: unknown): Promise<unknown> {
    if (
      typeof value !== "object" || value === null ||
      !(Symbol.asyncIterator in value)
    ) return value;
    await (value as AsyncGenerator).return(undefined);
    throw new TypeError(
      `Cannot run ${this.label} in a pool: it gives many values; call it with "remote", or have it give an array`,
    );
  }

  /** Gives back the tasks from one on, which were not begun. */
  #return(from: number): void {
    const rest = this.#tasks.slice(from);
    for (const task of rest) task.attempts--;
    this.given -= rest.length;
    this.#events.onReturned(rest);
    this.#end = from;
    if (this.inFlight === 0) this.#finish();
    this.#events.onReport();
  }

  #onReport(): void {
    if (this.inFlight > 0) this.#watch();
    else this.#finish();
    this.#events.onReport();
  }

  /** The batch is through. */
  #finish(): void {
    const [{ job: { method } }] = this.#tasks as [Task];
    const count = this.#end;
    this.#settle();
    const ms = performance.now() - this.#since;
    this.#events.onIdle(this, method, count, ms);
  }

  #settle(): void {
    clearTimeout(this.#recall);
    clearTimeout(this.#limit);
    this.#recall = this.#limit = undefined;
    if (this.#id !== undefined) this.#peer.caller.forget(this.#id);
    this.#id = undefined;
    this.#isCancelled = this.#isRecalled = false;
    this.#tasks = [];
    this.#next = this.#end = 0;
  }

  /** The next task may run so long from now on. */
  #watch(): void {
    const { timeout } = this.#tasks[this.#next]!.job;
    if (timeout > MAX_TIMER || this.#isCancelled) return;
    this.#after(timeout, () => this.#onTimeout());
  }

  /**
   * Sets the time until something is done, unless an answer comes. While this side
   * was busy some may have come that were not read: these are read before.
   */
  #after(ms: number, act: () => void): void {
    clearTimeout(this.#limit);
    this.#limit = setTimeout(() => {
      this.#limit = setTimeout(() => {
        this.#limit = setTimeout(act, 0);
      }, 0);
    }, ms);
  }

  #onTimeout(): void {
    const error = timeoutError(this.#tasks[this.#next]!.job);
    // Of several, any may be the one that takes long: each is run alone then.
    if (this.inFlight === 1) this.#giveUp(error);
    else this.kill(error);
  }

  #recallLater(): void {
    this.#recall = setTimeout(() => {
      if (this.#id === undefined) return;
      this.#isRecalled = true;
      this.#peer.caller.post([TAG.recall, this.#id]);
    }, RECALL_AFTER);
  }

  #outOfPlace(): ProtocolError {
    return new ProtocolError(
      `Cannot take an answer to the batch of ${this.label}: it is out of place`,
    );
  }
}

/** Aborts a duplex, whatever the reason is. */
export function abort(duplex: Duplex, reason: unknown): void {
  try {
    duplex.abort(reason);
  } catch {
    // The reason is a proxy that throws, for example.
    duplex.abort(new Error(messageOf(reason)));
  }
}

function memoryError(): DOMException {
  return new DOMException(
    `The worker did not tell its memory within ${MEMORY_LIMIT} ms`,
    "TimeoutError",
  );
}

/** The refusal of a batch of one: "$" is its arguments, not the list of those. */
function refusalOfOne(error: unknown, label: string): unknown {
  if (unsendable(error) === undefined) return error;
  const { cause } = error as Error;
  const [Kind, text] = unsendable(cause, 2) ?? [];
  if (Kind === undefined) return error;
  return new Kind(`Cannot call ${label}: ${text}`, { cause });
}

/** Whether a signal among arguments has aborted. */
function isAborted(args: readonly unknown[]): boolean {
  try {
    return findPlaced(args)?.some(({ value }) =>
      value instanceof AbortSignal && value.aborted
    ) ?? false;
  } catch {
    // A getter threw: nothing can be sent.
    return false;
  }
}
