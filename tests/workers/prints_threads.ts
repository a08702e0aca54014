// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker process that starts Web Workers over each transport, which print. Each is
 * this script.
 *
 * @module
 */

import fs from "node:fs";
import { parent } from "@duplex/ipc/parent";
import { openQueue } from "@duplex/ipc/queue";
import { openShm } from "@duplex/ipc/shm";

await using main = await parent();
if (main.transport === "pipe") {
  for (const open of [openQueue, openShm]) {
    await using worker = await open(import.meta.url);
    await main.send(await worker.receive());
  }
} else {
  console.log("console");
  Deno.stdout.writeSync(new TextEncoder().encode("Deno\n"));
  fs.writeSync(1, "fs\n");
  await main.send(main.transport);
}
