// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of `workers_deno.ts`; the query of its address is its role.
 *
 * @module
 */

import { moving, serve } from "./_threads.mjs";

/** The part of the global scope of a Web Worker that is used here. */
interface WorkerScope {
  onmessage: ((event: MessageEvent) => void) | null;
  postMessage(message: unknown, transfer?: Transferable[]): void;
}

const scope = globalThis as unknown as WorkerScope;
const query = new URL(import.meta.url).search.slice(1);
const isMoving = query.endsWith("-moved");

serve({
  post: isMoving
    ? moving((message, transfer) => scope.postMessage(message, transfer))
    : (message) => scope.postMessage(message),
  listen(callback) {
    scope.onmessage = ({ data }) => callback(data);
  },
}, query);
