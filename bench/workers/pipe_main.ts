// Copyright 2026 the Duplex authors. MIT license.

/**
 * This module's side of `bench/pipe.ts`: `pipe_main.ts SCENARIO COUNT WARM`
 * measures itself against a worker of its own.
 *
 * @module
 */

import { openPipe } from "../../pipe.ts";
import { measure } from "./_measure.ts";

await measure((script) => openPipe(script));
