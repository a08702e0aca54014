// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that posts messages without its duplex.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";

const main = await parent();
(self as unknown as { postMessage(message: unknown): void }).postMessage("hi");
await main.closed.catch(() => {});
