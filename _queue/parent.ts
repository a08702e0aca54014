// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's side of a queue.
 *
 * @module
 */

import type { SessionOptions } from "../_session/options.ts";
import { endQuietly, onPeerGoodbye, Session } from "../_session/session.ts";
import { closeAtEnd, parentEnd } from "../_thread/parent_end.ts";
import { PortStream } from "../_thread/port_stream.ts";
import { PostBox } from "../_thread/post_box.ts";
import { CLOSED_POST, type ThreadScope } from "../_thread/scope.ts";
import { ThreadWire } from "../_thread/thread_wire.ts";
import type { Duplex } from "../duplex.ts";
import {
  type Delivery,
  LEASE_SIZE,
  LeaseReader,
  SharedCounts,
  WorkerFlow,
} from "./lease.ts";

/** A session that reports how its messages were delivered. */
class WorkerSession extends Session {
  readonly #flow: WorkerFlow;

  constructor(wire: ThreadWire, options: SessionOptions, flow: WorkerFlow) {
    super(wire, options, flow);
    this.#flow = flow;
  }

  get delivery(): Delivery | undefined {
    return this.#flow.delivery;
  }
}

/** Opens a worker's side of a queue. */
export async function openParent(
  limits: SessionOptions,
  scope: ThreadScope,
): Promise<Duplex<unknown, unknown>> {
  const { port } = scope;
  const counts = new SharedCounts();
  const flow = new WorkerFlow(
    limits.windowBytes,
    limits.windowMessages,
    counts,
  );
  const posts = new PostBox((cloneable) => flow.receivePost(cloneable));
  const wire = new ThreadWire(new PortStream(port, parentEnd(scope), posts), {
    messageCodec: (codec, rules) => new LeaseReader(codec, rules, flow),
    // A worker may die before an answer was sent: what acknowledges the answered
    // message must not arrive without it.
    isCreditOrdered: true,
    postsBulk: true,
  });
  const maxMessageBytes = limits.maxMessageBytes + LEASE_SIZE;
  const session = new WorkerSession(wire, { ...limits, maxMessageBytes }, flow);
  session[onPeerGoodbye] = closeAtEnd(scope, session);
  endQuietly(session, () => scope.port.postMessage(CLOSED_POST, []));
  // Message 0 is the worker's counts.
  port.postMessage([0, [counts.memory, [], []]], []);
  await session.open();
  return session;
}
