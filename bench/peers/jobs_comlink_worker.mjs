// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker of `jobs_comlink.mjs`; its argument is the folder of comlink.
 *
 * @module
 */

import { createRequire } from "node:module";
import process from "node:process";
import { parentPort } from "node:worker_threads";
import { echo, fib } from "../_jobs.mjs";

const require = createRequire(`${process.argv[2]}/`);
const { expose } = require("comlink");
const nodeEndpoint = require("comlink/dist/umd/node-adapter");

expose({ echo, fib }, nodeEndpoint(parentPort));
