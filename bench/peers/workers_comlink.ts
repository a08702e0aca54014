// Copyright 2026 the Duplex authors. MIT license.

/**
 * Calls through `npm:comlink` in Deno, for `bench/workers.ts`:
 * `workers_comlink.ts SCENARIO COUNT WARM` prints a JSON array.
 *
 * @module
 */

import { checkSum, messagesOf, rateOf, weigh } from "../_messages.mjs";
import type { Api } from "./workers_comlink_worker.ts";
import { callAll, proxy, type Remote, wrap } from "./workers_comlink_shared.ts";

function open(): { worker: Worker; api: Remote<Api> } {
  const script = new URL("./workers_comlink_worker.ts", import.meta.url);
  const worker = new Worker(script, { type: "module" });
  return { worker, api: wrap<Api>(worker) };
}

/** Milliseconds for all messages there and back, one at a time. */
async function trips(api: Remote<Api>, count: number): Promise<number> {
  const lines = messagesOf("lines");
  const start = performance.now();
  let sum = 0;
  for (let trip = 0; trip < count; trip++) {
    sum += weigh(await api.echo(lines[trip % lines.length]));
  }
  const ms = performance.now() - start;
  checkSum(sum, lines, count);
  return ms;
}

/** Milliseconds until the worker has been called with all messages. */
async function out(
  api: Remote<Api>,
  what: string,
  count: number,
): Promise<number> {
  const messages = messagesOf(what);
  const start = performance.now();
  await callAll((message) => api.take(message), messages, count);
  const ms = performance.now() - start;
  checkSum(await api.sum(), messages, count);
  return ms;
}

/** Milliseconds until the worker has called back with all messages. */
async function into(
  api: Remote<Api>,
  what: string,
  count: number,
): Promise<number> {
  let sum = 0;
  const start = performance.now();
  await api.give(
    what,
    count,
    proxy((message: unknown) => {
      sum += weigh(message);
    }),
  );
  const ms = performance.now() - start;
  checkSum(sum, messagesOf(what), count);
  return ms;
}

/** Milliseconds until the first answer, for each opening. */
async function opening(count: number, warm: number): Promise<number[]> {
  const samples: number[] = [];
  for (let round = 0; round < count + warm; round++) {
    const start = performance.now();
    const { worker, api } = open();
    const answer = await api.echo("hello");
    if (round >= warm) samples.push(performance.now() - start);
    worker.terminate();
    if (answer !== "hello") throw new Error(`The worker said ${answer}`);
  }
  return samples;
}

async function running(
  scenario: string,
  count: number,
  warm: number,
): Promise<number[]> {
  const { worker, api } = open();
  try {
    if (scenario === "round-trip") {
      await trips(api, warm);
      return [await trips(api, count) * 1e3 / count];
    }
    const [what = "", way] = scenario.split("-");
    const run = way === "out" ? out : into;
    await run(api, what, warm);
    return [rateOf(what, count, await run(api, what, count))];
  } finally {
    worker.terminate();
  }
}

const [scenario = "", ...numbers] = Deno.args;
const [count = 0, warm = 0] = numbers.map(Number);
const samples = scenario === "open"
  ? await opening(count, warm)
  : await running(scenario, count, warm);
console.log(JSON.stringify(samples));
