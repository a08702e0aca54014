// Copyright 2026 the Duplex authors. MIT license.

/**
 * The far process of `socket_main.ts`, `socket_far.ts ROLE ADDRESS`: "echo" sends
 * back what comes; "take-…" receives as many messages as it was told and then says
 * what they add up to; "many" opens many connections and sends over each as many
 * lines as it is asked for there; "idle" opens as many as it is asked for.
 *
 * @module
 */

import type { Duplex } from "../../duplex.ts";
import { openSocket } from "../../socket.ts";
import { weigh } from "../_messages.mjs";
import { CONNECTIONS, lineOf, openMany } from "./socket_shared.ts";

const [role = "", address = ""] = Deno.args;

type Peer = Duplex<unknown>;

async function echo(): Promise<void> {
  await using main = await openSocket<unknown>(address);
  for await (const message of main) await main.send(message);
}

async function take(): Promise<void> {
  await using main = await openSocket<unknown>(address);
  for await (const count of main) {
    let sum = 0;
    for (let index = 0; index < (count as number); index++) {
      sum += weigh(await main.receive());
    }
    await main.send(sum);
  }
}

/** Sends as many lines as it is asked for, until that is none. */
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

/** Opens as many connections as it is asked for, until that is none. */
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

if (role.startsWith("take-")) await take();
else if (role === "many") await many();
else if (role === "idle") await idle();
else await echo();
