// Copyright 2026 the Duplex authors. MIT license.

/**
 * One end of a plan: carries out its steps and keeps a journal of what became of
 * every message and every promise. It runs in this program and in workers alike.
 *
 * @module
 */

import type { Duplex } from "@duplex/ipc/duplex";
import { makeMessage, readMessage } from "./messages.ts";
import type { Finale, Manner, SidePlan, Step } from "./plan.ts";

/** What is written into a journal. */
export type Entry =
  /** A send was accepted, was rejected, or did not happen. */
  | "accepted"
  | "rejected"
  | "refused"
  /** A message was received. */
  | "received"
  /** What an end says of itself. */
  | "opened"
  | "left"
  | "broken";

/** Takes entries: of a message its name, which is its sender and its number. */
export interface Journal {
  add(entry: Entry, message: string, text?: string): void;
}

/** A duplex with what only some transports have. */
export interface AnyDuplex extends Duplex<unknown, unknown> {
  sendSync?(message: unknown, options?: { timeout?: number }): void;
  receiveSync?(options?: { timeout?: number }): unknown;
}

/** How an end ends its thread or process; it has none where it is in the program. */
export type Exit = (how: "code" | "throw" | "close") => void;

/** Milliseconds that a step waits for its calls before the next one begins. */
const PATIENCE = 60;

/** Milliseconds that an end reads on before it closes. */
const DRAIN_PATIENCE = 1_000;

/** Milliseconds that a blocking call waits. */
const SYNC_TIMEOUT = 20;

/** Classes of errors that a program may see without anything being wrong. */
const EXPECTED = new Set([
  "AbortError",
  "ClosedError",
  "DeadlockError",
  "PeerExitError",
  "PlannedError",
  "TimeoutError",
  "InvalidStateError",
]);

/** What the reason of every planned abort says. */
export const ABORTS = "aborts as planned";

/** What an abort's reason says that crossed as its text, as it does over JSON. */
const ABORTED = /^The peer aborted: /;

/** Whether a program may see an error without anything being wrong. */
export function isExpected(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return EXPECTED.has(error.name) || ABORTED.test(error.message);
}

/** What an end aborts with, and what its signals abort with. */
export class PlannedError extends Error {
  override name = "PlannedError";
}

/** One end of a plan. */
export class Side {
  readonly name: string;
  readonly #duplex: AnyDuplex;
  readonly #journal: Journal;
  readonly #seed: number;
  readonly #isPlain: boolean;
  readonly #exit: Exit | undefined;
  /** Messages sent, and messages written to the stream, so far. */
  #sent = 0;
  #written = 0;
  /** When the step that is carried out waits no more. */
  #stepEnd = 0;
  /** Calls that receive, so far. */
  #turn = 0;
  /** Promises that have not settled, and what each is of. */
  readonly #pending = new Map<symbol, string>();
  readonly #settled: Promise<unknown>[] = [];
  #isAborted = false;
  #writer: WritableStreamDefaultWriter<unknown> | undefined;
  #reader: ReadableStreamDefaultReader<unknown> | undefined;

  /**
   * @param name What its messages call it.
   * @param isPlain Whether its messages hold only what JSON carries.
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
    this.#track("closed", duplex.closed).catch(() => {});
  }

  /** Whether this end has aborted the duplex. */
  get isAborted(): boolean {
    return this.#isAborted;
  }

