// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's own end of a queue's link.
 *
 * @module
 */

import type { Accounts } from "./_credit.ts";
import type { SessionOptions } from "./_hello.ts";
import { type Port, type PortEnd, PortStream } from "./_port.ts";
import {
  Deliveries,
  type Delivery,
  LeasedInbox,
  LeasedPostBox,
  workerCodec,
} from "./_queue_lease.ts";
import { Session } from "./_session.ts";
import { ThreadWire } from "./_thread_wire.ts";
import type { Wire } from "./_wire.ts";
import type { Duplex } from "./duplex.ts";

/** A session that knows how its messages were delivered. */
class QueueParent extends Session<unknown, unknown> {
  readonly #deliveries: Deliveries;

  constructor(
    wire: Wire,
    options: SessionOptions,
    accounts: Accounts,
    deliveries: Deliveries,
  ) {
    super(wire, options, accounts);
    this.#deliveries = deliveries;
  }

  get delivery(): Delivery | undefined {
    return this.#deliveries.current;
  }
}

/** Opens a worker's end of a queue. */
export async function openQueueParent(
  limits: SessionOptions,
  port: Port,
  endOf: (close: () => Promise<void>) => PortEnd,
): Promise<Duplex<unknown, unknown>> {
  const deliveries = new Deliveries();
  const shared = new Int32Array(new SharedArrayBuffer(4));
  const own: SessionOptions = {
    ...limits,
    codecs: limits.codecs.map((codec) => workerCodec(codec, deliveries)),
  };
  const posts = new LeasedPostBox(deliveries);
  const end = endOf(() => session.close());
  const wire = new ThreadWire(new PortStream(port, end, posts), own);
  const { window, windowMessages } = own;
  const inbox = new LeasedInbox(window, windowMessages, deliveries, shared);
  const session = new QueueParent(wire, own, { inbox }, deliveries);
  // Message 0 is what the link itself has to say.
  port.postMessage([0, [shared.buffer, []]], []);
  await session.open();
  return session;
}
