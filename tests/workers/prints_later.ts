// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker whose methods print. It loads modules of Node only when they are called.
 *
 * @module
 */

import { expose } from "@duplex/ipc/rpc";

// Loads the web streams, which `node:fs` needs, too.
new WritableStream();

const methods = {
  log(): void {
    console.log("by console");
    Deno.stdout.writeSync(new TextEncoder().encode("by Deno\n"));
  },

  async load(): Promise<void> {
    const { default: fs } = await import("node:fs");
    fs.writeSync(1, "by Node\n");
  },

  /** Whether the part of Deno is started that `node:fs` needs, which takes 20 ms. */
  hasNode(): boolean {
    return "_stdout" in console;
  },

  /** Has a process print to the standard output of this one. */
  async native(text: string): Promise<void> {
    const code =
      `Deno.stdout.writeSync(new TextEncoder().encode(Deno.args[0]))`;
    await new Deno.Command(Deno.execPath(), {
      args: ["eval", code, text],
      stdout: "inherit",
    }).output();
  },
};

export type Methods = typeof methods;

expose(methods);
