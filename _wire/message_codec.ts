// Copyright 2026 the Duplex authors. MIT license.

/**
 * Adapts a `Codec` to frames: uses the fast methods if it has them.
 *
 * @module
 */

import { ByteBuffer } from "../_base/byte_buffer.ts";
import { ProtocolError } from "../_base/errors.ts";
import {
  DEFAULT_RULES,
  type FastCodec,
  type SharingRules,
} from "../_codec/fast_codec.ts";
import type { PeerHello } from "./wire.ts";

/**
 * How a container is encoded that occurs again in a message to a peer.
 *
 * @param peer The peer's hello.
 * @param copies Whether it may be encoded as a copy: not if the message can be posted.
 */
export function sharingRules(
  { graph, maxMessageBytes }: Pick<PeerHello, "graph" | "maxMessageBytes">,
  copies: boolean,
): SharingRules {
  return { graph, copies, maxBytes: maxMessageBytes };
}

/** Encodes and decodes the messages of a link. */
export class MessageCodec {
  /** The codec that both sides agreed on. */
  readonly codec: FastCodec;
  readonly #rules: SharingRules;

  constructor(codec: FastCodec, rules: SharingRules = DEFAULT_RULES) {
    this.codec = codec;
    this.#rules = rules;
  }

  /** Encodes a message behind the bytes of a buffer. */
  encodeInto(message: unknown, target: ByteBuffer): void {
    const { codec } = this;
    if (codec.encodeInto !== undefined) {
      return codec.encodeInto(message, target, this.#rules);
    }
    const payload = codec.encode(message);
    target.reserve(payload.length);
    target.bytes.set(payload, target.length);
    target.length += payload.length;
  }

  /** Encodes a value that is not a message, of at most `maxBytes` bytes with copies. */
  encodeValue(value: unknown, maxBytes: number): Uint8Array {
    const { codec } = this;
    if (codec.encodeInto === undefined) return codec.encode(value);
    const target = new ByteBuffer(0);
    codec.encodeInto(value, target, { ...this.#rules, maxBytes });
    return target.toBytes();
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