  /** What has not settled. */
  get pending(): string[] {
    return [...this.#pending.values()];
  }

  /** Settles when every promise so far has. */
  async allSettled(): Promise<void> {
    for (const promise of this.#settled) await promise;
  }

  /** Carries out the steps. */
  async run({ steps }: SidePlan): Promise<void> {
    for (const step of steps) await this.#step(step);
  }

  /** Leaves as the plan says. */
  async finish(finale: Finale): Promise<void> {
    if (finale === "abort") return this.#abort();
    if (finale === "leave") return;
    if (finale === "drain") {
      const end = this.#track("the end of the duplex", this.#writableEnd());
      await this.#patiently(end);
      await settlesOrNot(this.#drain(), DRAIN_PATIENCE);
    }
    const closing = finale === "dispose"
      ? Promise.resolve(this.#duplex[Symbol.asyncDispose]())
      : this.#duplex.close();
    await this.#track(finale, closing).catch(() => {});
  }

  async #step(step: Step): Promise<void> {
    this.#stepEnd = performance.now() + PATIENCE;
    switch (step.do) {
      case "send":
        return await this.#send(step);
      case "receive":
        return await this.#receive(step);
      case "write":
        return await this.#write(step.count, step.size);
      case "endWritable":
        await this.#patiently(
          this.#track("writable.close", this.#writableEnd()),
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
        const closed = this.#track("close", this.#duplex.close({ timeout }));
        if (step.waits) await this.#patiently(closed);
        else closed.catch(() => {});
        return;
      }
      case "abort":
        return this.#abort();
      case "cancel":
        this.#isAborted = true;
        await this.#patiently(this.#track("cancel", this.#cancel()));
        return;
      case "exit":
        this.#exit?.(step.how);
    }
  }

  /** Waits for a promise, until the time of the step is up. */
  #patiently<T>(promise: Promise<T>): Promise<T | undefined> {
    return settlesOrNot(
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
    const signal = this.#signal(step.abortAfter);
    const promises: Promise<void>[] = [];
    for (let index = 0; index < step.count; index++) {
      const number = this.#sent++;
      const message = this.#make(this.name, number, step.size);
      const sent = this.#sendOne(number, message, step.manner, signal);
      if (sent === undefined) continue;
      promises.push(sent);
      if (step.manner === "wait") await this.#patiently(sent);
    }
    if (
      step.manner === "float" && promises.length > 0 && step.count % 2 === 0
    ) {
      await this.#patiently(promises.at(-1)!);
    }
  }

  /** Sends a message and writes down what becomes of it. */
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
      const tracked = this.#track(`send of ${name}`, sent);
      tracked.catch(() => {});
      return tracked;
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

  /** Writes messages of a name of their own: a stream keeps back what it is given. */
  async #write(count: number, size: number): Promise<void> {
    const sender = `${this.name}-stream`;
    for (let index = 0; index < count; index++) {
      const number = this.#written++;
      const writer = this.#writer ??= this.#takeWriter();
      const written = writer.write(this.#make(sender, number, size)).then(
        () => this.#journal.add("accepted", `${sender} ${number}`),
      );
      // If it rejects, the stream may have failed before the message was sent.
      await this.#patiently(this.#track(`write of ${number}`, written));
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
      // Closing twice is a fault of the plan's, which the stream names.
      if (!(error instanceof TypeError)) throw error;
    }
  }

  // Receiving

  async #receive(step: Step & { do: "receive" }): Promise<void> {
    const { count, manner } = step;
    const signal = this.#signal(step.abortAfter);
    if (manner === "iterate") {
      return await this.#patiently(this.#iterate(count));
    }
    if (manner === "readable") return await this.#patiently(this.#read(count));
    for (let index = 0; index < count; index++) {
      if (manner === "try" || manner === "sync") {
        if (!this.#receiveNow(manner)) await sleep(0);
        continue;
      }
      const options = signal === undefined ? undefined : { signal };
      const turn = this.#turn++;
      const received = this.#track(
        "receive",
        this.#duplex.receive(options).then((value) => this.#take(value, turn)),
      );
      received.catch(() => {});
      if (manner === "wait") await this.#patiently(received);
    }
  }

  /** Receives one message without waiting, or by blocking; whether one was there. */
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
    await this.#track("iteration", this.#each(() => --left > 0));
  }

  async #drain(): Promise<void> {
    await this.#track("drain", this.#each(() => true));
  }

  /** Iterates as long as it should. */
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
      if (!await this.#patiently(this.#track("read", read))) return;
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
   * Writes down a message.
   *
   * @param turn The place of the call that received it: calls are served in the
   *   order in which they are made. Without it, a stream received it.
   */
  #take(value: unknown, turn?: number): void {
    const message = readMessage(this.#seed, value, this.#isPlain);
    if (typeof message === "string") {
      return this.#journal.add("broken", "", message);
    }
    const { sender, number } = message;
    const how = `${turn ?? "stream"}`;
    this.#journal.add("received", `${sender} ${number}`, how);
  }

  // Keeping the journal

  #make(sender: string, number: number, size: number): unknown {
    return makeMessage(this.#seed, sender, number, size, this.#isPlain);
  }

  #signal(turns: number | undefined): AbortSignal | undefined {
    if (turns === undefined) return undefined;
    const controller = new AbortController();
    const abort = async () => {
      for (let turn = 0; turn < turns; turn++) await sleep(0);
      controller.abort(new PlannedError("The plan's signal aborts"));
    };
    this.#track("signal", abort());
    return controller.signal;
  }

  /** Watches a promise until it settles, and looks at what it rejects with. */
  #track<T>(what: string, promise: Promise<T>): Promise<T> {
    const key = Symbol();
    this.#pending.set(key, what);
    const settle = () => this.#pending.delete(key);
    this.#settled.push(promise.then(settle, (error) => {
      settle();
      this.#check(what, error);
    }));
    return promise;
  }

  #check(what: string, error: unknown): void {
    if (isExpected(error)) return;
    // A stream that is closing says so with an error of its own.
    if (error instanceof TypeError && what.startsWith("write")) return;
    this.#journal.add("broken", "", `${what}: ${Deno.inspect(error)}`);
  }
}

/** Waits for a promise until the time is up; ignores what it rejects with. */
export async function settlesOrNot<T>(
  promise: Promise<T>,
  ms: number,
): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms);
  });
  try {
    return await Promise.race([promise.catch(() => undefined), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
