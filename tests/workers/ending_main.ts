// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program that runs plans of `ending.ts`. Its arguments: the transport, and the
 * plans as JSON. It prints their number, and nothing else unless an error is not
 * handled.
 *
 * @module
 */

import type { Duplex } from "../../duplex.ts";
import { duplexPair } from "../../pair.ts";
import { openPipe } from "../../pipe.ts";
import { openQueue } from "../../queue.ts";
import { openShm } from "../../shm.ts";
import { listenSocket, openSocket } from "../../socket.ts";
import { type Plan, play } from "./ending.ts";

/** Plans that run at the same time. */
const PARALLEL = 6;

/** Starts a worker for a plan. */
const WORKERS = { pipe: openPipe, queue: openQueue, shm: openShm };

function scriptOf(plan: Plan): string {
  const code = `import { work } from "${import.meta.resolve("./ending.ts")}";
    await work(${JSON.stringify(plan)});`;
  return `data:text/javascript,${encodeURIComponent(code)}`;
}

/** Runs both sides of a plan in this program. */
async function playBoth(
  plan: Plan,
  [main, worker]: [Duplex, Duplex],
): Promise<void> {
  await Promise.all([play(main, plan, "main"), play(worker, plan, "worker")]);
}

async function playSocket(plan: Plan, address: string): Promise<void> {
  await using listener = listenSocket(address);
  const ends = await Promise.all([
    openSocket(listener.address),
    listener.accept(),
  ]);
  await playBoth(plan, ends);
}

async function playOver(transport: string, plan: Plan): Promise<void> {
  if (transport in WORKERS) {
    const open = WORKERS[transport as keyof typeof WORKERS];
    await play(await open(scriptOf(plan)), plan, "main");
  } else if (transport === "pair") await playBoth(plan, duplexPair());
  else if (transport === "tcp") await playSocket(plan, "tcp://127.0.0.1:0");
  else await playSocket(plan, `unix:${transport}/${crypto.randomUUID()}`);
}

const [transport, text] = Deno.args as [string, string];
const plans: Plan[] = JSON.parse(text);
const left = plans.values();
await Promise.all(Array.from({ length: PARALLEL }, async () => {
  for (const plan of left) {
    try {
      await playOver(transport, plan);
    } catch (cause) {
      throw new Error(JSON.stringify(plan), { cause });
    }
  }
}));
console.log(plans.length);
