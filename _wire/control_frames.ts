// Copyright 2026 the Duplex authors. MIT license.

/**
 * The control frames of a session: hello, credit, stall, goodbye and abort.
 * Every field of a peer's frames is checked here.
 *
 * @module
 */

import type { Codec } from "../codec.ts";
import { isInstance, ProtocolError } from "../_base/errors.ts";
import { excerpt, messageOf, quoted, show } from "../_base/text.ts";
import { type ControlFields, encodeControl, KIND } from "./frame_layout.ts";
import type { MessageCodec } from "./message_codec.ts";
import type { FlowCounts, OwnHello, PeerHello } from "./wire.ts";

/** The version of the wire that this package speaks. */
export const VERSION = 1;

/**
 * The largest message: a frame's length and a message's size are written in 32
 * bits, and the length counts a header of up to 17 bytes, here rounded up.
 */
export const MAX_MESSAGE_SIZE: number = 2 ** 32 - 1 - 64;

/**
 * Bytes and messages in flight at most, whatever the peer's window is: a peer
 * must not decide how much this side keeps of what it has sent.
 */
export const MAX_IN_FLIGHT_SIZE: number = 256 * 1024 * 1024;
export const MAX_IN_FLIGHT: number = 2 ** 20;

/** Bytes of an abort's reason; a larger one is sent as its text alone. */
const MAX_REASON_SIZE = 3 * 1024;

/** Characters of an abort's text, and of a peer's name. */
const MAX_TEXT_LENGTH = 200;

/** Names of a peer's codecs that an error lists. */
const MAX_NAMES_SHOWN = 8;

type Frame = Uint8Array<ArrayBuffer>;

/** A field that must be an integer of at least 0. */
export function count(
  fields: ControlFields,
  name: string,
  frame = "a control frame",
): number {
  const value = fields[name];
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) {
    return value;
  }
  throw new ProtocolError(
    `Cannot read ${frame} as "${name}" must be an integer: current value is ${
      show(value)
    }`,
  );
}

function positive(fields: ControlFields, name: string): number {
  const value = count(fields, name);
  if (value > 0) return value;
  throw new ProtocolError(
    `Cannot read a hello as "${name}" must be positive: current value is ${value}`,
  );
}

/** The fields of this side's hello. */
export function helloFields(own: OwnHello): ControlFields {
  return {
    version: VERSION,
    name: cut(own.name),
    codecs: own.codecs.map((codec) => codec.name),
    window: own.windowBytes,
    messages: own.windowMessages,
    maxMessage: own.maxMessageBytes,
    graph: true,
    ...(own.memory === undefined ? {} : { memory: own.memory }),
  };
}

/**
 * Reads the peer's hello. Unknown fields are ignored, so that a later version
 * may add some.
 */
export function readHello(fields: ControlFields, own: OwnHello): PeerHello {
  const version = count(fields, "version");
  if (version !== VERSION) {
    throw new ProtocolError(
      `Cannot talk to the peer: it speaks version ${version} of the protocol and this side version ${VERSION}`,
    );
  }
  const { name, codecs, graph } = fields;
  return {
    name: typeof name === "string" ? excerpt(name, MAX_TEXT_LENGTH) : "peer",
    codec: agreeOnCodec(codecs, own),
    graph: graph === true,
    windowBytes: Math.min(positive(fields, "window"), MAX_IN_FLIGHT_SIZE),
    windowMessages: Math.min(positive(fields, "messages"), MAX_IN_FLIGHT),
    maxMessageBytes: Math.min(positive(fields, "maxMessage"), MAX_MESSAGE_SIZE),
    ...("memory" in fields ? { memory: positive(fields, "memory") } : {}),
  };
}

function agreeOnCodec(theirs: unknown, { role, codecs }: OwnHello): Codec {
  if (!Array.isArray(theirs)) {
    throw new ProtocolError(
      `Cannot read a hello as "codecs" must be an array: current value is ${
        show(theirs)
      }`,
    );
  }
  const shared = role === "opener"
    ? codecs.find((codec) => theirs.includes(codec.name))
    : theirs.map((name) => codecs.find((codec) => codec.name === name))
      .find((codec) => codec !== undefined);
  if (shared !== undefined) return shared;
  const names = theirs.slice(0, MAX_NAMES_SHOWN).map((name) => show(name, 40));
  throw new ProtocolError(
    `Cannot agree on a codec: the peer has ${names.join(", ") || "none"}${
      theirs.length > names.length ? ", …" : ""
    } and this side ${codecs.map(({ name }) => quoted(name)).join(", ")}`,
  );
}

/** The frame that says which limits this side has. */
export function helloFrame(own: OwnHello): Frame {
  return encodeControl(KIND.hello, helloFields(own));
}

/** The frame that acknowledges what was received. */
export function creditFrame(
  { acknowledgedToPeer }: FlowCounts,
): Frame {
  return encodeControl(KIND.credit, { taken: acknowledgedToPeer });
}

/** The frame that says that this side waits for the peer to receive. */
export function stallFrame(flow: FlowCounts, isAnswer: boolean): Frame {
  const taken = flow.acknowledgedByPeer;
  return encodeControl(
    KIND.stall,
    isAnswer ? { taken, answer: true } : { taken },
  );
}

/** The frame that follows the last message. */
export function goodbyeFrame(
  { sent, acknowledgedToPeer }: FlowCounts,
): Frame {
  return encodeControl(KIND.goodbye, { sent, taken: acknowledgedToPeer });
}

/** The frame that ends the duplex: the reason in the agreed codec, and as text. */
export function abortFrame(
  reason: unknown,
  codec: MessageCodec | undefined,
): Frame {
  const fault = isInstance(reason, ProtocolError);
  const text = cut(messageOf(reason));
  try {
    const bytes = codec?.encodeValue(reason, MAX_REASON_SIZE);
    if (bytes !== undefined && bytes.length <= MAX_REASON_SIZE) {
      return encodeControl(KIND.abort, { text, fault, reason: bytes });
    }
  } catch {
    // A reason that cannot be encoded is sent as its text.
  }
  return encodeControl(KIND.abort, { text, fault });
}

/** The reason of the peer's abort, as near to the original as it arrived. */
export function readReason(
  fields: ControlFields,
  codec: Codec | undefined,
): unknown {
  const { text: given, fault, reason } = fields;
  const text = typeof given === "string"
    ? excerpt(given, MAX_TEXT_LENGTH)
    : "no reason";
  if (fault === true) {
    return new ProtocolError(`The peer broke off: ${text}`);
  }
  if (reason instanceof Uint8Array && codec !== undefined) {
    try {
      return codec.decode(reason);
    } catch {
      // A reason that this side cannot decode is reported by its text.
    }
  }
  return new Error(`The peer aborted: ${text}`);
}

/** A text that fits a control frame, whole characters only. */
function cut(text: string): string {
  return text.slice(0, MAX_TEXT_LENGTH).toWellFormed();
}
