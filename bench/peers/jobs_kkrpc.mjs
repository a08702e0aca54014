// Copyright 2026 the Duplex authors. MIT license.

/**
 * Calls through `npm:kkrpc` to Web Workers in Deno, for `bench/jobs.ts`:
 * `jobs_kkrpc.mjs SCENARIO COUNT WARM FOLDER` prints a JSON array; the package is
 * installed in the folder. It has no pool: two workers are called in turn.
 *
 * @module
 */

import { mapCalls, measure } from "../_jobs.mjs";

/** The calls of a map in flight. */
const BOUND = 256;

const [scenario, count, warm, folder] = Deno.args;
const { RPCChannel, WorkerParentIO } = await import(
  `file://${folder}/node_modules/kkrpc/dist/browser-mod.js`
);
const SCRIPT = new URL("./jobs_kkrpc_worker.mjs", import.meta.url);
SCRIPT.hash = folder;

/** The simpler of its two codecs; the default is "superjson". */
const SERIALIZATION = { version: "json" };

function open(_scenario, workers) {
  const apis = Array.from({ length: workers }, () => {
    const worker = new Worker(SCRIPT, { type: "module" });
    const io = new WorkerParentIO(worker);
    return new RPCChannel(io, { serialization: SERIALIZATION }).getAPI();
  });
  const [first] = apis;
  let turn = 0;
  return {
    echo: (line) => first.echo(line),
    map: (numbers) =>
      mapCalls((number) => apis[turn++ % workers].fib(number), numbers, BOUND),
    stop: () => Deno.exit(0),
  };
}

await measure(open, [scenario, count, warm]);
