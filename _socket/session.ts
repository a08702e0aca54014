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
  /**
   * Lets this program end although the duplex is open and receives or calls wait. Deno
   * does not end a program that waits at its top level. Messages may be lost then. A
   * session that has lost its connection keeps the program running while it connects
   * again.
   */
  unref(): void;
  /** Undoes {@linkcode SocketDuplex.unref}. The duplex is referenced when it is opened. */
  ref(): void;
}

/** A session over the stream of a socket. */
export class SocketSession<In, Out> extends Session<In, Out>
  implements SocketDuplex<In, Out> {
  readonly remoteAddress: string;
  readonly #stream: SocketStream;

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
    this.#stream = stream;
  }

  unref(): void {
    this.#stream.setRef(false);
  }

  ref(): void {
    this.#stream.setRef(true);
  }
}
