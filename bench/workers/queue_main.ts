// Copyright 2026 the Duplex authors. MIT license.

/**
 * This module's queue in `bench/workers.ts`: `queue_main.ts SCENARIO COUNT WARM`
 * measures itself against a worker of its own.
 *
 * @module
 */

import { openQueue } from "../../queue.ts";
import { measure } from "./_measure.ts";

await measure((script) => openQueue(script));
