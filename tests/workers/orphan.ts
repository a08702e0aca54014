// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program that opens a pipe to itself, brings the worker into the state that
 * its argument names, and prints the worker's process id. The worker does not
 * end automatically; the caller must kill it.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";

const [state, role] = Deno.args;
await (role === "worker" ? work() : open());

async function open(): Promise<void> {
  const { openPipe } = await import("@duplex/ipc/pipe");
  const worker = await openPipe(new URL(import.meta.url), {
    args: [state!, "worker"],
    windowMessages: 1,
    stderr(line) {
      if (line === "ready") console.log(worker.pid);
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

async function work(): Promise<void> {
  const main = await parent();
  setInterval(() => {}, 1000);
  // An abort may discard the message before it.
  await main.receive().catch(() => {});
  switch (state) {
    case "sending":
      await main.send("one");
      console.error("ready");
      await main.send("two");
      break;
    case "heardGoodbye":
      await main.receive().catch(() => console.error("ready"));
      break;
    case "saidGoodbye":
      await main.writable.close();
      console.error("ready");
      break;
    case "bothGoodbyes":
      await main.close();
      console.error("ready");
      break;
    case "aborted":
      main.abort("enough");
      await main.closed.catch(() => console.error("ready"));
      break;
    case "heardAbort":
      await main.closed.catch(() => console.error("ready"));
      break;
    default:
      console.error("ready");
  }
}
