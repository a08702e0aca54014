// Copyright 2026 the Duplex authors. MIT license.

/**
 * This package's side of a measurement, over any transport. Its worker is
 * `duplex_worker.ts`.
 *
 * @module
 */

import { Meter } from "../../_cli/measure.ts";
import type { Duplex } from "../../duplex.ts";
import { loadOf, rateOf } from "../_messages.mjs";

/** Opens a worker. */
export type Open = (script: URL) => Promise<Duplex>;

const SCRIPT = new URL("./duplex_worker.ts", import.meta.url);

/** Opens a worker and measures it. */
async function measureWorker<T>(
  open: Open,
  what: string,
  run: (meter: Meter) => Promise<T>,
): Promise<T> {
  await using worker = await open(SCRIPT);
  return await run(new Meter(worker, loadOf(what)));
}

/** Microseconds there and back. */
function roundTrip(
  open: Open,
  count: number,
  warm: number,
): Promise<number[]> {
  return measureWorker(open, "lines", async (meter) => {
    await meter.trips(warm);
    const samples = await meter.trips(count);
    return [samples.reduce((sum, ms) => sum + ms) * 1e3 / count];
  });
}

/**
 * Megabytes or messages per second; the scenario names the messages, and "-out" or
 * "-in".
 */
export function oneWay(
  open: Open,
  scenario: string,
  count: number,
  warm: number,
): Promise<number[]> {
  const [what = "", way] = scenario.split("-");
  return measureWorker(open, what, async (meter) => {
    const run = (count: number) =>
      way === "out" ? meter.sent(count) : meter.received(count);
    await run(warm);
    return [rateOf(what, count, await run(count))];
  });
}

/** Milliseconds until the first answer, for each opening. */
async function opening(
  open: Open,
  count: number,
  warm: number,
): Promise<number[]> {
  const samples: number[] = [];
  for (let round = 0; round < count + warm; round++) {
    const start = performance.now();
    const ms = await measureWorker(open, "text128", async (meter) => {
      await meter.trips(1);
      return performance.now() - start;
    });
    if (round >= warm) samples.push(ms);
  }
  return samples;
}

/** A scenario of one transport. */
export type Scenario = (count: number, warm: number) => Promise<number[]>;

/**
 * Measures the scenario of the arguments, `SCENARIO COUNT WARM`, and prints its
 * figures as a JSON array.
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
