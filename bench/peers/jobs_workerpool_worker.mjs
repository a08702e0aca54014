// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker of `jobs_workerpool.mjs`; its argument is the folder of workerpool.
 *
 * @module
 */

import { createRequire } from "node:module";
import process from "node:process";
import { echo, fib } from "../_jobs.mjs";

createRequire(`${process.argv[2]}/`)("workerpool").worker({ echo, fib });
