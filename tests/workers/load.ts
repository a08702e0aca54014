// Copyright 2026 the Duplex authors. MIT license.

/**
 * Workers with a large load: the first argument names the kind.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";
import { openPipe } from "@duplex/ipc/pipe";
import { readSlowly, write } from "./_load.ts";

const ACTS: Record<string, (...args: number[]) => Promise<void>> = {
  /** Writes, and reports the result. */
  async write(count, size) {
    await using main = await parent();
    await main.send(await write(main, count!, size!));
  },

  /**
   * Writes to its own worker that reads slowly, and reports when it is warm and
   * the result.
   */
  async parent(count, size) {
    await using main = await parent();
    await using worker = await openPipe(import.meta.url, {
      args: ["read", String(count)],
    });
    const onWarm = () => main.send("warm");
    await main.send(await write(worker, count!, size!, onWarm));
    await worker.close({ timeout: Infinity });
  },

  async read(count) {
    await using main = await parent();
    await readSlowly(main, count!);
  },

  /** Sends a large message back after its checksum. */
  async echo(maxMessage) {
    await using main = await parent<Uint8Array<ArrayBuffer>, unknown>({
      maxMessageBytes: maxMessage!,
    });
    const message = await main.receive();
    await main.send(await crypto.subtle.digest("SHA-256", message));
    await main.send(message);
  },
};

const [act, ...args] = Deno.args;
await ACTS[act!]!(...args.map(Number));
