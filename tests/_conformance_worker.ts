// Copyright 2026 the Duplex authors. MIT license.

/**
 * The far side of the conformance suite as a worker, for every transport. Its
 * first argument holds the limits of its end.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";
import { behave } from "./_behaviours.ts";

const main = await parent(JSON.parse(Deno.args[0] ?? "{}"));
await behave(main, () => Deno.exit(3)).catch(() => {});
