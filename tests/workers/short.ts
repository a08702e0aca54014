// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker with a short life: it answers once.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";

await using main = await parent();
await main.send(await main.receive());
