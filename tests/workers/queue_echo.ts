// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker with a small window that sends back what comes.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";

await using main = await parent({ windowMessages: 4, deadlockTimeout: 100 });
for await (const message of main) {
  try {
    await main.send(message);
  } catch {
    // A deadlock, which the parent has heard of as well.
    await main.send(message);
  }
}
