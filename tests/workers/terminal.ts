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
import { remote } from "@duplex/ipc/rpc";
import { openShm } from "@duplex/ipc/shm";
import { workerUrl } from "./_processes.ts";

interface Methods {
  wait(label: string, file: string): Promise<string>;
  clock(file: string, ms: number): Promise<void>;
}

/**
 * Milliseconds of each time limit while the program is stopped: more than all workers
 * take to start on a busy machine.
 */
const LIMIT = 2_500;

const [mode, file] = Deno.args as [string, string];
const script = workerUrl("terminal_acts");
const options = { permissions: "inherit" } as const;
const timeout = mode === "stop" ? LIMIT : Infinity;
const limits = { workers: 1, timeout };
const processes = new Pool<Methods>(() => openPipe(script, options), limits);
const threads = new Pool<Methods>(() => openShm(script, options), limits);
const queue = await openQueue<string, [string, string]>(script, options);

if (mode === "close") {
  Deno.addSignalListener("SIGINT", () => {
    processes.close();
    threads.close({ waiting: "reject" });
    queue.close({ timeout: Infinity });
    console.log("closing");
  });
}

async function report(label: string, result: Promise<unknown>): Promise<void> {
  try {
    await result;
    console.log(`${label} done`);
  } catch (error) {
    console.log(`${label} ${error instanceof Error ? error.name : "failed"}`);
  }
}

/**
 * Begins waits with every time limit that there is. Their ends are reported after the
 * program was stopped.
 */
async function stop(): Promise<Promise<void>[]> {
  Deno.addSignalListener("SIGCONT", () => console.log("continued"));
  const late = (moment: string) => {
    const url = workerUrl("terminal_late");
    url.searchParams.set(moment, file);
    return url;
  };
  const reports = [openPipe, openShm].map(async (open) => {
    const [closing, called] = await Promise.all([
      open(late("close"), options),
      open(script, options),
    ]);
    const closed = report(
      `${open.name}-close`,
      closing.close({ timeout: LIMIT }),
    );
    const opening = open(late("open"), { ...options, openTimeout: LIMIT });
    const opened = opening.then((worker) => worker.close());
    const api = remote<Methods>(called, { timeout: LIMIT });
    const call = api.wait(`${open.name}-call`, file);
    return [
      closed,
      report(`${open.name}-open`, opened),
      report(`${open.name}-call`, call.finally(() => called.close())),
    ];
  });
  const begun = (await Promise.all(reports)).flat();
  const clock = remote<Methods>(await openPipe(script, options));
  clock.clock(`${file}_clock`, LIMIT + 500);
  return begun;
}

const stopped = mode === "stop" ? await stop() : [];
const tasks = [1, 2, 3].flatMap((n) => [
  report(`process-${n}`, processes.run("wait", [`process-${n}`, file])),
  report(`thread-${n}`, threads.run("wait", [`thread-${n}`, file])),
]);
for (const n of [1, 2, 3]) await queue.send([`message-${n}`, file]);
for (const n of [1, 2, 3]) await report(`message-${n}`, queue.receive());
await Promise.all([...tasks, ...stopped]);
await Promise.all([processes.close(), threads.close(), queue.close()]);
if (mode === "stop") Deno.exit();
