// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a Web Worker does about its parent when their duplex ends, whichever
 * transport it was started for.
 *
 * @module
 */

import { PeerExitError } from "../_base/errors.ts";
import { watchMemory } from "./parent_memory.ts";
import type { PortEnd } from "./port_stream.ts";
import { GONE, type ThreadScope } from "./scope.ts";

/**
 * The worker's way of ending. Its heap is looked at from now on.
 *
 * @param scope The worker.
 * @param close Closes the duplex of a script that has come to its end.
 */
export function parentEnd(
  { port, evaluated, hasFailed, memory }: ThreadScope,
  close: () => Promise<void>,
): PortEnd & { leaveGoodbye(): void } {
  watchMemory(memory);
  let asked = false;
  // What waited for the duplex gets a turn to hear of its end, since the parent
  // ends the worker then. If that made the script fail, the parent waits for the
  // error, which it could not receive any more once it has ended the worker.
  const leave = () => {
    setImmediate(() => {
      if (!hasFailed()) port.postMessage(GONE, []);
    });
    return Promise.resolve();
  };
  return {
    /** Somebody else closes the duplex. */
    leaveGoodbye(): void {
      asked = true;
    },
    /** The parent has said goodbye; what the script has to say still goes. */
    hold(held: boolean): void {
      if (!held || asked) return;
      asked = true;
      evaluated.then(() => setImmediate(() => close().catch(() => {})));
    },
    diagnose: (cause, unsent) =>
      Promise.resolve(
        new PeerExitError("The parent ended without a goodbye", {
          cause,
          unsent,
        }),
      ),
    close: leave,
    destroy: leave,
  };
}
