// Copyright 2026 the Duplex authors. MIT license.

/**
 * The handshake with which a connection begins. Each side sends a greeting, and then
 * a ready, with which it proves that it holds the secret. PROTOCOL.md has the fields.
 *
 * A proof is an HMAC-SHA-256 over the role of its sender, both greetings, which
 * have nonces made for this connection, and the position in a session that is
 * resumed. So a proof is not valid for another role, connection or session, and a
 * changed greeting is detected. Until a peer has proven itself, only these two
 * frames of at most 1 KiB each are read from it.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { type Refusal, RefusedError } from "./errors.ts";
import { count, VERSION } from "../_wire/control_frames.ts";
import {
  type ControlFields,
  decodeControl,
  encodeControl,
  KIND,
  LENGTH_SIZE,
} from "../_wire/frame_layout.ts";
import type { Connection } from "./connection.ts";
import type { HandshakeOffer } from "./options.ts";
import { withRecords } from "./records.ts";
import { excerpt, messageOf, quoted, show } from "../_base/text.ts";
import { MAX_TIMER, settlesWithin } from "../_base/waiting.ts";

/** Bytes of the longest greeting or ready. Those of this package have about 150. */
const MAX_SIZE = 1024;
/** Bytes of a nonce: enough that no two are equal. */
const NONCE_SIZE = 32;
/** Bytes of a session's name, as in a UUID. */
const SESSION_SIZE = 16;
/** Bytes of a proof, as in SHA-256. */
const PROOF_SIZE = 32;
/** Characters of the text of an abort that this side sends. */
const MAX_TEXT_LENGTH = 200;
/** Milliseconds to send a refusal. A peer may not read it. */
const REFUSAL_TIMEOUT = 500;
/** Minimum heartbeat in milliseconds, so that a peer cannot keep this side busy. */
const MIN_HEARTBEAT = 50;

/** The properties of a connection that both sides agreed on. */
export interface Terms {
  readonly heartbeat: number;
  readonly checksum: boolean;
  readonly compression: boolean;
  /** The name of the session, if it can be resumed. */
  readonly session: string | undefined;
  /** Bytes of the stream that the peer has received on earlier connections. */
  readonly received: number;
}

/** The decisions of an acceptor about a peer that has proven itself. */
export interface Admission {
  /**
   * Admits a new peer.
   *
   * @throws {RefusedError} If there are too many peers.
   */
  admit(): void;
  /**
   * Drops the connection of a session, if it still has one, and returns how many
   * bytes of the stream the session has received.
   *
   * @throws {RefusedError} If there is no such session.
   */
  detach(session: string): number;
}

/** An opener's session that is resumed. */
export interface OwnSession {
  readonly session: string;
  /** Bytes of the stream that this side has received. */
  readonly received: number;
}

const WRONG_SECRET = "the two sides do not hold the same secret";

/** A connection whose handshake is done. */
export interface Established {
  /** The connection, in records if the terms require it. */
  readonly connection: Connection;
  readonly terms: Terms;
}

/**
 * Makes the handshake of an opener. A peer that breaks the protocol, or does not hold
 * the same secret, receives an abort with the reason, if one can be sent.
 */
export async function openHandshake(
  connection: Connection,
  offer: HandshakeOffer,
  own?: OwnSession,
): Promise<Established> {
  // Where an abort can be sent.
  let out: Connection | undefined = connection;
  try {
    const ours = encodeControl(KIND.greeting, greetingFields(offer, own));
    await connection.write(ours);
    const theirs = await readFrame(connection, KIND.greeting);
    const fields = checkGreeting(theirs.fields, offer, "opener", "acceptor");
    // A session that is resumed is refused after the proof only.
    if (offer.resume && fields.session === undefined && own === undefined) {
      throw new ProtocolError(
        'The peer does not resume sessions: omit "resume", or set it for the listener',
      );
    }
    const transcript = concat(ours, theirs.bytes);
    await sendReady(
      connection,
      offer,
      "opener",
      transcript,
      own?.received ?? 0,
    );
    const agreed = agree(offer, fields, offer.compression);
    const records = await withRecords(connection, agreed);
    // The stream follows the ready. A stream that is resumed may continue in the
    // middle of a frame, where an abort would become a part of a message.
    out = own === undefined ? records : undefined;
    const received = await readReady(connection, offer, "acceptor", transcript);
    const { session } = fields;
    return { connection: records, terms: { ...agreed, session, received } };
  } catch (error) {
    if (out !== undefined && isVerdict(error)) {
      await sendRefusal(out, error);
      // If it were closed with unread bytes, the system could drop the abort.
      await out.shutdown(REFUSAL_TIMEOUT);
    }
    throw error;
  }
}

