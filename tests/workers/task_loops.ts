// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program with a task that never returns. It does not close the task.
 *
 * @module
 */

import { task } from "../../task.ts";

const loop = task(() => {
  for (;;);
}, { timeout: 500, workers: 1, retry: 0 });
await loop().catch((error) => console.log(error.name));
console.log("the end");
