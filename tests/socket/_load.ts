// Copyright 2026 the Duplex authors. MIT license.

/**
 * A load for sockets whose messages tell what became of them: each has its number
 * and bytes that follow from it, so that one that is lost, repeated, out of order
 * or changed is counted.
 *
 * @module
 */

import type { Duplex } from "@duplex/ipc/duplex";

/** A message of the load. */
export type Numbered = [number: number, bytes: Uint8Array];

/** What was wrong with what arrived. */
export interface Faults {
  lost: number;
  repeated: number;
  outOfOrder: number;
  changed: number;
}

/** The bytes of the largest message. */
const MAX_SIZE = 300_000;

/** Draws a message: most are small, some large, and a few go in parts. */
export function drawMessage(number: number, draw: () => number): Numbered {
  const kind = draw();
  const most = kind < 0.7 ? 500 : kind < 0.95 ? 20_000 : MAX_SIZE;
  return [number, bytesOf(number, Math.floor(draw() * (most + 1)))];
}

/** The bytes that a message of this number and size has. */
function bytesOf(number: number, size: number): Uint8Array {
  return new Uint8Array(size).fill((number * 31 + size) & 0xff);
}

/** Looks at the messages of one direction as they arrive. */
export class Checker {
  #seen = new Set<number>();
  #next = 0;
  #repeated = 0;
  #outOfOrder = 0;
  #changed = 0;

  /** How many different messages have arrived. */
  get count(): number {
    return this.#seen.size;
  }

  take([number, bytes]: Numbered): void {
    if (this.#seen.has(number)) this.#repeated++;
    else if (number < this.#next) this.#outOfOrder++;
    this.#seen.add(number);
    this.#next = Math.max(this.#next, number + 1);
    if (!isIntact(number, bytes)) this.#changed++;
  }

  /** The number that comes next, if none is lost. */
  get next(): number {
    return this.#next;
  }

  /** What was wrong, if so many messages were sent. */
  faults(sent: number): Faults {
    return {
      lost: sent - this.#seen.size,
      repeated: this.#repeated,
      outOfOrder: this.#outOfOrder,
      changed: this.#changed,
    };
  }
}

function isIntact(number: number, bytes: Uint8Array): boolean {
  const expected = (number * 31 + bytes.length) & 0xff;
  for (let index = 0; index < bytes.length; index++) {
    if (bytes[index] !== expected) return false;
  }
  return true;
}

/** Nothing is wrong. */
export const NO_FAULTS: Faults = {
  lost: 0,
  repeated: 0,
  outOfOrder: 0,
  changed: 0,
};

/** One side of a load: sends and receives until it is stopped. */
export class Side {
  readonly #duplex: Duplex;
  readonly #draw: () => number;
  readonly checker = new Checker();
  sent = 0;
  isStopped = false;

  constructor(duplex: Duplex<unknown>, draw: () => number) {
    this.#duplex = duplex;
    this.#draw = draw;
  }

  /** Sends until it is stopped, receives to the end, and closes. */
  async run(): Promise<void> {
    const receiving = this.receive();
    // If sending fails as well, that error is reported.
    receiving.catch(() => {});
    await this.#send();
    await this.#duplex.close();
    await receiving;
  }

  async #send(): Promise<void> {
    while (!this.isStopped) {
      await this.#duplex.send(drawMessage(this.sent, this.#draw));
      this.sent++;
    }
  }

  /** Receives to the end. */
  async receive(): Promise<void> {
    for await (const message of this.#duplex) {
      this.checker.take(message as Numbered);
    }
  }
}
