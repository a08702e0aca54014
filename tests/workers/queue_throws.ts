// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that answers numbers, and at 5 throws out of its `await using`
 * block, which sends the goodbye.
 *
 * @module
 */

import { parent } from "../../parent.ts";

await using main = await parent<number>();
for await (const number of main) {
  if (number === 5) throw new Error("No fives");
  await main.send(number);
}
