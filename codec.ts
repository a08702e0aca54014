// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a message looks like as bytes.
 *
 * {@linkcode msgpack} is the default: MessagePack that any language reads, and
 * extension types for what MessagePack has no format for, so that every value
 * comes back equal: JSON types, `undefined`, `-0`, `NaN`, bigint, `Date`,
 * `RegExp`, `Map`, `Set`, `ArrayBuffer`, typed arrays, `DataView`, errors.
 * {@linkcode json} is for peers that speak nothing else; it refuses what JSON
 * would change.
 *
 * - What cannot be sent is a `TypeError` that names the path to it.
 * - Bytes that are not exactly one message are a `ProtocolError`, and so is a
 *   message that would take more than half a gigabyte of memory and four times
 *   its bytes. So it is safe to decode bytes from any peer.
 * - Nothing decoded aliases the bytes it came from, and no key of a message
 *   touches a prototype.
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

import { ByteBuffer } from "./_codec/byte_buffer.ts";
import { decodeJson, encodeJsonInto } from "./_codec/json.ts";
import { decodeMsgpack } from "./_codec/msgpack_decode.ts";
import { encodeMsgpackInto } from "./_codec/msgpack_encode.ts";

export { ByteBuffer };

/**
 * A way to write messages as bytes and to read them back. Programs may bring
 * their own.
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
   * The name that both sides agree on before the first message.
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
   * Writes a message.
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
   * Writes a message behind what a buffer holds already, which saves a copy.
   * Where a codec has no such method, `encode` is used.
   *
   * @example Usage
   * ```ts
   * import { ByteBuffer, msgpack } from "@duplex/ipc/codec";
   * import { assertEquals } from "@std/assert";
   *
   * const buffer = new ByteBuffer(64);
   * msgpack.encodeInto(1, buffer);
   * msgpack.encodeInto(2, buffer);
   * assertEquals(buffer.toBytes(), new Uint8Array([1, 2]));
   * ```
   *
   * @param value The message.
   * @param target Where to. If this throws, its length is what it was.
   * @throws {TypeError} If the message, or a value in it, cannot be sent.
   */
  encodeInto?(value: unknown, target: ByteBuffer): void;

  /**
   * Reads a message. Nothing in it aliases `bytes`.
   *
   * @example Usage
   * ```ts
   * import { msgpack } from "@duplex/ipc/codec";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(msgpack.decode(new Uint8Array([0x91, 0x01])), [1]);
   * ```
   *
   * @param bytes The message, nothing before and nothing after it.
   * @returns The message.
   * @throws {ProtocolError} If the bytes are not exactly one message.
   */
  decode(bytes: Uint8Array): unknown;
  /**
   * Decodes a message that lies among other bytes, as `decode` does. It saves the
   * making of an array for each message, a tenth of what a small one costs. Where
   * a codec has no such method, `decode` is called with a part of the bytes.
   *
   * @example Usage
   * ```ts
   * import { msgpack } from "@duplex/ipc/codec";
   * import { assertEquals } from "@std/assert";
   *
   * const bytes = new Uint8Array([0xff, 0x91, 0x01, 0xff]);
   * assertEquals(msgpack.decodeRange(bytes, 1, 3), [1]);
   * ```
   *
   * @param bytes Where the message lies.
   * @param start Where it begins.
   * @param end Where it ends.
   * @returns The value.
   * @throws {ProtocolError} If the bytes are not exactly one message.
   */
  decodeRange?(bytes: Uint8Array, start: number, end: number): unknown;

  /**
   * Reads a message from bytes that the caller gives up: large byte arrays in
   * the result may be views of them. Where a codec has no such method, `decode`
   * is used.
   *
   * @example Usage
   * ```ts
   * import { msgpack } from "@duplex/ipc/codec";
   * import { assertEquals } from "@std/assert";
   *
   * const bytes = msgpack.encode(new Uint8Array(100_000));
   * assertEquals(msgpack.decodeOwned(bytes), new Uint8Array(100_000));
   * ```
   *
   * @param bytes The message, which must not be written to again.
   * @returns The message.
   * @throws {ProtocolError} If the bytes are not exactly one message.
   */
  decodeOwned?(bytes: Uint8Array): unknown;
}

/** The capacity of the buffer that `encode` writes into. */
const SPARE_CAPACITY = 4096;

/** A buffer that grew beyond this is given away instead of being kept. */
const MAX_SPARE_CAPACITY = 0x1_0000;

/** The buffer that `encode` writes into, unless it is in use. */
let spare: ByteBuffer | undefined;

/** Writes a message into fresh bytes. */
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
      // Too large to be kept, so it can be given away without a copy.
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

/**
 * MessagePack, with extension types for the JavaScript values that it has no
 * format for. What needs none is plain MessagePack that any language reads.
 *
 * - Plain objects are maps with string keys. Instances of classes are sent as
 *   plain objects of their own enumerable properties, and symbol keys are left
 *   out, as `structuredClone` does.
 * - A `Buffer` of Node comes back as a `Uint8Array`, a `Date` with the
 *   milliseconds it has, a hole in an array as `undefined`, `lastIndex` of a
 *   `RegExp` as 0, an error of a class of the program's own as the standard
 *   class it extends, with its `name`.
 * - A map from another language that has keys other than strings comes back as
 *   a `Map`. An integer beyond what a number holds comes back as a bigint.
 * - Functions, symbols, promises, shared memory, objects of the platform, cycles
 *   and a container that is met twice cannot be sent.
 * - An array comes back with its fields, such as `index` and `groups` of what
 *   `RegExp.exec` returns. Fields of other built-in
 *   objects are left out, as `structuredClone` does.
 * - A regular expression may have some 23 000 characters, and 5 700 with the flag
 *   "u" or "v". Its receiver parses it; to run one from a peer that is not
 *   trusted can take for ever.
 * - At most 500 containers may be nested. PROTOCOL.md says what a message may cost
 *   its receiver. A message of a million objects with ten fields each costs
 *   about two thirds of that.
 *
 * @example Usage
 * ```ts
 * import { msgpack } from "@duplex/ipc/codec";
 * import { assertEquals, assertThrows } from "@std/assert";
 *
 * const message = { id: 7n, at: new Date(0), tags: new Set(["a", "b"]) };
 * assertEquals(msgpack.decode(msgpack.encode(message)), message);
 *
 * assertThrows(
 *   () => msgpack.encode({ jobs: [{ run() {} }] }),
 *   TypeError,
 *   'Cannot encode a message: the value at "$.jobs[0].run" is a function',
 * );
 * ```
 */
export const msgpack: Required<Codec> = {
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

/**
 * JSON, one text for each message, for peers that speak nothing else. What JSON
 * would drop or change is a `TypeError` that names the path to it, an array with
 * fields for example; only `-0` arrives as `0`. A number from a
 * peer is rounded to what a number holds, and one beyond that to an infinity, which
 * cannot be sent back.
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
export const json: Required<Codec> = {
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
