// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker of `jobs_kkrpc.mjs`; the hash of its address is the folder of kkrpc.
 *
 * @module
 */

import { echo, fib } from "../_jobs.mjs";

const folder = decodeURIComponent(new URL(import.meta.url).hash.slice(1));
const { RPCChannel, WorkerChildIO } = await import(
  `file://${folder}/node_modules/kkrpc/dist/browser-mod.js`
);
new RPCChannel(new WorkerChildIO(), {
  expose: { echo, fib },
  serialization: { version: "json" },
});
