// Copyright 2026 the Duplex authors. MIT license.

/**
 * The objects that a listener keeps for its connections: a ticket for each
 * connection until it is a peer or is closed, and a resumption for each session
 * that may lose its connection.
 *
 * @module
 */

import { RefusedError } from "./errors.ts";
import type { Admission } from "./handshake.ts";
import type { Resumption, SocketStream } from "./stream.ts";
import { MAX_TIMER, RunningTimer } from "../_base/waiting.ts";

/** A connection that is not a peer yet. It can fail until its handshake is done. */
export class AdmissionTicket implements Admission {
  /** The time of its accept, in milliseconds of `performance.now`. */
  readonly since: number = performance.now();
  readonly #admission: Admission;
  readonly #failed = Promise.withResolvers<never>();
  readonly #ended = Promise.withResolvers<void>();
  #timer: RunningTimer | undefined;
  #state: "unproven" | "admitted" | "refused" = "unproven";

  /**
   * @param admission The listener's decisions.
   * @param timeout Milliseconds until the connection fails.
   */
  constructor(admission: Admission, timeout: number) {
    this.#admission = admission;
    this.#failed.promise.catch(() => {});
    if (timeout > MAX_TIMER) return;
    this.#timer = new RunningTimer(timeout, () => {
      const text = `it did not send its hello within ${timeout} ms`;
      this.fail(new DOMException(text, "TimeoutError"));
    });
  }

  /** Rejects when the connection must be closed. */
  get failed(): Promise<never> {
    return this.#failed.promise;
  }

  /** Settles when the connection is closed or a peer. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  admit(): void {
    this.#checkValid();
    this.#admission.admit();
    this.#state = "admitted";
  }

  detach(session: string): number {
    this.#checkValid();
    return this.#admission.detach(session);
  }

  /** Prevents a later admission; returns whether the peer was admitted before. */
  refuse(): boolean {
    const wasAdmitted = this.#state === "admitted";
    this.#state = "refused";
    return wasAdmitted;
  }

  /** Closes the connection with an error. */
  fail(error: unknown): void {
    this.#failed.reject(error);
  }

  /** Ends the ticket: the connection is closed or a peer. */
  end(): void {
    this.#timer?.clear();
    this.#ended.resolve();
  }

  #checkValid(): void {
    if (this.#state !== "refused") return;
    throw new RefusedError("closed", "it took too long");
  }
}

/** Options for {@linkcode WaitingResumption}. */
export interface WaitingOptions {
  readonly replayBytes: number;
  /** Milliseconds without a connection after which the session fails. */
  readonly timeout: number;
  /** Whether the opener can reconnect. */
  canReturn(): boolean;
  /** Called when the session has ended. */
  onEnded(): void;
}

/** Keeps a session that has lost its connection until its opener reconnects. */
export class WaitingResumption implements Resumption {
  readonly replayBytes: number;
  readonly #options: WaitingOptions;
  #timer: RunningTimer | undefined;
  #stream: SocketStream | undefined;

  constructor(options: WaitingOptions) {
    this.replayBytes = options.replayBytes;
    this.#options = options;
  }

  /** Sets the stream of the session. */
  watch(stream: SocketStream): void {
    this.#stream = stream;
  }

  onDetached(cause: unknown): void {
    this.#timer?.clear();
    const { timeout } = this.#options;
    if (!this.#options.canReturn()) {
      this.#abandon("its listener is closed", cause);
    } else if (timeout <= MAX_TIMER) {
      const text = `it did not reconnect within ${timeout} ms`;
      this.#timer = new RunningTimer(
        timeout,
        () => this.#abandon(text, cause),
      );
    }
  }

  /** The session has another connection. */
  onAttached(): void {
    this.#timer?.clear();
  }

  onEnded(): void {
    this.#timer?.clear();
    this.#options.onEnded();
  }

  #abandon(text: string, cause: unknown): void {
    this.#stream?.abandon(new Error(text, { cause }));
  }
}
