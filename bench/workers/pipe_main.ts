// Copyright 2026 the Duplex authors. MIT license.

/**
 * This package's side of `bench/pipe.ts`: `pipe_main.ts SCENARIO COUNT WARM`.
 *
 * @module
 */

import { openPipe } from "../../pipe.ts";
import { measure } from "./_measure.ts";

await measure((script) => openPipe(script));
