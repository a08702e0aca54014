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

import { checkRuntime, MIN_DENO } from "../_base/runtime.ts";
import { isInstance } from "../_base/errors.ts";
import { type Kind, Memory } from "./memory.ts";
import { isOptions, typeError } from "./options.ts";

/** A lock as one thread uses it, over its shared memory. */
export interface Core {
  readonly memory: Memory;
}

/** A new lock: the words of its kind and the number of slots. */
export interface Layout {
  readonly fields: number[];
  readonly capacity: number;
}

/** The map is cleaned at this size, and then at twice the size that is left. */
const FIRST_CLEANING = 64;

/** The shared locks, by their number. An unused core is collected. */
const known = new Map<number, WeakRef<Core>>();
let nextCleaning = FIRST_CLEANING;

/** One kind of lock. */
export class LockType<Options extends object, C extends Core> {
  readonly #kind: Kind;
  /** Creation, as "Cannot `action`" names it. */
  readonly #create: string;
  readonly #Core: new (memory: Memory) => C;
  readonly #layoutOf: (options: Options, action: string) => Layout;
  /** Attached cores by their buffer: to attach again is fast. */
  readonly #attached = new WeakMap<SharedArrayBuffer, C>();

  /**
   * @param layoutOf Checks the options of a new lock.
   */
  constructor(
    kind: Kind,
    Core: new (memory: Memory) => C,
    layoutOf: (options: Options, action: string) => Layout,
  ) {
    this.#kind = kind;
    this.#create = `create the ${kind}`;
    this.#Core = Core;
    this.#layoutOf = layoutOf;
  }

  /** Creates a lock, or attaches to the one in a buffer. */
  open(from: Options | SharedArrayBuffer): C {
    checkRuntime(`Cannot use the ${this.#kind}`, MIN_DENO);
    if (!isOptions(from)) return this.#attached.get(from) ?? this.#attach(from);
    const layout = this.#layoutOf(from, this.#create);
    return new this.#Core(Memory.create(this.#kind, layout));
  }

  #attach(buffer: unknown): C {
    const kind = this.#kind;
    const action = `attach to the ${kind}`;
    if (!isInstance(buffer, SharedArrayBuffer)) {
      throw typeError(action, "buffer", "a SharedArrayBuffer", buffer);
    }
    const memory = Memory.attach(kind, buffer);
    const found = known.get(memory.unique)?.deref();
    if (
      found !== undefined &&
      !(found instanceof this.#Core && found.memory.isSame(memory))
    ) {
      throw new TypeError(
        `Cannot ${action} as "buffer" is a copy of the memory of another ${kind}: send its "buffer" itself, which threads then share`,
      );
    }
    const core = found ?? new this.#Core(memory);
    share(core);
    this.#attached.set(buffer, core);
    return core;
  }
}

/**
 * Makes a core known, and returns its buffer. A new lock is not known before its
 * buffer is read, because a `WeakRef` keeps it to the end of the task.
 */
function share(core: Core): SharedArrayBuffer {
  const { unique, words } = core.memory;
  if (known.get(unique)?.deref() === undefined) {
    if (known.size >= nextCleaning) clean();
    known.set(unique, new WeakRef(core));
  }
  return words.buffer;
}

function clean(): void {
  for (const [unique, core] of known) {
    if (core.deref() === undefined) known.delete(unique);
  }
  nextCleaning = Math.max(FIRST_CLEANING, 2 * known.size);
}

/**
 * The base class of all locks: shared memory that is sent to other threads.
 *
 * - **Limit:** any number of tasks of a thread can wait for a lock, and at least
 *   {@linkcode LockMemoryOptions.threads} threads. If the queue is full, a call in a
 *   further thread throws a `RangeError`. Counters have no limit.
 * - **Staying alive:** a thread that waits does not end automatically.
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
  readonly #buffer: SharedArrayBuffer | undefined;

  /** @ignore */
  protected constructor(core: Core, from: object) {
    this.#core = core;
    if (from instanceof SharedArrayBuffer) this.#buffer = from;
  }

  /**
   * The shared memory of the lock, to be sent to other threads. They attach to the
   * lock with `new`. A copy of the memory is not the same lock.
   */
  get buffer(): SharedArrayBuffer {
    return this.#buffer ?? share(this.#core);
  }
}
