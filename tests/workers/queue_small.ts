// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that accepts messages of up to 1000 bytes, and sends them back.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";

await using main = await parent({ maxMessageBytes: 1000 });
for await (const message of main) await main.send(message);
