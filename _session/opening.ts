// Copyright 2026 the Duplex authors. MIT license.

/**
 * Waits for a peer's hello, within a time and until a signal aborts. Every
 * opening function does so once it has started its worker.
 *
 * @module
 */

import { MAX_TIMER, RunningTimer } from "../_base/waiting.ts";

/** A session that is being opened, or an object that has one. */
export interface Opening {
  /** Sends a hello; settles when the peer's has been received. */
  open(): Promise<void>;
  /** Ends it with an error of this side's. */
  fail(error: unknown): unknown;
}

/** The limits of the wait for a hello. */
export interface OpenLimits {
  /** Milliseconds; no limit if they are more than a timer can wait. */
  readonly timeout: number;
  /** Ends the opening with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/** The end of the error for a worker script that does not send its hello in time. */
export const ASKS_FOR_CALL = "; does it call parent() or expose()?";

/** Parts of an error: the attempt, the awaited act, and what is known of the peer. */
export interface Attempt {
  attempt: string;
  awaited?: string;
  known?: string;
}

/**
 * Waits until something is open, or ends it.
 *
 * @param opening What is opened.
 * @param limits The time, and a signal.
 * @param describe Describes the attempt, for the error of a timeout.
 * @throws {DOMException} If there was no hello in time ("TimeoutError").
 */
export async function openWithin(
  opening: Opening,
  { timeout, signal }: OpenLimits,
  describe: () => Attempt,
): Promise<void> {
  const onTimeout = () => {
    const { attempt, awaited = "send its hello", known = "" } = describe();
    opening.fail(
      new DOMException(
        `${attempt}: it did not ${awaited} within ${timeout} ms${known}`,
        "TimeoutError",
      ),
    );
  };
  const onAbort = () => void opening.fail(signal!.reason);
  const timer = timeout > MAX_TIMER
    ? undefined
    : new RunningTimer(timeout, onTimeout);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const opened = opening.open();
    if (signal?.aborted) onAbort();
    await opened;
  } finally {
    timer?.clear();
    signal?.removeEventListener("abort", onAbort);
  }
}

/** As {@linkcode openWithin}; rejects once a session that failed has been cleaned up. */
export async function openSession<
  Opened extends Opening & { closed: Promise<void> },
>(
  session: Opened,
  limits: OpenLimits,
  describe: () => Attempt,
): Promise<Opened> {
  try {
    await openWithin(session, limits, describe);
    return session;
  } catch (error) {
    await session.closed.catch(() => {});
    throw error;
  }
}
