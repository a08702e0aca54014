// Copyright 2026 the Duplex authors. MIT license.

/**
 * The queue in `bench/workers.ts`: `queue_main.ts SCENARIO COUNT WARM`.
 *
 * @module
 */

import { openQueue } from "../../queue.ts";
import { measure } from "./_measure.ts";

await measure((script) => openQueue(script));
