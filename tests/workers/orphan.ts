// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program that opens a pipe to itself, brings the worker into the state that its
 * first argument names, and prints the worker's process id. The second argument says
 * how the program then ends. Without one, the caller must kill it.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";

const [state, role] = Deno.args;
/** The program, which may end as soon as this worker is ready. */
const PROGRAM = Deno.ppid;
await (role === "worker" ? work() : open(role));

async function open(ending?: string): Promise<void> {
  const { openPipe } = await import("@duplex/ipc/pipe");
  const worker = await openPipe(new URL(import.meta.url), {
    args: [state!, "worker"],
    windowMessages: 1,
    detached: ending !== "throwAttached",
    stderr(line) {
      const [, pid] = /^ready (\d+)$/.exec(line) ?? [];
      if (pid === undefined) return;
      console.log(pid);
      if (ending === "exit") Deno.exit(3);
      if (ending !== undefined) {
        setTimeout(() => {
          throw new Error("The program fails");
        });
      }
    },
  });
  // The end of the worker is reported to the caller in another way.
  worker.closed.catch(() => {});
  await worker.send("begin");
  if (state === "heardGoodbye" || state === "bothGoodbyes") {
    await worker.close({ timeout: Infinity });
  }
  if (state === "heardAbort") worker.abort("enough");
}

function ready(): void {
  console.error(`ready ${Deno.pid}`);
}

/** Blocks the worker until the program has ended. */
function compute(): void {
  while (Deno.ppid === PROGRAM);
}

async function work(): Promise<void> {
  if (state === "starting") {
    ready();
    compute();
  }
  const main = await parent();
  setInterval(() => {}, 1000);
  // An abort may discard the message before it.
  await main.receive().catch(() => {});
  switch (state) {
    case "sending":
      await main.send("one");
      ready();
      await main.send("two");
      break;
    case "heardGoodbye":
      await main.receive().catch(() => ready());
      break;
    case "saidGoodbye":
      await main.writable.close();
      ready();
      break;
    case "bothGoodbyes":
      await main.close();
      ready();
      break;
    case "aborted":
      main.abort("enough");
      await main.closed.catch(() => ready());
      break;
    case "heardAbort":
      await main.closed.catch(() => ready());
      break;
    case "busy":
      ready();
      compute();
      break;
    case "spinning":
      ready();
      for (;;);
    case "printing":
      ready();
      setInterval(() => console.log("a line"), 1);
      break;
    default:
      ready();
  }
}
