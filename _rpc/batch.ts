// Copyright 2026 the Duplex authors. MIT license.

/**
 * Batches of calls at the end that is called: one call after the other, so that a
 * worker does one thing at a time, and many answers to a message.
 *
 * What was done is told every few milliseconds, and after the last one: whoever
 * waits learns what is done although the next call takes long, unless that one
 * keeps the thread to itself.
 *
 * @module
 */

import { failureOf } from "./errors.ts";
import { type Message, TAG } from "./messages.ts";
import { Deque } from "../_base/waiting.ts";

/** Milliseconds between two reports, and between two turns of the event loop. */
const REPORT_INTERVAL = 5;

/** What a batch holds whose calls were dropped. */
const NONE: readonly unknown[][] = [];

/** Runs one call of a batch. */
export type Invoke = (args: unknown[], batch: Batch) => unknown;

/** A batch that waits or is at work. */
export class Batch {
  readonly id: number;
  readonly invoke: Invoke;
  #list: readonly unknown[][];
  /** What takes the call at work back, where its method asks for it. */
  #controller: AbortController | undefined;
  #cancelled: { readonly reason: unknown } | undefined;
  /** Calls of it that were begun, and how many are to be. */
  begun = 0;
  end: number;
  /** How many calls it counts as: those that have not ended and are not recalled. */
  weight: number;

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

  /** Whether nobody wants what it gives. */
  get isCancelled(): boolean {
    return this.#cancelled !== undefined;
  }

  /** The arguments of the next call, which has a signal of its own. */
  begin(): unknown[] {
    this.#controller = undefined;
    return this.#list[this.begun++]!;
  }

  /** How many calls it holds the arguments of. */
  get held(): number {
    return this.#list.length;
  }

  /** Begins no more calls, and drops their arguments. Says how many they were. */
  drop(): number {
    const rest = this.end - this.begun;
    this.end = this.begun;
    this.#list = NONE;
    return rest;
  }

  cancel(reason: unknown): void {
    this.drop();
    this.#cancelled ??= { reason };
    this.#controller?.abort(reason);
  }
}

/** What becomes of the calls of batches. */
export interface LaneEvents {
  /** A batch of so many calls was canceled; the call at work goes on. */
  onCancelled(count: number): void;
  /** So many calls of a batch have ended, or will not be begun. */
  onDone(isCancelled: boolean, count: number): void;
}

/** The batches of one end. */
export class Lane {
  readonly #post: (message: Message) => Promise<void> | undefined;
  readonly #events: LaneEvents;
  readonly #waiting = new Deque<Batch>();
  readonly #batches = new Map<number, Batch>();
  /** Recalled batches that still have a place in the queue. */
  #void = 0;
  /** What the batch at work has given that was not told yet. */
  #values: unknown[] = [];
  /** The last answer that waits for room. */
  #sending: Promise<void> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isRunning = false;
  #isEnded = false;

  /**
   * @param post Sends an answer; a promise where it has to wait for room.
   * @param events Told what becomes of the calls.
   */
  constructor(
    post: (message: Message) => Promise<void> | undefined,
    events: LaneEvents,
  ) {
    this.#post = post;
    this.#events = events;
  }

  /** Places in the queue, those of recalled batches among them. */
  get places(): number {
    return this.#waiting.length;
  }

  add(batch: Batch): void {
    this.#batches.set(batch.id, batch);
    this.#waiting.push(batch);
    if (!this.#isRunning) this.#run();
  }

  /**
   * Begins no more calls of a batch, and tells so at once: the call at work may
   * take long, and others could do the rest now.
   */
  recall(id: number): void {
    const batch = this.#batches.get(id);
    if (batch === undefined || batch.begun === batch.end) return;
    const rest = batch.drop();
    batch.weight -= rest;
    if (batch.begun === 0) this.#remove(id);
    else {
      this.#report(id);
      this.#send([TAG.recalled, id, batch.begun]);
    }
    this.#events.onDone(false, rest);
  }

  /**
   * Removes a batch of which no call was begun. The call at work may take long
   * and the peer may recall any number meanwhile, so the place in the queue is not
   * kept either: half of the places are void at most.
   */
  #remove(id: number): void {
    this.#batches.delete(id);
    this.#void++;
    if (this.#void * 2 > this.#waiting.length) {
      this.#waiting.retain((batch) => this.#batches.has(batch.id));
      this.#void = 0;
    }
    // It has no other answer whose order matters, and so counts at once as one
    // that waits for room.
    this.#post([TAG.recalled, id, 0]);
  }

  /** Takes a batch back, the call at work among it. */
  cancel(id: number, reason: unknown): void {
    this.recall(id);
    const batch = this.#batches.get(id);
    if (batch === undefined || batch.isCancelled) return;
    batch.cancel(reason);
    this.#events.onCancelled(batch.weight);
  }

  /** Nobody can be told of anything any more. */
  end(reason: unknown): void {
    this.#isEnded = true;
    clearTimeout(this.#timer);
    for (const batch of this.#batches.values()) {
      if (batch.isCancelled) continue;
      batch.cancel(reason);
      this.#events.onCancelled(batch.weight);
    }
  }

  /** Works until nothing waits. Never rejects. */
  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.shift();
      if (!this.#batches.has(batch.id)) {
        this.#void--;
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
    let reported = performance.now();
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
        await this.#send([TAG.error, id, failureOf(error)]);
      }
      // The last one counts until its answer is sent.
      if (batch.weight > 1) {
        batch.weight--;
        this.#events.onDone(batch.isCancelled, 1);
      }
      if (performance.now() - reported < REPORT_INTERVAL) continue;
      await this.#report(id);
      if (batch.begun < batch.end) await turn();
      reported = performance.now();
    }
    await this.#report(id);
  }

  /** Tells what was done since the last time. */
  #report(id: number): Promise<void> | undefined {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#values.length === 0) return undefined;
    const values = this.#values;
    this.#values = [];
    return this.#send([TAG.items, id, values]);
  }

  /** Tells it although the call at work may take long. */
  #reportLater(id: number): void {
    if (this.#values.length === 0 || this.#isEnded) return;
    this.#timer ??= setTimeout(() => this.#report(id), REPORT_INTERVAL);
  }

  /** Sends one answer after the other: what takes the place of one keeps it. */
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

/** Whether a value has to be waited for. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null &&
    typeof (value as { then?: unknown }).then === "function";
}

/** Lets the event loop take in what has come, a recall for example. */
function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
