// Copyright 2026 the Duplex authors. MIT license.

/**
 * The far side of what `compare` measures, whichever transport it is opened with:
 * it sends back, takes or gives messages as it is told. Told to listen, it is the
 * process at the far end of a socket as well, and serves one peer there.
 *
 * @module
 */

import type { Duplex } from "../duplex.ts";
import { parent } from "../parent.ts";

/**
 * What the far side is told; what is measured is a `Uint8Array`.
 *
 * - `"echo"`: send back each message until `"end"`.
 * - `"take"`: take messages until `"end"`, and then say how many bytes they had.
 * - `give`: send a message of so many bytes `count` times.
 * - `listen`: listen at this address, say where that is, and serve a peer there.
 */
export type Order =
  | "echo"
  | "take"
  | { readonly give: number; readonly count: number }
  | { readonly listen: string };

/** What the near side sends. */
export type Told = Order | Uint8Array | "end";

/** What the far side sends: a message, a number of bytes, or an address. */
export type Answer = Uint8Array | number | string;

/** The far side's end. */
type End = Duplex<Told, Answer>;

/** Does what it is told until the peer says goodbye. */
async function serve(peer: End): Promise<void> {
  for await (const order of peer) {
    if (order === "echo") await echo(peer);
    else if (order === "take") await take(peer);
    else if (typeof order === "object" && "give" in order) {
      const message = new Uint8Array(order.give).fill(1);
      for (let left = order.count; left > 0; left--) await peer.send(message);
    } else if (typeof order === "object" && "listen" in order) {
      await serveAt(peer, order.listen);
    } else throw new TypeError("Cannot obey: it is no order");
  }
}

async function echo(peer: End): Promise<void> {
  for (;;) {
    const message = await peer.receive();
    if (!(message instanceof Uint8Array)) return;
    await peer.send(message);
  }
}

async function take(peer: End): Promise<void> {
  let bytes = 0;
  for (;;) {
    const message = await peer.receive();
    if (!(message instanceof Uint8Array)) return await peer.send(bytes);
    bytes += message.length;
  }
}

/** Listens, and serves the first peer that comes. */
async function serveAt(main: End, address: string): Promise<void> {
  // What is no far end of a socket does not load it.
  const { listenSocket: listen } = await import("../socket.ts");
  await using listener = listen<Told, Answer>(address);
  await listener.ready;
  await main.send(listener.address);
  await using peer = await listener.accept();
  await serve(peer);
}

/** Whether this is what the near side ends it with before it is done. */
function isStop(error: unknown): boolean {
  return error instanceof Error &&
    (error.name === "AbortError" || error.name === "TimeoutError");
}

await using main = await parent<Told, Answer>();
try {
  await serve(main);
} catch (error) {
  // The near side knows; Deno would print it as an error of the worker.
  if (!isStop(error)) throw error;
}
