// Copyright 2026 the Duplex authors. MIT license.

/**
 * `npm:workerpool` in Node, for `bench/jobs.ts`:
 * `jobs_workerpool.mjs SCENARIO COUNT WARM FOLDER` prints a JSON array; the package
 * is installed in the folder.
 *
 * A worker gets one task at a time. Calls through its `proxy()` make no difference, and
 * neither does the order of its queue.
 *
 * @module
 */

import { createRequire } from "node:module";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { mapCalls, measure } from "../_jobs.mjs";

/**
 * The tasks of a map in flight, of 2 to all of them: the number of workers, because
 * workerpool searches all waiting tasks.
 */
const BOUND = 2;

const SCRIPT = fileURLToPath(
  new URL("./jobs_workerpool_worker.mjs", import.meta.url),
);
const [, , scenario, count, warm, folder] = process.argv;
const workerpool = createRequire(`${folder}/`)("workerpool");

function open(_scenario, workers) {
  const pool = workerpool.pool(SCRIPT, {
    minWorkers: workers,
    maxWorkers: workers,
    // "process" is a third slower.
    workerType: "thread",
    workerThreadOpts: { argv: [folder] },
  });
  return {
    echo: (line) => pool.exec("echo", [line]),
    map: (numbers) =>
      mapCalls((number) => pool.exec("fib", [number]), numbers, BOUND),
    stop: () => pool.terminate(),
  };
}

await measure(open, [scenario, count, warm]);
