// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker whose methods the tests of `map` use.
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
  /** Reports its start, and runs until a file exists. */
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
  /** Reports its start, and never returns to its event loop. */
  spin() {
    console.error(`at work ${Deno.pid}`);
    for (;;);
  },
});
