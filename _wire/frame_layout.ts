// Copyright 2026 the Duplex authors. MIT license.

/**
 * The format of frames: a 4-byte big-endian length and a body whose first byte
 * is its kind. The numbers of PROTOCOL.md, and control frames as bytes.
 *
 * @module
 */

import { msgpack } from "../codec.ts";
import { scanControl } from "./control_scan.ts";
import { ProtocolError } from "../_base/errors.ts";

/** The fields of a control frame, under the names that PROTOCOL.md lists. */
export type ControlFields = Record<string, unknown>;

/** The kinds of frame; the first byte of a frame's body. */
export const KIND = {
  hello: 0x01,
  data: 0x02,
  first: 0x03,
  next: 0x04,
  credit: 0x05,
  stall: 0x06,
  ping: 0x08,
  goodbye: 0x09,
  abort: 0x0a,
  posted: 0x0b,
  greeting: 0x0c,
  ready: 0x0d,
} as const;

/** The kinds of frame that carry fields and no message. */
export type ControlKind = Exclude<
  typeof KIND[keyof typeof KIND],
  | typeof KIND.data
  | typeof KIND.first
  | typeof KIND.next
  | typeof KIND.posted
>;

/** Bytes of a frame's length field. */
export const LENGTH_SIZE = 4;
/** Bytes before a whole message: length, kind, number, taken. */
export const DATA_HEADER_SIZE = 13;
/** Bytes before the first part of a message: the same, and the total size. */
export const FIRST_HEADER_SIZE = 17;
/** Bytes of a frame for a message that is posted separately: as before a first part. */
export const POSTED_SIZE: number = FIRST_HEADER_SIZE;
/** Bytes before a later part: length, kind. */
export const NEXT_HEADER_SIZE = 5;
/**
 * Bytes of the largest control frame. A hello has about 90; the rest is for
 * later fields. Limits what an unknown peer can make this side decode.
 */
export const MAX_CONTROL_SIZE = 4096;
/**
 * Initial bytes of the buffers of a link. Small, since a listener may have a
 * thousand idle peers; they grow with the traffic.
 */
export const INITIAL_BUFFER_SIZE: number = 4 * 1024;
/**
 * Bytes above which a message is sent in parts, and of each part. A control frame
 * then waits for at most a quarter of a millisecond at the speed of a pipe.
 */
export const PART_SIZE: number = 256 * 1024;

/**
 * Follows the kind byte of a hello. The first byte cannot occur in UTF-8 text,
 * so a hello is found behind text that a program printed before it.
 */
export const MAGIC: Uint8Array = new Uint8Array([
  0x89,
  ...new TextEncoder().encode("DUPLEX"),
]);

/**
 * How a hello begins. Its length is at most {@linkcode MAX_CONTROL_SIZE}, so that two
 * bytes of it are 0: text is not taken for a part of it, and is reported at once.
 */
export const HELLO_HEADER: readonly [number, ...(number | undefined)[]] = [
  0,
  ...[0, undefined, undefined],
  KIND.hello,
  ...MAGIC,
];

/** Whether what follows is the beginning of a hello, or a part of it. */
export function mayBeHello(bytes: Uint8Array, at: number): boolean {
  return HELLO_HEADER.every((expected, index) =>
    expected === undefined || at + index >= bytes.length ||
    bytes[at + index] === expected
  );
}

/** The bytes of a control frame, its length included. */
export function encodeControl(
  kind: ControlKind,
  fields: ControlFields,
): Uint8Array<ArrayBuffer> {
  const map = msgpack.encode(fields);
  const magic = hasMagic(kind) ? MAGIC : new Uint8Array();
  const frame = new Uint8Array(NEXT_HEADER_SIZE + magic.length + map.length);
  new DataView(frame.buffer).setUint32(0, frame.length - LENGTH_SIZE);
  frame[LENGTH_SIZE] = kind;
  frame.set(magic, NEXT_HEADER_SIZE);
  frame.set(map, NEXT_HEADER_SIZE + magic.length);
  return frame;
}

/** Whether the magic bytes follow the kind: in the first frame on a link. */
function hasMagic(kind: number): boolean {
  return kind === KIND.hello || kind === KIND.greeting;
}

/** The fields of a control frame's body, which begins with its kind. */
export function decodeControl(body: Uint8Array): ControlFields {
  const kind = body[0]!;
  let start = 1;
  if (hasMagic(kind)) {
    start += MAGIC.length;
    if (MAGIC.some((byte, index) => body[index + 1] !== byte)) {
      throw new ProtocolError(
        "Cannot read a hello: it does not begin with this protocol's magic bytes",
      );
    }
  }
  const found = scanControl(body, start);
  if (found !== undefined) {
    throw new ProtocolError(
      `Cannot read a control frame of kind ${kind}: it holds ${found}`,
    );
  }
  let fields: unknown;
  try {
    fields = msgpack.decode(body.subarray(start));
  } catch (cause) {
    throw new ProtocolError(
      `Cannot read a control frame of kind ${kind}: it holds no MessagePack`,
      { cause },
    );
  }
  if (
    typeof fields !== "object" || fields === null || Array.isArray(fields) ||
    fields instanceof Uint8Array
  ) {
    throw new ProtocolError(
      `Cannot read a control frame of kind ${kind}: it holds no map`,
    );
  }
  return fields as ControlFields;
}
