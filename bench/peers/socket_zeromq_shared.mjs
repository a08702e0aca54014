// Copyright 2026 the Duplex authors. MIT license.

/**
 * What both processes of the zeromq measurement use.
 *
 * @module
 */

import { createRequire } from "node:module";

// The bounds with which a pair was fastest: of 64 to 16384 lines, and of 2 to 64
// times a MiB.
const BOUND = 1000;
const BYTES_BOUND = 16;

/**
 * One end of a link. On either side as many messages may wait as its bound says.
 *
 * @param {string} folder Where zeromq is installed.
 * @param {string} role What the far process does, as in `workers/socket_far.ts`.
 */
export function pair(folder, role) {
  const { Pair } = createRequire(`${folder}/`)("zeromq");
  const bound = role === "take-bytes" ? BYTES_BOUND : BOUND;
  return new Pair({ sendHighWaterMark: bound, receiveHighWaterMark: bound });
}

/** Sends a value. Where there is room, its promise is settled already. */
export function send(socket, message) {
  return socket.send(JSON.stringify(message));
}

/** The value that was received. */
export function value([bytes]) {
  return JSON.parse(bytes.toString());
}
