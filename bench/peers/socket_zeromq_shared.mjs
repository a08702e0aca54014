// Copyright 2026 the Duplex authors. MIT license.

/**
 * What both processes of the measurement of zeromq share.
 *
 * @module
 */

import { createRequire } from "node:module";

// The limits with which a pair was fastest, of 64 to 16384 lines and 2 to 64
// messages of a MiB.
const BOUND = 1000;
const BYTES_BOUND = 16;

/**
 * One end of a connection, with its limit on waiting messages.
 *
 * @param {string} folder The folder of zeromq.
 * @param {string} role The role of the peer process.
 */
export function pair(folder, role) {
  const { Pair } = createRequire(`${folder}/`)("zeromq");
  const bound = role === "take-bytes" ? BYTES_BOUND : BOUND;
  return new Pair({ sendHighWaterMark: bound, receiveHighWaterMark: bound });
}

/** Sends a value; the promise is settled already if there is room. */
export function send(socket, message) {
  return socket.send(JSON.stringify(message));
}

/** The received value. */
export function value([bytes]) {
  return JSON.parse(bytes.toString());
}
