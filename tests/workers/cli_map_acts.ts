// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker whose methods do what tests of `map` need.
 *
 * @module
 */

import { expose } from "@duplex/ipc/rpc";

expose({
  square: (n: number) => n * n,
  args: () => Deno.args,
  pid: () => Deno.pid,
  echo: (value: unknown) => value,
  size: (path: string) => Deno.statSync(path).size,
  die: (n: number) => n === 2 ? Deno.exit(3) : n,
  /** Says that it is at work, and is until there is a file. */
  async wait(path: string) {
    console.error(`at work ${Deno.pid}`);
    for (;;) {
      try {
        return Deno.statSync(path).size;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
  },
  /** Says that it is at work, and never comes to its event loop again. */
  spin() {
    console.error(`at work ${Deno.pid}`);
    for (;;);
  },
});
