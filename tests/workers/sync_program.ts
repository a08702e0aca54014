// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program that only waits, forever.
 *
 * @module
 */

import { AtomicCounter } from "../../sync.ts";

console.log("waiting");
await new AtomicCounter().until(() => false);
