// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's side of shared memory.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import type { SessionOptions } from "../_session/options.ts";
import { endQuietly, onPeerGoodbye } from "../_session/session.ts";
import { closeAtEnd, parentEnd, parentExit } from "../_thread/parent_end.ts";
import { openRings, RingEnd, SpinPolicy } from "./ring.ts";
import { ShmSession } from "./session.ts";
import { ShmWire } from "./shm_wire.ts";
import { CLOSED_POST, type Port, type ThreadScope } from "../_thread/scope.ts";
import type { Duplex } from "../duplex.ts";

/** Opens a worker's side of shared memory. */
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
  const end = parentEnd(scope);
  const wire = new ShmWire(ring, { port, end, exitError: parentExit });
  const session = new ShmSession(wire, limits);
  session[onPeerGoodbye] = closeAtEnd(scope, session);
  endQuietly(session, () => scope.port.postMessage(CLOSED_POST, []));
  await session.open();
  return session;
}
