// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program that opens a pipe to `acts.ts` and prints the result. Its
 * arguments: the option `stderr`, the act, and the arguments of the act.
 *
 * @module
 */

import { openPipe } from "@duplex/ipc/pipe";
import { workerUrl } from "./_processes.ts";

const [stderr, ...args] = Deno.args;
await using worker = await openPipe(workerUrl("acts"), {
  args,
  stderr: stderr as "inherit" | "null",
});
console.log(`child ${worker.pid}`);
await worker.send("sound");
console.log(await worker.receive());
