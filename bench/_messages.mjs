// Copyright 2026 the Duplex authors. MIT license.

/**
 * The messages that the measurements send, and what a receiver makes of them, so
 * that it is seen whether all of them came. It is JavaScript since Node's peers
 * import it too; `peers/_messages.py` is the same for Python.
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

/** A megabyte is 1 000 000 bytes, a MiB is this many. */
export const MIB = 2 ** 20;

/** How many different lines there are. */
const BATCH = 1_000;

/**
 * Makes lines that differ in their text, as real ones do.
 *
 * @param {number} count How many.
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
 * The messages that are sent over and over.
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
 * What a received message adds to the sum: a line its process, bytes and text
 * their length and last element.
 *
 * @param {any} message The message.
 * @returns {number} A number, or `NaN` if it is no such message.
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
 * Complains unless a receiver has seen `count` of the messages.
 *
 * @param {unknown} sum What the received ones add up to.
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
 * What a sender achieved, in the unit of its table.
 *
 * @param {string} what What was sent, as in {@link messagesOf}.
 * @param {number} count How many.
 * @param {number} ms How long it took.
 * @returns {number} Megabytes a second where each is a MiB, or else messages.
 */
export function rateOf(what, count, ms) {
  return (what === "bytes" ? count * MIB / 1e6 : count) * 1e3 / ms;
}
