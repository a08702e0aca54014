// Copyright 2026 the Duplex authors. MIT license.

/**
 * Codecs: messages as bytes.
 *
 * {@linkcode msgpack} is the default: MessagePack, which any language reads, with
 * extension types for values that MessagePack has no format for. {@linkcode json} is
 * for peers that have no other codec; it throws for values that JSON would change. The
 * table "What a value may be" in the README has what each of them carries.
 *
 * - Encoding a value that cannot be sent throws a `TypeError` with the path to the
 *   value.
 * - Decoding throws a `ProtocolError` if the bytes are not exactly one message, or
 *   if the message would take more memory than four times its bytes and half a
 *   gigabyte. So it is safe to decode bytes from any peer.
 * - A decoded message does not share memory with its bytes, and its keys never
 *   reach a prototype.
 *
 * ```ts
 * import { msgpack } from "@duplex/ipc/codec";
 * import { assertEquals } from "@std/assert";
 *
 * const message = { id: 7n, at: new Date(0), tags: new Set(["a", "b"]) };
 * assertEquals(msgpack.decode(msgpack.encode(message)), message);
 * ```
 *
 * @module
 */

import { ByteBuffer } from "./_base/byte_buffer.ts";
import type { Codec, FastCodec } from "./_codec/fast_codec.ts";
import { decodeJson, encodeJsonInto } from "./_codec/json.ts";
import { decodeMsgpack } from "./_codec/msgpack_decode.ts";
import { encodeMsgpackInto } from "./_codec/msgpack_encode.ts";

export type { Codec };

/** The initial capacity of the buffer for `encode`. */
const SPARE_CAPACITY = 4096;

/** Capacity above which the buffer is returned to the caller and not used again. */
const MAX_SPARE_CAPACITY = 0x1_0000;

/** The buffer for `encode`, unless it is in use. */
let spare: ByteBuffer | undefined;

/** Encodes a message into new bytes. */
function encodeFresh(
  value: unknown,
  encodeInto: (value: unknown, target: ByteBuffer) => void,
): Uint8Array<ArrayBuffer> {
  const buffer = spare ?? new ByteBuffer(SPARE_CAPACITY);
  // A getter in the message may encode as well, and needs a buffer of its own.
  spare = undefined;
  try {
    encodeInto(value, buffer);
    if (buffer.bytes.length > MAX_SPARE_CAPACITY) {
      // The buffer is not used again, so no copy is needed.
      return buffer.bytes.subarray(0, buffer.length);
    }
    return buffer.toBytes();
  } finally {
    if (buffer.bytes.length <= MAX_SPARE_CAPACITY) {
      buffer.length = 0;
      spare = buffer;
    }
  }
}

const fastMsgpack: Required<FastCodec> = {
  name: "msgpack",
  encode(value: unknown): Uint8Array<ArrayBuffer> {
    return encodeFresh(value, encodeMsgpackInto);
  },
  encodeInto: encodeMsgpackInto,
  decode(bytes: Uint8Array): unknown {
    return decodeMsgpack(bytes, 0, bytes.length, false);
  },
  decodeRange(bytes: Uint8Array, start: number, end: number): unknown {
    return decodeMsgpack(bytes, start, end, false);
  },
  decodeOwned(bytes: Uint8Array): unknown {
    return decodeMsgpack(bytes, 0, bytes.length, true);
  },
};

const fastJson: Required<FastCodec> = {
  name: "json",
  encode(value: unknown): Uint8Array<ArrayBuffer> {
    return encodeFresh(value, encodeJsonInto);
  },
  encodeInto: encodeJsonInto,
  decode: decodeJson,
  decodeRange(bytes: Uint8Array, start: number, end: number): unknown {
    return decodeJson(bytes.subarray(start, end));
  },
  decodeOwned: decodeJson,
};

/**
 * MessagePack, with extension types for JavaScript values that it has no format
 * for. A message without such values is plain MessagePack, which any language
 * reads.
 *
 * - A plain object is a map with string keys. The table "What a value may be" in the
 *   README has which other values are carried, and how they arrive.
 * - A map from another language with keys other than strings is received as a
 *   `Map`, and an integer that a number cannot hold as a bigint.
 * - A message in which an object occurs several times, or contains itself, needs two
 *   extension types (graph form in PROTOCOL.md); a session does not use them for a peer
 *   that does not read them.
 * - A regular expression may have some 23 000 characters, or 5 700 with the flag
 *   "u" or "v". The receiver compiles it; running one from a peer that is not
 *   trusted may never end.
 * - At most 500 containers may be nested. PROTOCOL.md defines the cost of a message
 *   to its receiver. A message of a million objects with ten fields each has about
 *   two thirds of the maximum cost.
 *
 * @example Usage
 * ```ts
 * import { msgpack } from "@duplex/ipc/codec";
 * import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
 *
 * const message = { id: 7n, at: new Date(0), tags: new Set(["a", "b"]) };
 * assertEquals(msgpack.decode(msgpack.encode(message)), message);
 *
 * const doc = { title: "Twice" };
 * const [one, two] = msgpack.decode(msgpack.encode([doc, doc])) as unknown[];
 * assertStrictEquals(one, two);
 *
 * assertThrows(
 *   () => msgpack.encode({ jobs: [{ run() {} }] }),
 *   TypeError,
 *   'Cannot encode a message: the value at "$.jobs[0].run" is a function',
 * );
 * ```
 */
export const msgpack: Codec = fastMsgpack;

/**
 * JSON, one text for each message, for peers that have no other codec. Encoding a
 * value that JSON would omit or change, such as an array with fields, throws a
 * `TypeError` with the path to it; see "What a value may be" in the README. An object
 * that occurs several times is copied for each place. A text that is longer than a
 * string in V8, or than the maximum of the peer, is a `RangeError`; a cycle is a
 * `TypeError`. A number of a peer is rounded to the nearest JavaScript number. One that
 * is too large becomes an infinity, which cannot be sent back.
 *
 * @example Usage
 * ```ts
 * import { json } from "@duplex/ipc/codec";
 * import { assertEquals, assertThrows } from "@std/assert";
 *
 * assertEquals(new TextDecoder().decode(json.encode({ id: 7 })), '{"id":7}');
 * assertThrows(
 *   () => json.encode({ at: new Date(0) }),
 *   TypeError,
 *   'Cannot encode a message: the value at "$.at" is of the class Date',
 * );
 * ```
 */
export const json: Codec = fastJson;
