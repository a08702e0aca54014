// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's own end of shared memory.
 *
 * @module
 */

import type { SessionOptions } from "./_hello.ts";
import type { Port, PortEnd } from "./_port.ts";
import type { Duplex } from "./duplex.ts";

/** Opens a worker's end of shared memory. */
export function openShmParent(
  _limits: SessionOptions,
  _port: Port,
  _endOf: (close: () => Promise<void>) => PortEnd,
): Promise<Duplex<unknown, unknown>> {
  return Promise.reject(
    new TypeError("Cannot open the parent over shared memory yet"),
  );
}
