// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of `jobs_synckit.mjs`, which has the path of synckit in its environment.
 *
 * @module
 */

import process from "node:process";
import { pathToFileURL } from "node:url";
import { echo } from "../_jobs.mjs";

const { runAsWorker } = await import(
  pathToFileURL(process.env.SYNCKIT_PATH).href
);

runAsWorker(echo);
