// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's end of a `task`: exposes one function, and extends the error of a
 * common mistake.
 *
 * @module
 */

import { expose } from "../rpc.ts";

/** Exposes the function of a task. */
export function exposeTask(fn: (...args: unknown[]) => unknown): void {
  expose({
    run(...args: unknown[]): unknown {
      try {
        const result = fn(...args);
        return result instanceof Promise ? result.catch(explain) : result;
      } catch (error) {
        explain(error);
      }
    },
  });
}

function explain(error: unknown): never {
  try {
    if (
      error instanceof ReferenceError &&
      error.message.endsWith("is not defined")
    ) {
      error.message +=
        "; the function of a task can only use its arguments and globals: pass what it needs, or import it inside";
    }
  } catch {
    // The error is frozen, or a proxy that throws.
  }
  throw error;
}
