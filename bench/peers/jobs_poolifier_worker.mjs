// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker of `jobs_poolifier.mjs`; the hash of its address is the folder of the
 * package.
 *
 * @module
 */

import { echo, fib } from "../_jobs.mjs";

const folder = decodeURIComponent(new URL(import.meta.url).hash.slice(1));
const { ThreadWorker } = await import(
  `file://${folder}/node_modules/poolifier-web-worker/esm/mod.js`
);
export default new ThreadWorker({ echo, fib });
