// Copyright 2026 the Duplex authors. MIT license.

/**
 * One end of a plan: runs its steps and records the outcome of every message
 * and every promise in a journal. It runs in this program or in a worker.
 *
 * @module
 */

import type { Duplex } from "@duplex/ipc/duplex";
import { makeMessage, readMessage } from "./messages.ts";
import type { Finale, Manner, SidePlan, Step } from "./plan.ts";
import {
  ABORTS,
  isExpected,
  PlannedError,
  settleOrTimeout,
  sleep,
  TrackedPromises,
} from "./promises.ts";

/** The kinds of journal entry. */
export type Entry =
  /** A send was accepted, was rejected, or returned `false`. */
  | "accepted"
  | "rejected"
  | "refused"
  /** A message was received. */
  | "received"
  /** The state of an end. */
  | "opened"
  | "left"
  | "violation";

/** Receives entries. A message is identified by its sender and its number. */
export interface Journal {
  add(entry: Entry, message: string, text?: string): void;
}

/** A duplex, with members that only some transports have. */
export interface AnyDuplex extends Duplex<unknown, unknown> {
  sendSync?(message: unknown, options?: { timeout?: number }): void;
  receiveSync?(options?: { timeout?: number }): unknown;
}

/** Ends the thread or process of an end; absent in this program. */
export type Exit = (how: "code" | "throw" | "close") => void;

/** Milliseconds that a step waits for its calls before the next step. */
const STEP_TIMEOUT = 60;

/** Milliseconds that an end continues to receive before it closes. */
const DRAIN_TIMEOUT = 1_000;

/** Timeout of a blocking call in milliseconds. */
const SYNC_TIMEOUT = 20;

/** One end of a plan. */
export class Side {
  readonly name: string;
  readonly #duplex: AnyDuplex;
  readonly #journal: Journal;
  readonly #seed: number;
  readonly #isPlain: boolean;
  readonly #exit: Exit | undefined;
  readonly promises = new TrackedPromises((what, error) =>
    this.#check(what, error)
  );
  /** Messages sent, and messages written to the stream. */
  #sent = 0;
  #written = 0;
  /** When the current step stops waiting. */
  #stepEnd = 0;
  /** Number of receive calls. */
  #turn = 0;
  #isAborted = false;
  #writer: WritableStreamDefaultWriter<unknown> | undefined;
  #reader: ReadableStreamDefaultReader<unknown> | undefined;

  /**
   * @param name The sender in its messages.
   * @param isPlain Whether its messages are limited to JSON values.
   */
  constructor(
    name: string,
    duplex: AnyDuplex,
    journal: Journal,
    seed: number,
    isPlain: boolean,
    exit?: Exit,
  ) {
    this.name = name;
    this.#duplex = duplex;
    this.#journal = journal;
    this.#seed = seed;
    this.#isPlain = isPlain;
    this.#exit = exit;
    this.promises.track("closed", duplex.closed);
  }

  /** Whether this end has aborted the duplex. */
  get isAborted(): boolean {
    return this.#isAborted;
  }

  /** Runs the steps. */
  async run({ steps }: SidePlan): Promise<void> {
    for (const step of steps) await this.#step(step);
  }

