// Copyright 2026 the Duplex authors. MIT license.

/**
 * This module's side of `bench/pipe.ts`: `pipe_main.ts SCENARIO COUNT WARM`
 * measures itself against a worker of its own and prints one figure, or
 * several, as a JSON array.
 *
 * @module
 */

import { openPipe, type PipeDuplex } from "../../pipe.ts";
import { logLines } from "../_log_line.ts";

const WORKER = new URL("./pipe_worker.ts", import.meta.url);
const BATCH = 1_000;
const MIB = 2 ** 20;

function open(...args: string[]): Promise<PipeDuplex<unknown>> {
  return openPipe(WORKER, { args });
}

/** Microseconds there and back. */
async function roundTrip(count: number, warm: number): Promise<number[]> {
  const lines = logLines(BATCH);
  await using worker = await open("echo");
  let start = 0;
  for (let trip = -warm; trip < count; trip++) {
    if (trip === 0) start = performance.now();
    await worker.send(lines[(trip + warm) % BATCH]);
    await worker.receive();
  }
  return [(performance.now() - start) * 1e3 / count];
}

/** Milliseconds until the worker has received all of them. */
async function out(
  worker: PipeDuplex<unknown>,
  messages: unknown[],
  count: number,
): Promise<number> {
  const start = performance.now();
  await worker.send(count);
  for (let index = 0; index < count; index++) {
    await worker.send(messages[index % messages.length]);
  }
  const total = await worker.receive();
  const expected = messages[0] instanceof Uint8Array ? count * MIB : count;
  if (total !== expected) throw new Error(`The worker counted ${total}`);
  return performance.now() - start;
}

/** Milliseconds until all that the worker sends have been received. */
async function into(
  worker: PipeDuplex<unknown>,
  count: number,
): Promise<number> {
  const start = performance.now();
  await worker.send(count);
  for (let index = 0; index < count; index++) await worker.receive();
  return performance.now() - start;
}

async function oneWay(
  scenario: string,
  count: number,
  warm: number,
): Promise<number[]> {
  const what = scenario.startsWith("bytes") ? "bytes" : "lines";
  const messages = what === "bytes"
    ? [new Uint8Array(MIB).fill(7)]
    : logLines(BATCH);
  const isOut = scenario.endsWith("-out");
  await using worker = await open(isOut ? "take" : "give", what);
  const run = (times: number) =>
    isOut ? out(worker, messages, times) : into(worker, times);
  await run(warm);
  const ms = await run(count);
  const units = what === "bytes" ? count * MIB / 1e6 : count;
  return [units * 1e3 / ms];
}

/** Milliseconds until the first answer, one for each opening. */
async function opening(count: number, warm: number): Promise<number[]> {
  const samples: number[] = [];
  for (let round = 0; round < count + warm; round++) {
    const start = performance.now();
    await using worker = await open("echo");
    await worker.send("hello");
    await worker.receive();
    if (round >= warm) samples.push(performance.now() - start);
  }
  return samples;
}

const [scenario = "", count, warm] = Deno.args;
const [times, first] = [Number(count), Number(warm)];
let samples: number[];
if (scenario === "round-trip") samples = await roundTrip(times, first);
else if (scenario === "open") samples = await opening(times, first);
else samples = await oneWay(scenario, times, first);
console.log(JSON.stringify(samples));
