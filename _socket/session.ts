// Copyright 2026 the Duplex authors. MIT license.

/**
 * The duplex over a socket.
 *
 * @module
 */

import { FrameWire } from "../_wire/frame_wire.ts";
import type { SessionOptions } from "../_session/options.ts";
import { Session } from "../_session/session.ts";
import type { Duplex } from "../duplex.ts";
import type { SocketStream } from "./stream.ts";

/**
 * A {@linkcode Duplex} to a peer over a socket.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 */
export interface SocketDuplex<In = unknown, Out = In> extends Duplex<In, Out> {
  /** The address of the peer on its first connection. */
  readonly remoteAddress: string;
}

/** A session over the stream of a socket. */
export class SocketSession<In, Out> extends Session<In, Out>
  implements SocketDuplex<In, Out> {
  readonly remoteAddress: string;

  constructor(
    stream: SocketStream,
    options: SessionOptions,
    remoteAddress: string,
  ) {
    const wire = new FrameWire(stream, {
      onPing: (fields) => stream.onPing(fields),
    });
    super(wire, options);
    this.remoteAddress = remoteAddress;
  }
}
