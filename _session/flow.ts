// Copyright 2026 the Duplex authors. MIT license.

/**
 * Flow control of a session, as PROTOCOL.md defines it: the messages sent and not
 * yet acknowledged, the messages that arrived, what of them was received and
 * acknowledged, and the detection of a deadlock.
 *
 * @module
 */

import { Deque, MAX_TIMER, RunningTimer } from "../_base/waiting.ts";
import type { FlowCounts } from "../_wire/wire.ts";

/** A message with its size in bytes. */
interface Counted {
  readonly message: unknown;
  readonly size: number;
}

/** The limits for messages of the peer, and the size of the latest. */
export interface ReceiveWindow {
  /** Bytes that the peer may have sent and this side has not received. */
  readonly windowBytes: number;
  /** Messages that the peer may have sent and this side has not received. */
  readonly windowMessages: number;
  /** Bytes of the message that was received last. */
  readonly lastSize: number;
}

/**
 * The counts of a session's messages, in both directions. A message is received
 * when the application has it, and acknowledged when the peer was sent the count.
 */
export class Flow implements FlowCounts, ReceiveWindow {
  // Outgoing

  readonly #unacknowledged = new Deque<Counted>();
  /** The last list of unsent messages, and the counts that it is valid for. */
  #lastUnsent: {
    readonly sent: number;
    readonly kept: number;
    readonly messages: readonly unknown[];
  } | undefined;
  /** Messages sent, and their bytes. */
  sent = 0;
  bytesSent = 0;
  /** How many of them the peer has acknowledged. */
  acknowledgedByPeer = 0;
  /** Bytes of those that it has not acknowledged. */
  bytesInFlight = 0;

  // Incoming

  readonly #windowBytes: number;
  readonly #windowMessages: number;
  /** Messages that have arrived and wait to be received, and their bytes. */
  readonly #waiting = new Deque<Counted>();
  #bytesWaiting = 0;
  /** Bytes of messages that were received and not acknowledged. */
  #bytesUnreported = 0;
  /** Messages that have arrived, and their bytes. */
  arrived = 0;
  bytesArrived = 0;
  /** How many of them were received, and how many this side has acknowledged. */
  received = 0;
  acknowledgedToPeer = 0;
  lastSize = 0;

  /**
   * @param windowBytes Bytes that the peer may send before some are received.
   * @param windowMessages Messages that it may.
   */
  constructor(windowBytes: number, windowMessages: number) {
    this.#windowBytes = windowBytes;
    this.#windowMessages = windowMessages;
  }

  /** How many messages were sent and not acknowledged. */
  get inFlight(): number {
    return this.#unacknowledged.length;
  }

  /** Called before a message is sent, which acknowledges what was received. */
  beforeSend(): void {}

  /** Counts a message that was sent, with the acknowledgement that it carries. */
  onSent(message: unknown, size: number): void {
    this.sent++;
    this.bytesSent += size;
    this.bytesInFlight += size;
    this.#unacknowledged.push({ message, size });
    this.onAcknowledgedToPeer();
  }

  /** The peer has acknowledged so many messages; returns whether the count has grown. */
  onAcknowledgedByPeer(count: number): boolean {
    if (count <= this.acknowledgedByPeer) return false;
    for (; this.acknowledgedByPeer < count; this.acknowledgedByPeer++) {
      this.bytesInFlight -= this.#unacknowledged.shift().size;
    }
    return true;
  }

  /**
   * The messages that were sent and not acknowledged. All errors share one list
   * until another message is sent or acknowledged.
   */
  unsent(): readonly unknown[] {
    const { sent, kept } = this;
    const last = this.#lastUnsent;
    if (last?.sent === sent && last.kept === kept) return last.messages;
    const messages = this.listUnsent();
    this.#lastUnsent = { sent, kept, messages };
    return messages;
  }

  /** How many messages {@linkcode listUnsent} would return. */
  protected get kept(): number {
    return this.#unacknowledged.length;
  }

  /** As {@linkcode unsent}, a new list each time. */
  protected listUnsent(): readonly unknown[] {
    return this.#unacknowledged.toArray().map(({ message }) => message);
  }

  get windowBytes(): number {
    return this.#windowBytes;
  }

  get windowMessages(): number {
    return this.#windowMessages;
  }

  /** How many messages wait to be received. */
  get queued(): number {
    return this.#waiting.length;
  }

  get isWindowFull(): boolean {
    return this.arrived - this.acknowledgedToPeer >= this.#windowMessages ||
      this.#bytesWaiting + this.#bytesUnreported >= this.#windowBytes;
  }

  /** Counts a message that has arrived. */
  onArrived(size: number): void {
    this.arrived++;
    this.bytesArrived += size;
  }

  /** Keeps a message until it is received. */
  push(message: unknown, size: number): void {
    this.#bytesWaiting += size;
    this.#waiting.push({ message, size });
  }

  /** Takes the first message that waits. There must be one. */
  shift(): unknown {
    const { message, size } = this.#waiting.shift();
    this.#bytesWaiting -= size;
    this.onReceived(size);
    return message;
  }

  /** Drops the messages that wait. */
  clear(): void {
    this.#waiting.clear();
  }

  /** Called before a message is received, whether or not there is one. */
  beforeReceive(): void {}

  /** Counts a message that was received. */
  onReceived(size: number): void {
    this.received++;
    this.lastSize = size;
    this.#bytesUnreported += size;
  }

  get acknowledgeable(): number {
    return this.received;
  }

  /** Whether enough was received for a frame that acknowledges it. */
  get isCreditDue(): boolean {
    return this.received - this.acknowledgedToPeer >=
        this.#windowMessages / 2 ||
      this.#bytesUnreported >= this.#windowBytes / 2;
  }

  /** All that may be acknowledged is acknowledged now. */
  onAcknowledgedToPeer(): void {
    this.acknowledgedToPeer = this.acknowledgeable;
    this.#bytesUnreported = 0;
  }
}

