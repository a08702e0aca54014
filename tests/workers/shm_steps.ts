// Copyright 2026 the Duplex authors. MIT license.

/**
 * Workers that meddle with the rings: one stops for ever before a given one of
 * its atomic operations, another writes nonsense into the header. Both find the
 * rings through `Atomics`, which every operation goes through.
 *
 * @module
 */

import { parent } from "../../parent.ts";
import type { ShmDuplex } from "../../shm.ts";

/** What the parent sends first. */
export interface Order {
  /** Word 0 says that the worker stands still; the operation is in word 1. */
  control: Int32Array;
  /** Whether it blocks. */
  blocking: boolean;
  /** Bytes of each message. */
  size: number;
  /** A word of the header and what to write there, instead of standing still. */
  damage?: [word: number, value: number];
}

const real = { ...pick("load", "store", "or", "wait", "notify", "waitAsync") };

// deno-lint-ignore no-explicit-any
function pick(...names: string[]): Record<string, any> {
  // deno-lint-ignore no-explicit-any
  const atomics = Atomics as any;
  return Object.fromEntries(names.map((name) => [name, atomics[name]]));
}

/** Calls back before every atomic operation on the rings. */
function watch(onOperation: (words: Int32Array) => void): void {
  for (const [name, operation] of Object.entries(real)) {
    // deno-lint-ignore no-explicit-any
    (Atomics as any)[name] = (words: Int32Array, ...rest: any[]) => {
      // A ring's header, not the words that others sleep on.
      if (words.length > 4) onOperation(words);
      return operation(words, ...rest);
    };
  }
}

const main = await parent() as ShmDuplex;
const { control, blocking, size, damage } = await main.receive() as Order;
let left = control[1]!;
watch((words) => {
  if (left-- > 0) return;
  if (damage !== undefined) {
    if (left === -1) real.store!(words, ...damage);
    return;
  }
  real.store!(control, 0, 1);
  real.notify!(control, 0);
  real.wait!(control, 2, 0);
});
const bytes = new Uint8Array(size);
for (let number = 0;; number++) {
  bytes.fill(number);
  if (blocking) main.sendSync(bytes);
  else await main.send(bytes);
}
