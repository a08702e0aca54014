// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program in a terminal, with workers of each kind. Its first argument says what
 * Ctrl+C does, the second names the file for which the tasks wait.
 *
 * @module
 */

import { openPipe } from "@duplex/ipc/pipe";
import { Pool } from "@duplex/ipc/pool";
import { openQueue } from "@duplex/ipc/queue";
import { openShm } from "@duplex/ipc/shm";
import { workerUrl } from "./_processes.ts";

interface Methods {
  wait(label: string, file: string): Promise<string>;
}

const [mode, file] = Deno.args as [string, string];
const script = workerUrl("terminal_acts");
const options = { permissions: "inherit" } as const;
const processes = new Pool<Methods>(() => openPipe(script, options), {
  workers: 1,
});
const threads = new Pool<Methods>(() => openShm(script, options), {
  workers: 1,
});
const queue = await openQueue<string, [string, string]>(script, options);

if (mode === "close") {
  Deno.addSignalListener("SIGINT", () => {
    processes.close();
    threads.close({ waiting: "reject" });
    queue.close({ timeout: Infinity });
    console.log("closing");
  });
}

async function report(label: string, result: Promise<string>): Promise<void> {
  try {
    console.log(`${await result} done`);
  } catch (error) {
    console.log(`${label} ${error instanceof Error ? error.name : "failed"}`);
  }
}

const tasks = [1, 2, 3].flatMap((n) => [
  report(`process-${n}`, processes.run("wait", [`process-${n}`, file])),
  report(`thread-${n}`, threads.run("wait", [`thread-${n}`, file])),
]);
for (const n of [1, 2, 3]) await queue.send([`message-${n}`, file]);
for (const n of [1, 2, 3]) await report(`message-${n}`, queue.receive());
await Promise.all(tasks);
console.log("all settled");
await Promise.all([processes.close(), threads.close(), queue.close()]);
