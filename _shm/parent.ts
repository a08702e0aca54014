// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's own end of shared memory.
 *
 * @module
 */

import { onServe } from "../_session/claim.ts";
import { PeerExitError, ProtocolError } from "../_base/errors.ts";
import type { SessionOptions } from "../_session/hello.ts";
import { parentEnd } from "../_thread/parent_end.ts";
import { openRings, RingEnd, SpinPolicy } from "./ring.ts";
import { ShmSession } from "./session.ts";
import { ShmWire } from "./shm_wire.ts";
import type { Port, ThreadScope } from "../_thread/scope.ts";
import type { Duplex } from "../duplex.ts";

/** Opens a worker's end of shared memory. */
export async function openParent(
  limits: SessionOptions,
  scope: ThreadScope,
): Promise<Duplex<unknown, unknown>> {
  let onMessage: (message: unknown) => void = () => {};
  const buffer = await new Promise((resolve) => {
    onMessage = resolve;
    scope.port.listen((message) => onMessage(message));
  });
  if (!(buffer instanceof SharedArrayBuffer)) {
    throw new ProtocolError(
      "Cannot open the parent: its first post must be shared memory",
    );
  }
  const ring = new RingEnd(openRings(buffer), "acceptor", new SpinPolicy());
  const port: Port = {
    postMessage: scope.port.postMessage,
    listen: (listener) => onMessage = listener,
  };
  const end = parentEnd(scope, (): Promise<void> => session.close());
  const wire = new ShmWire(ring, {
    port,
    end,
    exitError: (cause, unsent) =>
      new PeerExitError("The parent ended without a goodbye", {
        cause,
        unsent,
      }),
  }, limits);
  const session: ShmSession = new ShmSession(wire, limits);
  onServe(session, () => end.leaveGoodbye());
  await session.open();
  return session;
}
