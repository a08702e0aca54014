// Copyright 2026 the Duplex authors. MIT license.

/**
 * A pool over the machines whose addresses are the arguments. It prints how many
 * tasks each of their processes has run.
 *
 * @module
 */

import { Pool } from "@duplex/ipc/pool";
import { machines } from "./machines.ts";
import type { Methods } from "./server.ts";

const PER_MACHINE = 2;

await using pool = new Pool<Methods>(machines(Deno.args, PER_MACHINE), {
  workers: PER_MACHINE * Deno.args.length,
});
const numbers = Array.from({ length: 1_000 }, (_, n) => n);
const counts: Record<number, number> = {};
for await (const [, pid] of pool.map(numbers, "square")) {
  counts[pid] = (counts[pid] ?? 0) + 1;
}
console.log(Object.values(counts));
