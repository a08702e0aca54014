// Copyright 2026 the Duplex authors. MIT license.

/**
 * Reads the messages of one end: in a loop that waits without blocking, and in calls
 * that block the thread, whichever is first. Both handle one message after the other,
 * in the order in which they arrived.
 *
 * @module
 */

import type { BlockingReceive } from "../_session/session.ts";
import type { Duplex } from "../duplex.ts";
import { type Backlog, MESSAGES_PER_TURN } from "./backlog.ts";
import type { SyncResult } from "./blocking.ts";
import type { Outlet } from "./outlet.ts";

/** The end that a reader belongs to. */
export interface ReaderEvents {
  /** Handles a message. Never throws. */
  onMessage(message: unknown): void;
  /** No more messages arrive. */
  onEnd(error: unknown): void;
}

/**
 * The message that the loop waits for. It is kept here, because a promise would
 * deliver it only after a blocked thread continues.
 */
class Inbox {
  readonly #source: BlockingReceive;
  #isWaiting = false;
  #isFull = false;
  #message: unknown;
  #end: { readonly error: unknown } | undefined;
  #wake: (() => void) | undefined;

  constructor(source: BlockingReceive) {
    this.#source = source;
  }

  get isFull(): boolean {
    return this.#isFull;
  }

  /** Whether the next message that is read gets here. */
  get isWaiting(): boolean {
    return this.#isWaiting;
  }

  /** Takes the message; there must be one. */
  take(): unknown {
    const message = this.#message;
    this.#isFull = false;
    this.#message = undefined;
    return message;
  }

  /** Requests the next message, after `tryReceive` has found none. Throws at the end. */
  request(): void {
    if (!this.#isWaiting && this.#end === undefined) {
      this.#isWaiting = true;
      this.#source.receiveWith(this.#onMessage, this.#onEnd);
    }
    this.throwAtEnd();
  }

  throwAtEnd(): void {
    if (this.#end !== undefined) throw this.#end.error;
  }

  /** Settles when a message or the end has arrived. */
  arrival(): Promise<void> | undefined {
    if (!this.#isWaiting) return undefined;
    return new Promise((resolve) => this.#wake = resolve);
  }

  readonly #onMessage = (message: unknown): void => {
    this.#isWaiting = false;
    this.#isFull = true;
    this.#message = message;
    this.#wake?.();
  };

  readonly #onEnd = (error: unknown): void => {
    this.#isWaiting = false;
    this.#end = { error };
    this.#wake?.();
  };
}

/** Reads the messages of one end. */
export class Reader {
  readonly #duplex: Duplex;
  readonly #source: BlockingReceive | undefined;
  readonly #inbox: Inbox | undefined;
  readonly #backlog: Backlog;
  readonly #events: ReaderEvents;
  #hasEnded = false;

  /**
   * @param duplex The duplex.
   * @param source How the thread blocks, if it can.
   * @param backlog The calls of the peer that wait.
   * @param events Handles the messages.
   */
  constructor(
    duplex: Duplex,
    source: BlockingReceive | undefined,
    backlog: Backlog,
    events: ReaderEvents,
  ) {
    this.#duplex = duplex;
    this.#source = source;
    this.#inbox = source && new Inbox(source);
    this.#backlog = backlog;
    this.#events = events;
  }

  /** Reads messages until the duplex ends. Never rejects. */
  async run(): Promise<void> {
    const duplex = this.#duplex;
    const backlog = this.#backlog;
    const inbox = this.#inbox;
    // Methods that are exposed right after this must receive the first calls.
    await undefined;
    try {
      for (let count = 0;;) {
        if (!backlog.isEmpty && backlog.isFull) await backlog.room();
        if (this.#tryRead()) {
          if (++count % MESSAGES_PER_TURN === 0) await undefined;
          continue;
        }
        count = 0;
        if (inbox === undefined) {
          this.#events.onMessage(await duplex.receive());
        } else {
          inbox.request();
          await inbox.arrival();
        }
      }
    } catch (error) {
      this.#onEnd(error);
    }
  }

  /**
   * Handles messages until a call has its result, and blocks the thread meanwhile.
   *
   * @param result The result of the call.
   * @param deadline When to give up.
   * @param outlet Sends the call, and others that wait.
   * @returns Whether the call has its result; `false` at the deadline.
   * @throws Why the thread must not block any longer.
   */
  readUntil(result: SyncResult, deadline: number, outlet: Outlet): boolean {
    const source = this.#source!;
    const backlog = this.#backlog;
    // If this thread was busy, the answer may have arrived: it is read first.
    let late = 0;
    outlet.pumpSync();
    while (!result.isSettled) {
      const isFull = !backlog.isEmpty && backlog.isFull;
      if (!isFull && this.#tryReadSync()) {
        const isLate = deadline !== Infinity && performance.now() >= deadline;
        if (!isLate || ++late < MESSAGES_PER_TURN) continue;
      }
      // What was read may have made room.
      if (!backlog.isEmpty && !source.hasWaitingSends()) {
        outlet.settleAll();
        if (backlog.beginSync()) continue;
      }
      const isSending = outlet.pumpSync();
      if (result.isSettled) return true;
      const left = deadline - performance.now();
      if (left <= 0) return false;
      source.block(left, isSending);
    }
    return true;
  }

  /** Handles the next message, if there is one. */
  #tryRead(): boolean {
    const inbox = this.#inbox;
    if (inbox !== undefined) {
      // `tryReceive` could return a message behind the one that the inbox gets.
      if (inbox.isWaiting) this.#source!.poll();
      if (inbox.isFull) {
        this.#events.onMessage(inbox.take());
        return true;
      }
      if (inbox.isWaiting) return false;
    }
    const result = this.#duplex.tryReceive();
    if (result.state !== "ok") return false;
    this.#events.onMessage(result.value);
    return true;
  }

  /** Handles the next message or the end, if there is one. */
  #tryReadSync(): boolean {
    if (this.#hasEnded) return false;
    if (this.#tryRead()) return true;
    try {
      this.#inbox!.request();
      return false;
    } catch (error) {
      this.#onEnd(error);
      return true;
    }
  }

  #onEnd(error: unknown): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#events.onEnd(error);
  }
}