/** Makes the handshake of an acceptor. */
export async function acceptHandshake(
  connection: Connection,
  offer: HandshakeOffer,
  admission: Admission,
): Promise<Terms & { readonly resumed: boolean }> {
  const theirs = await readFrame(connection, KIND.greeting);
  const fields = checkGreeting(theirs.fields, offer, "acceptor", "opener");
  const resumed = fields.session;
  const isResumable = offer.resume && fields.resume;
  const session = isResumable
    ? resumed ?? randomBytes(SESSION_SIZE).toHex()
    : undefined;
  const own = session === undefined ? undefined : { session, received: 0 };
  const compression = offer.compression && fields.compression;
  const ours = encodeControl(
    KIND.greeting,
    greetingFields({ ...offer, compression }, own),
  );
  await connection.write(ours);
  const transcript = concat(theirs.bytes, ours);
  const received = await readReady(connection, offer, "opener", transcript);
  // Refused after the proof only, since the opener then abandons its session: a
  // changed greeting must not cause that.
  if (resumed !== undefined && !isResumable) {
    throw new RefusedError("session", "sessions are not resumed here");
  }
  const position = resumed === undefined ? 0 : admission.detach(resumed);
  if (resumed === undefined) admission.admit();
  await sendReady(connection, offer, "acceptor", transcript, position);
  return {
    ...agree(offer, fields, compression),
    session,
    received,
    resumed: resumed !== undefined,
  };
}

/** Errors made of an abort of the peer. They are not sent back. */
const fromPeer = new WeakSet<Error>();

/** Whether an error is a protocol error or a refusal of this side. */
export function isVerdict(error: unknown): boolean {
  const isFault = error instanceof ProtocolError ||
    error instanceof RefusedError;
  return isFault && !fromPeer.has(error);
}

/** Sends an abort with the reason, unless the peer has sent one. */
export async function sendRefusal(
  connection: Connection,
  error: unknown,
): Promise<void> {
  if (error instanceof Error && fromPeer.has(error)) return;
  // If the write fails, the peer has ended the connection.
  const sent = connection.write(refusalFrame(error)).catch(() => {});
  await settlesWithin(sent, REFUSAL_TIMEOUT);
}

function refusalFrame(error: unknown): Uint8Array<ArrayBuffer> {
  return encodeControl(KIND.abort, {
    text: messageOf(error).slice(0, MAX_TEXT_LENGTH).toWellFormed(),
    fault: error instanceof ProtocolError,
    ...(error instanceof RefusedError ? { refusal: error.refusal } : {}),
  });
}

function greetingFields(
  offer: HandshakeOffer,
  own: OwnSession | undefined,
): ControlFields {
  return {
    version: VERSION,
    nonce: randomBytes(NONCE_SIZE),
    secret: offer.secret !== undefined,
    heartbeat: offer.heartbeat > MAX_TIMER ? 0 : Math.ceil(offer.heartbeat),
    checksum: offer.checksum,
    compression: offer.compression,
    resume: offer.resume,
    ...(own === undefined ? {} : { session: Uint8Array.fromHex(own.session) }),
  };
}

/** The fields of a greeting, checked. */
interface Greeting {
  readonly heartbeat: number;
  readonly checksum: boolean;
  readonly compression: boolean;
  readonly resume: boolean;
  /** The name of a session, in hexadecimal. */
  readonly session: string | undefined;
}

function checkGreeting(
  fields: ControlFields,
  offer: HandshakeOffer,
  own: Role,
  their: Role,
): Greeting {
  const frame = "a greeting";
  const version = count(fields, "version", frame);
  if (version !== VERSION) {
    throw new ProtocolError(
      `Cannot talk to the peer: it speaks version ${version} of the protocol and this side version ${VERSION}`,
    );
  }
  binary(frame, fields, "nonce", NONCE_SIZE);
  const { session } = fields;
  const greeting: Greeting = {
    heartbeat: count(fields, "heartbeat", frame),
    checksum: boolean(frame, fields, "checksum"),
    compression: boolean(frame, fields, "compression"),
    resume: boolean(frame, fields, "resume"),
    session: session === undefined
      ? undefined
      : binary(frame, fields, "session", SESSION_SIZE).toHex(),
  };
  const isRequired = boolean(frame, fields, "secret");
  if (isRequired === (offer.secret !== undefined)) return greeting;
  const [one, other] = isRequired ? [their, own] : [own, their];
  throw new RefusedError(
    "secret",
    `the ${one} requires a secret and the ${other} has none; give both the same "secret"`,
  );
}

function agree(
  offer: HandshakeOffer,
  theirs: Greeting,
  compression: boolean,
) {
  const heartbeat = theirs.heartbeat === 0 ? Infinity : theirs.heartbeat;
  return {
    heartbeat: Math.max(Math.min(offer.heartbeat, heartbeat), MIN_HEARTBEAT),
    checksum: offer.checksum || theirs.checksum,
    compression: compression && theirs.compression,
  };
}

type Role = "opener" | "acceptor";

