// Copyright 2026 the Duplex authors. MIT license.

/**
 * Adapts a `Codec` to frames: uses the fast methods if it has them.
 *
 * @module
 */

import type { ByteBuffer } from "../_base/byte_buffer.ts";
import { ProtocolError } from "../_base/errors.ts";
import type { FastCodec } from "../_codec/fast_codec.ts";

/** Encodes and decodes the messages of a link. */
export class MessageCodec {
  /** The codec that both sides agreed on. */
  readonly codec: FastCodec;

  constructor(codec: FastCodec) {
    this.codec = codec;
  }

  /** Encodes a message behind the bytes of a buffer. */
  encodeInto(message: unknown, target: ByteBuffer): void {
    const { codec } = this;
    if (codec.encodeInto !== undefined) {
      return codec.encodeInto(message, target);
    }
    const payload = codec.encode(message);
    target.reserve(payload.length);
    target.bytes.set(payload, target.length);
    target.length += payload.length;
  }

  /**
   * Decodes a message. What the codec throws is the peer's fault.
   *
   * @param isOwned Whether nothing else will use the bytes.
   */
  decode(
    bytes: Uint8Array,
    start: number,
    end: number,
    isOwned: boolean,
  ): unknown {
    const { codec } = this;
    try {
      if (isOwned && codec.decodeOwned !== undefined) {
        return codec.decodeOwned(bytes.subarray(start, end));
      }
      return isOwned || codec.decodeRange === undefined
        ? codec.decode(bytes.subarray(start, end))
        : codec.decodeRange(bytes, start, end);
    } catch (cause) {
      throw cause instanceof ProtocolError ? cause : new ProtocolError(
        `Cannot decode a message: the codec "${codec.name}" cannot read it`,
        { cause },
      );
    }
  }
}
