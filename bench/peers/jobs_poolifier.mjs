// Copyright 2026 the Duplex authors. MIT license.

/**
 * `npm:poolifier-web-worker` in Deno, for `bench/jobs.ts`:
 * `jobs_poolifier.mjs SCENARIO COUNT WARM FOLDER` prints a JSON array; the package is
 * installed in the folder.
 *
 * Without events, a queue of tasks and measurements of tasks, which it would do in
 * addition.
 *
 * @module
 */

import { mapCalls, measure } from "../_jobs.mjs";

/** The calls of a map in flight. */
const BOUND = 256;

const [scenario, count, warm, folder] = Deno.args;
const { FixedThreadPool } = await import(
  `file://${folder}/node_modules/poolifier-web-worker/esm/mod.js`
);
const SCRIPT = new URL("./jobs_poolifier_worker.mjs", import.meta.url);
SCRIPT.hash = folder;

function open(_scenario, workers) {
  const pool = new FixedThreadPool(workers, SCRIPT, {
    workerChoiceStrategy: "ROUND_ROBIN",
    enableEvents: false,
    enableTasksQueue: false,
  });
  return {
    echo: (line) => pool.execute(line, "echo"),
    map: (numbers) =>
      mapCalls((number) => pool.execute(number, "fib"), numbers, BOUND),
    stop: () => Deno.exit(0),
  };
}

await measure(open, [scenario, count, warm]);
