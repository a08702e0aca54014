// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that runs the code in its first argument once it is open.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";

await using _main = await parent();
new Function(Deno.args[0]!)();
