// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker whose tasks report their start and end when a file exists. Over a queue it
 * does the same for each message.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";
import { expose } from "@duplex/ipc/rpc";

/** Creates a file after a time, also while the program is stopped. */
async function clock(file: string, ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
  await Deno.writeTextFile(file, "");
}

async function wait(label: string, file: string): Promise<string> {
  console.error(`begun ${label} ${Deno.pid}`);
  for (;;) {
    try {
      await Deno.stat(file);
      return label;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

const main = await parent<[string, string], string>();
if (main.transport === "queue") {
  for await (const [label, file] of main) {
    await main.send(await wait(label, file));
  }
} else {
  expose({ clock, wait }, main);
}
