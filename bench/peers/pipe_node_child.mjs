// Copyright 2026 the Duplex authors. MIT license.

/**
 * The child of `pipe_node.mjs`, with the roles of `_threads.mjs`.
 *
 * @module
 */

import process from "node:process";
import { logLines, MIB } from "../_messages.mjs";
import { sendAll } from "./pipe_node_shared.mjs";

const [, , role, what] = process.argv;

function weigh(message) {
  if (message instanceof Uint8Array) return message.length;
  return message.level === "info" ? 1 : NaN;
}

function take() {
  let left = 0;
  let total = 0;
  process.on("message", (message) => {
    if (left === 0) {
      left = message;
      total = 0;
      return;
    }
    total += weigh(message);
    if (--left === 0) process.send(total);
  });
}

function give() {
  const messages = what === "bytes"
    ? [new Uint8Array(MIB).fill(7)]
    : logLines(1_000);
  process.on("message", (count) => sendAll(process, messages, count));
}

if (role === "take") take();
else if (role === "give") give();
else process.on("message", (message) => process.send(message));
