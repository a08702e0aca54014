// Copyright 2026 the Duplex authors. MIT license.

/**
 * The two halves of a session's accounts, as PROTOCOL.md lays down: what was sent
 * and not taken yet, and what has arrived and what the far side was told of it.
 *
 * @module
 */

import type { Receipts } from "./claim.ts";
import { ProtocolError } from "../_base/errors.ts";
import { Deque } from "../_base/waiting.ts";

/** A message with its size in bytes. */
interface Parcel {
  readonly message: unknown;
  readonly size: number;
}

/** Messages that were sent, kept until the far side has taken them. */
export class Outbox {
  readonly #parcels = new Deque<Parcel>();
  /** The last list of unsent messages, and the counts that it is true for. */
  #lastUnsent: {
    readonly sent: number;
    readonly kept: number;
    readonly messages: readonly unknown[];
  } | undefined;
  /** Messages sent since the beginning, and their bytes. */
  sent = 0;
  bytesSent = 0;
  /** How many of them the far side has taken, as far as it has said. */
  acknowledged = 0;
  /** Bytes of those that it has not. */
  bytesInFlight = 0;

  /** How many were sent and not taken. */
  get length(): number {
    return this.#parcels.length;
  }

  /** Adds a message that was sent. */
  add(message: unknown, size: number): void {
    this.sent++;
    this.bytesSent += size;
    this.bytesInFlight += size;
    this.#parcels.push({ message, size });
  }

  /** The far side has taken messages up to this number; `false` if no news. */
  acknowledge(count: number): boolean {
    if (count > this.sent) {
      throw new ProtocolError(
        `Cannot take an acknowledgement of message ${count}: the last one sent is ${this.sent}`,
      );
    }
    if (count <= this.acknowledged) return false;
    for (; this.acknowledged < count; this.acknowledged++) {
      this.bytesInFlight -= this.#parcels.shift().size;
    }
    return true;
  }

  /**
   * The messages that were sent and not taken. Every error that has them shares
   * one list, unless something was sent or taken meanwhile.
   */
  unsent(): readonly unknown[] {
    const { sent, kept } = this;
    const last = this.#lastUnsent;
    if (last?.sent === sent && last.kept === kept) return last.messages;
    const messages = this.listUnsent();
    this.#lastUnsent = { sent, kept, messages };
    return messages;
  }

  /** How many messages are kept. */
  protected get kept(): number {
    return this.#parcels.length;
  }

  /** As {@linkcode Outbox.unsent}, a new list each time. */
  protected listUnsent(): readonly unknown[] {
    return this.#parcels.toArray().map((parcel) => parcel.message);
  }
}

/** Messages that have arrived, and the credit that is due for those taken. */
export class Inbox implements Receipts {
  readonly #window: number;
  readonly #windowMessages: number;
  readonly #parcels = new Deque<Parcel>();
  #bytes = 0;
  #bytesToCredit = 0;
  /** Messages that have arrived since the beginning, and their bytes. */
  received = 0;
  bytesReceived = 0;
  /** How many of them were taken, and how many the far side was told of. */
  taken = 0;
  credited = 0;
  /** Bytes of the message that was taken last. */
  size = 0;

  /**
   * @param windowBytes Bytes that the far side may have on their way here.
   * @param windowMessages Messages that it may.
   */
  constructor(windowBytes: number, windowMessages: number) {
    this.#window = windowBytes;
    this.#windowMessages = windowMessages;
  }

  /** Bytes that the peer may have sent and this end has not taken. */
  get window(): number {
    return this.#window;
  }

  /** Messages that the peer may have sent and this end has not taken. */
  get windowMessages(): number {
    return this.#windowMessages;
  }

  /** How many wait to be taken. */
  get length(): number {
    return this.#parcels.length;
  }

  /** Counts a message that arrives, if it is the next and has the credit. */
  admit(number: number, size: number): void {
    const expected = (this.received + 1) >>> 0;
    if (number !== expected) {
      throw new ProtocolError(
        `Cannot take message ${number}: the next one must be ${expected}`,
      );
    }
    if (
      this.received - this.credited >= this.#windowMessages ||
      this.#bytes + this.#bytesToCredit >= this.#window
    ) {
      throw new ProtocolError(
        `Cannot take message ${number}: the far side has sent more than the window of ${this.#window} bytes and ${this.#windowMessages} messages`,
      );
    }
    this.received++;
    this.bytesReceived += size;
  }

  /** Keeps a message until it is taken. */
  push(message: unknown, size: number): void {
    this.#bytes += size;
    this.#parcels.push({ message, size });
  }

  /** Takes the first message out. There must be one. */
  shift(): unknown {
    const { message, size } = this.#parcels.shift();
    this.#bytes -= size;
    this.onTaken(size);
    return message;
  }

  /** Counts a message as taken. */
  onTaken(size: number): void {
    this.taken++;
    this.size = size;
    this.#bytesToCredit += size;
  }

  /** The next message is asked for. */
  onAsk(): void {}

  /** Something is sent, which may answer what was taken. */
  onAnswer(): void {}

  /** How many of those taken the far side may be told of. */
  get acknowledgeable(): number {
    return this.taken;
  }

  /** Whether enough was taken to be worth a frame that says so. */
  get isCreditDue(): boolean {
    return this.taken - this.credited >= this.#windowMessages / 2 ||
      this.#bytesToCredit >= this.#window / 2;
  }

  /** The far side is told of all that was taken. */
  onCredited(): void {
    this.credited = this.acknowledgeable;
    this.#bytesToCredit = 0;
  }

  /** Drops what waits. */
  clear(): void {
    this.#parcels.clear();
  }
}

/** What keeps a session's accounts, where it is not the usual. */
export interface Accounts {
  readonly inbox?: Inbox;
  readonly outbox?: Outbox;
}
