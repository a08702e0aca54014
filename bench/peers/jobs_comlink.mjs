// Copyright 2026 the Duplex authors. MIT license.

/**
 * Calls through `npm:comlink` in Node, for `bench/jobs.ts`:
 * `jobs_comlink.mjs SCENARIO COUNT WARM FOLDER` prints a JSON array; the package is
 * installed in the folder. It has no pool: two workers are called in turn.
 *
 * @module
 */

import { createRequire } from "node:module";
import process from "node:process";
import { Worker } from "node:worker_threads";
import { mapCalls, measure } from "../_jobs.mjs";

/** The calls of a map in flight; of 16 to all of them, 64 and more are equal. */
const BOUND = 256;

const SCRIPT = new URL("./jobs_comlink_worker.mjs", import.meta.url);
const [, , scenario, count, warm, folder] = process.argv;
const require = createRequire(`${folder}/`);
const { wrap } = require("comlink");
const nodeEndpoint = require("comlink/dist/umd/node-adapter");

function open(_scenario, workers) {
  const threads = Array.from(
    { length: workers },
    () => new Worker(SCRIPT, { argv: [folder] }),
  );
  const apis = threads.map((thread) => wrap(nodeEndpoint(thread)));
  const [first] = apis;
  let turn = 0;
  return {
    echo: (line) => first.echo(line),
    map: (numbers) =>
      mapCalls((number) => apis[turn++ % workers].fib(number), numbers, BOUND),
    stop: () => Promise.all(threads.map((thread) => thread.terminate())),
  };
}

await measure(open, [scenario, count, warm]);
