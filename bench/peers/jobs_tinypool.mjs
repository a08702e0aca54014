// Copyright 2026 the Duplex authors. MIT license.

/**
 * `npm:tinypool` in Node, for `bench/jobs.ts`:
 * `jobs_tinypool.mjs SCENARIO COUNT WARM FOLDER` prints a JSON array; the package
 * is installed in the folder.
 *
 * @module
 */

import { createRequire } from "node:module";
import process from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { mapCalls, measure } from "../_jobs.mjs";

/**
 * The tasks of a worker at a time. With 1, the default of tinypool, 64 calls in flight
 * and a map are at least two or three times as slow; of 16 to 5000 tasks 64 to 256
 * were fastest, and equal.
 */
const PER_WORKER = 128;

/** The tasks of a map in flight, of twice those of the workers to all of them. */
const BOUND = 256;

const METHODS = fileURLToPath(new URL("../_jobs.mjs", import.meta.url));
const [, , scenario, count, warm, folder] = process.argv;
const path = createRequire(`${folder}/`).resolve("tinypool");
const { default: Tinypool } = await import(pathToFileURL(path).href);

function open(scenario, workers) {
  const pool = new Tinypool({
    filename: METHODS,
    name: scenario === "map" ? "fib" : "echo",
    minThreads: workers,
    maxThreads: workers,
    concurrentTasksPerWorker: PER_WORKER,
    // Without it calls in flight are a quarter slower, and in child processes all
    // scenarios.
    useAtomics: true,
    runtime: "worker_threads",
  });
  return {
    echo: (line) => pool.run(line),
    map: (numbers) => mapCalls((number) => pool.run(number), numbers, BOUND),
    stop: () => pool.destroy(),
  };
}

await measure(open, [scenario, count, warm]);
