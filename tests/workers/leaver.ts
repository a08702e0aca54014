// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program that opens a worker and prints the id of the worker's process once it
 * is ready. The test then kills the program, so that the worker has no parent.
 *
 * The first argument says what the program does after the worker has opened:
 * "wait" or "close". The others are the worker's command, which prints "ready"
 * and its process id to standard error. With "thread" alone the worker is a Web
 * Worker that computes without end.
 *
 * @module
 */

import { openPipe } from "@duplex/ipc/pipe";
import { openShm } from "@duplex/ipc/shm";
import { workerUrl } from "./_processes.ts";

const [then, command, ...args] = Deno.args;
await (then === "thread" ? openThread() : openCommand());

async function openCommand(): Promise<void> {
  const worker = await openPipe({
    command: command!,
    args,
    stderr(line) {
      const [, pid] = /^ready (\d+)$/.exec(line) ?? [];
      if (pid === undefined) console.error(line);
      else console.log(pid);
    },
  });
  // The test checks the worker, not this error.
  worker.closed.catch(() => {});
  if (then === "close") await worker.close({ timeout: Infinity });
}

async function openThread(): Promise<void> {
  const worker = await openShm(workerUrl("thread_acts"));
  await worker.send("spin");
  await worker.receive();
  console.log(Deno.pid);
  await worker.receive();
}
