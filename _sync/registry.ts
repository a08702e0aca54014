// Copyright 2026 the Duplex authors. MIT license.

/**
 * The locks that a thread knows. The same memory may arrive in a thread several
 * times, each time in another `SharedArrayBuffer` object, and all must share what
 * the thread remembers about the lock: whether it holds it, and which of its
 * tasks wait. So there is one core for each memory in a thread.
 *
 * A copy of the memory has the same content and is another memory. It protects
 * nothing, so it is refused where the original is known.
 *
 * @module
 */

import { hasType } from "./checks.ts";
import { attach, type Kind, Memory } from "./memory.ts";
import { show } from "../_base/text.ts";

/** What a kind of lock does, over its memory. */
export interface Core {
  readonly memory: Memory;
}

/** The map is cleaned when it has grown to this, and then to twice what is left. */
const FIRST_CLEANING = 64;

/** The locks of one kind that this thread knows. */
export class Registry<C extends Core> {
  readonly #kind: Kind;
  readonly #make: (memory: Memory) => C;
  /** By the number of the lock. An unused core is collected. */
  readonly #known = new Map<number, WeakRef<C>>();
  /** Those that were attached to, by the buffer: to attach again takes no time. */
  readonly #attached = new WeakMap<SharedArrayBuffer, C>();
  #nextCleaning = FIRST_CLEANING;

  constructor(kind: Kind, make: (memory: Memory) => C) {
    this.#kind = kind;
    this.#make = make;
  }

  /** Makes a lock. */
  create(fields: number[], capacity: number): C {
    return this.#make(Memory.create(this.#kind, fields, capacity));
  }

  /** The core of the lock in a buffer. */
  attach(buffer: unknown): C {
    const attached = this.#attached.get(buffer as SharedArrayBuffer);
    return attached ?? this.#attach(buffer);
  }

  #attach(buffer: unknown): C {
    if (!hasType(buffer, SharedArrayBuffer)) {
      throw new TypeError(
        `Cannot attach a ${this.#kind} as "buffer" must be a SharedArrayBuffer: current value is ${
          show(buffer)
        }`,
      );
    }
    const memory = new Memory(attach(this.#kind, buffer));
    const known = this.#known.get(memory.unique)?.deref();
    if (known === undefined || known.memory.isSame(memory)) {
      const core = known ?? this.#make(memory);
      this.share(core);
      this.#attached.set(buffer, core);
      return core;
    }
    throw new TypeError(
      `Cannot attach a ${this.#kind} as "buffer" is a copy of the memory of another ${this.#kind}: send its "buffer" itself, which threads then share`,
    );
  }

  /**
   * Makes a core known, and returns its buffer. A new lock is not known before
   * its buffer is asked for, because a `WeakRef` keeps it to the end of the task.
   */
  share(core: C): SharedArrayBuffer {
    const { unique, words } = core.memory;
    if (this.#known.get(unique)?.deref() === undefined) {
      if (this.#known.size >= this.#nextCleaning) this.#clean();
      this.#known.set(unique, new WeakRef(core));
    }
    return words.buffer;
  }

  #clean(): void {
    for (const [unique, core] of this.#known) {
      if (core.deref() === undefined) this.#known.delete(unique);
    }
    this.#nextCleaning = Math.max(FIRST_CLEANING, 2 * this.#known.size);
  }
}
