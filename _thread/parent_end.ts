// Copyright 2026 the Duplex authors. MIT license.

/**
 * The end of a Web Worker, seen from within: when its duplex ends, when its script
 * has ended, and when its memory grows over its limit. Deno 2.9 ends the whole
 * process when the heap of a worker is full, so the worker ends itself before.
 * Growth between two checks, in one task without a pause, is not noticed.
 *
 * @module
 */

import { PeerExitError } from "../_base/errors.ts";
import { watchMemory } from "../_base/memory.ts";
import type { PortEnd } from "./port_stream.ts";
import { CLOSED_POST, type ThreadScope } from "./scope.ts";

/** Ends this worker with an error that nothing catches if it uses more than its memory. */
async function endAtLimit({ memory }: ThreadScope): Promise<void> {
  const measure = Deno.memoryUsage;
  throw await watchMemory({ ...await memory, measure });
}

/**
 * Starts to watch the memory of this worker, and returns how it ends.
 *
 * @param scope The worker.
 */
export function parentEnd(scope: ThreadScope): PortEnd {
  const { port, hasFailed } = scope;
  endAtLimit(scope);
  // The parent ends the worker when it receives this. Promises that wait for the
  // end of the duplex are settled before. If that made the script fail, the
  // parent waits for the error, which it would not receive from a worker that it
  // has ended.
  const leave = () => {
    loopTurn().then(() => {
      if (!hasFailed()) port.postMessage(CLOSED_POST, []);
    });
    return Promise.resolve();
  };
  return {
    diagnose: (cause, unsent) => Promise.resolve(parentExit(cause, unsent)),
    close: leave,
    destroy: leave,
  };
}

/** The error of a parent that is gone. */
export function parentExit(
  cause: unknown,
  unsent: readonly unknown[],
): PeerExitError {
  return new PeerExitError("The parent ended without a goodbye", {
    cause,
    unsent,
  });
}

/**
 * Returns what closes a worker's duplex once its script has ended, for the time
 * after the parent's goodbye.
 */
export function closeAtEnd(
  { evaluated }: ThreadScope,
  duplex: { close(): Promise<void> },
): () => void {
  return () => {
    evaluated.then(loopTurn).then(() => duplex.close()).catch(() => {});
  };
}

/**
 * Waits until the event loop has handled what is there, such as an error of the script
 * that nothing caught. The first immediate of a thread would cost 4 ms.
 */
function loopTurn(): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
}
