// Copyright 2026 the Duplex authors. MIT license.

/**
 * Frames to a thread. Most messages are sent as bytes: to encode many into one
 * post costs less than to clone each, and later changes by the sender do not
 * affect them. Values that bytes cannot carry are posted separately.
 *
 * @module
 */

import { isBulk, trimmed } from "./clone.ts";
import type { PortStream } from "./port_stream.ts";
import { postMessage } from "./post_box.ts";
import type { Port } from "./scope.ts";
import type { FrameOptions } from "../_wire/frame_decoder.ts";
import { FrameWire } from "../_wire/frame_wire.ts";

/** Options of a wire to a thread. */
export interface ThreadWireOptions extends FrameOptions {
  /** Whether to post a large byte array is faster than to encode it. */
  postsBulk?: boolean;
}

/** Frames over a {@linkcode PortStream}. */
export class ThreadWire extends FrameWire {
  /** The port, on which messages may be posted separately. */
  protected readonly port: Port;
  readonly #postsBulk: boolean;

  constructor(stream: PortStream, options: ThreadWireOptions = {}) {
    super(stream, options);
    this.port = stream.port;
    this.#postsBulk = options.postsBulk ?? false;
  }

  override message(
    message: unknown,
    transfer?: readonly Transferable[],
  ): number {
    if (transfer !== undefined && transfer.length > 0) {
      return this.#post(message, transfer);
    }
    if (this.#postsBulk && isBulk(message)) return this.#post(trimmed(message));
    try {
      return this.encode(message);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      return this.#post(message);
    }
  }

  #post(message: unknown, transfer?: readonly Transferable[]): number {
    const size = postMessage(this.port, this.encoder, message, transfer);
    this.write();
    return size;
  }
}
