// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker with a small window that sends every message back.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";

await using main = await parent({ windowMessages: 4, deadlockTimeout: 100 });
for await (const message of main) {
  try {
    await main.send(message);
  } catch {
    // A deadlock, which is also reported to the parent.
    await main.send(message);
  }
}
