// Copyright 2026 the Duplex authors. MIT license.

/**
 * Workers that carry much: the first argument names what.
 *
 * @module
 */

import { parent } from "@duplex/ipc/parent";

const [act, ...args] = Deno.args.map((arg, index) =>
  index === 0 ? arg : Number(arg)
);

/** What a writer tells of itself at its end. */
export interface WriterReport {
  /** By how many bytes its memory was ever larger than at the start. */
  growth: number;
  /** How many messages were ever sent and not taken. */
  inFlight: number;
}

switch (act) {
  case "write":
    await write(args[0] as number, args[1] as number);
    break;
  case "echo":
    await echo(args[0] as number);
    break;
  default:
    await parent();
}

/**
 * Sends `count` messages of `size` bytes as fast as it may. First come some to
 * warm up, and what one costs it.
 */
async function write(count: number, size: number): Promise<void> {
  await using main = await parent();
  const start = Deno.memoryUsage().rss;
  const message = new Uint8Array(size);
  const costs: number[] = [];
  while (costs.length < 50) {
    const before = performance.now();
    if (main.trySend(message)) costs.push(performance.now() - before);
    else await main.send(message);
  }
  await main.send(costs.sort((a, b) => a - b)[25]);
  const report: WriterReport = { growth: 0, inFlight: 0 };
  for (let index = 0; index < count; index++) {
    message[0] = index;
    await main.send(message);
    const growth = Deno.memoryUsage().rss - start;
    report.growth = Math.max(report.growth, growth);
    report.inFlight = Math.max(report.inFlight, main.stats.inFlight);
  }
  await main.send(report);
}

/** Sends a large message back, after its checksum. */
async function echo(maxMessage: number): Promise<void> {
  await using main = await parent<Uint8Array<ArrayBuffer>, unknown>({
    maxMessage,
  });
  const message = await main.receive();
  await main.send(await crypto.subtle.digest("SHA-256", message));
  await main.send(message);
}
