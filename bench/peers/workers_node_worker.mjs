// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of `workers_node.mjs`; its argument is its role.
 *
 * @module
 */

import process from "node:process";
import {
  parentPort,
  receiveMessageOnPort,
  workerData,
} from "node:worker_threads";
import { moving, serve } from "./_threads.mjs";

const [, , role, how] = process.argv;

function spin(port) {
  for (;;) {
    const answer = receiveMessageOnPort(port);
    if (answer !== undefined) port.postMessage(answer.message);
  }
}

if (role === "spin") spin(workerData.port);
serve({
  post: how === "moved"
    ? moving((message, transfer) => parentPort.postMessage(message, transfer))
    : (message) => parentPort.postMessage(message),
  listen(callback) {
    parentPort.removeAllListeners("message");
    parentPort.on("message", callback);
  },
}, role);
