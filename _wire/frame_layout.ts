// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a frame looks like: a 4-byte big-endian length and a body whose first
 * byte is its kind. The numbers of PROTOCOL.md, and control frames as bytes.
 *
 * @module
 */

import { msgpack } from "../codec.ts";
import { scanControl } from "./control_scan.ts";
import { ProtocolError } from "../_base/errors.ts";
import {
  type ControlFields,
  type ControlKind,
  KIND,
  type LinkKind,
} from "./wire.ts";

/** Bytes of a frame's length field. */
export const LENGTH_SIZE = 4;
/** Bytes before a whole message: length, kind, number, taken. */
export const DATA_HEADER_SIZE = 13;
/** Bytes before the first part of a message: the same, and the total size. */
export const FIRST_HEADER_SIZE = 17;
/** Bytes of the word that a message was posted beside the stream: the same as before a first part. */
export const POSTED_SIZE = FIRST_HEADER_SIZE;
/** Bytes before a later part: length, kind. */
export const NEXT_HEADER_SIZE = 5;
/**
 * Bytes of the largest control frame. A hello takes about 90; the rest leaves
 * room for fields to come, and bounds what a stranger can make us decode.
 */
export const MAX_CONTROL_SIZE = 4096;
/**
 * Bytes of the buffers of a link at first. They grow when much passes; a listener
 * may have a thousand idle peers.
 */
export const INITIAL_BUFFER_SIZE = 4 * 1024;
/**
 * Bytes above which a message travels in parts, and of each part. At the speed
 * of a pipe a control frame then waits a quarter of a millisecond for its turn.
 */
export const PART_SIZE = 256 * 1024;

/**
 * What follows a hello's kind byte. Its first byte cannot stand in UTF-8 text,
 * so that a hello is found behind whatever a program printed before it.
 */
export const MAGIC: Uint8Array = new Uint8Array([
  0x89,
  ...new TextEncoder().encode("DUPLEX"),
]);

/** Options for {@linkcode FrameWire}. */
export interface FrameWireOptions {
  /** Bytes of the largest message that this side takes. */
  maxMessageBytes: number;
  /** Bytes that may be set aside for a message before they have arrived. */
  windowBytes: number;
  /** Takes what the peer printed before its hello; without it that is a fault. */
  onText?: (text: Uint8Array) => void;
  /** Takes the peer's pings; without it one is a fault. */
  onPing?: (fields: ControlFields) => void;
}

/** The bytes of a control frame, its length included. */
export function encodeControl(
  kind: ControlKind | LinkKind,
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

/** Whether the magic bytes follow the kind: in what comes first on a link. */
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
