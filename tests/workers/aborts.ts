// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program that opens a worker, which is this file as well, and aborts it. Its
 * arguments: the transport, and what the worker does then.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";
import { openPipe } from "@duplex/ipc/pipe";
import { openQueue } from "@duplex/ipc/queue";
import { openShm } from "@duplex/ipc/shm";

const OPENERS = { pipe: openPipe, queue: openQueue, shm: openShm };

async function open(transport: keyof typeof OPENERS): Promise<void> {
  const worker = await OPENERS[transport](import.meta.url);
  await worker.send(Deno.args[1]);
  console.log(await worker.receive());
  worker.abort();
  await worker.closed.catch((error) => console.log(String(error)));
}

async function work(): Promise<void> {
  const main = await parent();
  const act = await main.receive();
  await main.send(act);
  try {
    for await (const _message of main);
  } catch (error) {
    throw act === "throws" ? new Error("an error of its own") : error;
  }
}

const [transport] = Deno.args;
// A thread has the arguments of the program.
const isThread = "WorkerGlobalScope" in globalThis;
if (transport === undefined || isThread) await work();
else await open(transport as keyof typeof OPENERS);
