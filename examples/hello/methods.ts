// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker whose methods are called: over a pipe, a queue, shared memory or a
 * socket, alone or in a pool.
 *
 * @module
 */

import { expose } from "@duplex/ipc/rpc";

const methods = {
  square: (n: number) => n * n,
};

/** What `remote` and `Pool` need to know of it. */
export type Methods = typeof methods;

expose(methods);
