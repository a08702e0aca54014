// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker over shared memory runs tasks and closes without timers, the first of
 * which costs each thread milliseconds.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { type Duplex, openShm } from "@duplex/ipc/shm";
import { Pool } from "@duplex/ipc/pool";
import { test, workerUrl } from "../workers/_processes.ts";
import type { Methods } from "../workers/timers.ts";

test(
  "openShm() runs a worker that uses no timer, also while it closes",
  async () => {
    const memory = new SharedArrayBuffer(4);
    let worker: Duplex | undefined;
    const open = async () => worker = await openShm(workerUrl("timers"));
    const pool = new Pool<Methods>(open, { workers: 1 });
    await pool.run("count", [memory]);
    for (let n = 0; n < 10; n++) assertEquals(await pool.run("echo", [n]), n);
    assertEquals((await Array.fromAsync(pool.map([1, 2], "echo"))).length, 2);
    await pool.run("fail", []).catch(() => {});
    await pool.close();
    // The worker has posted its end behind everything that it does.
    await worker!.closed;
    assertEquals(new Int32Array(memory)[0], 0);
  },
  { read: [new URL("../..", import.meta.url)] },
);
