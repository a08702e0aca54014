// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's own end in a Web Worker. The worker's name says which transport
 * it was started for, and is the name of a Web Lock that the worker holds as
 * long as it lives, so that its death is noticed.
 *
 * @module
 */

import type { SessionOptions } from "./_hello.ts";
import { GONE, locks, type Port, type PortEnd, transportOf } from "./_port.ts";
import { PeerExitError } from "./_errors.ts";
import type { Duplex } from "./duplex.ts";

/** The global scope of a Web Worker, as far as it is used here. */
interface WorkerScope {
  readonly name: string;
  readonly location: { readonly href: string };
  onmessage: ((event: MessageEvent) => void) | null;
  postMessage(message: unknown, transfer?: Transferable[]): void;
}

const scope = globalThis as unknown as WorkerScope;

/**
 * Opens the way to the thread that started this worker.
 *
 * @param limits Limits of this end.
 * @param evaluated Settles when the script has been run to its end.
 */
export async function openThread(
  limits: SessionOptions,
  evaluated: Promise<unknown>,
): Promise<Duplex<unknown, unknown>> {
  const transport = transportOf(scope.name);
  if (transport === undefined) {
    throw new TypeError(
      "Cannot open the parent: this Web Worker was started by something else; start it with openQueue or openShm",
    );
  }
  await new Promise<void>((resolve) => {
    // Held for ever; the parent asks for it and gets it when this worker is gone.
    locks.request(scope.name, {}, () => {
      resolve();
      return new Promise(() => {});
    });
  });
  if (transport === "shm") {
    const { openShmParent } = await import("./_shm_worker.ts");
    return await openShmParent(
      limits,
      port,
      (close) => endOf(close, evaluated),
    );
  }
  const { openQueueParent } = await import("./_queue_worker.ts");
  return await openQueueParent(
    limits,
    port,
    (close) => endOf(close, evaluated),
  );
}

const port: Port = {
  postMessage: (message, transfer) =>
    // Deno posts faster where nothing is transferred.
    transfer.length === 0
      ? scope.postMessage(message)
      : scope.postMessage(message, transfer),
  listen: (onMessage) => {
    scope.onmessage = ({ data }) => onMessage(data);
  },
};

/**
 * What the worker does about its parent.
 *
 * @param close Closes the duplex of a script that has come to its end.
 * @param evaluated Settles when it has.
 */
function endOf(
  close: () => Promise<void>,
  evaluated: Promise<unknown>,
): PortEnd {
  let asked = false;
  return {
    /** The parent has said goodbye; what the script has to say still goes. */
    hold(held: boolean): void {
      if (!held || asked) return;
      asked = true;
      const atEnd = () => setImmediate(() => close().catch(() => {}));
      evaluated.then(atEnd, atEnd);
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

/**
 * Tells the parent that the worker has nothing more to do with it. What waited
 * for the duplex gets a turn to hear of the end, since the parent ends the worker
 * then.
 */
function leave(): Promise<void> {
  setImmediate(() => scope.postMessage(GONE));
  return Promise.resolve();
}
