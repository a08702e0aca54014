// Copyright 2026 the Duplex authors. MIT license.

/**
 * What two sessions tell each other about themselves: the hello and the limits
 * in it, and the reason of an abort. Everything that a peer says is checked
 * here before a session acts on it.
 *
 * @module
 */

import { type Codec, json, msgpack } from "../codec.ts";
import { isInstance, ProtocolError } from "../_base/errors.ts";
import type { ControlFields } from "../_wire/wire.ts";
import type { DuplexOptions } from "../duplex.ts";
import { checkPositive } from "../_base/options.ts";
import { excerpt, messageOf, quoted, show } from "../_base/text.ts";

/** The version of the wire that this package speaks. */
export const VERSION = 1;

/** Bytes of an abort's reason; a larger one crosses as its text alone. */
const MAX_REASON_SIZE = 3 * 1024;

/** Characters of an abort's text, and of a peer's name. */
const MAX_TEXT_LENGTH = 200;

/** Names of a peer's codecs that an error lists. */
const MAX_NAMES_SHOWN = 8;

/** Everything that a session can be told. */
export interface SessionOptions {
  /** The opener's first codec that the acceptor has too is the one agreed on. */
  role: "opener" | "acceptor";
  /** What this end calls itself in errors on either side. */
  name: string;
  /** The codecs that this end speaks, the preferred one first. */
  codecs: readonly Codec[];
  /** Bytes that may be on their way to this end before it takes some. */
  windowBytes: number;
  /** Messages that may be on their way to this end before it takes some. */
  windowMessages: number;
  /** Bytes of the largest message that this end takes. */
  maxMessageBytes: number;
  /** Milliseconds of blocked sending after which a deadlock is looked for. */
  deadlockTimeout: number;
  /** Milliseconds that `close` waits for the far side. */
  closeTimeout: number;
}

/** What a session does when it is not told. */
export const DEFAULT_OPTIONS: SessionOptions = {
  role: "opener",
  name: "main",
  codecs: [msgpack, json],
  windowBytes: 4 * 1024 * 1024,
  windowMessages: 4096,
  maxMessageBytes: 256 * 1024 * 1024,
  deadlockTimeout: 5_000,
  closeTimeout: 5_000,
};

/**
 * The options of an opening function, checked and completed.
 *
 * @param action What is attempted, for the error.
 */
export function sessionOptions(
  action: string,
  options: DuplexOptions,
): SessionOptions {
  const { codec, ...limits } = options;
  const complete = { ...DEFAULT_OPTIONS };
  if (codec !== undefined) {
    if (typeof codec?.encode !== "function") {
      throw new TypeError(
        `${action} as "codec" must be a Codec: current value is ${show(codec)}`,
      );
    }
    complete.codecs = [codec];
  }
  for (const [name, whole, most] of LIMITS) {
    const value = limits[name];
    if (value === undefined) continue;
    checkPositive(action, name, value, { whole, most });
    complete[name] = value;
  }
  return complete;
}

/**
 * The most messages in flight: half of what 32 bits count, so that a number cut
 * to 32 bits tells old from new.
 */
const MAX_MESSAGES = 2 ** 31 - 1;

/**
 * The largest message: a frame's length and a message's size are written in 32
 * bits, and the length counts a header of up to 17 bytes, here rounded up.
 */
const MAX_SIZE = 2 ** 32 - 1 - 64;

/**
 * Bytes and messages that are in flight at most, whatever the far side takes: it
 * must not decide how much this side keeps of what it has sent.
 */
const MAX_IN_FLIGHT_SIZE = 256 * 1024 * 1024;
const MAX_IN_FLIGHT = 2 ** 20;

/** What each limit may be: whether it must be whole, and the most. */
const LIMITS = [
  ["windowBytes", true, Number.MAX_SAFE_INTEGER],
  ["windowMessages", true, MAX_MESSAGES],
  ["maxMessageBytes", true, MAX_SIZE],
  ["deadlockTimeout", false, Infinity],
  ["closeTimeout", false, Infinity],
] as const;

/** What the far side said of itself, checked. */
export interface PeerHello {
  readonly name: string;
  readonly codec: Codec;
  readonly windowBytes: number;
  readonly windowMessages: number;
  readonly maxMessageBytes: number;
}

