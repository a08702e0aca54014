// Copyright 2026 the Duplex authors. MIT license.

/**
 * What the two ends of a connection tell each other before anything else: a
 * greeting each, and then a ready each, in which they prove that they hold the
 * same secret. PROTOCOL.md has the fields.
 *
 * A proof is an HMAC-SHA-256 over who says it, both greetings, with nonces made
 * for this connection, and the position in the session that goes on. So none can
 * be used for another role, connection or session, and nothing that was agreed
 * on in the greetings can be changed on the way. Nothing else is read from a peer
 * before its proof than these two frames of at most 1 KiB each.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import { type Refusal, RefusedError } from "./errors.ts";
import { VERSION } from "../_wire/control_frames.ts";
import {
  type ControlFields,
  decodeControl,
  encodeControl,
  KIND,
  LENGTH_SIZE,
} from "../_wire/frame_layout.ts";
import type { Connection } from "./connection.ts";
import { binary, boolean, integer } from "./fields.ts";
import { withRecords } from "./records.ts";
import { excerpt, messageOf, quoted, show } from "../_base/text.ts";
import { MAX_TIMER, settlesWithin } from "../_base/waiting.ts";

/** Bytes of the longest greeting and of the longest ready; ours have about 150. */
const MAX_SIZE = 1024;
/** Bytes of a nonce: enough that none comes twice. */
const NONCE_SIZE = 32;
/** Bytes of a session's name: as many as a UUID has. */
const SESSION_SIZE = 16;
/** Bytes of a proof: as many as SHA-256 has. */
const PROOF_SIZE = 32;
/** Characters of the text of an abort that this side sends. */
const MAX_TEXT_LENGTH = 200;
/** Milliseconds that a refusal has to leave. */
const REFUSAL_TIMEOUT = 500;
/** Milliseconds of the shortest heartbeat. A peer could keep us busy otherwise. */
const MIN_HEARTBEAT = 50;

/** What this side wants of a connection. */
export interface HandshakeOffer {
  readonly secret: Uint8Array<ArrayBuffer> | undefined;
  /** Milliseconds between signs of life; none if it is longer than a timer. */
  readonly heartbeat: number;
  readonly checksum: boolean;
  /** Whether to compress; an acceptor does what the opener asks and it allows. */
  readonly compression: boolean;
  /** Whether to resume the session when the connection is lost. */
  readonly resume: boolean;
}

/** What both sides agreed on for a connection. */
export interface Terms {
  readonly heartbeat: number;
  readonly checksum: boolean;
  readonly compression: boolean;
  /** The name under which the session can be resumed, if it can. */
  readonly session: string | undefined;
  /** Bytes of the stream that the far side has received on earlier connections. */
  readonly received: number;
}

/** What an acceptor decides once a peer has proven itself. */
export interface Admission {
  /**
   * Counts a new peer in.
   *
   * @throws {RefusedError} If there are too many.
   */
  admit(): void;
  /**
   * Takes a session's old connection away, if it has one still, and says how
   * many bytes of the stream it has received.
   *
   * @throws {RefusedError} If there is no such session.
   */
  detach(session: string): number;
}

/** An opener's session that goes on. */
export interface OwnSession {
  readonly session: string;
  /** Bytes of the stream that it has received. */
  readonly received: number;
}

const WRONG_SECRET = "the two sides do not hold the same secret";

/** A connection that both sides have greeted each other on. */
export interface Established {
  /** As it is, or in records. */
  readonly connection: Connection;
  readonly terms: Terms;
}

/**
 * Greets as the one who has connected. A peer that breaks the protocol, or does
 * not hold the same secret, receives an abort that says so, where one can be sent.
 */
export async function openHandshake(
  connection: Connection,
  offer: HandshakeOffer,
  own?: OwnSession,
): Promise<Established> {
  /** Where an abort can be sent. */
  let out: Connection | undefined = connection;
  try {
    const ours = encodeControl(KIND.greeting, greetingFields(offer, own));
    await connection.write(ours);
    const theirs = await readFrame(connection, KIND.greeting);
    const fields = checkGreeting(theirs.fields, offer, "opener", "acceptor");
    // Who comes back is refused once it has proven itself.
    if (offer.resume && fields.session === undefined && own === undefined) {
      throw new ProtocolError(
        'The far side resumes no sessions; leave out "resume" here or allow it there',
      );
    }
    const transcript = concat(ours, theirs.bytes);
    await sayReady(connection, offer, "opener", transcript, own?.received ?? 0);
    const agreed = agree(offer, fields, offer.compression);
    const records = await withRecords(connection, agreed);
    // Behind its ready its stream begins. One that goes on does so in the middle
    // of a frame, where an abort would become part of a message.
    out = own === undefined ? records : undefined;
    const received = await hearReady(connection, offer, "acceptor", transcript);
    const { session } = fields;
    return { connection: records, terms: { ...agreed, session, received } };
  } catch (error) {
    if (out !== undefined && isVerdict(error)) {
      await sendRefusal(out, error);
      // To close with bytes unread could have the system drop it.
      await out.shutdown(REFUSAL_TIMEOUT);
    }
    throw error;
  }
}

