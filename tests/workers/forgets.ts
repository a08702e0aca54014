// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program that opens what its argument names and does not close it. It prints "kept"
 * if that keeps the program running, and otherwise "ends".
 *
 * @module
 */

import { duplexPair } from "@duplex/ipc/pair";
import { openPipe } from "@duplex/ipc/pipe";
import { Pool, type PoolOptions } from "@duplex/ipc/pool";
import { openQueue } from "@duplex/ipc/queue";
import { expose, remote } from "@duplex/ipc/rpc";
import { openShm } from "@duplex/ipc/shm";
import { listenSocket, openSocket } from "@duplex/ipc/socket";
import { task } from "@duplex/ipc/task";
import type { Methods } from "./pool_acts.ts";

/**
 * Milliseconds until the program checks whether it is running. The timer does not keep
 * it running, so it fires only if something else does.
 */
const CHECK_AFTER = 1_000;

const script = new URL("./prints_later.ts", import.meta.url);
const methods = new URL("./pool_acts.ts", import.meta.url);
const twice = (n: number) => 2 * n;

async function runInPool(
  open: typeof openPipe | typeof openShm,
  options: PoolOptions = {},
) {
  const pool = new Pool(() => open(methods), { workers: 1, ...options });
  await pool.run("square", [2]);
  return pool;
}

/** Opens both ends of a socket. */
async function openEnds() {
  const listener = listenSocket("tcp://127.0.0.1:0");
  const ends = [openSocket(listener.address), listener.accept()] as const;
  const opened = await Promise.all(ends);
  await listener.close();
  return opened;
}

const FORGOTTEN: Record<string, () => unknown> = {
  nothing: () => {},
  pipe: () => openPipe(script),
  queue: () => openQueue(script),
  shm: () => openShm(script),
  calls: async () => await remote<Methods>(await openPipe(methods)).square(2),
  "a pool of processes": () => runInPool(openPipe),
  "a pool of threads": () => runInPool(openShm),
  "a closed pool": async () => await (await runInPool(openPipe)).close(),
  "a task": async () => await task(twice, { workers: 1 }).run([1]),
  "a listener": () => listenSocket("tcp://127.0.0.1:0"),
  async "a socket"() {
    await openEnds();
  },
  async "a pair"() {
    const [main, worker] = duplexPair();
    expose({ twice }, worker);
    await remote<{ twice: typeof twice }>(main).twice(1);
  },
  async "a pipe without reference"() {
    const worker = await openPipe(methods);
    worker.unref();
    await remote<Methods>(worker).square(2);
    remote<Methods>(worker).never();
  },
  async "a pipe with reference again"() {
    const worker = await openPipe(methods);
    worker.unref();
    worker.ref();
  },
  async "a pool of processes without reference"() {
    const pool = await runInPool(openPipe, { idleTimeout: 60_000 });
    pool.unref();
    await pool.run("square", [2]);
    await pool.warm();
    await pool.broadcast("square", [2]);
  },
  async "a pool of threads without reference"() {
    const pool = await runInPool(openShm);
    pool.unref();
    await pool.run("square", [2]);
  },
  async "a pool without reference, with a task"() {
    const pool = await runInPool(openPipe);
    pool.unref();
    pool.run("never", []);
  },
  async "a pool with reference again"() {
    const pool = await runInPool(openPipe);
    pool.unref();
    pool.ref();
  },
  async "a closed pool without reference"() {
    const pool = await runInPool(openPipe);
    pool.unref();
    await pool.close();
  },
  async "a task without reference"() {
    const inWorker = task(twice, { workers: 1 });
    inWorker.unref();
    await inWorker(1);
  },
  async "a pool whose server is away"() {
    const pool = new Pool(() => Promise.reject(new Error("It is away")));
    await pool.run("square", [2], { waitTimeout: 50 }).catch(() => {});
  },
  "a listener without reference": () =>
    listenSocket("tcp://127.0.0.1:0").unref(),
  async "a socket without reference"() {
    for (const end of await openEnds()) end.unref();
  },
  async "a socket with reference again"() {
    const ends = await openEnds();
    for (const end of ends) end.unref();
    ends[0].ref();
  },
  async "a closed pipe without reference"() {
    const worker = await openPipe(methods);
    worker.unref();
    await worker.close();
  },
};

await FORGOTTEN[Deno.args[0]!]!();
const check = setTimeout(() => {
  console.log("kept");
  Deno.exit();
}, CHECK_AFTER);
Deno.unrefTimer(check);
addEventListener("beforeunload", () => console.log("ends"));
