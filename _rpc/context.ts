// Copyright 2026 the Duplex authors. MIT license.

/**
 * Asynchronous contexts, which `AsyncLocalStorage` reads. A function that is sent in a
 * call runs in the context in which the call was made, not in that of the loop which
 * reads the messages of the peer.
 *
 * `AsyncLocalStorage.snapshot` would do that, but loading `node:async_hooks` takes
 * 20 ms. Deno's own functions for it are not documented, so there is a second way.
 *
 * @module
 */

/** The context in which a call was made. */
export interface CallContext {
  /** Runs a job in this context. It must not throw. */
  run(job: () => void): void;
}

/** Deno's functions to read and to set the context. */
interface ContextFunctions {
  getAsyncContext(): unknown;
  setAsyncContext(context: unknown): void;
}

const functions = findFunctions();

function findFunctions(): ContextFunctions | undefined {
  const internals = Reflect.get(Deno, Reflect.get(Deno, "internal") ?? "");
  const core: Partial<ContextFunctions> | undefined = internals?.core;
  return typeof core?.getAsyncContext === "function" &&
      typeof core.setAsyncContext === "function"
    ? core as ContextFunctions
    : undefined;
}

/** Keeps a context with Deno's functions. */
class SnapshotContext implements CallContext {
  readonly #snapshot: unknown;

  constructor(snapshot: unknown) {
    this.#snapshot = snapshot;
  }

  run(job: () => void): void {
    const before = functions!.getAsyncContext();
    functions!.setAsyncContext(this.#snapshot);
    try {
      job();
    } finally {
      functions!.setAsyncContext(before);
    }
  }
}

/**
 * Keeps a context with a promise: its reaction runs in the context in which `then` was
 * called. A callback takes 4 µs longer this way, as its jobs run after a turn.
 */
export class ReactionContext implements CallContext {
  #jobs: (() => void)[] = [];
  #wake!: () => void;

  constructor() {
    this.#wait();
  }

  run(job: () => void): void {
    if (this.#jobs.push(job) === 1) this.#wake();
  }

  #wait(): void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    promise.then(() => {
      const jobs = this.#jobs;
      this.#jobs = [];
      this.#wait();
      for (const job of jobs) job();
    });
  }
}

/** The context of the call that is being sent, if it is not that of the caller. */
let sending: CallContext | undefined;

/** The context of a program outside of every `AsyncLocalStorage`. */
export const EMPTY: CallContext = functions === undefined
  ? new ReactionContext()
  : new SnapshotContext(undefined);

/** The context of the call that is being sent. */
export function callContext(): CallContext {
  if (sending !== undefined) return sending;
  if (functions === undefined) return new ReactionContext();
  const snapshot = functions.getAsyncContext();
  return snapshot === undefined ? EMPTY : new SnapshotContext(snapshot);
}

/** Makes a context, if there is one, that of the calls that `act` makes. */
export function withContext<Result>(
  context: CallContext | undefined,
  act: () => Result,
): Result {
  if (context === undefined) return act();
  const before = sending;
  sending = context;
  try {
    return act();
  } finally {
    sending = before;
  }
}
