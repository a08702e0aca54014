// Copyright 2026 the Duplex authors. MIT license.

/**
 * The memory of one lock: its layout, and the latch.
 *
 * Words of 32 bits:
 *
 * | word   | content                                                      |
 * | ------ | ------------------------------------------------------------ |
 * | 0      | a magic number                                               |
 * | 1      | the kind: a mutex, a semaphore, …                            |
 * | 2, 3   | a random number that tells two locks apart                   |
 * | 4      | the latch: 0 free, 1 taken, 2 taken and awaited              |
 * | 5      | a count that changes when a thread compares two buffers      |
 * | 6      | how many slots there are                                     |
 * | 7–15   | the queue (`_sync/slots.ts`)                                 |
 * | 16–19  | the words of the kind                                        |
 * | 20–    | the slots of the queue                                       |
 *
 * All words from 6 on, except those of a counter, are changed under the latch
 * only. It is held for a few hundred instructions, longer only to wake many
 * threads, and never across an `await`. Deno ends the thread of a Web Worker only
 * between tasks (`terminate()` does not stop one that runs), so a thread does not
 * end while it has the latch. So a latch that stays taken means that another
 * program part has overwritten the memory; a call then ends with an error.
 *
 * @module
 */

/** Word 0 of the layout above. */
const MAGIC = 0x6475706d;

const KIND = 1;
const UNIQUE = 2;
const LATCH = 4;
const COMPARED = 5;
const CAPACITY = 6;
/** The first word of the queue. */
export const QUEUE = 7;
/** The first word of the kind; its offset in bytes is a multiple of 8. */
export const FIELDS = 16;
const HEADER = 20;

/** How many words a slot has. */
export const SLOT_WORDS = 7;

/** States of the latch. */
const FREE = 0;
const TAKEN = 1;
const AWAITED = 2;

/**
 * Milliseconds after which a taken latch counts as damaged: a thousand times as
 * long as a busy system keeps a thread from its next instruction.
 */
export const LATCH_LIMIT_MS = 5000;

/**
 * Milliseconds for which a call waits for the latch after its own deadline: some
 * time slices of a busy system, in which the holder of the latch gets its turn.
 */
export const LATCH_GRACE_MS = 100;

const KINDS = [
  "Mutex",
  "Semaphore",
  "Condition",
  "Barrier",
  "ResetEvent",
  "AtomicCounter",
] as const;

/** The kinds of locks; word 1 is the index plus 1. */
export type Kind = typeof KINDS[number];

/** Milliseconds to wait for a latch, or a getter that is read if it is taken. */
export type LatchTime = number | { readonly forLatch: number };

/** Whether this thread has a latch. */
let hasLatch = false;

/** The words of a lock. */
export class Memory {
  readonly words: Int32Array<SharedArrayBuffer>;
  /** How many slots there are. */
  readonly capacity: number;

  constructor(words: Int32Array<SharedArrayBuffer>) {
    this.words = words;
    this.capacity = words[CAPACITY]!;
  }

  /** Makes a lock with these words of its kind and so many slots. */
  static create(kind: Kind, fields: number[], capacity: number): Memory {
    const length = HEADER + capacity * SLOT_WORDS;
    const words = new Int32Array(new SharedArrayBuffer(length * 4));
    words[0] = MAGIC;
    words[KIND] = KINDS.indexOf(kind) + 1;
    words.set(crypto.getRandomValues(new Int32Array(2)), UNIQUE);
    words[CAPACITY] = capacity;
    words.set(fields, FIELDS);
    return new Memory(words);
  }

  /** A number that tells this lock from others: the low 53 bits of words 2, 3. */
  get unique(): number {
    const { words } = this;
    return (words[UNIQUE]! & 0x1fffff) * 2 ** 32 + (words[UNIQUE + 1]! >>> 0);
  }

  /** Whether two buffers are the same memory; copies have the same content. */
  isSame(other: Memory): boolean {
    if (this.words.buffer === other.words.buffer) return true;
    const before = Atomics.load(other.words, COMPARED);
    Atomics.add(this.words, COMPARED, 1);
    return Atomics.load(other.words, COMPARED) !== before;
  }

  /** Where a slot begins. */
  at(slot: number): number {
    // The number may come from memory that another program part has overwritten.
    if (slot >= 0 && slot < this.capacity) return HEADER + slot * SLOT_WORDS;
    throw damageError(`it names slot ${slot} of ${this.capacity}`);
  }

  /**
   * Takes the latch, within so many milliseconds, and returns whether this
   * thread has it. It must then call {@linkcode Memory.leave} soon.
   */
  enter(time: LatchTime): boolean {
    // This thread would wait for itself.
    if (hasLatch) throw new Error("Cannot take a latch under a latch");
    if (
      Atomics.compareExchange(this.words, LATCH, FREE, TAKEN) !== FREE &&
      !this.#await(typeof time === "number" ? time : time.forLatch)
    ) return false;
    hasLatch = true;
    return true;
  }

  /** Whether the latch has a value that it never gets. */
  get isBroken(): boolean {
    const state = Atomics.load(this.words, LATCH);
    return state !== FREE && state !== TAKEN && state !== AWAITED;
  }

  /** Gives the latch back. */
  leave(): void {
    hasLatch = false;
    if (Atomics.exchange(this.words, LATCH, FREE) === AWAITED) {
      Atomics.notify(this.words, LATCH, 1);
    }
  }

  #await(ms: number): boolean {
    const { words } = this;
    const end = performance.now() + ms;
    for (;;) {
      if (this.isBroken) return false;
      if (Atomics.exchange(words, LATCH, AWAITED) === FREE) return true;
      const left = end - performance.now();
      if (left <= 0) return false;
      Atomics.wait(words, LATCH, AWAITED, left);
    }
  }
}

/** The error of a call that did not get the latch. */
export function latchError(action: string): Error {
  return new Error(
    `Cannot ${action} as the memory of the lock is damaged: another thread has held its latch for ${LATCH_LIMIT_MS} ms, or its latch has been overwritten; make a new lock`,
  );
}

/** The error of a call that found words that cannot be. */
export function damageError(what: string): Error {
  return new Error(
    `Cannot use the memory of the lock as it has been overwritten: ${what}; make a new lock`,
  );
}

/** The words of a buffer that holds a lock of this kind. */
export function attach(
  kind: Kind,
  buffer: SharedArrayBuffer,
): Int32Array<SharedArrayBuffer> {
  const other = `as "buffer" must come from the "buffer" of another ${kind}`;
  const isWhole = buffer.byteLength % 4 === 0 &&
    buffer.byteLength >= HEADER * 4;
  const words = new Int32Array(buffer, 0, isWhole ? undefined : 0);
  if (words[0] !== MAGIC) {
    throw new TypeError(`Cannot attach a ${kind} ${other}: it holds no lock`);
  }
  const found = KINDS[words[KIND]! - 1];
  if (found !== kind) {
    throw new TypeError(
      `Cannot attach a ${kind} ${other}: it is that of a ${
        found ?? "lock of another version"
      }`,
    );
  }
  const length = HEADER + words[CAPACITY]! * SLOT_WORDS;
  if (words.length !== length) {
    throw new TypeError(
      `Cannot attach a ${kind} ${other}: it has ${
        words.length * 4
      } bytes in place of ${length * 4}`,
    );
  }
  return words;
}
