// Copyright 2026 the Duplex authors. MIT license.

/**
 * What both sides of the measurement of comlink share.
 *
 * @module
 */

// Not in `deno.json`, because `deno task` downloads the packages of that file, and
// only this measurement uses it.
export * from "npm:comlink@4.4.2";

/** The limit with which comlink was fastest, of 1 to 4096 calls in flight. */
const BOUND = 256;

/** Calls with each message, with a limited number in flight. */
export function callAll(
  call: (message: unknown) => Promise<unknown>,
  messages: unknown[],
  count: number,
): Promise<void> {
  let sent = 0;
  let answered = 0;
  return new Promise((resolve, reject) => {
    function next() {
      if (sent === count) return;
      call(messages[sent++ % messages.length]).then(onAnswer, reject);
    }
    function onAnswer() {
      if (++answered === count) resolve();
      else next();
    }
    for (let inFlight = 0; inFlight < BOUND; inFlight++) next();
  });
}
