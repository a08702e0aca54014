// Copyright 2026 the Duplex authors. MIT license.

/**
 * Calls through `npm:capnweb` over a MessagePort in Node, for `bench/jobs.ts`:
 * `jobs_capnweb.mjs SCENARIO COUNT WARM FOLDER` prints a JSON array; the package is
 * installed in the folder. It has no pool: two workers are called in turn.
 * A result is not disposed of: lines and numbers hold no references.
 *
 * @module
 */

import { createRequire } from "node:module";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { mapCalls, measure } from "../_jobs.mjs";

/** The calls of a map in flight. */
const BOUND = 256;

const SCRIPT = new URL("./jobs_capnweb_worker.mjs", import.meta.url);
const [, , scenario, count, warm, folder] = process.argv;
const path = createRequire(`${folder}/`).resolve("capnweb");
const { newMessagePortRpcSession } = await import(pathToFileURL(path).href);

function open(_scenario, workers) {
  const threads = Array.from({ length: workers }, () => {
    const { port1, port2 } = new MessageChannel();
    const workerData = { folder, port: port2 };
    const worker = new Worker(SCRIPT, { workerData, transferList: [port2] });
    return { worker, port: port1, api: newMessagePortRpcSession(port1) };
  });
  const [{ api }] = threads;
  let turn = 0;
  return {
    echo: (line) => api.echo(line),
    map: (numbers) =>
      mapCalls(
        (number) => threads[turn++ % workers].api.fib(number),
        numbers,
        BOUND,
      ),
    stop: () =>
      Promise.all(threads.map(({ worker, port }) => {
        port.close();
        return worker.terminate();
      })),
  };
}

await measure(open, [scenario, count, warm]);
process.exit(0);
