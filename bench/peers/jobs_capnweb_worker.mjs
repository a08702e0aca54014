// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker of `jobs_capnweb.mjs`, which gets the folder of capnweb and its port.
 *
 * @module
 */

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { workerData } from "node:worker_threads";
import { echo, fib } from "../_jobs.mjs";

const { folder, port } = workerData;
const path = createRequire(`${folder}/`).resolve("capnweb");
const { newMessagePortRpcSession, RpcTarget } = await import(
  pathToFileURL(path).href
);

class Methods extends RpcTarget {
  echo(line) {
    return echo(line);
  }

  fib(number) {
    return fib(number);
  }
}

newMessagePortRpcSession(port, new Methods());
