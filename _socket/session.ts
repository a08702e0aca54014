// Copyright 2026 the Duplex authors. MIT license.

/**
 * The duplex over a socket.
 *
 * @module
 */

import type { FrameWire } from "../_wire/frame_wire.ts";
import type { SessionOptions } from "../_session/options.ts";
import { Session } from "../_session/session.ts";
import type { Duplex } from "../duplex.ts";

/**
 * A {@linkcode Duplex} to a peer over a socket.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 */
export interface SocketDuplex<In = unknown, Out = In> extends Duplex<In, Out> {
  /** Where the far side is, or was when it connected first. */
  readonly remoteAddress: string;
}

/** A session that knows where its far side is. */
export class SocketSession<In, Out> extends Session<In, Out>
  implements SocketDuplex<In, Out> {
  readonly remoteAddress: string;

  constructor(wire: FrameWire, options: SessionOptions, remoteAddress: string) {
    super(wire, options);
    this.remoteAddress = remoteAddress;
  }
}
