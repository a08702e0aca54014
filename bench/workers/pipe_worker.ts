// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker of `bench/pipe.ts`. Its argument says what it does: "echo" sends
 * back what comes; "take" receives as many messages as it was told and then
 * says how many bytes or lines it saw; "give" sends as many as it was told.
 *
 * @module
 */

import { parent } from "../../parent.ts";
import { logLines } from "../_log_line.ts";

const [role, what] = Deno.args;
const BATCH = 1_000;
const MIB = 2 ** 20;

/** Lines count as one each, bytes as their number. */
function weigh(message: unknown): number {
  if (message instanceof Uint8Array) return message.length;
  return (message as { level: string }).level === "info" ? 1 : NaN;
}

async function take(): Promise<void> {
  await using main = await parent<unknown>();
  for await (const count of main) {
    let total = 0;
    for (let index = 0; index < (count as number); index++) {
      total += weigh(await main.receive());
    }
    await main.send(total);
  }
}

async function give(): Promise<void> {
  await using main = await parent<number, unknown>();
  const messages = what === "bytes"
    ? [new Uint8Array(MIB).fill(7)]
    : logLines(BATCH);
  for await (const count of main) {
    for (let index = 0; index < count; index++) {
      await main.send(messages[index % messages.length]);
    }
  }
}

async function echo(): Promise<void> {
  await using main = await parent();
  for await (const message of main) await main.send(message);
}

if (role === "take") await take();
else if (role === "give") await give();
else await echo();