  /** Ends as the plan says. */
  async finish(finale: Finale): Promise<void> {
    if (finale === "abort") return this.#abort();
    if (finale === "leave") return;
    if (finale === "drain") {
      const end = this.promises.track(
        "the end of the duplex",
        this.#writableEnd(),
      );
      await this.#waitInStep(end);
      await settleOrTimeout(this.#drain(), DRAIN_TIMEOUT);
    }
    const closing = finale === "dispose"
      ? Promise.resolve(this.#duplex[Symbol.asyncDispose]())
      : this.#duplex.close();
    await this.promises.track(finale, closing);
  }

  async #step(step: Step): Promise<void> {
    this.#stepEnd = performance.now() + STEP_TIMEOUT;
    switch (step.do) {
      case "send":
        return await this.#send(step);
      case "receive":
        return await this.#receive(step);
      case "write":
        return await this.#write(step.count, step.size);
      case "endWritable":
        await this.#waitInStep(
          this.promises.track("writable.close", this.#writableEnd()),
        );
        return;
      case "turn":
        for (let turn = 0; turn < step.count; turn++) await sleep(0);
        return;
      case "pause":
        return await sleep(step.ms);
      case "busy":
        for (const end = performance.now() + step.ms; performance.now() < end;);
        return;
      case "close": {
        const { timeout } = step;
        const closed = this.promises.track(
          "close",
          this.#duplex.close({ timeout }),
        );
        if (step.waits) await this.#waitInStep(closed);
        return;
      }
      case "abort":
        return this.#abort();
      case "cancel":
        this.#isAborted = true;
        await this.#waitInStep(this.promises.track("cancel", this.#cancel()));
        return;
      case "exit":
        this.#exit?.(step.how);
    }
  }

  /** Waits for a promise until the time of the step is over. */
  #waitInStep<T>(promise: Promise<T>): Promise<T | undefined> {
    return settleOrTimeout(
      promise,
      Math.max(0, this.#stepEnd - performance.now()),
    );
  }

  #abort(): void {
    this.#isAborted = true;
    this.#duplex.abort(new PlannedError(`"${this.name}" ${ABORTS}`));
  }

  // Sending

