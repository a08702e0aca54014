// Copyright 2026 the Duplex authors. MIT license.

/**
 * Measurements of a duplex, for `compare` and for `bench/`: messages there and back,
 * to the worker, and from it. The worker calls {@linkcode serveOrders}.
 *
 * @module
 */

import type { Duplex } from "../duplex.ts";

/** The messages of a measurement. */
export interface Load {
  /** Identifies the load to the worker. */
  readonly name: string;
  /** Sent in turn. */
  readonly messages: readonly unknown[];
  /** The value that a received message adds to the check sum. */
  weigh(message: unknown): number;
}

/**
 * A message of so many bytes, the load of `compare`. The bytes are not 0, because the
 * system maps all empty memory to one page, which is faster to read.
 */
export function bytesLoad(name: string): Load {
  return {
    name,
    messages: [new Uint8Array(Number(name)).fill(1)],
    weigh: (message) => message instanceof Uint8Array ? message.length : NaN,
  };
}

/**
 * A request to the worker: to send so many messages back, to receive them and answer
 * with their check sum, or to send them.
 */
export type Order = readonly [
  task: "echo" | "receive" | "send",
  count: number,
  load: string,
];

/**
 * Carries out the requests of a peer until its goodbye.
 *
 * @param peer The duplex to the peer.
 * @param loadOf Makes a load by its name.
 */
export async function serveOrders(
  peer: Duplex,
  loadOf: (name: string) => Load,
): Promise<void> {
  let load: Load | undefined;
  for await (const order of peer) {
    const [task, count, name] = order as Order;
    // A load is made once, as it may be large.
    if (load?.name !== name) load = loadOf(name);
    if (task === "send") {
      await sendAll(peer, load, count);
    } else if (task === "receive") {
      await peer.send(await receiveAll(peer, load, count));
    } else {
      for (let left = count; left > 0; left--) {
        await peer.send(await peer.receive());
      }
    }
  }
}

async function sendAll(peer: Duplex, load: Load, count: number): Promise<void> {
  const { messages } = load;
  for (let index = 0; index < count; index++) {
    await peer.send(messages[index % messages.length]);
  }
}

async function receiveAll(
  peer: Duplex,
  load: Load,
  count: number,
): Promise<number> {
  let sum = 0;
  for (let left = count; left > 0; left--) {
    sum += load.weigh(await peer.receive());
  }
  return sum;
}

/** Throws unless the check sum is that of so many messages. */
function checkSum(sum: unknown, { messages, weigh }: Load, count: number) {
  const weights = messages.map(weigh);
  let expected = 0;
  for (let index = 0; index < count; index++) {
    expected += weights[index % weights.length]!;
  }
  if (sum === expected) return;
  throw new Error(
    `Cannot measure: the check sum of ${count} messages must be ${expected}, and is another`,
  );
}

/** Measures a duplex whose peer calls {@linkcode serveOrders}. */
export class Meter {
  readonly #peer: Duplex;
  readonly #load: Load;

  constructor(peer: Duplex, load: Load) {
    this.#peer = peer;
    this.#load = load;
  }

  /** Milliseconds for each of so many messages there and back, one at a time. */
  async trips(count: number): Promise<Float64Array> {
    const peer = this.#peer;
    const { messages, weigh } = this.#load;
    const samples = new Float64Array(count);
    let sum = 0;
    await this.#order("echo", count);
    let now = performance.now();
    for (let index = 0; index < count; index++) {
      const start = now;
      await peer.send(messages[index % messages.length]);
      sum += weigh(await peer.receive());
      now = performance.now();
      samples[index] = now - start;
    }
    checkSum(sum, this.#load, count);
    return samples;
  }

  /** Milliseconds until the worker has received so many messages. */
  async sent(count: number): Promise<number> {
    const start = performance.now();
    await this.#order("receive", count);
    await sendAll(this.#peer, this.#load, count);
    const sum = await this.#peer.receive();
    const ms = performance.now() - start;
    checkSum(sum, this.#load, count);
    return ms;
  }

  /** Milliseconds until so many messages of the worker have been received. */
  async received(count: number): Promise<number> {
    const start = performance.now();
    await this.#order("send", count);
    const sum = await receiveAll(this.#peer, this.#load, count);
    const ms = performance.now() - start;
    checkSum(sum, this.#load, count);
    return ms;
  }

  #order(task: Order[0], count: number): Promise<void> {
    return this.#peer.send([task, count, this.#load.name]);
  }
}

/** The smallest sample that is not exceeded by this share of them. */
export function quantile(samples: ArrayLike<number>, share: number): number {
  const sorted = Float64Array.from(samples).sort();
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)]!;
}

/** The middle sample. */
export function median(samples: ArrayLike<number>): number {
  return quantile(samples, 0.5);
}

/**
 * Aligns the cells of a table: the first column to the left, the others to the
 * right. A row may be shorter; its last cell is not aligned.
 */
export function alignColumns(rows: readonly (readonly string[])[]): string[] {
  const columns = Math.max(...rows.map(({ length }) => length));
  const complete = rows.filter(({ length }) => length === columns);
  const widths = Array.from(
    { length: columns },
    (_, column) => Math.max(...complete.map((row) => row[column]!.length)),
  );
  // The names of short rows must fit as well.
  widths[0] = Math.max(...rows.map(([name]) => name!.length));
  return rows.map((row) =>
    row.map((cell, column) => {
      if (column === 0) return cell.padEnd(widths[0]!);
      return row.length < columns ? cell : cell.padStart(widths[column]!);
    }).join("  ")
  );
}
