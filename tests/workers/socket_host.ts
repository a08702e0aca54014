// Copyright 2026 the Duplex authors. MIT license.

/**
 * One host of a session in a separate process: a listener that echoes, or an
 * opener that counts the echoes. It obeys the lines of its standard input, and
 * reports on its standard output.
 *
 * @module
 */

import { listenSocket, openSocket, type SocketDuplex } from "../../socket.ts";

const [role, address, options] = Deno.args as [string, string, string];

/** The lines of standard input. */
async function* orders(): AsyncGenerator<string> {
  let rest = "";
  const { readable } = Deno.stdin;
  for await (const text of readable.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}

/** Sends every message back, until it is told to stop receiving. */
async function echo(duplex: SocketDuplex): Promise<void> {
  for await (const message of duplex) {
    if (message === "hold") return;
    await duplex.send(message);
  }
  await duplex.close();
}

/** Listens until it is told to stop. */
async function beListener(): Promise<void> {
  const onError = (error: unknown) => {
    if (error instanceof Error) console.log(`error ${error.message}`);
  };
  const listener = listenSocket(address, { ...JSON.parse(options), onError });
  await listener.ready;
  console.log(`listening ${listener.address}`);
  let detached = 0;
  const watch = setInterval(() => {
    if (listener.stats.detached === detached) return;
    detached = listener.stats.detached;
    console.log(`detached ${detached}`);
  }, 2);
  const serving = (async () => {
    for await (const peer of listener) echo(peer).catch(() => {});
  })();
  for await (const order of orders()) {
    if (order === "exit") Deno.exit(0);
    if (order === "end") break;
  }
  clearInterval(watch);
  await listener.close();
  await serving;
}

/** Sends numbers until it is told to stop, and checks the echoes. */
async function beOpener(): Promise<void> {
  const duplex = await openSocket<number>(address, JSON.parse(options));
  let isStopped = false;
  let sent = 0;
  const sending = (async () => {
    for (; !isStopped; sent++) {
      await duplex.send(sent);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await duplex.close();
  })();
  const listening = (async () => {
    for await (const order of orders()) if (order === "stop") break;
    isStopped = true;
  })();
  let next = 0;
  for await (const number of duplex) {
    if (number !== next) throw new Error(`${number} came for ${next}`);
    if (++next % 50 === 0) console.log(`echoed ${next}`);
  }
  await Promise.all([sending, listening]);
  console.log(`done ${sent} ${next}`);
}

await (role === "listen" ? beListener() : beOpener());
