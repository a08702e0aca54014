// Copyright 2026 the Duplex authors. MIT license.

/**
 * The end of a Web Worker, seen from within: when its duplex ends, when its script
 * has ended, and when its heap grows over its limit. Deno 2.9 ends the whole
 * process when the heap of a worker is full, so the worker ends itself before.
 * Growth between two checks, in one task without a pause, is not noticed.
 *
 * @module
 */

import { PeerExitError } from "../_base/errors.ts";
import type { PortEnd } from "./port_stream.ts";
import { CLOSED_POST, type ThreadScope } from "./scope.ts";

/** Milliseconds between checks of the heap, which grows by some 100 MiB meanwhile. */
const INTERVAL = 100;

/** Ends this worker with an error that nothing catches if its heap holds more than `memory` bytes. */
async function watchMemory({ memory }: ThreadScope): Promise<void> {
  const limit = await memory;
  const word = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    // The first timer of a thread costs 3 ms.
    await Atomics.waitAsync(word, 0, 0, INTERVAL).value;
    const { heapUsed } = Deno.memoryUsage();
    if (heapUsed <= limit) continue;
    throw new RangeError(
      `The worker is out of memory: its heap holds ${heapUsed} bytes and may hold ${limit}; give it more with "memory", or less to do`,
    );
  }
}

/**
 * Starts to watch the heap of this worker, and returns how it ends.
 *
 * @param scope The worker.
 */
export function parentEnd(scope: ThreadScope): PortEnd {
  const { port, hasFailed } = scope;
  watchMemory(scope);
  // The parent ends the worker when it receives this. Promises that wait for the
  // end of the duplex are settled before. If that made the script fail, the
  // parent waits for the error, which it would not receive from a worker that it
  // has ended.
  const leave = () => {
    setImmediate(() => {
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
    evaluated.then(() => setImmediate(() => duplex.close().catch(() => {})));
  };
}
