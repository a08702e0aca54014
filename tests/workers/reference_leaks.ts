// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program that makes functions and streams for a worker, has some made by it, and
 * drops them all. It prints the tables and the heaps of both ends before and after. It
 * requires `--v8-flags=--expose-gc`.
 *
 * @module
 */

import { callStats, remote } from "../../rpc.ts";
import { openShm } from "../../shm.ts";
import type { ReferenceMethods } from "./reference_acts.ts";

const { gc } = globalThis as unknown as { gc(): void };
/** Calls that run at the same time. */
const CONCURRENT = 200;
/** Collections until all functions must have been released. */
const COLLECTIONS = 100;

const worker = await openShm(new URL("reference_acts.ts", import.meta.url));
const api = remote<ReferenceMethods>(worker);

/** Makes functions and streams at both ends, and uses them. */
async function use(count: number): Promise<void> {
  for (let done = 0; done < count; done += CONCURRENT) {
    await Promise.all(Array.from({ length: CONCURRENT }, async (_, n) => {
      if (await api.call((m) => m + n, 1) !== n + 1) throw new Error("wrong");
      if (n % 10 > 0) return;
      const made = await api.make(n);
      if (await made() !== n) throw new Error("wrong");
      const [sink] = await api.fill(new WritableStream());
      await sink.close();
    }));
  }
}

/** Collects garbage at both ends until both tables are empty. */
async function collected(): Promise<unknown> {
  for (let round = 1;; round++) {
    gc();
    const far = await api.collect();
    const near = callStats(worker);
    const left = near.sent + near.held + far.sent + far.held;
    if (left > 0 && round < COLLECTIONS) continue;
    return { left, near: Deno.memoryUsage().heapUsed, far: far.heap };
  }
}

await use(20_000);
const before = await collected();
await use(100_000);
const after = await collected();
console.log(JSON.stringify([before, after]));
await worker.close();
