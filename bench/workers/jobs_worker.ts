// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker of `jobs_main.ts`, over any transport.
 *
 * @module
 */

import { expose } from "../../rpc.ts";
import { echo, fib } from "../_jobs.mjs";

const methods = { echo, fib };

/** The methods of the worker. */
export type Methods = typeof methods;

expose(methods);
