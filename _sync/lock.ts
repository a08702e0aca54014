// Copyright 2026 the Duplex authors. MIT license.

/**
 * The base of all locks, and the locks that this thread knows. The same memory may
 * arrive in a thread several times, each time as another `SharedArrayBuffer` object,
 * and all must share what the thread knows of the lock: whether it holds it, and
 * which of its tasks wait. So a thread has one core for each memory.
 *
 * A copy of the memory has the same content and is another memory. It protects
 * nothing, so attaching to it throws in a thread that knows the original.
 *
 * @module
 */

import { isInstance } from "../_base/errors.ts";
import { type Kind, Memory } from "./memory.ts";
import { isOptions, typeError } from "./options.ts";

/** What a thread knows of a lock. */
export interface Core {
  readonly memory: Memory;
}

interface Sharing {
  share(core: Core): SharedArrayBuffer;
}

/**
 * The words of a new lock and its number of slots, from its options, which are
 * checked.
 */
type LayoutOf<Options> = (
  action: string,
  options: Options,
) => [fields: number[], capacity: number];

/** The map is cleaned at this size, and then at twice the size that is left. */
const FIRST_CLEANING = 64;

/** The locks of one kind that this thread knows. */
export class Registry<Options extends object, C extends Core> {
  readonly #kind: Kind;
  readonly #Core: new (memory: Memory) => C;
  readonly #layoutOf: LayoutOf<Options>;
  /** By the number of the lock. An unused core is collected. */
  readonly #known = new Map<number, WeakRef<C>>();
  /** Attached cores by their buffer: to attach again is fast. */
  readonly #attached = new WeakMap<SharedArrayBuffer, C>();
  #nextCleaning = FIRST_CLEANING;

  constructor(
    kind: Kind,
    Core: new (memory: Memory) => C,
    layoutOf: LayoutOf<Options>,
  ) {
    this.#kind = kind;
    this.#Core = Core;
    this.#layoutOf = layoutOf;
  }

  /** Creates a lock, or attaches to the one in a buffer. */
  open(from: Options | SharedArrayBuffer): C {
    if (!isOptions(from)) return this.#attached.get(from) ?? this.#attach(from);
    const [fields, capacity] = this.#layoutOf(`create the ${this.#kind}`, from);
    return new this.#Core(Memory.create(this.#kind, fields, capacity));
  }

  #attach(buffer: unknown): C {
    const kind = this.#kind;
    const action = `attach to the ${kind}`;
    if (!isInstance(buffer, SharedArrayBuffer)) {
      throw typeError(action, "buffer", "a SharedArrayBuffer", buffer);
    }
    const memory = Memory.attach(kind, buffer);
    const known = this.#known.get(memory.unique)?.deref();
    if (known === undefined || known.memory.isSame(memory)) {
      const core = known ?? new this.#Core(memory);
      this.share(core);
      this.#attached.set(buffer, core);
      return core;
    }
    throw new TypeError(
      `Cannot ${action} as "buffer" is a copy of the memory of another ${kind}: send its "buffer" itself, which threads then share`,
    );
  }

  /**
   * Makes a core known, and returns its buffer. A new lock is not known before its
   * buffer is read, because a `WeakRef` keeps it to the end of the task.
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

/**
 * The base class of all locks: shared memory that is sent to other threads.
 *
 * @example Usage
 * ```ts
 * import { ResetEvent } from "@duplex/ipc/sync";
 *
 * const event = new ResetEvent();
 * // A worker receives the buffer in a message; here this thread attaches to it.
 * const attached = new ResetEvent(structuredClone(event.buffer));
 * attached.set();
 * await event.wait();
 * ```
 */
export abstract class SharedLock {
  readonly #core: Core;
  readonly #registry: Sharing;
  readonly #buffer: SharedArrayBuffer | undefined;

  /** @ignore */
  protected constructor(core: Core, registry: Sharing, from: object) {
    this.#core = core;
    this.#registry = registry;
    this.#buffer = isOptions(from) ? undefined : from as SharedArrayBuffer;
  }

  /**
   * The shared memory of the lock, to be sent to other threads. They attach to the
   * lock with `new`. A copy of the memory is not the same lock.
   */
  get buffer(): SharedArrayBuffer {
    return this.#buffer ?? this.#registry.share(this.#core);
  }
}
