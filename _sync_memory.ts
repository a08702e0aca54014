// Copyright 2026 the Duplex authors. MIT license.

/**
 * The memory of one lock: what every kind has at its start, and the latch.
 *
 * Words of 32 bits:
 *
 * | word | what                                                     |
 * | ---- | -------------------------------------------------------- |
 * | 0    | a magic number                                           |
 * | 1    | the kind: a mutex, a semaphore, …                        |
 * | 2, 3 | a random number that tells two locks apart               |
 * | 4    | the latch: 0 free, 1 taken, 2 taken and somebody waits   |
 * | 5    | always 0: a word to sleep on                             |
 * | 6–9  | the queue: first, last, free slots, slots ever used      |
 * | 10–  | what the kind keeps there                                |
 * | 16–  | the slots of the queue                                   |
 *
 * All words but the first four and the counter's are read and written under the
 * latch. It is held for a few hundred instructions and never across an `await`,
 * and Deno ends a thread only between tasks (`terminate()` does not stop one that
 * runs), so no thread dies with it.
 *
 * @module
 */

import { show } from "./_text.ts";

const MAGIC = 0x6475706c;
const HEADER = 16;

const KIND = 1;
const UNIQUE = 2;
const LATCH = 4;

/** A word that is always 0, to sleep on. */
export const ALWAYS_ZERO = 5;
/** Where the words of a kind begin. */
export const FIELDS = 10;
/** How many words a slot has. */
export const SLOT_WORDS = 6;
/** How many can wait in order; more wait as well, but in no order. */
export const SLOTS = 128;

/** The kinds, by the number that the memory has. */
const KINDS = [
  "Mutex",
  "Semaphore",
  "Condition",
  "Barrier",
  "ResetEvent",
  "AtomicCounter",
] as const;

export type Kind = typeof KINDS[number];

/** Whether this thread has the latch of a lock. */
let hasLatch = false;

/** The words of a lock. */
export class Memory {
  readonly words: Int32Array<SharedArrayBuffer>;

  private constructor(words: Int32Array<SharedArrayBuffer>) {
    this.words = words;
  }

  /** Makes a lock with these fields, and room for so many who wait. */
  static create(kind: Kind, fields: number[], slots: number = SLOTS): Memory {
    return new Memory(create(kind, slots, fields));
  }

  /** The lock that a buffer holds, if it is of this kind. */
  static attach(kind: Kind, buffer: unknown): Memory {
    return new Memory(attach(kind, buffer));
  }

  /** How many slots there is room for. */
  get slots(): number {
    return Math.floor((this.words.length - HEADER) / SLOT_WORDS);
  }

  /** A text that no other lock has. */
  get unique(): string {
    return `${this.words[UNIQUE]} ${this.words[UNIQUE + 1]}`;
  }

  /** Where a slot begins. */
  slotAt(slot: number): number {
    return HEADER + slot * SLOT_WORDS;
  }

  /** Runs a function with the latch. It must be short and must not wait. */
  latched<T>(action: () => T): T {
    // This thread would wait for itself, for ever.
    if (hasLatch) throw new Error("Cannot take a latch under a latch");
    const { words } = this;
    if (Atomics.compareExchange(words, LATCH, 0, 1) !== 0) {
      while (Atomics.exchange(words, LATCH, 2) !== 0) {
        Atomics.wait(words, LATCH, 2);
      }
    }
    hasLatch = true;
    try {
      return action();
    } finally {
      hasLatch = false;
      if (Atomics.exchange(words, LATCH, 0) === 2) {
        Atomics.notify(words, LATCH, 1);
      }
    }
  }
}

function create(
  kind: Kind,
  slots: number,
  fields: number[],
): Int32Array<SharedArrayBuffer> {
  const length = HEADER + slots * SLOT_WORDS;
  const words = new Int32Array(new SharedArrayBuffer(length * 4));
  words[0] = MAGIC;
  words[KIND] = KINDS.indexOf(kind) + 1;
  words.set(crypto.getRandomValues(new Int32Array(2)), UNIQUE);
  words.set(fields, FIELDS);
  return words;
}

function attach(
  kind: Kind,
  buffer: unknown,
): Int32Array<SharedArrayBuffer> {
  const action = `Cannot attach a ${kind}`;
  if (!(buffer instanceof SharedArrayBuffer)) {
    throw new TypeError(
      `${action} as "buffer" must be a SharedArrayBuffer: current value is ${
        show(buffer)
      }`,
    );
  }
  const isWhole = buffer.byteLength % 4 === 0 &&
    buffer.byteLength >= HEADER * 4;
  const words = new Int32Array(buffer, 0, isWhole ? undefined : 0);
  if (words[0] !== MAGIC) {
    throw new TypeError(
      `${action} as "buffer" must come from the "buffer" of another ${kind}: it holds no lock`,
    );
  }
  const other = KINDS[words[KIND]! - 1];
  if (other !== kind) {
    throw new TypeError(
      `${action} as "buffer" must come from the "buffer" of another ${kind}: it is that of a ${other}`,
    );
  }
  return words;
}

/** Whether what a constructor was given are options, not a buffer. */
export function isOptions<Options extends object>(
  from: Options | SharedArrayBuffer,
): from is Options {
  if (typeof from !== "object" || from === null) return false;
  const prototype = Object.getPrototypeOf(from);
  return prototype === Object.prototype || prototype === null;
}
