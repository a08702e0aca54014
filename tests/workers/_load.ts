// Copyright 2026 the Duplex authors. MIT license.

/**
 * A fast writer and a slow reader, for both ends of a duplex.
 *
 * @module
 */

import type { Duplex } from "@duplex/ipc/duplex";

/** Messages that measure the usual cost before the reader slows down. */
const WARM_UP = 50;

/** Results of a writer. */
export interface WriterReport {
  /** The largest growth of its memory in bytes. */
  growth: number;
  /** The largest number of messages sent but not received. */
  inFlight: number;
}

/**
 * Sends messages of `size` bytes as fast as possible, after some to warm up,
 * and calls back in between.
 */
export async function write(
  duplex: Duplex<unknown, unknown>,
  count: number,
  size: number,
  onWarm?: () => Promise<void>,
): Promise<WriterReport> {
  const start = Deno.memoryUsage().rss;
  const message = new Uint8Array(size);
  const costs: number[] = [];
  while (costs.length < WARM_UP) {
    const before = performance.now();
    if (duplex.trySend(message)) costs.push(performance.now() - before);
    else await duplex.send(message);
  }
  // The median cost of a message while there is room for it.
  await duplex.send(costs.sort((a, b) => a - b)[WARM_UP / 2]);
  await onWarm?.();
  const report: WriterReport = { growth: 0, inFlight: 0 };
  for (let index = 0; index < count; index++) {
    message[0] = index;
    await duplex.send(message);
    const growth = Deno.memoryUsage().rss - start;
    report.growth = Math.max(report.growth, growth);
    report.inFlight = Math.max(report.inFlight, duplex.stats.inFlight);
  }
  return report;
}

/**
 * Receives `count` messages, and blocks the thread after each for a hundred
 * times as long as the writer needs for one.
 */
export async function readSlowly(
  duplex: Duplex<unknown, unknown>,
  count: number,
): Promise<void> {
  let cost = await duplex.receive();
  while (typeof cost !== "number") cost = await duplex.receive();
  const cell = new Int32Array(new SharedArrayBuffer(4));
  for (let index = 0; index < count; index++) {
    const message = await duplex.receive();
    if (!(message instanceof Uint8Array) || message[0] !== index % 256) {
      throw new Error(`Got another message than ${index}`);
    }
    Atomics.wait(cell, 0, 0, 100 * cost);
  }
}
