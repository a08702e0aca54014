// Copyright 2026 the Duplex authors. MIT license.

/**
 * Blocking calls through `npm:synckit` in Node, for `bench/jobs.ts`:
 * `jobs_synckit.mjs SCENARIO COUNT WARM FOLDER` prints a JSON array; the package is
 * installed in the folder.
 * Without a runner of TypeScript.
 *
 * @module
 */

import { createRequire } from "node:module";
import process from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { measure } from "../_jobs.mjs";

const SCRIPT = fileURLToPath(
  new URL("./jobs_synckit_worker.mjs", import.meta.url),
);
const [, , scenario, count, warm, folder] = process.argv;
const path = createRequire(`${folder}/`).resolve("synckit");
const { createSyncFn } = await import(pathToFileURL(path).href);

// Its worker has no arguments.
process.env.SYNCKIT_PATH = path;

await measure(() => {
  const echo = createSyncFn(SCRIPT, { execArgv: [] });
  return { echoSync: echo, stop: () => process.exit(0) };
}, [scenario, count, warm]);
