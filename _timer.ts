// Copyright 2026 the Duplex authors. MIT license.

/**
 * Waiting with a bound.
 *
 * @module
 */

/** The longest that a timer can wait; a longer timeout is none. */
export const MAX_TIMER = 2 ** 31 - 1;

/** Whether a promise settles before the time is up. Leaves no timer behind. */
export async function settlesWithin(
  promise: Promise<unknown>,
  timeout: number,
): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), Math.min(timeout, MAX_TIMER));
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
