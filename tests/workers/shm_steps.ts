// Copyright 2026 the Duplex authors. MIT license.

/**
 * Workers that interfere with the rings: one dies before a given atomic
 * operation, another overwrites words of the header. Both hook `Atomics`, which
 * every operation uses.
 *
 * @module
 */

import { WORD } from "../../_shm/ring.ts";
import { parent } from "../../parent.ts";

/** The first message of the parent. */
export interface Order {
  /** The number of operations before that. */
  operations: number;
  /** Whether it blocks. */
  blocking: boolean;
  /** Bytes of each message. */
  size: number;
  /** A word of the header and its new value, instead of dying. */
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
      // The header of a ring, not other words that threads sleep on.
      if (words.length > 4) onOperation(words);
      return operation(words, ...rest);
    };
  }
}

const main = await parent({ transport: "shm" });
const { operations, blocking, size, damage } = await main.receive() as Order;
let left = operations;
watch((words) => {
  if (left-- > 0) return;
  if (damage !== undefined) {
    if (left < -1) return;
    real.store!(words, ...damage);
    real.store!(words, WORD.openerBell, 0);
    real.notify!(words, WORD.openerBell);
    // The other side must read it before the next store restores it.
    real.wait!(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
    return;
  }
  // The rings must not change any more. Deno cannot end a thread at a given
  // point, so the remaining operations are redirected to other memory.
  self.close();
  throw new Error("The worker is dead");
});
const bytes = new Uint8Array(size);
for (let number = 0;; number++) {
  bytes.fill(number);
  if (blocking) main.sendSync(bytes);
  else await main.send(bytes);
}
