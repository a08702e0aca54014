// Copyright 2026 the Duplex authors. MIT license.

/**
 * What `npm:workerpool` can do in Node, for `bench/jobs.ts`:
 * `jobs_workerpool.mjs SCENARIO COUNT WARM FOLDER` prints a JSON array; the package
 * is installed in the folder.
 *
 * It gives a worker one task at a time, whatever else waits in the pool. To call
 * through its `proxy()` makes no difference, nor does the order of its queue.
 *
 * @module
 */

import { createRequire } from "node:module";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { mapCalls, measure } from "../_jobs.mjs";

/**
 * Of a map's tasks, of 2 to all of them: as many as there are workers, since what
 * waits has to be gone through.
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
