// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that receives and returns functions and streams, and collects garbage on
 * request.
 *
 * @module
 */

import { parent } from "../../parent.ts";
import { callStats, expose } from "../../rpc.ts";

const { gc } = globalThis as unknown as { gc(): void };
const main = await parent();

const methods = {
  call: (f: (n: number) => Promise<number>, n: number) => f(n),
  make: (n: number) => () => n,
  fill: async (sink: WritableStream<number>) => {
    await sink.close();
    return [new WritableStream<number>()] as const;
  },
  collect() {
    gc();
    return { ...callStats(main), heap: Deno.memoryUsage().heapUsed };
  },
};

/** The methods. */
export type ReferenceMethods = typeof methods;

expose(methods, main);
