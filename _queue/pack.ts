// Copyright 2026 the Duplex authors. MIT license.

/**
 * Messages on their way into a queue's store and back: encoded, many to a piece
 * of memory, or cloned where no bytes can carry them.
 *
 * @module
 */

import { ByteBuffer } from "../_codec/byte_buffer.ts";
import { isBulk, makeParcel, receiveParcel } from "../_thread/clone.ts";
import type { FastCodec as Codec } from "../_codec/fast_codec.ts";
import type { Payload } from "./store.ts";
import { checkSize } from "../_wire/frame_queue.ts";

/** Bytes of messages that are kept in one piece of memory. */
const SEGMENT_SIZE = 64 * 1024;

/** A message as a store keeps it. */
interface Packed {
  readonly payload: Payload;
  readonly size: number;
}

/** Packs messages, and unpacks them for those who get them back. */
export class Packer {
  readonly #codec: Codec;
  readonly #maxMessage: number;
  #segment = new ByteBuffer(SEGMENT_SIZE);
  #encoding = false;

  constructor(codec: Codec, maxMessage: number) {
    this.#codec = codec;
    this.#maxMessage = maxMessage;
  }

  /** Makes a message what it is at this moment, whatever becomes of it later. */
  pack(message: unknown, transfer: readonly Transferable[]): Packed {
    if (this.#encoding) {
      throw new TypeError(
        "Cannot send a message: a getter of another message that is being sent calls send",
      );
    }
    this.#encoding = true;
    try {
      if (transfer.length > 0) return this.#packClone(message, transfer);
      if (isBulk(message)) return this.#packBulk(message);
      try {
        return this.#packBytes(message);
      } catch (error) {
        if (!(error instanceof TypeError)) throw error;
        return this.#packClone(message, transfer);
      }
    } finally {
      this.#encoding = false;
    }
  }

  /** The message, for a sender to whom it is handed back. */
  unpack(payload: Payload): unknown {
    if (payload.kind === "clone") return receiveParcel(payload.parcel);
    const { buffer, start, end } = payload;
    return this.#codec.decode(buffer.bytes.slice(start, end));
  }

  #packBytes(message: unknown): Packed {
    if (this.#segment.length >= SEGMENT_SIZE) {
      this.#segment = new ByteBuffer(SEGMENT_SIZE);
    }
    const buffer = this.#segment;
    const start = buffer.length;
    try {
      this.#encode(message, buffer);
      const end = buffer.length;
      checkSize(end - start, this.#maxMessage);
      const payload: Payload = { kind: "bytes", buffer, start, end };
      return { payload, size: end - start };
    } catch (error) {
      buffer.length = start;
      // It may have grown to hold much of a message that was refused.
      if (buffer.bytes.length > 2 * SEGMENT_SIZE) {
        this.#segment = new ByteBuffer(SEGMENT_SIZE);
      }
      throw error;
    }
  }

  #encode(message: unknown, buffer: ByteBuffer): void {
    const codec = this.#codec;
    if (codec.encodeInto !== undefined) {
      codec.encodeInto(message, buffer);
      return;
    }
    const bytes = codec.encode(message);
    buffer.reserve(bytes.length);
    buffer.bytes.set(bytes, buffer.length);
    buffer.length += bytes.length;
  }

  /** Keeps a large byte array as it is, for the clone takes it faster. */
  #packBulk(message: Uint8Array<ArrayBuffer>): Packed {
    const { length: size } = message;
    checkSize(size, this.#maxMessage);
    return { payload: { kind: "clone", parcel: [message.slice(), []] }, size };
  }

  /** Keeps a message as only a clone can carry it; buffers move into it. */
  #packClone(message: unknown, transfer: readonly Transferable[]): Packed {
    if (transfer.some((item) => item instanceof MessagePort)) {
      throw new TypeError(
        "Cannot transfer a MessagePort through a queue: it can be delivered only once, and a message may have to be delivered again",
      );
    }
    const { parcel, size } = makeParcel(message, transfer);
    checkSize(size, this.#maxMessage);
    try {
      const kept = structuredClone(parcel, { transfer: [...transfer] });
      return { payload: { kind: "clone", parcel: kept }, size };
    } catch (cause) {
      throw new TypeError(
        `Cannot send a message to a thread: ${(cause as Error).message}`,
        { cause },
      );
    }
  }
}
