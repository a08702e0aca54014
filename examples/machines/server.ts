// Copyright 2026 the Duplex authors. MIT license.

/**
 * A machine of a pool: serves methods at an address.
 *
 * @module
 */

import { expose } from "@duplex/ipc/rpc";
import { listenSocket } from "@duplex/ipc/socket";

const [address = "tcp://127.0.0.1:0", ms = "0"] = Deno.args;
const methods = {
  /** The square of a number, after a time, and the process that computed it. */
  async square(n: number): Promise<[square: number, pid: number]> {
    await new Promise((resolve) => setTimeout(resolve, Number(ms)));
    return [n * n, Deno.pid];
  },
};

/** The type for `remote` and `Pool`. */
export type Methods = typeof methods;

// For other machines than this one a "secret" is required.
await using listener = listenSocket(address);
await listener.ready;
console.log(listener.address);
for await (const peer of listener) expose(methods, peer);
