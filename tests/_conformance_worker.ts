// Copyright 2026 the Duplex authors. MIT license.

/**
 * The peer of the conformance suite as a worker, for every transport. The query
 * of its URL contains the limits of its end.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";
import { behave } from "./_behaviours.ts";

const limits = new URL(import.meta.url).searchParams.get("limits");
const main = await parent(JSON.parse(limits ?? "{}"));
await behave(main, () => Deno.exit(3)).catch(() => {});
