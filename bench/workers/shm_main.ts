// Copyright 2026 the Duplex authors. MIT license.

/**
 * Shared memory in `bench/workers.ts`: `shm_main.ts SCENARIO COUNT WARM`.
 *
 * @module
 */

import { openShm, type ShmDuplex } from "../../shm.ts";
import { checkSum, messagesOf, weigh } from "../_messages.mjs";
import { measure } from "./_measure.ts";

const SPIN = new URL("./duplex_worker.ts?spin", import.meta.url);

/** Milliseconds for so many messages there and back; neither side releases its thread. */
function trips(
  worker: ShmDuplex<unknown>,
  messages: unknown[],
  count: number,
): number {
  const start = performance.now();
  let sum = 0;
  for (let trip = 0; trip < count; trip++) {
    worker.sendSync(messages[trip % messages.length]);
    sum += weigh(worker.receiveSync());
  }
  const ms = performance.now() - start;
  checkSum(sum, messages, count);
  return ms;
}

/** Microseconds there and back between two sides that spin. */
async function spin(count: number, warm: number): Promise<number[]> {
  const lines = messagesOf("lines");
  await using worker = await openShm<unknown>(SPIN);
  trips(worker, lines, warm);
  const ms = trips(worker, lines, count);
  worker.sendSync(null);
  return [ms * 1e3 / count];
}

await measure((script) => openShm(script), { spin });
