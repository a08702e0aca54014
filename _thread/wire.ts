// Copyright 2026 the Duplex authors. MIT license.

/**
 * Frames to a thread. Most messages go as bytes, which are cheaper to pack many
 * at a time than clones are, and are what they were when they were sent whatever
 * the sender changes afterwards. What no bytes can carry is posted beside the
 * stream: cycles, shared references, shared memory, and what is transferred.
 *
 * @module
 */

import type { ByteStream } from "../_wire/byte_stream.ts";
import { isBulk, makeParcel, type Parcel, trimmed } from "./clone.ts";
import { FrameWire } from "../_wire/frame.ts";
import { checkSize } from "../_wire/frame_queue.ts";
import type { FrameWireOptions } from "../_wire/frame_layout.ts";
import type { Agreement } from "../_wire/wire.ts";

/** Frames over a stream that can post. */
export class ThreadWire extends FrameWire {
  readonly #stream: ByteStream;
  readonly #postsBulk: boolean;
  #maxMessage = 0;

  /**
   * @param stream What carries the frames, and can post.
   * @param options Limits of this side.
   * @param postsBulk Whether to post a large byte array is faster than to pack it.
   */
  constructor(
    stream: ByteStream,
    options: FrameWireOptions,
    postsBulk = false,
  ) {
    super(stream, options);
    this.#stream = stream;
    this.#postsBulk = postsBulk;
  }

  override agree(agreement: Agreement): void {
    super.agree(agreement);
    this.#maxMessage = agreement.maxMessageBytes;
  }

  override message(
    number: number,
    taken: number,
    message: unknown,
    inFlight: number,
    transfer: readonly Transferable[] = [],
  ): number {
    if (transfer.length > 0) {
      return this.#post(number, taken, message, inFlight, transfer);
    }
    if (this.#postsBulk && isBulk(message)) {
      const bytes = trimmed(message);
      return this.#post(number, taken, bytes, inFlight, []);
    }
    try {
      return super.message(number, taken, message, inFlight);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      return this.#post(number, taken, message, inFlight, []);
    }
  }

  #post(
    number: number,
    taken: number,
    message: unknown,
    inFlight: number,
    transfer: readonly Transferable[],
  ): number {
    const { parcel, size } = makeParcel(message, transfer);
    checkSize(size, this.#maxMessage);
    this.postParcel(number, parcel, transfer);
    this.posted(number, taken, size, inFlight);
    return size;
  }

  /** Posts a message beside the stream. */
  protected postParcel(
    number: number,
    parcel: Parcel,
    transfer: readonly Transferable[],
  ): void {
    try {
      this.#stream.post!(number, parcel, [...transfer]);
    } catch (cause) {
      throw new TypeError(
        `Cannot send a message to a thread: ${(cause as Error).message}`,
        { cause },
      );
    }
  }
}
