// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a listener keeps for those who come: an attempt for each connection until
 * it is let in or let go, and a retention for each session that may lose its
 * connection and come back.
 *
 * @module
 */

import { RefusedError } from "./errors.ts";
import type { Admission } from "./handshake.ts";
import type { Resumption, SocketLink } from "./link.ts";
import { MAX_TIMER } from "../_base/waiting.ts";

/** One connection's way in, which is shut once the connection was let go. */
export class Attempt implements Admission {
  readonly #admission: Admission;
  #isAdmitted = false;
  #hasLeft = false;

  constructor(admission: Admission) {
    this.#admission = admission;
  }

  admit(): void {
    this.#checkOpen();
    this.#admission.admit();
    this.#isAdmitted = true;
  }

  detach(session: string): number {
    this.#checkOpen();
    return this.#admission.detach(session);
  }

  /** Leaves; returns whether it was counted in. */
  leave(): boolean {
    this.#hasLeft = true;
    return this.#isAdmitted;
  }

  #checkOpen(): void {
    if (this.#hasLeft) throw new RefusedError("closed", "it took too long");
  }
}

/** Options for {@linkcode Retention}. */
export interface RetentionOptions {
  readonly replaySize: number;
  /** Milliseconds without a connection after which the session is given up. */
  readonly timeout: number;
  /** Whether a connection can come back at all. */
  canReturn(): boolean;
  /** Called when the session has ended. */
  onEnded(): void;
}

/** Keeps a session for a while when it has lost its connection. */
export class Retention implements Resumption {
  readonly replaySize: number;
  readonly #options: RetentionOptions;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #link: SocketLink | undefined;

  constructor(options: RetentionOptions) {
    this.replaySize = options.replaySize;
    this.#options = options;
  }

  /** Names the link of the session. */
  watch(link: SocketLink): void {
    this.#link = link;
  }

  onDetached(cause: unknown): void {
    clearTimeout(this.#timer);
    const { timeout } = this.#options;
    if (!this.#options.canReturn()) {
      this.#giveUp("its listener is closed", cause);
    } else if (timeout <= MAX_TIMER) {
      const text = `it did not come back within ${timeout} ms`;
      this.#timer = setTimeout(() => this.#giveUp(text, cause), timeout);
    }
  }

  /** A connection has come back. */
  onAttached(): void {
    clearTimeout(this.#timer);
  }

  onEnded(): void {
    clearTimeout(this.#timer);
    this.#options.onEnded();
  }

  #giveUp(text: string, cause: unknown): void {
    this.#link?.giveUp(new Error(text, { cause }));
  }
}
