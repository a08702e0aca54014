// Copyright 2026 the Duplex authors. MIT license.

/**
 * Node's `fork`, for `bench/pipe.ts`:
 * `pipe_node.mjs SCENARIO COUNT WARM SERIALIZATION` prints a JSON array.
 *
 * @module
 */

import { fork } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { logLines, MIB } from "../_messages.mjs";
import { sendAll } from "./pipe_node_shared.mjs";

const CHILD = fileURLToPath(new URL("./pipe_node_child.mjs", import.meta.url));
const [, , scenario, count, warm, serialization] = process.argv;

function start(...args) {
  return fork(CHILD, args, { serialization });
}

async function stop(child) {
  child.disconnect();
  await once(child, "exit");
}

/** Calls back for each message, which then costs no promise. */
function receive(child, total) {
  return new Promise((resolve) => {
    let left = total;
    child.on("message", function onMessage(message) {
      if (--left > 0) return;
      child.off("message", onMessage);
      resolve(message);
    });
  });
}

async function trips(child, lines, times) {
  const started = performance.now();
  await new Promise((resolve) => {
    let trip = 0;
    child.on("message", function onMessage() {
      if (++trip < times) return child.send(lines[trip % lines.length]);
      child.off("message", onMessage);
      resolve();
    });
    child.send(lines[0]);
  });
  return (performance.now() - started) * 1e3 / times;
}

async function roundTrip(times, first) {
  const child = start("echo");
  const lines = logLines(1_000);
  await trips(child, lines, first);
  const samples = [await trips(child, lines, times)];
  await stop(child);
  return samples;
}

async function oneWay(times, first) {
  const what = scenario.startsWith("bytes") ? "bytes" : "lines";
  const isOut = scenario.endsWith("-out");
  const messages = what === "bytes"
    ? [new Uint8Array(MIB).fill(7)]
    : logLines(1_000);
  const child = start(isOut ? "take" : "give", what);
  const run = async (total) => {
    const done = receive(child, isOut ? 1 : total);
    const started = performance.now();
    child.send(total);
    if (isOut) await sendAll(child, messages, total);
    const answer = await done;
    const expected = what === "bytes" ? total * MIB : total;
    if (isOut && answer !== expected) throw new Error(`Counted ${answer}`);
    return performance.now() - started;
  };
  await run(first);
  const ms = await run(times);
  await stop(child);
  return [(what === "bytes" ? times * MIB / 1e6 : times) * 1e3 / ms];
}

async function opening(times, first) {
  const samples = [];
  for (let round = 0; round < times + first; round++) {
    const started = performance.now();
    const child = start("echo");
    child.send("hello");
    await once(child, "message");
    if (round >= first) samples.push(performance.now() - started);
    await stop(child);
  }
  return samples;
}

const numbers = [Number(count), Number(warm)];
let samples;
if (scenario === "round-trip") samples = await roundTrip(...numbers);
else if (scenario === "open") samples = await opening(...numbers);
else samples = await oneWay(...numbers);
console.log(JSON.stringify(samples));
