// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that sends a message and its goodbye without receiving.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";

const main = await parent();
await main.send("hello and goodbye");
await main.close();
