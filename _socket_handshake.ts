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

import { ProtocolError } from "./_errors.ts";
import { RefusedError } from "./_socket_errors.ts";
import { decodeControl, encodeControl, LENGTH_SIZE } from "./_frame_layout.ts";
import { unsigned, VERSION } from "./_hello.ts";
import type { Connection } from "./_socket_connection.ts";
import { MAX_TIMER } from "./_waiting.ts";
import { type ControlFields, KIND } from "./_wire.ts";

/** Bytes of the longest greeting and of the longest ready; ours have about 150. */
const MAX_SIZE = 1024;
/** Bytes of a nonce: enough that none comes twice. */
const NONCE_SIZE = 32;
/** Bytes of a session's name: as many as a UUID has. */
const SESSION_SIZE = 16;
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

/** Greets as the one who has connected. */
export async function openHandshake(
  connection: Connection,
  offer: HandshakeOffer,
  own?: OwnSession,
): Promise<Terms> {
  const ours = encodeControl(KIND.greeting, greetingFields(offer, own));
  await connection.write(ours);
  const theirs = await readFrame(connection, KIND.greeting);
  const fields = checkGreeting(
    theirs.fields,
    offer,
    "opener",
    "acceptor",
  );
  const session = readSession(fields);
  // Who comes back is refused once it has proven itself.
  if (offer.resume && session === undefined && own === undefined) {
    throw new ProtocolError(
      'The far side resumes no sessions; leave out "resume" here or allow it there',
    );
  }
  const transcript = concat(ours, theirs.bytes);
  await sayReady(connection, offer, "opener", transcript, own?.received ?? 0);
  const received = await hearReady(connection, offer, "acceptor", transcript);
  return { ...agree(offer, fields, offer.compression), session, received };
}

/** Greets as the one who was connected to. */
export async function acceptHandshake(
  connection: Connection,
  offer: HandshakeOffer,
  admission: Admission,
): Promise<Terms & { readonly resumed: boolean }> {
  const theirs = await readFrame(connection, KIND.greeting);
  const fields = checkGreeting(
    theirs.fields,
    offer,
    "acceptor",
    "opener",
  );
  const resumed = readSession(fields);
  const isResumable = offer.resume && fields.resume === true;
  const session = isResumable
    ? resumed ?? randomBytes(SESSION_SIZE).toHex()
    : undefined;
  const own = session === undefined ? undefined : { session, received: 0 };
  const compression = offer.compression && fields.compression === true;
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

/** The frame that tells a peer why it was let go. */
export function refusalFrame(error: unknown): Uint8Array<ArrayBuffer> {
  const text = error instanceof Error ? error.message : String(error);
  return encodeControl(KIND.abort, {
    text: text.slice(0, 200).toWellFormed(),
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

function checkGreeting(
  fields: ControlFields,
  offer: HandshakeOffer,
  own: Role,
  their: Role,
): ControlFields {
  const version = unsigned(fields, "version");
  if (version !== VERSION) {
    throw new ProtocolError(
      `Cannot talk to the far side: it speaks version ${version} of the protocol and this side version ${VERSION}`,
    );
  }
  unsigned(fields, "heartbeat");
  const { nonce } = fields;
  if (!(nonce instanceof Uint8Array) || nonce.length !== NONCE_SIZE) {
    throw new ProtocolError(
      `Cannot read a greeting as "nonce" must have ${NONCE_SIZE} bytes`,
    );
  }
  const asks = fields.secret === true;
  if (asks === (offer.secret !== undefined)) return fields;
  const [one, other] = asks ? [their, own] : [own, their];
  throw new RefusedError(
    "secret",
    `the ${one} asks for a secret and the ${other} has none; give both the same "secret"`,
  );
}

function readSession({ session }: ControlFields): string | undefined {
  if (session === undefined) return undefined;
  if (session instanceof Uint8Array && session.length === SESSION_SIZE) {
    return session.toHex();
  }
  throw new ProtocolError(
    `Cannot read a greeting as "session" must have ${SESSION_SIZE} bytes`,
  );
}

function agree(
  offer: HandshakeOffer,
  theirs: ControlFields,
  compression: boolean,
) {
  const asked = unsigned(theirs, "heartbeat");
  const heartbeat = Math.min(offer.heartbeat, asked === 0 ? Infinity : asked);
  return {
    heartbeat: Math.max(heartbeat, MIN_HEARTBEAT),
    checksum: offer.checksum || theirs.checksum === true,
    compression: compression && theirs.compression === true,
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
  const received = unsigned(fields, "received");
  const { proof } = fields;
  const key = await importKey(secret, "verify");
  const data = proven(role, received, transcript);
  // Web Crypto compares in constant time.
  const holds = proof instanceof Uint8Array &&
    await crypto.subtle.verify("HMAC", key, proof.slice(), data);
  if (holds) return received;
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
    const text = JSON.stringify(new TextDecoder().decode(head));
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

function refusalFrom(fields: ControlFields): Error {
  const text = String(fields.text).slice(0, 200);
  const { refusal } = fields;
  if (
    refusal === "secret" || refusal === "full" || refusal === "session" ||
    refusal === "closed"
  ) return new RefusedError(refusal, `the far side refused it: ${text}`);
  return new ProtocolError(`the far side broke off: ${text}`);
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
