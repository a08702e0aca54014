// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker of a pool and its current tasks: a batch of one job, run one after the
 * other. A task is settled when its result is reported. If the worker ends, the
 * other tasks may have been begun and are returned to the pool.
 *
 * @module
 */

import { isInstance, ProtocolError } from "../_base/errors.ts";
import {
  type AnswerHandler,
  RpcEndpoint,
  type SentBatch,
} from "../_rpc/endpoint.ts";
import type { CallLimits } from "../_rpc/caller.ts";
import { findSlotValues } from "../_rpc/slots.ts";
import { MAX_TIMER, RunningTimer } from "../_base/waiting.ts";
import { TaskOrigin } from "./origin.ts";
import type { BatchTimes } from "./pace.ts";
import { type Task, timeoutError } from "./task.ts";
import { messageOf, quoted } from "../_base/text.ts";
import type { Duplex } from "../duplex.ts";

/** Milliseconds that cancelled tasks have to end before their worker is ended. */
const CANCEL_TIMEOUT = 1_000;

/** Milliseconds that an idle worker has to report its memory. */
const MEMORY_TIMEOUT = 5_000;

/** Events of a worker. */
export interface WorkerEvents {
  /** A task returned a value; `now` is the time. */
  onFulfilled(task: Task, value: unknown, now: number): void;
  /** A task threw. */
  onRejected(task: Task, error: unknown): void;
  /** Tasks that were not begun are returned. */
  onReturned(tasks: Task[]): void;
  /** The worker ended; these tasks may have been begun. */
  onLost(tasks: Task[], error: unknown): void;
  /** How long the tasks of a batch took that is finished or was recalled. */
  onTimes(times: BatchTimes): void;
  /** The batch is finished. */
  onIdle(worker: PoolWorker): void;
  /** One or more tasks have an outcome. */
  onReport(): void;
  /** The worker has ended. */
  onEnded(worker: PoolWorker): void;
}

/** A worker of a pool. */
export class PoolWorker implements AnswerHandler {
  readonly duplex: Duplex;
  /** The number of its start. */
  readonly number: number;
  /** When it had no tasks for the first time since its last task. */
  idleSince = 0;
  /** Why the pool has ended it, if it has. */
  killed: { readonly error: unknown } | undefined;
  /** Tasks that were given to it. */
  given = 0;
  readonly #events: WorkerEvents;
  readonly #endpoint: RpcEndpoint;
  #tasks: Task[] = [];
  /** The first task without an outcome, and the end of the tasks. */
  #next = 0;
  #end = 0;
  /** The batch, unless the task is a single call. */
  #batch: SentBatch | undefined;
  /** The handling of the single call. */
  #calling: Promise<void> | undefined;
  #since = 0;
  /** Milliseconds that the batch has taken, as the worker has reported last. */
  #own: number | undefined;
  #recall: ReturnType<typeof setTimeout> | undefined;
  #limit: RunningTimer | undefined;
  #isCancelled = false;
  #isRecalled = false;
  /** Whether its memory is being measured, and when that began last. */
  #isMeasuring = false;
  /** Running calls in addition to tasks. */
  #calls = 0;
  #measuredAt = -Infinity;
  #isEnded = false;

