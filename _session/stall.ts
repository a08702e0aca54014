// Copyright 2026 the Duplex authors. MIT license.

/**
 * Notices that two sides wait for each other: both have sends that wait for
 * room, neither has a receive, and nothing has moved for a while. One side alone
 * cannot know it, so a side that stalls tells the other; the second to do so
 * makes it a deadlock on both.
 *
 * @module
 */

import { MAX_TIMER } from "../_base/waiting.ts";

/** What a {@linkcode StallWatch} asks of its session. */
export interface StallEvents {
  /** Whether a send waits and no receive does. */
  isBlocked(): boolean;
  /** Tells the far side that this one has stalled. */
  notify(): void;
  /** Tells the far side that this one has not stalled any more. */
  resume(): void;
  /** Both sides have stalled. */
  onDeadlock(): void;
}

/** Watches one side's waiting sends. */
export class StallWatch {
  readonly #timeout: number;
  readonly #events: StallEvents;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #blockedSince: number | undefined;
  #blockedMs = 0;
  #moved = false;
  #stalled = false;
  #peerStalled = false;

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
    if (this.#stalled) {
      this.#stalled = false;
      this.#events.resume();
    }
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** The far side has taken a message, so it lives. */
  onProgress(): void {
    this.#moved = true;
    this.#peerStalled = false;
    if (!this.#stalled) return;
    this.#stalled = false;
    this.#arm();
  }

  /** This side takes a message; `true` if the far side must know at once. */
  onTake(): boolean {
    this.#moved = true;
    if (!this.#stalled && !this.#peerStalled) return false;
    this.#peerStalled = false;
    if (this.#stalled) {
      this.#stalled = false;
      this.#arm();
    }
    return true;
  }

  /** The far side has stalled, with all the credit that it was given. */
  onPeer(): void {
    this.#peerStalled = true;
    if (this.#stalled && this.#events.isBlocked()) this.#resolve();
  }

  #arm(): void {
    if (
      this.#timer !== undefined || this.#blockedSince === undefined ||
      this.#timeout > MAX_TIMER
    ) return;
    this.#moved = false;
    this.#timer = setTimeout(() => this.#check(), this.#timeout);
    // The sends may have left while the timer was made.
    if (this.#blockedSince === undefined) this.unblock();
  }

  #check(): void {
    this.#timer = undefined;
    if (this.#moved || !this.#events.isBlocked()) return this.#arm();
    this.#stalled = true;
    this.#events.notify();
    if (this.#peerStalled) this.#resolve();
  }

  #resolve(): void {
    this.#peerStalled = false;
    this.#events.onDeadlock();
  }
}
