// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's own end of shared memory.
 *
 * @module
 */

import type { SessionOptions } from "./_hello.ts";
import type { ThreadScope } from "./_thread_scope.ts";
import type { Duplex } from "./duplex.ts";

/** Opens a worker's end of shared memory. */
export function openParent(
  _limits: SessionOptions,
  _scope: ThreadScope,
): Promise<Duplex<unknown, unknown>> {
  return Promise.reject(
    new TypeError("Cannot open the parent over shared memory yet"),
  );
}
