// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that answers numbers, and dies at a 5 on its first attempt.
 *
 * @module
 */

import { parent } from "../../parent.ts";

const main = await parent<number>({ transport: "queue" });
for await (const number of main) {
  if (number === 5 && main.delivery!.attempt === 1) Deno.exit(1);
  await main.send(number);
}
await main.close();
