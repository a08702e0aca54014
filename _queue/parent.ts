// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's own end of a queue's link.
 *
 * @module
 */

import { onServe } from "../_session/claim.ts";
import type { Accounts } from "../_session/credit.ts";
import type { SessionOptions } from "../_session/hello.ts";
import { parentEnd } from "../_thread/parent_end.ts";
import { PortStream } from "../_thread/port_stream.ts";
import {
  Deliveries,
  type Delivery,
  LEASE_SIZE,
  LeasedInbox,
  LeasedOutbox,
  LeasedPostBox,
  SharedCounts,
  workerCodec,
} from "./lease.ts";
import { Session } from "../_session/session.ts";
import type { ThreadScope } from "../_thread/scope.ts";
import { ThreadWire } from "../_thread/wire.ts";
import {
  type ControlFields,
  type ControlKind,
  KIND,
  type Wire,
} from "../_wire/wire.ts";
import type { Duplex } from "../duplex.ts";

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

/**
 * Says with the credit how many answers went before it. Credit overtakes them,
 * and a worker may die before the last of them has left.
 */
class QueueParentWire extends ThreadWire {
  readonly #outbox: LeasedOutbox;

  constructor(
    stream: PortStream,
    options: SessionOptions,
    outbox: LeasedOutbox,
  ) {
    super(stream, options, true);
    this.#outbox = outbox;
  }

  override control(
    kind: ControlKind,
    fields: ControlFields,
    inFlight: number,
  ): void {
    const { sent } = this.#outbox;
    super.control(
      kind,
      kind === KIND.credit ? { ...fields, sent } : fields,
      inFlight,
    );
  }
}

/** Opens a worker's end of a queue. */
export async function openParent(
  limits: SessionOptions,
  scope: ThreadScope,
): Promise<Duplex<unknown, unknown>> {
  const deliveries = new Deliveries();
  const counts = new SharedCounts();
  const outbox = new LeasedOutbox(counts);
  const own: SessionOptions = {
    ...limits,
    maxMessageBytes: limits.maxMessageBytes + LEASE_SIZE,
    codecs: limits.codecs.map((codec) => workerCodec(codec, deliveries)),
  };
  const posts = new LeasedPostBox(deliveries);
  const { port } = scope;
  const end = parentEnd(scope, () => session.close());
  const wire = new QueueParentWire(
    new PortStream(port, end, posts),
    own,
    outbox,
  );
  const { windowBytes: window, windowMessages } = own;
  const inbox = new LeasedInbox(window, windowMessages, deliveries, counts);
  const session = new QueueParent(wire, own, { inbox, outbox }, deliveries);
  onServe(session, () => end.leaveGoodbye());
  // Message 0 is what the link itself has to say.
  port.postMessage([0, [counts.memory, []]], []);
  await session.open();
  return session;
}
