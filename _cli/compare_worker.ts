// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of `compare`, over every transport. If the query of its address names
 * an address, it listens there and serves one peer over a socket.
 *
 * @module
 */

import { bytesLoad, serveOrders } from "./measure.ts";
import { parent } from "../parent.ts";

/** Whether the main side ended the measurement early. */
function isStop(error: unknown): boolean {
  return error instanceof Error &&
    (error.name === "AbortError" || error.name === "TimeoutError");
}

async function run(): Promise<void> {
  await using main = await parent();
  const address = decodeURIComponent(new URL(import.meta.url).search.slice(1));
  try {
    if (address === "") return await serveOrders(main, bytesLoad);
    // Only this worker needs the module.
    const { listenSocket } = await import("../socket.ts");
    await using listener = listenSocket(address);
    await listener.ready;
    await main.send(listener.address);
    await using peer = await listener.accept();
    await serveOrders(peer, bytesLoad);
  } catch (error) {
    // Deno would print it, although the main side has it.
    if (!isStop(error)) throw error;
  }
}

await run();
