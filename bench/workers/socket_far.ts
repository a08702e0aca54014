// Copyright 2026 the Duplex authors. MIT license.

/**
 * The peer process of `socket_main.ts`, `socket_far.ts ROLE ADDRESS`. It carries out
 * the orders of a measurement; in the role "many" it opens many connections and sends
 * the requested number of lines over each; as "idle" it opens the requested number of
 * connections.
 *
 * @module
 */

import { serveOrders } from "../../_cli/measure.ts";
import type { Duplex } from "../../duplex.ts";
import { openSocket } from "../../socket.ts";
import { loadOf } from "../_messages.mjs";
import { CONNECTIONS, lineOf, openMany } from "./socket_shared.ts";

const [role = "", address = ""] = Deno.args;

type Peer = Duplex<unknown>;

/** Carries out the orders of a measurement. */
async function serve(): Promise<void> {
  await using main = await openSocket(address);
  await serveOrders(main, loadOf);
}

/** Sends the requested number of lines, until it is 0. */
async function give(peer: Peer, connection: number): Promise<void> {
  for await (const count of peer) {
    if (count === 0) break;
    for (let index = 0; index < (count as number); index++) {
      await peer.send(lineOf(connection, index));
    }
  }
  await peer.close();
}

async function many(): Promise<void> {
  const all = await openMany(CONNECTIONS, () => openSocket<unknown>(address));
  await Promise.all(all.map(give));
}

/** Opens the requested number of connections, until it is 0. */
async function idle(): Promise<void> {
  await using main = await openSocket<unknown>(address);
  const all: Peer[] = [];
  for await (const count of main) {
    if (count === 0) break;
    all.push(
      ...await openMany(count as number, () => openSocket<unknown>(address)),
    );
    await main.send(count);
  }
  await Promise.all(all.map((peer) => peer.close()));
}

if (role === "many") await many();
else if (role === "idle") await idle();
else await serve();