/** Greets as the one who was connected to. */
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
  const received = await hearReady(connection, offer, "opener", transcript);
  // Not before it is proven that nothing has changed the greeting on its way: the
  // opener gives its session up for it.
  if (resumed !== undefined && !isResumable) {
    throw new RefusedError("session", "no session is resumed here");
  }
  const position = resumed === undefined ? 0 : admission.detach(resumed);
  if (resumed === undefined) admission.admit();
  await sayReady(connection, offer, "acceptor", transcript, position);
  return {
    ...agree(offer, fields, compression),
    session,
    received,
    resumed: resumed !== undefined,
  };
}

/** Errors made of an abort that the peer has sent. None is sent in return. */
const fromPeer = new WeakSet<Error>();

/** Whether an error is a fault or a refusal that this side has found. */
export function isVerdict(error: unknown): boolean {
  const isFault = error instanceof ProtocolError ||
    error instanceof RefusedError;
  return isFault && !fromPeer.has(error);
}

/** Sends an abort that gives the reason, unless the peer has sent one. */
export async function sendRefusal(
  connection: Connection,
  error: unknown,
): Promise<void> {
  if (error instanceof Error && fromPeer.has(error)) return;
  // If it fails, the peer has ended the connection.
  const sent = connection.write(refusalFrame(error)).catch(() => {});
  await settlesWithin(sent, REFUSAL_TIMEOUT);
}

/** The abort that gives the reason for the end of a connection. */
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

/** What a greeting says, checked. */
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
  const version = integer(frame, fields, "version");
  if (version !== VERSION) {
    throw new ProtocolError(
      `Cannot talk to the peer: it speaks version ${version} of the protocol and this side version ${VERSION}`,
    );
  }
  binary(frame, fields, "nonce", NONCE_SIZE);
  const greeting: Greeting = {
    heartbeat: integer(frame, fields, "heartbeat"),
    checksum: boolean(frame, fields, "checksum"),
    compression: boolean(frame, fields, "compression"),
    resume: boolean(frame, fields, "resume"),
    session: fields.session === undefined
      ? undefined
      : binary(frame, fields, "session", SESSION_SIZE).toHex(),
  };
  const asks = boolean(frame, fields, "secret");
  if (asks === (offer.secret !== undefined)) return greeting;
  const [one, other] = asks ? [their, own] : [own, their];
  throw new RefusedError(
    "secret",
    `the ${one} asks for a secret and the ${other} has none; give both the same "secret"`,
  );
}

function agree(
  offer: HandshakeOffer,
  theirs: Greeting,
  compression: boolean,
) {
  const asked = theirs.heartbeat === 0 ? Infinity : theirs.heartbeat;
  return {
    heartbeat: Math.max(Math.min(offer.heartbeat, asked), MIN_HEARTBEAT),
    checksum: offer.checksum || theirs.checksum,
    compression: compression && theirs.compression,
  };
}

type Role = "opener" | "acceptor";

async function sayReady(
  connection: Connection,
  { secret }: HandshakeOffer,
  role: Role,
  transcript: Uint8Array,
  received: number,
): Promise<void> {
  const key = await importKey(secret, "sign");
  const data = proven(role, received, transcript);
  const proof = new Uint8Array(await crypto.subtle.sign("HMAC", key, data));
  await connection.write(encodeControl(KIND.ready, { received, proof }));
}

/** Reads the far side's ready; returns the position in it, once it is proven. */
async function hearReady(
  connection: Connection,
  { secret }: HandshakeOffer,
  role: Role,
  transcript: Uint8Array,
): Promise<number> {
  const { fields } = await readFrame(connection, KIND.ready);
  const position = integer("a ready", fields, "received");
  const proof = binary("a ready", fields, "proof", PROOF_SIZE);
  const key = await importKey(secret, "verify");
  const data = proven(role, position, transcript);
  // Web Crypto compares in constant time.
  if (await crypto.subtle.verify("HMAC", key, proof, data)) return position;
  if (secret !== undefined) throw new RefusedError("secret", WRONG_SECRET);
  throw new ProtocolError(
    "Cannot take a ready: its proof is not over what both sides have said, which something has changed on the way",
  );
}

/**
 * The key of a proof: the hash of the secret, since HMAC takes keys that differ in
 * zeros at their end for the same; or that of nothing, so that what was changed on
 * the way is noticed without a secret, too.
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

/** What a proof is made over. */
function proven(
  role: Role,
  received: number,
  transcript: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const position = new Uint8Array(8);
  new DataView(position.buffer).setBigUint64(0, BigInt(received));
  const label = new TextEncoder().encode(`@duplex/ipc 1 ${role}\0`);
  return concat(label, position, transcript);
}

/** Reads one frame of the kind expected, and not a byte more. */
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
      `Cannot read a frame of kind ${found} and ${length} bytes before the far side has proven itself: the bytes are ${text}; does it speak this protocol?`,
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
    ? new RefusedError(refusal, `the far side refused it: ${why}`)
    : new ProtocolError(`the far side broke off: ${why}`);
  fromPeer.add(error);
  return error;
}

function isRefusal(value: unknown): value is Refusal {
  return value === "secret" || value === "full" || value === "session" ||
    value === "closed";
}

async function readExactly(
  connection: Connection,
  size: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(size);
  for (let filled = 0; filled < size;) {
    const count = await connection.read(bytes.subarray(filled));
    if (count === null) {
      throw new Deno.errors.ConnectionReset(
        "The far side ended the connection before it had proven itself",
      );
    }
    filled += count;
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