/** The fields of this end's hello. */
export function helloFields(options: SessionOptions): ControlFields {
  return {
    version: VERSION,
    name: cut(options.name),
    codecs: options.codecs.map((codec) => codec.name),
    window: options.windowBytes,
    messages: options.windowMessages,
    maxMessage: options.maxMessageBytes,
  };
}

/**
 * Reads the far side's hello. Fields that are not known are ignored, so that a
 * later version may add some.
 */
export function readHello(
  fields: ControlFields,
  options: SessionOptions,
): PeerHello {
  const version = unsigned(fields, "version");
  if (version !== VERSION) {
    throw new ProtocolError(
      `Cannot talk to the far side: it speaks version ${version} of the protocol and this side version ${VERSION}`,
    );
  }
  const { name } = fields;
  return {
    name: typeof name === "string" ? excerpt(name, MAX_TEXT_LENGTH) : "peer",
    codec: agreeOnCodec(fields.codecs, options),
    windowBytes: Math.min(positive(fields, "window"), MAX_IN_FLIGHT_SIZE),
    windowMessages: Math.min(positive(fields, "messages"), MAX_IN_FLIGHT),
    maxMessageBytes: Math.min(positive(fields, "maxMessage"), MAX_SIZE),
  };
}

function agreeOnCodec(theirs: unknown, options: SessionOptions): Codec {
  const ours = options.codecs;
  if (!Array.isArray(theirs)) {
    throw new ProtocolError(
      `Cannot read a hello as "codecs" must be an array: current value is ${
        show(theirs)
      }`,
    );
  }
  const shared = options.role === "opener"
    ? ours.find((codec) => theirs.includes(codec.name))
    : theirs.map((name) => ours.find((codec) => codec.name === name))
      .find((codec) => codec !== undefined);
  if (shared !== undefined) return shared;
  const names = theirs.slice(0, MAX_NAMES_SHOWN).map((name) => show(name, 40));
  throw new ProtocolError(
    `Cannot agree on a codec: the peer has ${names.join(", ") || "none"}${
      theirs.length > names.length ? ", …" : ""
    } and this side ${ours.map(({ name }) => quoted(name)).join(", ")}`,
  );
}

/** A field that must be a whole number from 0 up. */
export function unsigned(fields: ControlFields, name: string): number {
  const value = fields[name];
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) {
    return value;
  }
  throw new ProtocolError(
    `Cannot read a control frame as "${name}" must be a whole number: current value is ${
      show(value)
    }`,
  );
}

function positive(fields: ControlFields, name: string): number {
  const value = unsigned(fields, name);
  if (value > 0) return value;
  throw new ProtocolError(
    `Cannot read a hello as "${name}" must be positive: current value is ${value}`,
  );
}

/** A text that fits a control frame, whole characters only. */
function cut(text: string): string {
  return text.slice(0, MAX_TEXT_LENGTH).toWellFormed();
}

/** The fields of an abort: the reason in the agreed codec, and as text. */
export function reasonFields(
  reason: unknown,
  codec: Codec | undefined,
): ControlFields {
  const fault = isInstance(reason, ProtocolError);
  const text = cut(messageOf(reason));
  try {
    const bytes = codec?.encode(reason);
    if (bytes !== undefined && bytes.length <= MAX_REASON_SIZE) {
      return { text, fault, reason: bytes };
    }
  } catch {
    // A reason that cannot be sent crosses as its text.
  }
  return { text, fault };
}

/** The reason of the far side's abort, as near to the original as it came. */
export function reasonFrom(
  fields: ControlFields,
  codec: Codec | undefined,
): unknown {
  const text = typeof fields.text === "string"
    ? excerpt(fields.text, MAX_TEXT_LENGTH)
    : "no reason";
  if (fields.fault === true) {
    return new ProtocolError(`The far side broke off: ${text}`);
  }
  if (fields.reason instanceof Uint8Array && codec !== undefined) {
    try {
      return codec.decode(fields.reason);
    } catch {
      // A reason that this side cannot read is told by its text.
    }
  }
  return new Error(`The far side aborted: ${text}`);
}
