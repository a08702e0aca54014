// Copyright 2026 the Duplex authors. MIT license.

/**
 * The interface of codecs, and the faster methods of those of this package.
 *
 * @module
 */

import type { ByteBuffer } from "../_base/byte_buffer.ts";

/**
 * Encodes messages as bytes and decodes them. A program may use its own codec.
 *
 * @example Usage
 * ```ts
 * import type { Codec } from "@duplex/ipc/codec";
 * import { assertEquals } from "@std/assert";
 *
 * const text: Codec = {
 *   name: "text",
 *   encode: (value) => new TextEncoder().encode(String(value)),
 *   decode: (bytes) => new TextDecoder().decode(bytes),
 * };
 * assertEquals(text.decode(text.encode("hi")), "hi");
 * ```
 */
export interface Codec {
  /**
   * The name of the codec. Both ends agree on one before the first message.
   *
   * @example Usage
   * ```ts
   * import { msgpack } from "@duplex/ipc/codec";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(msgpack.name, "msgpack");
   * ```
   */
  readonly name: string;

  /**
   * Encodes a message.
   *
   * @example Usage
   * ```ts
   * import { msgpack } from "@duplex/ipc/codec";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(msgpack.encode([1]), new Uint8Array([0x91, 0x01]));
   * ```
   *
   * @param value The message.
   * @returns The bytes, which belong to the caller.
   * @throws {TypeError} If the message, or a value in it, cannot be sent.
   */
  encode(value: unknown): Uint8Array<ArrayBuffer>;

  /**
   * Decodes a message. The message must not hold views of `bytes`.
   *
   * @example Usage
   * ```ts
   * import { msgpack } from "@duplex/ipc/codec";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(msgpack.decode(new Uint8Array([0x91, 0x01])), [1]);
   * ```
   *
   * @param bytes The bytes of exactly one message.
   * @returns The message.
   * @throws {ProtocolError} If the bytes are not exactly one message.
   */
  decode(bytes: Uint8Array): unknown;
}

/** How a container is encoded that occurs again in its message. */
export interface SharingRules {
  /** Whether the receiver reads graph form. JSON does not have it. */
  readonly graph: boolean;
  /** Whether it is encoded as a copy without graph form; otherwise encoding throws. */
  readonly copies: boolean;
  /** Maximum bytes of a message with copies. */
  readonly maxBytes: number;
}

/** Maximum bytes of a MessagePack message, whose lengths have 32 bits. */
const MAX_UINT32 = 0xffff_ffff;

/** The rules of `encode`, for a receiver that is not known. */
export const DEFAULT_RULES: SharingRules = {
  graph: true,
  copies: true,
  maxBytes: MAX_UINT32,
};

/** The error for copies of containers that make a message too large. */
export function tooManyCopies(maxBytes: number): RangeError {
  return new RangeError(
    `Cannot encode a message of more than ${maxBytes} bytes: objects in it occur several times, and this codec or peer needs a copy of each; send each object once, or less at a time`,
  );
}

/** A codec with faster methods, which save a copy or an allocation per message. */
export interface FastCodec extends Codec {
  /** Appends a message to a buffer. If this throws, the buffer's length is unchanged. */
  encodeInto?(value: unknown, target: ByteBuffer, rules?: SharingRules): void;

  /** Decodes the message from `start` to `end`, as `decode` does. */
  decodeRange?(bytes: Uint8Array, start: number, end: number): unknown;

  /**
   * Decodes a message from bytes that the caller does not use again: large byte
   * arrays in the message may be views of them.
   */
  decodeOwned?(bytes: Uint8Array): unknown;
}