async function sendReady(
  connection: Connection,
  { secret }: HandshakeOffer,
  role: Role,
  transcript: Uint8Array,
  received: number,
): Promise<void> {
  const key = await importKey(secret, "sign");
  const data = provenBytes(role, received, transcript);
  const proof = new Uint8Array(await crypto.subtle.sign("HMAC", key, data));
  await connection.write(encodeControl(KIND.ready, { received, proof }));
}

/** Reads the peer's ready and checks the proof; returns the peer's position. */
async function readReady(
  connection: Connection,
  { secret }: HandshakeOffer,
  role: Role,
  transcript: Uint8Array,
): Promise<number> {
  const { fields } = await readFrame(connection, KIND.ready);
  const position = count(fields, "received", "a ready");
  const proof = binary("a ready", fields, "proof", PROOF_SIZE);
  const key = await importKey(secret, "verify");
  const data = provenBytes(role, position, transcript);
  // Web Crypto compares in constant time.
  if (await crypto.subtle.verify("HMAC", key, proof, data)) return position;
  if (secret !== undefined) throw new RefusedError("secret", WRONG_SECRET);
  throw new ProtocolError(
    "Cannot accept a ready: its proof does not match the greetings, which were changed between the two sides",
  );
}

/**
 * The key of a proof: the hash of the secret, since HMAC treats keys as equal that
 * differ in zeros at their end only. Without a secret it is the hash of nothing, so
 * that changed greetings are detected as well.
 */
async function importKey(
  secret: Uint8Array<ArrayBuffer> | undefined,
  usage: "sign" | "verify",
): Promise<CryptoKey> {
  const hash = await crypto.subtle.digest(
    "SHA-256",
    secret ?? new Uint8Array(),
  );
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  return await crypto.subtle.importKey("raw", hash, algorithm, false, [usage]);
}

/** The bytes that a proof covers. */
function provenBytes(
  role: Role,
  received: number,
  transcript: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const position = new Uint8Array(8);
  new DataView(position.buffer).setBigUint64(0, BigInt(received));
  const label = new TextEncoder().encode(`@duplex/ipc 1 ${role}\0`);
  return concat(label, position, transcript);
}

/** Reads one frame of the expected kind, and no byte after it. */
async function readFrame(
  connection: Connection,
  kind: typeof KIND.greeting | typeof KIND.ready,
): Promise<{ bytes: Uint8Array<ArrayBuffer>; fields: ControlFields }> {
  const head = await readExactly(connection, LENGTH_SIZE + 1);
  const length = new DataView(head.buffer).getUint32(0);
  const found = head[LENGTH_SIZE];
  if (
    length > MAX_SIZE || length < 2 || (found !== kind && found !== KIND.abort)
  ) {
    const text = quoted(new TextDecoder().decode(head));
    throw new ProtocolError(
      `Cannot read a frame of kind ${found} and ${length} bytes before the peer has proven itself: the bytes are ${text}; does it speak this protocol?`,
    );
  }
  const rest = await readExactly(connection, length - 1);
  const bytes = concat(head, rest);
  const fields = decodeControl(bytes.subarray(LENGTH_SIZE));
  if (found === KIND.abort) throw refusalFrom(fields);
  return { bytes, fields };
}

function refusalFrom({ text, refusal }: ControlFields): Error {
  const why = typeof text === "string" ? excerpt(text) : show(text);
  const error = isRefusal(refusal)
    ? new RefusedError(refusal, `the peer refused it: ${why}`)
    : new ProtocolError(`the peer broke off: ${why}`);
  fromPeer.add(error);
  return error;
}

function isRefusal(value: unknown): value is Refusal {
  return value === "secret" || value === "full" || value === "session" ||
    value === "closed";
}

/** A field that must be a boolean. */
function boolean(frame: string, fields: ControlFields, name: string): boolean {
  const value = fields[name];
  if (typeof value === "boolean") return value;
  throw fieldError(frame, name, "a boolean", show(value));
}

/** A field that must have a number of bytes. Returns a copy. */
function binary(
  frame: string,
  fields: ControlFields,
  name: string,
  size: number,
): Uint8Array<ArrayBuffer> {
  const value = fields[name];
  const isBytes = value instanceof Uint8Array;
  if (isBytes && value.length === size) return value.slice();
  const current = isBytes ? `${value.length} bytes` : show(value);
  throw fieldError(frame, name, `${size} bytes`, current);
}

function fieldError(
  frame: string,
  name: string,
  expected: string,
  current: string,
): ProtocolError {
  return new ProtocolError(
    `Cannot read ${frame} as "${name}" must be ${expected}: current value is ${current}`,
  );
}

async function readExactly(
  connection: Connection,
  size: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(size);
  for (let filled = 0; filled < size;) {
    const added = await connection.read(bytes.subarray(filled));
    if (added === null) {
      throw new Deno.errors.ConnectionReset(
        "The peer ended the connection before it had proven itself",
      );
    }
    filled += added;
  }
  return bytes;
}

function randomBytes(size: number): Uint8Array<ArrayBuffer> {
  return crypto.getRandomValues(new Uint8Array(size));
}

function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