  async #send(step: Step & { do: "send" }): Promise<void> {
    const signal = this.promises.signal(step.abortAfter);
    const promises: Promise<void>[] = [];
    for (let index = 0; index < step.count; index++) {
      const number = this.#sent++;
      const message = this.#make(this.name, number, step.size);
      const sent = this.#sendOne(number, message, step.manner, signal);
      if (sent === undefined) continue;
      promises.push(sent);
      if (step.manner === "wait") await this.#waitInStep(sent);
    }
    if (
      step.manner === "float" && promises.length > 0 && step.count % 2 === 0
    ) {
      await this.#waitInStep(promises.at(-1)!);
    }
  }

  /** Sends a message and records its outcome. */
  #sendOne(
    number: number,
    message: unknown,
    manner: Manner,
    signal: AbortSignal | undefined,
  ): Promise<void> | undefined {
    const name = `${this.name} ${number}`;
    const options = signal === undefined ? undefined : { signal };
    if (manner === "wait" || manner === "float") {
      const sent = this.#duplex.send(message, options).then(
        () => this.#journal.add("accepted", name),
        (error) => {
          this.#journal.add("rejected", name);
          throw error;
        },
      );
      return this.promises.track(`send of ${name}`, sent);
    }
    try {
      if (manner === "sync" && this.#duplex.sendSync !== undefined) {
        this.#duplex.sendSync(message, { timeout: SYNC_TIMEOUT });
        this.#journal.add("accepted", name);
      } else {
        const isSent = this.#duplex.trySend(message, options);
        this.#journal.add(isSent ? "accepted" : "refused", name);
      }
    } catch (error) {
      this.#journal.add("rejected", name);
      this.#check("trySend", error);
    }
    return undefined;
  }

  /**
   * Writes messages with a separate sender name, since a stream buffers them.
   */
  async #write(count: number, size: number): Promise<void> {
    const sender = `${this.name}-stream`;
    for (let index = 0; index < count; index++) {
      const number = this.#written++;
      const writer = this.#writer ??= this.#takeWriter();
      const written = writer.write(this.#make(sender, number, size)).then(
        () => this.#journal.add("accepted", `${sender} ${number}`),
      );
      // If it rejects, the stream may have failed before it sent the message.
      await this.#waitInStep(
        this.promises.track(`write of ${number}`, written),
      );
    }
  }

  #takeWriter(): WritableStreamDefaultWriter<unknown> {
    const writer = this.#duplex.writable.getWriter();
    writer.closed.catch(() => {});
    writer.ready.catch(() => {});
    return writer;
  }

  async #writableEnd(): Promise<void> {
    const writer = this.#writer ??= this.#takeWriter();
    try {
      await writer.close();
    } catch (error) {
      // The plan may close twice, which the stream rejects.
      if (!(error instanceof TypeError)) throw error;
    }
  }

  // Receiving

  async #receive(step: Step & { do: "receive" }): Promise<void> {
    const { count, manner } = step;
    const signal = this.promises.signal(step.abortAfter);
    if (manner === "iterate") {
      return await this.#waitInStep(this.#iterate(count));
    }
    if (manner === "readable") return await this.#waitInStep(this.#read(count));
    for (let index = 0; index < count; index++) {
      if (manner === "try" || manner === "sync") {
        if (!this.#receiveNow(manner)) await sleep(0);
        continue;
      }
      const options = signal === undefined ? undefined : { signal };
      const turn = this.#turn++;
      const received = this.promises.track(
        "receive",
        this.#duplex.receive(options).then((value) => this.#take(value, turn)),
      );
      if (manner === "wait") await this.#waitInStep(received);
    }
  }

  /**
   * Receives a message without waiting, or by blocking; returns whether there
   * was one.
   */
  #receiveNow(manner: "try" | "sync"): boolean {
    try {
      if (manner === "sync" && this.#duplex.receiveSync !== undefined) {
        const value = this.#duplex.receiveSync({ timeout: SYNC_TIMEOUT });
        this.#take(value, this.#turn++);
        return true;
      }
      const result = this.#duplex.tryReceive();
      if (result.state === "ok") this.#take(result.value, this.#turn++);
      return result.state === "ok";
    } catch (error) {
      this.#check("receiveSync", error);
      return false;
    }
  }

  async #iterate(count: number): Promise<void> {
    let left = count;
    await this.promises.track("iteration", this.#each(() => --left > 0));
  }

  async #drain(): Promise<void> {
    await this.promises.track("drain", this.#each(() => true));
  }

  /** Iterates while `goOn` returns `true`. */
  async #each(goOn: () => boolean): Promise<void> {
    const iterator = this.#duplex[Symbol.asyncIterator]();
    for (;;) {
      const turn = this.#turn++;
      const { value, done } = await iterator.next();
      if (done) return;
      this.#take(value, turn);
      if (!goOn()) return;
    }
  }

  async #read(count: number): Promise<void> {
    const reader = this.#takeReader();
    for (let index = 0; index < count; index++) {
      const read = reader.read().then(({ value, done }) => {
        if (!done) this.#take(value);
        return !done;
      });
      if (!await this.#waitInStep(this.promises.track("read", read))) return;
    }
  }

  async #cancel(): Promise<void> {
    await this.#takeReader().cancel(new PlannedError(`The reader ${ABORTS}`));
  }

  #takeReader(): ReadableStreamDefaultReader<unknown> {
    if (this.#reader === undefined) {
      this.#reader = this.#duplex.readable.getReader();
      this.#reader.closed.catch(() => {});
    }
    return this.#reader;
  }

  /**
   * Records a message.
   *
   * @param turn The index of the receive call: calls are served in order.
   *   Absent if a stream received the message.
   *   order in which they are made. Without it, a stream received it.
   */
  #take(value: unknown, turn?: number): void {
    const message = readMessage(this.#seed, value, this.#isPlain);
    if (typeof message === "string") {
      return this.#journal.add("violation", "", message);
    }
    const { sender, number } = message;
    const how = `${turn ?? "stream"}`;
    this.#journal.add("received", `${sender} ${number}`, how);
  }

  // Journal

  #make(sender: string, number: number, size: number): unknown {
    return makeMessage(this.#seed, sender, number, size, this.#isPlain);
  }

  #check(what: string, error: unknown): void {
    if (isExpected(error)) return;
    // A stream that is closing rejects with its own error.
    if (error instanceof TypeError && what.startsWith("write")) return;
    this.#journal.add("violation", "", `${what}: ${Deno.inspect(error)}`);
  }
}
