// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program that opens a worker, which is this file as well, and aborts it. Its
 * arguments: the transport, and what the worker does then.
 *
 * @module
 */

import { type Duplex, parent } from "@duplex/ipc/parent";
import { openPipe } from "@duplex/ipc/pipe";
import { openQueue } from "@duplex/ipc/queue";
import { expose } from "@duplex/ipc/rpc";
import { openShm } from "@duplex/ipc/shm";

const OPENERS = { pipe: openPipe, queue: openQueue, shm: openShm };

async function open(transport: keyof typeof OPENERS): Promise<void> {
  const worker = await OPENERS[transport](import.meta.url);
  await worker.send(Deno.args[1]);
  console.log(await worker.receive());
  worker.abort();
  await worker.closed.catch((error) => console.log(String(error)));
}

/** What a worker does when it is aborted. None of it catches the error. */
const ACTS: Record<string, (main: Duplex) => Promise<unknown>> = {
  async iterates(main) {
    for await (const _message of main);
  },
  async streams(main) {
    for await (const _message of main.readable);
  },
  pipes: (main) => main.readable.pipeTo(main.writable),
  receives: (main) => main.receive(),
  async sends(main) {
    for (;;) await main.send(new Uint8Array(100_000));
  },
  async forgets(main) {
    ACTS.iterates!(main);
    await new Promise((resolve) => setTimeout(resolve, 60_000));
  },
  exposes: (main) => expose({ none() {} }, main),
  async throws(main) {
    await ACTS.iterates!(main).catch(() => {});
    throw new Error("an error of its own");
  },
};

async function work(): Promise<void> {
  await using main = await parent<string>();
  const act = await main.receive();
  await main.send(act);
  await ACTS[act]!(main);
}

const [transport] = Deno.args;
// A thread has the arguments of the program.
const isThread = "WorkerGlobalScope" in globalThis;
if (transport === undefined || isThread) await work();
else await open(transport as keyof typeof OPENERS);
