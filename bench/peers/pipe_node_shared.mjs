// Copyright 2026 the Duplex authors. MIT license.

/**
 * What both sides of the measurement of Node share.
 *
 * @module
 */

/**
 * Sends as fast as the channel allows: it waits for the callback of a message only
 * after `send` has returned that there is no room.
 */
export async function sendAll(end, messages, count) {
  const { length } = messages;
  for (let index = 0; index < count; index++) {
    if (end.send(messages[index % length]) || ++index === count) continue;
    await new Promise((resolve) => end.send(messages[index % length], resolve));
  }
}
