// Copyright 2026 the Duplex authors. MIT license.

/**
 * Batches of calls at the end that runs them: one call after the other, so that a
 * worker runs one task at a time, with many answers to a message.
 *
 * Results are sent every few milliseconds and after the last call. So the caller
 * receives them even if the next call takes long, unless that call blocks the
 * thread.
 *
 * @module
 */

import { toFailure } from "./errors.ts";
import { type Message, type Slot, TAG } from "./messages.ts";
import { SeparateList } from "../_codec/separate_list.ts";
import { Deque } from "../_base/waiting.ts";

/** Milliseconds between two messages with results, and between two turns of the event loop. */
const REPORT_INTERVAL = 5;

/** The calls of a batch after they were dropped. */
const NO_CALLS: readonly unknown[][] = [];

const NO_SLOTS: Slot[] = [];

/** Runs one call of a batch. */
export type Invoke = (args: unknown[], batch: Batch) => unknown;

/** A batch that waits or runs. */
export class Batch {
  readonly id: number;
  readonly invoke: Invoke;
  #list: readonly unknown[][];
  /** Cancels the running call, if its method takes a signal. */
  #controller: AbortController | undefined;
  #cancelled: { readonly reason: unknown } | undefined;
  /** Calls that were begun, and calls that will have been at the end. */
  begun = 0;
  end: number;
  /** Calls that have not ended and are not recalled. */
  weight: number;
  /** Milliseconds that its calls have taken until they were paused. */
  #time = 0;
  /** When they were resumed, unless they are paused. */
  #since: number | undefined;

  constructor(id: number, list: readonly unknown[][], invoke: Invoke) {
    this.id = id;
    this.#list = list;
    this.invoke = invoke;
    this.end = list.length;
    this.weight = list.length;
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#cancelled) this.#controller.abort(this.#cancelled.reason);
    return this.#controller.signal;
  }

  /** Whether its results are no longer needed. */
  get isCancelled(): boolean {
    return this.#cancelled !== undefined;
  }

  /** Whole microseconds that its calls have taken, without pauses. */
  get time(): number {
    const since = this.#since;
    const running = since === undefined ? 0 : performance.now() - since;
    return Math.round((this.#time + running) * 1_000);
  }

  /** Its calls are run from now on. */
  resume(): void {
    this.#since = performance.now();
  }

  /** Pauses its calls if they have run for some milliseconds; returns whether it did. */
  pause(ms: number): boolean {
    const running = performance.now() - this.#since!;
    if (running < ms) return false;
    this.#time += running;
    this.#since = undefined;
    return true;
  }

  /** Begins the next call, with its own signal, and returns its arguments. */
  begin(): unknown[] {
    this.#controller = undefined;
    return this.#list[this.begun++]!;
  }

  /** Calls whose arguments are in memory. */
  get held(): number {
    return this.#list.length;
  }

  /** Drops the calls that were not begun, and returns their number. */
  drop(): number {
    const rest = this.end - this.begun;
    this.end = this.begun;
    this.#list = NO_CALLS;
    return rest;
  }

  cancel(reason: unknown): void {
    this.drop();
    this.#cancelled ??= { reason };
    this.#controller?.abort(reason);
  }
}

/** Events of a {@linkcode BatchRunner}. */
export interface BatchEvents {
  /** A batch of so many calls was cancelled; its running call continues. */
  onCancelled(count: number): void;
  /** So many calls of a batch have ended, or will not be begun. */
  onDone(isCancelled: boolean, count: number): void;
}

/** Runs the batches of one end. */
export class BatchRunner {
  readonly #post: (message: Message) => Promise<void> | undefined;
  readonly #events: BatchEvents;
  readonly #waiting = new Deque<Batch>();
  readonly #batches = new Map<number, Batch>();
  /** Recalled batches that are still in the queue. */
  #removed = 0;
  /** Results of the running batch that were not sent. */
  #values = new SeparateList();
  /** Settles when the last answer that waits for room was sent. */
  #sending: Promise<void> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isRunning = false;
  #isEnded = false;

  /**
   * @param post Sends an answer; returns a promise if it has to wait for room.
   * @param events Notified of the calls.
   */
  constructor(
    post: (message: Message) => Promise<void> | undefined,
    events: BatchEvents,
  ) {
    this.#post = post;
    this.#events = events;
  }

  /** Length of the queue, including recalled batches. */
  get queueLength(): number {
    return this.#waiting.length;
  }

  add(batch: Batch): void {
    this.#batches.set(batch.id, batch);
    this.#waiting.push(batch);
    if (!this.#isRunning) this.#run();
  }

  /**
   * Begins no more calls of a batch, and answers at once: the running call may
   * take long, and other workers can run the rest now.
   */
  recall(id: number): void {
    const batch = this.#batches.get(id);
    if (batch === undefined || batch.begun === batch.end) return;
    const rest = batch.drop();
    batch.weight -= rest;
    if (batch.begun === 0) this.#remove(id);
    else {
      this.#report(id);
      this.#send([TAG.recalled, id, batch.begun, batch.time]);
    }
    this.#events.onDone(false, rest);
  }

  /**
   * Removes a batch that was not begun. The running call may take long and the
   * peer may recall any number of batches meanwhile, so the queue is compacted when
   * more than half of it are removed batches.
   */
  #remove(id: number): void {
    this.#batches.delete(id);
    this.#removed++;
    if (this.#removed * 2 > this.#waiting.length) {
      this.#waiting.retain((batch) => this.#batches.has(batch.id));
      this.#removed = 0;
    }
    // The batch has no other answers, so this one need not wait for its turn.
    this.#post([TAG.recalled, id, 0, 0]);
  }

  /** Cancels a batch and its running call. */
  cancel(id: number, reason: unknown): void {
    this.recall(id);
    const batch = this.#batches.get(id);
    if (batch === undefined || batch.isCancelled) return;
    batch.cancel(reason);
    this.#events.onCancelled(batch.weight);
  }

  /** Cancels all batches: no answer can be sent any more. */
  end(reason: unknown): void {
    this.#isEnded = true;
    this.#clearTimer();
    for (const batch of this.#batches.values()) {
      if (batch.isCancelled) continue;
      batch.cancel(reason);
      this.#events.onCancelled(batch.weight);
    }
  }

  /** Runs batches until none waits. Never rejects. */
  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.shift();
      if (!this.#batches.has(batch.id)) {
        this.#removed--;
        continue;
      }
      await this.#runBatch(batch);
      this.#batches.delete(batch.id);
      this.#events.onDone(batch.isCancelled, batch.weight);
    }
    this.#isRunning = false;
  }

