// Copyright 2026 the Duplex authors. MIT license.

/**
 * The far side of the conformance suite as a worker, for every transport. The
 * limits of its end stand in its address.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";
import { behave } from "./_behaviours.ts";

const limits = new URL(import.meta.url).searchParams.get("limits");
const main = await parent(JSON.parse(limits ?? "{}"));
await behave(main, () => Deno.exit(3)).catch(() => {});
