// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program that prints what it may grant: its argument is the permissions.
 *
 * @module
 */

import { grant } from "@duplex/ipc/permissions";

try {
  console.log(grant(JSON.parse(Deno.args[0]!)).flags.join(" "));
} catch (error) {
  console.log((error as Error).name);
}
