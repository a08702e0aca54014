// Copyright 2026 the Duplex authors. MIT license.

/**
 * This package's side of `bench/jobs.ts`: `jobs_main.ts SCENARIO COUNT WARM
 * pipe|queue|shm`. Calls use `remote`, blocking ones `remoteSync`, tasks a `Pool`.
 *
 * @module
 */

import type { Duplex } from "../../duplex.ts";
import { openPipe } from "../../pipe.ts";
import { Pool } from "../../pool.ts";
import { openQueue } from "../../queue.ts";
import { remote, remoteSync } from "../../rpc.ts";
import { openShm } from "../../shm.ts";
import { type Jobs, measure } from "../_jobs.mjs";
import type { Methods } from "./jobs_worker.ts";

const SCRIPT = new URL("./jobs_worker.ts", import.meta.url);
const transport = Deno.args.at(-1);

function openWorker(): Promise<Duplex> {
  if (transport === "pipe") return openPipe(SCRIPT);
  if (transport === "queue") return openQueue(SCRIPT);
  return openShm(SCRIPT);
}

async function openRemote(): Promise<Omit<Jobs, "map">> {
  const worker = await openWorker();
  const api = remote<Methods>(worker);
  return { echo: (line) => api.echo(line), stop: () => worker.close() };
}

async function openSync(): Promise<Pick<Jobs, "echoSync" | "stop">> {
  const worker = await openShm(SCRIPT);
  const api = remoteSync<Methods>(worker);
  return { echoSync: (line) => api.echo(line), stop: () => worker.close() };
}

function openPool(size: number): Omit<Jobs, "echo"> {
  const pool = new Pool<Methods>(openWorker, { workers: size });
  return {
    async map(numbers) {
      const results: number[] = [];
      // A little faster than Array.fromAsync().
      for await (const result of pool.map(numbers, "fib")) results.push(result);
      return results;
    },
    stop: () => pool.close(),
  };
}

await measure(
  (scenario, workers) => {
    if (scenario === "map") return openPool(workers);
    return scenario === "sync" ? openSync() : openRemote();
  },
  Deno.args,
);
