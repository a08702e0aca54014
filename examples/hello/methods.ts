// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that exposes methods, over a pipe, a queue, shared memory or a socket,
 * alone or in a pool.
 *
 * @module
 */

import { expose } from "@duplex/ipc/rpc";

const methods = {
  square: (n: number) => n * n,
};

/** The type for `remote` and `Pool`. */
export type Methods = typeof methods;

expose(methods);
