// Copyright 2026 the Duplex authors. MIT license.

/**
 * What both sides of the Node measurement use.
 *
 * @module
 */

/**
 * Sends as fast as the channel takes them: while `send` says that there is
 * room, nothing is waited for; once it says that there is none, the next
 * message's callback is.
 */
export async function sendAll(end, messages, count) {
  const { length } = messages;
  for (let index = 0; index < count; index++) {
    if (end.send(messages[index % length]) || ++index === count) continue;
    await new Promise((resolve) => end.send(messages[index % length], resolve));
  }
}
