// Copyright 2026 the Duplex authors. MIT license.

/**
 * The messages of the measurements, and a check sum that shows whether all of them
 * were received. It is JavaScript because the programs for Node import it as well;
 * `peers/_messages.py` is the same for Python.
 *
 * @module
 */

/** A line of a log: 8 fields, 131 bytes as MessagePack. */
export const LOG_LINE = {
  time: "2026-11-23T06:59:25.123Z",
  level: "info",
  message: "GET /index.html 200",
  host: "web-1",
  pid: 4242,
  ms: 12.5,
  bytes: 5120,
  ok: true,
};

/** The bytes of a MiB; a megabyte has 1 000 000. */
export const MIB = 2 ** 20;

/** The number of different lines. */
const BATCH = 1_000;

/**
 * Makes lines that differ in their text, as those of a log do.
 *
 * @param {number} count The number of lines.
 * @returns {(typeof LOG_LINE)[]} The lines.
 */
export function logLines(count) {
  return Array.from({ length: count }, (_, index) => ({
    ...LOG_LINE,
    message: `GET /page-${index}.html 200`,
    pid: 4242 + index,
  }));
}

/**
 * The messages, which are sent in turn.
 *
 * @param {string} what "lines", "bytes" (a MiB), "bytes128" or "text128".
 * @returns {unknown[]} The messages.
 */
export function messagesOf(what) {
  switch (what) {
    case "bytes":
      return [new Uint8Array(MIB).fill(7)];
    case "bytes128":
      return [new Uint8Array(128).fill(7)];
    case "text128":
      return ["GET /index.html 200 ".repeat(7).slice(0, 128)];
    default:
      return logLines(BATCH);
  }
}

/**
 * What a received message adds to the check sum: the process of a line, the length
 * and the last element of bytes and text.
 *
 * @param {any} message The message.
 * @returns {number} A number; `NaN` for another message.
 */
export function weigh(message) {
  if (typeof message === "string") {
    return message.length + message.charCodeAt(message.length - 1);
  }
  if (message instanceof Uint8Array) {
    return message.length + message[message.length - 1];
  }
  return message.level === "info" ? message.pid : NaN;
}

/**
 * The messages with their check, for `_cli/measure.ts`.
 *
 * @param {string} what As for {@link messagesOf}.
 * @returns The load.
 */
export function loadOf(what) {
  return { name: what, messages: messagesOf(what), weigh };
}

/**
 * Throws unless `count` messages were received.
 *
 * @param {unknown} sum The check sum of the received messages.
 * @param {unknown[]} messages The messages.
 * @param {number} count How many were sent.
 */
export function checkSum(sum, messages, count) {
  const weights = messages.map(weigh);
  let expected = 0;
  for (let index = 0; index < count; index++) {
    expected += weights[index % weights.length];
  }
  if (sum !== expected) {
    throw new Error(`The messages add up to ${sum}, not to ${expected}`);
  }
}

/**
 * The rate in the unit of its table.
 *
 * @param {string} what As for {@link messagesOf}.
 * @param {number} count The number of messages.
 * @param {number} ms The time that they took.
 * @returns {number} Megabytes per second for messages of a MiB, or messages.
 */
export function rateOf(what, count, ms) {
  return (what === "bytes" ? count * MIB / 1e6 : count) * 1e3 / ms;
}
