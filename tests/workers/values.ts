// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that sends every message back. It uses the streams and ports that are moved
 * to it, and counts the workers that have received the same module.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";

/** A module, and two cells of shared memory: workers that have it, and how many must. */
interface Counted {
  readonly module: WebAssembly.Module;
  readonly cells: Int32Array<SharedArrayBuffer>;
}

function isCounted(message: unknown): message is Counted {
  return typeof message === "object" && message !== null &&
    "cells" in message;
}

/** Waits until as many workers have the module, and returns its exports. */
function count({ module, cells }: Counted): unknown {
  Atomics.add(cells, 0, 1);
  Atomics.notify(cells, 0);
  for (let had = 0; had !== cells[1]!; had = Atomics.load(cells, 0)) {
    Atomics.wait(cells, 0, had, 60_000);
  }
  return WebAssembly.Module.exports(module);
}

async function use(message: unknown): Promise<unknown> {
  if (message instanceof ReadableStream) {
    return await Array.fromAsync(message as ReadableStream<unknown>);
  }
  if (message instanceof WritableStream) {
    const writer = message.getWriter();
    await writer.write("from the worker");
    await writer.close();
    return "written";
  }
  if (message instanceof TransformStream) {
    const writer = message.writable.getWriter();
    const written = writer.write("text").then(() => writer.close());
    const read = await Array.fromAsync(
      message.readable as ReadableStream<unknown>,
    );
    await written;
    return read;
  }
  if (message instanceof MessagePort) {
    message.postMessage("from the worker");
    message.close();
    return "posted";
  }
  return isCounted(message) ? count(message) : message;
}

await using main = await parent();
for await (const message of main) await main.send(await use(message));
