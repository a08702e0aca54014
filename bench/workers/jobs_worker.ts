// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker of `jobs_main.ts`, whichever transport it is opened with.
 *
 * @module
 */

import { expose } from "../../rpc.ts";
import { echo, fib } from "../_jobs.mjs";

const methods = { echo, fib };

/** What the worker offers. */
export type Methods = typeof methods;

expose(methods);
