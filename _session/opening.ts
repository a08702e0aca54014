// Copyright 2026 the Duplex authors. MIT license.

/**
 * Waiting for a far side's hello, with a bound: what every opening function does
 * once it has started its worker.
 *
 * @module
 */

import { MAX_TIMER } from "../_base/waiting.ts";

/** What is being opened: a session, or a link that has one. */
export interface Opening {
  /** Greets the far side; settles when both hellos are said. */
  open(): Promise<void>;
  /** Ends it with an error of this side's. */
  fail(error: unknown): unknown;
}

/**
 * Opens something within `timeout` milliseconds.
 *
 * @param opening What is opened.
 * @param timeout Milliseconds; longer than a timer can wait is for ever.
 * @param describe Says what was attempted, and with whom, and what is known of it.
 * @throws {DOMException} If there was no hello in time ("TimeoutError").
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
