// Copyright 2026 the Duplex authors. MIT license.

/**
 * Node's `worker_threads`, for `bench/workers.ts`:
 * `workers_node.mjs SCENARIO COUNT WARM [moved]` prints a JSON array. With
 * `moved`, byte arrays are copied and the copy transferred. The scenario "spin"
 * is a round trip through a `MessageChannel` whose ends both call
 * `receiveMessageOnPort` until a message arrives.
 *
 * @module
 */

import process from "node:process";
import {
  MessageChannel,
  receiveMessageOnPort,
  Worker,
} from "node:worker_threads";
import { checkSum, messagesOf, weigh } from "../_messages.mjs";
import { measure, moving } from "./_threads.mjs";

const SCRIPT = new URL("./workers_node_worker.mjs", import.meta.url);
const [, , scenario, count, warm, how] = process.argv;

function open(role) {
  const worker = new Worker(SCRIPT, { argv: [role, how] });
  return {
    end: {
      post: how === "moved"
        ? moving((message, transfer) => worker.postMessage(message, transfer))
        : (message) => worker.postMessage(message),
      listen(callback) {
        worker.removeAllListeners("message");
        worker.on("message", callback);
      },
    },
    stop: () => worker.terminate(),
  };
}

/** Microseconds there and back; neither side releases its thread. */
function trips(port, times) {
  const lines = messagesOf("lines");
  const start = performance.now();
  let sum = 0;
  for (let trip = 0; trip < times; trip++) {
    port.postMessage(lines[trip % lines.length]);
    let answer;
    while (answer === undefined) answer = receiveMessageOnPort(port);
    sum += weigh(answer.message);
  }
  const ms = performance.now() - start;
  checkSum(sum, lines, times);
  return ms * 1e3 / times;
}

async function spin(times, first) {
  const { port1, port2 } = new MessageChannel();
  const workerData = { port: port2 };
  const transferList = [port2];
  const argv = ["spin"];
  const worker = new Worker(SCRIPT, { argv, workerData, transferList });
  trips(port1, first);
  console.log(JSON.stringify([trips(port1, times)]));
  await worker.terminate();
}

if (scenario === "spin") await spin(Number(count), Number(warm));
else await measure(open, [scenario, count, warm]);