  async #runBatch(batch: Batch): Promise<void> {
    const { id } = batch;
    batch.resume();
    while (batch.begun < batch.end) {
      try {
        const result = batch.invoke(batch.begin(), batch);
        let value = result;
        if (isThenable(result)) {
          this.#reportLater(id);
          value = await result;
        }
        this.#values.push(value);
      } catch (error) {
        this.#report(id);
        await this.#send([TAG.error, id, toFailure(error), batch.time]);
      }
      // The last call counts until its answer is sent.
      if (batch.weight > 1) {
        batch.weight--;
        this.#events.onDone(batch.isCancelled, 1);
      }
      if (!batch.pause(REPORT_INTERVAL)) continue;
      await this.#report(id, batch.time);
      if (batch.begun < batch.end) await timerTurn();
      batch.resume();
    }
    await this.#report(id, batch.time);
  }

  /** Sends the results since the last time, and the time that the batch has taken. */
  #report(id: number, time?: number): Promise<void> | undefined {
    this.#clearTimer();
    if (this.#values.length === 0) return undefined;
    const values = this.#values;
    this.#values = new SeparateList();
    return this.#send(
      time === undefined
        ? [TAG.items, id, values]
        : [TAG.items, id, values, NO_SLOTS, time],
    );
  }

  /** Sends the results after an interval, even if the running call takes longer. */
  #reportLater(id: number): void {
    if (this.#values.length === 0 || this.#isEnded) return;
    this.#timer ??= setTimeout(() => this.#report(id), REPORT_INTERVAL);
  }

  #clearTimer(): void {
    // The first use of a timer costs a thread 4 ms.
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Sends answers in order, also the one that replaces an answer that cannot be sent. */
  #send(message: Message): Promise<void> | undefined {
    const sent = this.#sending === undefined
      ? this.#post(message)
      : this.#sending.then(() => this.#post(message));
    if (sent === undefined) return undefined;
    const sending = sent.then(() => {
      if (this.#sending === sending) this.#sending = undefined;
    });
    return this.#sending = sending;
  }
}

/** Whether a value is a promise or another thenable. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null &&
    typeof (value as { then?: unknown }).then === "function";
}

/**
 * Waits until messages that have arrived, such as a recall, were handled. After
 * `nextTurn` of `waiting.ts` those of a pipe and of a queue were not: a batch then runs
 * tens of calls after its recall.
 */
function timerTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
