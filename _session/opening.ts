// Copyright 2026 the Duplex authors. MIT license.

/**
 * Waiting for the peer's hello, within a time limit, as every opening function
 * does.
 *
 * @module
 */

import { MAX_TIMER } from "../_base/waiting.ts";

/** A session that is being opened, or what contains one. */
export interface Opening {
  /** Starts the session; settles when the peer's hello has arrived. */
  open(): Promise<void>;
  /** Ends it with an error. */
  fail(error: unknown): unknown;
}

/**
 * Opens something within `timeout` milliseconds.
 *
 * @param opening The session.
 * @param timeout Milliseconds; no limit if a timer cannot wait that long.
 * @param describe Returns what was attempted, with which peer, and what is known.
 * @throws {DOMException} If no hello has arrived in time ("TimeoutError").
 */
export async function openWithin(
  opening: Opening,
  timeout: number,
  describe: () => { attempt: string; awaited?: string; known?: string },
): Promise<void> {
  const onTimeout = () => {
    const { attempt, awaited = "say hello", known = "" } = describe();
    opening.fail(
      new DOMException(
        `${attempt}: it did not ${awaited} within ${timeout} ms${known}`,
        "TimeoutError",
      ),
    );
  };
  const timer = timeout > MAX_TIMER
    ? undefined
    : setTimeout(onTimeout, timeout);
  try {
    await opening.open();
  } finally {
    clearTimeout(timer);
  }
}
