// Copyright 2026 the Duplex authors. MIT license.

/**
 * What `npm:tinypool` can do in Node, for `bench/jobs.ts`:
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
 * How many tasks a worker has in hand. With 1, which is tinypool's default, 64
 * calls in flight and a map are two or three times as slow, or more; of 16 to
 * 5000 tasks 64 to 256 were fastest, and alike.
 */
const PER_WORKER = 128;

/** Of a map's tasks, of twice as many as the workers have to all of them. */
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
    // Calls in flight are a quarter slower without, and everything is in child
    // processes.
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
