// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that counts its uses of timers in shared memory, also those after its
 * duplex was closed.
 *
 * @module
 */

import { expose } from "@duplex/ipc/rpc";

const methods = {
  /** Counts from now on. */
  count(memory: SharedArrayBuffer): void {
    const word = new Int32Array(memory);
    const scope = globalThis as unknown as Record<string, unknown>;
    for (const name of ["setTimeout", "clearTimeout", "setImmediate"]) {
      Object.defineProperty(scope, name, {
        value: () => Atomics.add(word, 0, 1),
      });
    }
  },
  echo: <T>(value: T): T => value,
  fail(): never {
    throw new Error("It fails");
  },
};

/** The methods of the worker. */
export type Methods = typeof methods;

expose(methods);
