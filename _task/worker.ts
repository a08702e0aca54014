// Copyright 2026 the Duplex authors. MIT license.

/**
 * The far end of a `task`: exposes one function, and says more of the one mistake
 * that is easily made with it.
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
        "; the function of a task sees its arguments and globals only, give it what it needs, or import it inside";
    }
  } catch {
    // It is frozen, or a proxy that throws: it is thrown as it is.
  }
  throw error;
}
