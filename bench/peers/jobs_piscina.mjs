// Copyright 2026 the Duplex authors. MIT license.

/**
 * `npm:piscina` in Node, for `bench/jobs.ts`:
 * `jobs_piscina.mjs SCENARIO COUNT WARM FOLDER` prints a JSON array; the package is
 * installed in the folder.
 *
 * @module
 */

import { createRequire } from "node:module";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { mapCalls, measure } from "../_jobs.mjs";

/**
 * The tasks of a worker at a time. With 1, the default of piscina, 64 calls in flight
 * are eight times as slow and a map three times; of 16 to 5000 tasks 64 to 256 were
 * fastest, and equal.
 */
const PER_WORKER = 128;

/** The tasks of a map in flight, of twice those of the workers to all of them. */
const BOUND = 256;

/**
 * "async" is a tenth faster than "sync" with calls in flight, "disabled" a tenth
 * slower, as in a map. One call at a time takes about the same with each.
 */
const ATOMICS = { call: "disabled", calls64: "async", map: "sync" };

const METHODS = fileURLToPath(new URL("../_jobs.mjs", import.meta.url));
const [, , scenario, count, warm, folder] = process.argv;
const { FixedQueue, Piscina } = createRequire(`${folder}/`)("piscina");

function open(scenario, workers) {
  const pool = new Piscina({
    filename: METHODS,
    name: scenario === "map" ? "fib" : "echo",
    minThreads: workers,
    maxThreads: workers,
    concurrentTasksPerWorker: PER_WORKER,
    atomics: ATOMICS[scenario],
    // As fast as its default queue, or a little faster.
    taskQueue: new FixedQueue(),
    // Its histogram is not used; that is hardly faster.
    recordTiming: false,
  });
  return {
    echo: (line) => pool.run(line),
    map: (numbers) => mapCalls((number) => pool.run(number), numbers, BOUND),
    stop: () => pool.destroy(),
  };
}

await measure(open, [scenario, count, warm]);
