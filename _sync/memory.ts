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
 * | 2, 3   | a random number that identifies the lock                     |
 * | 4      | the latch: 0 free, 1 held, 2 held with threads that wait     |
 * | 5      | a count that changes when a thread compares two buffers      |
 * | 6      | the number of slots                                          |
 * | 7–15   | the queue (`_sync/slots.ts`)                                 |
 * | 16–19  | the words of the kind                                        |
 * | 20–    | the slots of the queue                                       |
 *
 * All words from 6 on, except those of a counter, are changed under the latch
 * only. A thread holds the latch for a few hundred instructions, longer only to
 * wake many threads, and never across an `await`. Deno ends the thread of a Web
 * Worker only between tasks (`terminate()` does not interrupt a running one), so a
 * thread never ends while it holds the latch. A latch that stays held therefore
 * means that other code has overwritten the memory; calls then throw an error.
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

/** The number of words of a slot. */
const SLOT_WORDS = 7;

/** States of the latch. */
const FREE = 0;
const HELD = 1;
const CONTENDED = 2;

/**
 * Milliseconds after which a held latch counts as damaged: a thousand times the
 * longest pause of a thread on a busy system.
 */
export const LATCH_LIMIT_MS = 5000;

/**
 * Milliseconds for which a call waits for the latch after its own deadline: some
 * time slices of a busy system, in which the holder of the latch runs again.
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

/** Milliseconds to wait for a latch, or an object that computes them if needed. */
export type LatchTime = number | { readonly forLatch: number };

/** Whether this thread holds a latch. */
let hasLatch = false;

/** The words of a lock. */
export class Memory {
  readonly words: Int32Array<SharedArrayBuffer>;
  /** The number of slots. */
  readonly capacity: number;

  constructor(words: Int32Array<SharedArrayBuffer>) {
    this.words = words;
    this.capacity = words[CAPACITY]!;
  }

  /** Creates a lock with these words of its kind and this number of slots. */
  static create(
    kind: Kind,
    { fields, capacity }: { fields: number[]; capacity: number },
  ): Memory {
    const length = HEADER + capacity * SLOT_WORDS;
    const words = new Int32Array(new SharedArrayBuffer(length * 4));
    words[0] = MAGIC;
    words[KIND] = KINDS.indexOf(kind) + 1;
    words.set(crypto.getRandomValues(new Int32Array(2)), UNIQUE);
    words[CAPACITY] = capacity;
    words.set(fields, FIELDS);
    return new Memory(words);
  }

  /** The memory of a lock of this kind. Throws if the buffer holds no such lock. */
  static attach(kind: Kind, buffer: SharedArrayBuffer): Memory {
    const isWhole = buffer.byteLength % 4 === 0 &&
      buffer.byteLength >= HEADER * 4;
    const words = new Int32Array(buffer, 0, isWhole ? undefined : 0);
    if (words[0] !== MAGIC) throw attachError(kind, "it contains no lock");
    const found = KINDS[words[KIND]! - 1];
    if (found !== kind) {
      const other = found === undefined
        ? "a lock of another version"
        : `the lock ${found}`;
      throw attachError(kind, `it contains ${other}`);
    }
    const length = HEADER + words[CAPACITY]! * SLOT_WORDS;
    if (words.length !== length) {
      const sizes = `${words.length * 4} bytes in place of ${length * 4}`;
      throw attachError(kind, `it has ${sizes}`);
    }
    return new Memory(words);
  }

  /** The number that identifies the lock: the low 53 bits of words 2 and 3. */
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

  /** The first word of a slot. */
  at(slot: number): number {
    // The number may come from memory that other code has overwritten.
    if (slot >= 0 && slot < this.capacity) return HEADER + slot * SLOT_WORDS;
    throw damageError(`it names slot ${slot} of ${this.capacity}`);
  }

  /**
   * Acquires the latch; returns whether it did so in time. The thread must soon
   * call {@linkcode Memory.leave}.
   */
  enter(time: LatchTime): boolean {
    // This thread would wait for itself.
    if (hasLatch) throw new Error("Cannot acquire a latch under a latch");
    if (
      Atomics.compareExchange(this.words, LATCH, FREE, HELD) !== FREE &&
      !this.#await(typeof time === "number" ? time : time.forLatch)
    ) return false;
    hasLatch = true;
    return true;
  }

  /** Whether the latch has a value that the code of this file never writes. */
  get isLatchDamaged(): boolean {
    const state = Atomics.load(this.words, LATCH);
    return state !== FREE && state !== HELD && state !== CONTENDED;
  }

  /** Releases the latch. */
  leave(): void {
    hasLatch = false;
    if (Atomics.exchange(this.words, LATCH, FREE) === CONTENDED) {
      Atomics.notify(this.words, LATCH, 1);
    }
  }

  #await(ms: number): boolean {
    const { words } = this;
    const end = performance.now() + ms;
    for (;;) {
      if (this.isLatchDamaged) return false;
      // It stays contended: other threads may sleep, and `leave` must wake them.
      if (Atomics.exchange(words, LATCH, CONTENDED) === FREE) return true;
      const left = end - performance.now();
      if (left <= 0) return false;
      Atomics.wait(words, LATCH, CONTENDED, left);
    }
  }
}

function attachError(kind: Kind, found: string): TypeError {
  return new TypeError(
    `Cannot attach to the ${kind} as "buffer" must be the "buffer" of a ${kind}: ${found}`,
  );
}

/** The error of a call that did not acquire the latch. */
export function latchError(action: string): Error {
  return new Error(
    `Cannot ${action} as the memory of the lock is damaged: another thread has held its latch for ${LATCH_LIMIT_MS} ms, or its latch has been overwritten; create a new lock`,
  );
}

/** The error of a call that read words that no lock has. */
export function damageError(what: string): Error {
  return new Error(
    `Cannot use the memory of the lock as it has been overwritten: ${what}; create a new lock`,
  );
}