/** The calls of a {@linkcode StallWatch} to its session. */
export interface StallEvents {
  /** Whether a send waits and no receive does. */
  isBlocked(): boolean;
  /** Reports to the peer that this side has stalled. */
  notify(): void;
  /** Reports to the peer that this side has not stalled any more. */
  resume(): void;
  /** Both sides have stalled. */
  onDeadlock(): void;
}

/**
 * Detects a deadlock: both sides have sends that wait for room, neither has a
 * receive, and nothing has moved for a while. A side that stalls reports it to
 * the peer; when the second one does, it is a deadlock on both.
 */
export class StallWatch {
  readonly #timeout: number;
  readonly #events: StallEvents;
  #timer: RunningTimer | undefined;
  #blockedSince: number | undefined;
  #blockedMs = 0;
  #hasMoved = false;
  #isStalled = false;
  #isPeerStalled = false;

  /** @param timeout Milliseconds of blocked sending after which a side has stalled. */
  constructor(timeout: number, events: StallEvents) {
    this.#timeout = timeout;
    this.#events = events;
  }

  /** Milliseconds in which at least one send waited. */
  get blockedMs(): number {
    const since = this.#blockedSince;
    return this.#blockedMs +
      (since === undefined ? 0 : performance.now() - since);
  }

  /** A send begins to wait. */
  block(): void {
    if (this.#blockedSince !== undefined) return;
    this.#blockedSince = performance.now();
    this.#arm();
  }

  /** No send waits any more. */
  unblock(): void {
    this.#blockedMs = this.blockedMs;
    this.#blockedSince = undefined;
    if (this.#isStalled) {
      this.#isStalled = false;
      this.#events.resume();
    }
    this.#timer?.clear();
    this.#timer = undefined;
  }

  /** The peer has acknowledged a message or given credit. */
  onProgress(): void {
    this.#hasMoved = true;
    this.#isPeerStalled = false;
    if (!this.#isStalled) return;
    this.#isStalled = false;
    this.#arm();
  }

  /** This side receives a message; returns whether credit is due at once. */
  onReceive(): boolean {
    this.#hasMoved = true;
    if (!this.#isStalled && !this.#isPeerStalled) return false;
    this.#isPeerStalled = false;
    if (this.#isStalled) {
      this.#isStalled = false;
      this.#arm();
    }
    return true;
  }

  /** The peer has stalled, although it has all the credit. */
  onPeer(): void {
    this.#isPeerStalled = true;
    if (this.#isStalled && this.#events.isBlocked()) this.#resolve();
  }

  #arm(): void {
    if (
      this.#timer !== undefined || this.#blockedSince === undefined ||
      this.#timeout > MAX_TIMER
    ) return;
    this.#hasMoved = false;
    this.#timer = new RunningTimer(this.#timeout, () => this.#check());
    // Deno may run other tasks while it loads its first timer.
    if (this.#blockedSince === undefined) this.unblock();
  }

  #check(): void {
    this.#timer = undefined;
    if (this.#hasMoved || !this.#events.isBlocked()) return this.#arm();
    this.#isStalled = true;
    this.#events.notify();
    if (this.#isPeerStalled) this.#resolve();
  }

  #resolve(): void {
    this.#isPeerStalled = false;
    this.#events.onDeadlock();
  }
}