  constructor(duplex: Duplex, events: WorkerEvents, number: number) {
    this.duplex = duplex;
    this.number = number;
    this.#events = events;
    this.#endpoint = RpcEndpoint.of(duplex);
    this.#endpoint.ended.then(async () => {
      this.#isEnded = true;
      // Its task is lost before its keys move to other workers.
      if (this.#calling !== undefined) await this.#calling;
      events.onEnded(this);
    });
  }

  get label(): string {
    return quoted(this.#tasks[0]?.job.method ?? "nothing");
  }

  /** Tasks without an outcome. */
  get inFlight(): number {
    return this.#end - this.#next;
  }

  /** Tasks whose outcome is needed: not those that were cancelled. */
  get needed(): number {
    let needed = 0;
    for (let index = this.#next; index < this.#end; index++) {
      if (!this.#tasks[index]!.isSettled) needed++;
    }
    return needed;
  }

  /** Whether it has no tasks. */
  get isIdle(): boolean {
    return this.#tasks.length === 0;
  }

  /** Whether it has no tasks and no other calls. */
  get isUnused(): boolean {
    return this.isIdle && this.#calls === 0 && !this.#isMeasuring;
  }

  /** Whether it can take tasks. */
  get isFree(): boolean {
    return this.isIdle && !this.#isEnded && !this.#isMeasuring;
  }

  /** Whether it has tasks of a job. */
  has(job: unknown): boolean {
    return this.#tasks[0]?.job === job;
  }

  /**
   * Runs tasks of one job; it must be idle.
   *
   * @param tasks The tasks.
   * @param recallAfter Milliseconds after which those that were not begun are recalled.
   */
  run(tasks: Task[], recallAfter: number): void {
    this.#tasks = tasks;
    this.#next = 0;
    this.#end = tasks.length;
    this.#batch = undefined;
    this.#own = undefined;
    this.#since = performance.now();
    this.given += tasks.length;
    const [first] = tasks as [Task];
    const { job: { method } } = first;
    for (const task of tasks) task.attempts++;
    this.#watch();
    if (tasks.length > 1) this.#recallLater(recallAfter);
    if (first.hasSlots) this.#calling = this.#call(first);
    else {
      const list = tasks.map(({ args }) => args);
      const traces = first.origin?.trace &&
        tasks.map(({ origin }) => origin?.trace ?? null);
      const batch = this.#endpoint.batch(method, list, this, traces);
      // A batch that cannot be sent has failed here, or is sent as a call.
      if (!this.isIdle && !first.hasSlots) this.#batch = batch;
    }
  }

  /** Calls a method next to the tasks. */
  async call(
    method: string,
    args: readonly unknown[],
    limits: CallLimits,
  ): Promise<unknown> {
    this.#calls++;
    try {
      const value = await this.#endpoint.call(method, args, limits);
      return await this.#single(value, method);
    } finally {
      this.#calls--;
    }
  }

  /** Cancels its tasks. Their outcome is not reported. */
  cancel(reason: unknown): void {
    if (this.isIdle || this.#isCancelled) return;
    // The end of a cancelled single call is not reported.
    if (this.#batch === undefined) return this.kill(reason);
    this.#isCancelled = this.#isRecalled = true;
    this.#batch.cancel(reason);
    this.#after(CANCEL_TIMEOUT, () => this.kill(reason));
  }

  /** Ends the worker now. */
  kill(reason: unknown): void {
    this.killed ??= { error: reason };
    abort(this.duplex, reason);
  }

  /**
   * Bytes that the worker's heap holds; 0 if it does not report them, or was
   * measured less than `interval` milliseconds ago. A worker that does not answer
   * is ended.
   */
  async memory(interval: number): Promise<number> {
    const now = performance.now();
    if (now - this.#measuredAt < interval) return 0;
    this.#measuredAt = now;
    this.#isMeasuring = true;
    this.#after(MEMORY_TIMEOUT, () => this.kill(memoryError()));
    try {
      const { memory } = await this.#endpoint.describe();
      return memory;
    } catch {
      return 0;
    } finally {
      this.#limit?.clear();
      this.#isMeasuring = false;
    }
  }

  onItems(values: unknown[], time?: number): void {
    if (values.length === 0 || values.length > this.inFlight) {
      throw this.#outOfPlace();
    }
    const now = performance.now();
    for (const value of values) {
      this.#events.onFulfilled(this.#tasks[this.#next++]!, value, now);
    }
    this.#setTime(time);
    this.#onReport();
  }

  onError(thrown: unknown, time?: number): void {
    if (this.inFlight === 0) throw this.#outOfPlace();
    this.#events.onRejected(this.#tasks[this.#next++]!, thrown);
    this.#setTime(time);
    this.#onReport();
  }

  onRecalled(begun: number, time?: number): void {
    if (!this.#isRecalled || begun < this.#next || begun >= this.#end) {
      throw this.#outOfPlace();
    }
    this.#setTime(time);
    // The next batches of these tasks are as small as those that were begun are slow.
    if (time !== undefined) this.#events.onTimes(this.#times(begun));
    this.#return(begun, time === undefined);
  }

  /** Handles the result of the next task. */
  onValue(value: unknown): void {
    this.onItems([value]);
  }

  onStream(): void {
    throw this.#outOfPlace();
  }

  onChunk(): void {
    throw this.#outOfPlace();
  }

  /** Handles tasks that cannot be sent: one of them cannot, or all are too large. */
  refuse(error: unknown): void {
    if (this.#tasks.length > 1) return this.#return(0, true);
    const [task] = this.#tasks as [Task];
    if (task.hasSlots || !isInstance(error, TypeError) || !task.search()) {
      return this.onError(error);
    }
    this.#batch = undefined;
    this.#calling = this.#call(task);
  }

  fail(error: unknown): void {
    this.#isEnded = true;
    const rest = this.#tasks.slice(this.#next, this.#end);
    this.#settle();
    if (rest.length > 0) this.#events.onLost(rest, error);
  }

  /** Runs a task with callbacks or signals. Never rejects. */
  async #call(task: Task): Promise<void> {
    const { job: { method }, args, origin } = task;
    // A search of all arguments would cost too much for each call.
    const isSent = !task.isAborted(findSlotValues);
    let value: unknown;
    let failure: { readonly error: unknown } | undefined;
    try {
      value = await TaskOrigin.call(
        origin,
        () => this.#endpoint.call(method, args),
      );
      value = await this.#single(value, method);
    } catch (error) {
      failure = { error };
    }
    try {
      if (failure === undefined) this.onItems([value]);
      else await this.#onCallError(failure.error, isSent && task.isAborted());
    } catch (error) {
      // The task must have an outcome.
      this.kill(error);
      this.fail(error);
    }
  }

  async #onCallError(error: unknown, isCancelled: boolean): Promise<void> {
    // A signal among the arguments cancelled the task, which may still be running.
    if (isCancelled && this.inFlight > 0) await this.#rejectAndKill(error);
    // When the worker ends, calls reject before `ended` settles.
    await Promise.resolve();
    if (this.#isEnded) this.fail(error);
    else this.onError(error);
  }

  /** Rejects the running task, which is the last one, and ends the worker. */
  #rejectAndKill(error: unknown): Promise<void> {
    this.kill(error);
    this.#events.onRejected(this.#tasks[this.#next++]!, error);
    this.#events.onReport();
    return this.#endpoint.ended;
  }

  async #single(value: unknown, method: string): Promise<unknown> {
    if (
      typeof value !== "object" || value === null ||
      !(Symbol.asyncIterator in value)
    ) return value;
    await (value as AsyncGenerator).return(undefined);
    throw new TypeError(
      `Cannot run ${
        quoted(method)
      } in a pool: its result is a stream; call it with "remote", or return an array`,
    );
  }

  /** Returns the tasks from an index on, which were not begun. */
  #return(from: number, isAlone: boolean): void {
    const rest = this.#tasks.slice(from);
    for (const task of rest) {
      task.attempts--;
      task.isAlone = isAlone;
    }
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

  /** Handles the end of the batch. */
  #finish(): void {
    const times = this.#times(this.#end);
    this.#settle();
    this.#events.onTimes(times);
    this.#events.onIdle(this);
  }

  /** The times of the first tasks of its batch. */
  #times(count: number): BatchTimes {
    const [{ job: { method } }] = this.#tasks as [Task];
    const total = performance.now() - this.#since;
    return {
      method,
      count,
      total,
      own: this.#own,
      isRecalled: this.#isRecalled,
    };
  }

  /** Keeps the microseconds that the worker reports. */
  #setTime(time: number | undefined): void {
    if (time !== undefined) this.#own = time / 1_000;
  }

  #settle(): void {
    clearTimeout(this.#recall);
    this.#limit?.clear();
    this.#recall = this.#limit = undefined;
    this.#batch?.forget();
    this.#batch = undefined;
    this.#isCancelled = this.#isRecalled = false;
    this.#tasks = [];
    this.#next = this.#end = 0;
  }

  /** Starts the time limit of the next task. */
  #watch(): void {
    const { timeout } = this.#tasks[this.#next]!.job;
    if (timeout > MAX_TIMER || this.#isCancelled) return;
    this.#after(timeout, () => this.#onTimeout());
  }

  /**
   * Acts after a time, unless an answer arrives. If this thread was busy, answers may
   * have arrived that were not read: they are read first.
   */
  #after(ms: number, act: () => void): void {
    this.#limit?.clear();
    this.#limit = new RunningTimer(ms, () => {
      this.#limit = new RunningTimer(0, () => {
        this.#limit = new RunningTimer(0, act);
      });
    });
  }

  #onTimeout(): void {
    const error = timeoutError(this.#tasks[this.#next]!.job);
    // Any of several tasks may be the slow one: each is run alone then.
    if (this.inFlight === 1) this.#rejectAndKill(error);
    else this.kill(error);
  }

  #recallLater(ms: number): void {
    this.#recall = setTimeout(() => {
      if (this.#batch === undefined) return;
      this.#isRecalled = true;
      this.#batch.recall();
    }, ms);
  }

  #outOfPlace(): ProtocolError {
    return new ProtocolError(
      `Cannot read an answer to the batch of ${this.label}: it is out of place`,
    );
  }
}

/** Aborts a duplex with any reason. */
export function abort(duplex: Duplex, reason: unknown): void {
  try {
    duplex.abort(reason);
  } catch {
    // For example, the reason is a proxy that throws.
    duplex.abort(new Error(messageOf(reason)));
  }
}

function memoryError(): DOMException {
  return new DOMException(
    `The worker did not report its memory within ${MEMORY_TIMEOUT} ms`,
    "TimeoutError",
  );
}
