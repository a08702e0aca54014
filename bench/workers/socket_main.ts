// Copyright 2026 the Duplex authors. MIT license.

/**
 * This package's side of `bench/socket.ts`:
 * `socket_main.ts SCENARIO COUNT WARM tcp|unix` measures itself against a process
 * of its own, which connects to it.
 *
 * @module
 */

import type { Duplex } from "../../duplex.ts";
import { listenSocket } from "../../socket.ts";
import { measure, oneWay } from "./_measure.ts";
import {
  checkHosts,
  CONNECTIONS,
  Far,
  type Line,
  LINES,
  Order,
  Place,
  residentMemory,
} from "./socket_shared.ts";

const SCRIPT = new URL("./socket_far.ts", import.meta.url);
const form = Deno.args[3] ?? "tcp";

type Peer = Duplex<unknown>;

/** The resources of a measurement: the peer process, the listener, its folder. */
await using rest = new AsyncDisposableStack();

/** Listens and starts the peer process; returns a function that accepts a connection. */
async function start(role: string): Promise<() => Promise<Peer>> {
  const { address } = rest.use(await Place.make(form));
  const listener = listenSocket<unknown>(address, {
    maxPeers: 2 * CONNECTIONS,
  });
  rest.defer(() => listener.close());
  await listener.ready;
  const far = new Far(SCRIPT, role, listener.address);
  rest.defer(() => far.ended());
  return () => listener.accept();
}

/** Accepts the only connection. */
async function open(script: URL): Promise<Peer> {
  const accept = await start(script.search.slice(1));
  return await accept();
}

/** Requests lines, and checks them. */
async function takeLines(peer: Peer, order: Order): Promise<void> {
  order.restart();
  await peer.send(LINES);
  for (let index = 0; index < LINES; index++) {
    order.take(await peer.receive() as Line);
  }
}

async function many(count: number, warm: number): Promise<number[]> {
  const accept = await start("many");
  const all: { peer: Peer; order: Order }[] = [];
  while (all.length < CONNECTIONS) {
    all.push({ peer: await accept(), order: new Order() });
  }
  const run = async (times: number) => {
    for (let time = 0; time < times; time++) {
      await Promise.all(all.map(({ peer, order }) => takeLines(peer, order)));
    }
  };
  await run(warm);
  const started = performance.now();
  await run(count);
  const ms = performance.now() - started;
  checkHosts(all.map(({ order }) => order));
  // Only the end follows: no line arrives twice.
  await Promise.all(all.map(async ({ peer }) => {
    await peer.send(0);
    await serve(peer);
  }));
  return [count * LINES * CONNECTIONS * 1e3 / ms];
}

/** Receives until the end, before which no message may arrive. */
async function serve(peer: Peer): Promise<void> {
  for await (const message of peer) throw new Error(`There came ${message}`);
  await peer.close();
}

async function idle(count: number, warm: number): Promise<number[]> {
  const accept = await start("idle");
  await using control = await accept();
  const served: Promise<void>[] = [];
  const add = async (connections: number) => {
    await control.send(connections);
    for (let left = connections; left > 0; left--) {
      served.push(serve(await accept()));
    }
    await control.receive();
    return await residentMemory();
  };
  const before = await add(warm);
  const after = await add(count);
  await control.send(0);
  await Promise.all(served);
  return [(after - before) / count];
}

await measure(open, {
  lines: (count, warm) => oneWay(open, "lines-out", count, warm),
  bytes: (count, warm) => oneWay(open, "bytes-out", count, warm),
  many,
  idle,
});
