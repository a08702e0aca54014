// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program with nothing to do but to wait, for ever.
 *
 * @module
 */

import { AtomicCounter } from "../../sync.ts";

console.log("waiting");
await new AtomicCounter().until(() => false);
