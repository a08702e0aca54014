// Copyright 2026 the Duplex authors. MIT license.

/**
 * zeromq in Node, for `bench/socket.ts`:
 * `socket_zeromq.mjs SCENARIO COUNT WARM tcp|ipc FOLDER` prints a JSON array; the
 * package is installed in the folder. Values are JSON, bytes are sent as they are.
 *
 * Both sides use a PAIR, which is as fast as PUSH and PULL and needs no second
 * connection for the answer.
 *
 * @module
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { checkSum, messagesOf, rateOf, weigh } from "../_messages.mjs";
import { pair, send, value } from "./socket_zeromq_shared.mjs";

const FAR = fileURLToPath(new URL("./socket_zeromq_far.mjs", import.meta.url));
const [, , scenario, count, warm, form, folder] = process.argv;

/** Starts the peer process, and waits for its end. */
async function withFar(role, run) {
  const own = await mkdtemp(`${tmpdir()}/duplex_bench_`);
  const socket = pair(folder, role);
  await socket.bind(
    form === "ipc" ? `ipc://${own}/socket` : "tcp://127.0.0.1:*",
  );
  const args = [FAR, role, socket.lastEndpoint, folder];
  const far = spawn(process.execPath, args, { stdio: "inherit" });
  const ended = once(far, "exit");
  try {
    return await run(socket);
  } finally {
    await send(socket, null);
    const [code] = await ended;
    socket.close();
    await rm(own, { recursive: true });
    if (code !== 0) process.exitCode = 1;
  }
}

async function trips(socket, lines, times) {
  const started = performance.now();
  let sum = 0;
  for (let trip = 0; trip < times; trip++) {
    await send(socket, lines[trip % lines.length]);
    sum += weigh(value(await socket.receive()));
  }
  const ms = performance.now() - started;
  checkSum(sum, lines, times);
  return ms;
}

function roundTrip(times, first) {
  const lines = messagesOf("lines");
  return withFar("echo", async (socket) => {
    await trips(socket, lines, first);
    return [await trips(socket, lines, times) * 1e3 / times];
  });
}

async function out(socket, messages, times) {
  const { length } = messages;
  const started = performance.now();
  await send(socket, times);
  for (let index = 0; index < times; index++) {
    const message = messages[index % length];
    await (scenario === "bytes" ? socket.send(message) : send(socket, message));
  }
  const sum = value(await socket.receive());
  const ms = performance.now() - started;
  checkSum(sum, messages, times);
  return ms;
}

function oneWay(times, first) {
  const messages = messagesOf(scenario);
  return withFar(`take-${scenario}`, async (socket) => {
    await out(socket, messages, first);
    return [rateOf(scenario, times, await out(socket, messages, times))];
  });
}

const run = scenario === "round-trip" ? roundTrip : oneWay;
console.log(JSON.stringify(await run(Number(count), Number(warm))));
