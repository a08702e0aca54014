// Copyright 2026 the Duplex authors. MIT license.

/**
 * This module's side of a measurement, over any transport: the scenarios that a
 * duplex goes through. `workers/duplex_worker.ts` is at its far end.
 *
 * @module
 */

import type { Duplex } from "../../duplex.ts";
import { checkSum, messagesOf, rateOf, weigh } from "../_messages.mjs";

/** Opens a worker that plays a role, which the script finds in its address. */
export type Open = (script: URL) => Promise<Duplex<unknown>>;

/** The worker's script, told what to do: "echo", "take-lines", "give-bytes" … */
export function scriptOf(role: string): URL {
  return new URL(`./duplex_worker.ts?${role}`, import.meta.url);
}

/** Milliseconds for all of them there and back, one at a time. */
async function trips(
  worker: Duplex<unknown>,
  messages: unknown[],
  count: number,
): Promise<number> {
  const start = performance.now();
  let sum = 0;
  for (let trip = 0; trip < count; trip++) {
    await worker.send(messages[trip % messages.length]);
    sum += weigh(await worker.receive());
  }
  const ms = performance.now() - start;
  checkSum(sum, messages, count);
  return ms;
}

/** Microseconds there and back. */
async function roundTrip(
  open: Open,
  count: number,
  warm: number,
): Promise<number[]> {
  const lines = messagesOf("lines");
  await using worker = await open(scriptOf("echo"));
  await trips(worker, lines, warm);
  return [await trips(worker, lines, count) * 1e3 / count];
}

/** Milliseconds until the worker has received all of them. */
async function out(
  worker: Duplex<unknown>,
  messages: unknown[],
  count: number,
): Promise<number> {
  const start = performance.now();
  await worker.send(count);
  for (let index = 0; index < count; index++) {
    await worker.send(messages[index % messages.length]);
  }
  const sum = await worker.receive();
  const ms = performance.now() - start;
  checkSum(sum, messages, count);
  return ms;
}

/** Milliseconds until all that the worker sends have been received. */
async function into(
  worker: Duplex<unknown>,
  messages: unknown[],
  count: number,
): Promise<number> {
  const start = performance.now();
  await worker.send(count);
  let sum = 0;
  for (let index = 0; index < count; index++) {
    sum += weigh(await worker.receive());
  }
  const ms = performance.now() - start;
  checkSum(sum, messages, count);
  return ms;
}

/** Megabytes or messages a second; the scenario says what, and "-out" or "-in". */
export async function oneWay(
  open: Open,
  scenario: string,
  count: number,
  warm: number,
): Promise<number[]> {
  const [what = "", way] = scenario.split("-");
  const messages = messagesOf(what);
  const role = way === "out" ? "take" : "give";
  await using worker = await open(scriptOf(`${role}-${what}`));
  const run = way === "out" ? out : into;
  await run(worker, messages, warm);
  return [rateOf(what, count, await run(worker, messages, count))];
}

/** Milliseconds until the first answer, one for each opening. */
async function opening(
  open: Open,
  count: number,
  warm: number,
): Promise<number[]> {
  const samples: number[] = [];
  for (let round = 0; round < count + warm; round++) {
    const start = performance.now();
    await using worker = await open(scriptOf("echo"));
    await worker.send("hello");
    const answer = await worker.receive();
    if (round >= warm) samples.push(performance.now() - start);
    if (answer !== "hello") throw new Error(`The worker said ${answer}`);
  }
  return samples;
}

/** A scenario that one transport alone has. */
export type Scenario = (count: number, warm: number) => Promise<number[]>;

/**
 * Goes through the scenario that the arguments name, `SCENARIO COUNT WARM`, and
 * prints one figure, or several, as a JSON array.
 */
export async function measure(
  open: Open,
  own: Record<string, Scenario> = {},
): Promise<void> {
  const [scenario = "", ...numbers] = Deno.args;
  const [count, warm] = numbers.map(Number) as [number, number];
  let samples: number[];
  if (Object.hasOwn(own, scenario)) samples = await own[scenario]!(count, warm);
  else if (scenario === "open") samples = await opening(open, count, warm);
  else if (scenario === "round-trip") {
    samples = await roundTrip(open, count, warm);
  } else samples = await oneWay(open, scenario, count, warm);
  console.log(JSON.stringify(samples));
}
