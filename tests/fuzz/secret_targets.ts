// Copyright 2026 the Duplex authors. MIT license.

/**
 * The handshake of a socket: greetings and proofs that are changed in transit,
 * and peers without the secret.
 *
 * @module
 */

import { decode, encode, type ValueMap } from "@std/msgpack";
import { KIND, LENGTH_SIZE } from "../../_wire/frame_layout.ts";
import { RefusedError } from "../../_socket/errors.ts";
import {
  acceptHandshake,
  type Admission,
  openHandshake,
  type OwnSession,
  sendRefusal,
} from "../../_socket/handshake.ts";
import type { HandshakeOffer } from "../../_socket/options.ts";
import { greeting, LINK, MAGIC, ready } from "../socket/_raw.ts";
import {
  type Bytes,
  concat,
  Draw,
  mutate,
  smallerBytes,
  utf8,
} from "./draw.ts";
import { frame } from "./frame_bytes.ts";
import {
  checkMessage,
  checkRefusal,
  show,
  type Target,
  Violation,
  within,
} from "./harness.ts";
import { equalBytes } from "./equal.ts";
import { feedCut, MemoryConnection } from "./memory_connection.ts";

/** Milliseconds within which a handshake must settle. */
const LIMIT = 3_000;

/** Maximum bytes of a handshake frame, including its length. */
const MAX_FRAME = LENGTH_SIZE + 1024;

/** Sessions that an acceptor can resume, and the position of each. */
const KNOWN_SESSION = "000102030405060708090a0b0c0d0e0f";
const KNOWN_POSITION = 1_234_567;

/** The secret of a side as text; `""` for none. */
const SECRETS = [
  "",
  "a",
  "sesame",
  "sesam",
  "sesame\0",
  "Sesame",
  "é".repeat(40),
];

interface Side {
  readonly offer: HandshakeOffer;
  readonly secret: string;
}

function drawSide(draw: Draw, secret = draw.pick(SECRETS)): Side {
  const offer = {
    secret: secret === "" ? undefined : utf8(secret),
    heartbeat: draw.pick([Infinity, 50, 1_000, 10_000]),
    checksum: draw.oneIn(2),
    compression: draw.oneIn(2),
    resume: draw.oneIn(2),
  };
  return { offer, secret };
}

/** The result of an acceptor's handshake. */
class Admissions implements Admission {
  admitted = 0;
  detached = 0;

  admit(): void {
    this.admitted++;
  }

  detach(session: string): number {
    if (session !== KNOWN_SESSION) {
      throw new RefusedError("session", "there is no such session");
    }
    this.detached++;
    return KNOWN_POSITION;
  }
}

type Outcome<T> = { readonly value: T } | { readonly error: unknown };

async function settle<T>(
  promise: Promise<T>,
  what: string,
): Promise<Outcome<T>> {
  try {
    return { value: await within(promise, LIMIT, what) };
  } catch (error) {
    if (error instanceof Violation) throw error;
    return { error };
  }
}

/** Checks that a handshake failed with an allowed error. */
function checkFailure(error: unknown): void {
  if (
    error instanceof RefusedError ||
    error instanceof Deno.errors.ConnectionReset
  ) {
    return checkMessage(error as Error);
  }
  checkRefusal(error);
}

/** Opens like a dial: a failed connection is closed. */
async function open(
  connection: MemoryConnection,
  offer: HandshakeOffer,
  own?: OwnSession,
) {
  try {
    return await openHandshake(connection, offer, own);
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** Accepts like a listener: a refusal is sent. */
async function accept(
  connection: MemoryConnection,
  offer: HandshakeOffer,
  admissions: Admissions,
) {
  try {
    return await acceptHandshake(connection, offer, admissions);
  } catch (error) {
    await sendRefusal(connection, error);
    connection.close();
    throw error;
  }
}

/** Splits frames; an incomplete rest is omitted. */
function splitFrames(bytes: Bytes): Bytes[] {
  const frames: Bytes[] = [];
  const view = new DataView(bytes.buffer);
  for (let at = 0; at + LENGTH_SIZE <= bytes.length;) {
    const end = at + LENGTH_SIZE + view.getUint32(at);
    frames.push(bytes.slice(at, end));
    at = end;
  }
  return frames;
}

/** Checks the output of a side: whole frames within the limits. */
function checkWritten(parts: readonly Bytes[]): void {
  const kinds: number[] = [KIND.greeting, KIND.ready, KIND.abort];
  for (const bytes of splitFrames(concat(...parts))) {
    const body = bytes.subarray(LENGTH_SIZE + 1);
    const kind = bytes[LENGTH_SIZE]!;
    const length = new DataView(bytes.buffer).getUint32(0);
    if (
      !kinds.includes(kind) || bytes.length > MAX_FRAME ||
      bytes.length !== LENGTH_SIZE + length
    ) throw new Violation(`A handshake writes another frame: ${bytes.toHex()}`);
    decode(kind === KIND.greeting ? body.slice(MAGIC.length) : body.slice());
  }
}

/** Where a proxy changes bytes. */
interface Tampering {
  /** The frame in this direction that is changed, if any. */
  readonly frame: number;
  readonly draw: Draw;
}

/**
 * Connects two connections through a proxy; returns the bytes that it received
 * and passed on.
 */
function join(
  from: MemoryConnection,
  to: MemoryConnection,
  { frame, draw }: Tampering,
): { readonly sent: Bytes[]; readonly passed: Bytes[] } {
  const sent: Bytes[] = [];
  const passed: Bytes[] = [];
  let count = 0;
  from.onWrite = (bytes) => {
    sent.push(bytes);
    const altered = count++ === frame ? mutate(bytes, draw) : bytes;
    passed.push(altered);
    feedCut(to, altered, draw);
    // The reader would wait for the bytes of a larger length.
    if (!equalBytes(altered, bytes)) to.end();
  };
  from.onEnd = () => to.end();
  return { sent, passed };
}

/** Two valid sides with a proxy between them. */
async function runProxy(draw: Draw): Promise<void> {
  const opener = drawSide(draw);
  const acceptor = drawSide(draw, draw.oneIn(4) ? undefined : opener.secret);
  const own: OwnSession | undefined = opener.offer.resume && draw.oneIn(3)
    ? {
      session: draw.oneIn(4) ? "f".repeat(32) : KNOWN_SESSION,
      received: draw.boundary(),
    }
    : undefined;
  const openerConnection = new MemoryConnection();
  const acceptorConnection = new MemoryConnection();
  const frames = [draw.below(5), draw.below(5)];
  const up = join(openerConnection, acceptorConnection, {
    frame: frames[0]!,
    draw,
  });
  const down = join(acceptorConnection, openerConnection, {
    frame: frames[1]!,
    draw,
  });
  const admissions = new Admissions();
  const [opened, accepted] = await Promise.all([
    settle(open(openerConnection, opener.offer, own), "an opener"),
    settle(
      accept(acceptorConnection, acceptor.offer, admissions),
      "an acceptor",
    ),
  ]);
  for (const outcome of [opened, accepted]) {
    if ("error" in outcome) checkFailure(outcome.error);
  }
  checkWritten(up.sent.slice(0, 2));
  checkWritten(down.sent);
  const isSame = opener.secret === acceptor.secret;
  const isUntouched = equal(up) && equal(down);
  const areGreetingsWhole = [up, down].every(({ sent, passed }) =>
    sent.length > 0 &&
    equalBytes(sent[0]!, concat(...passed).subarray(0, sent[0]!.length))
  );
  for (const outcome of [opened, accepted]) {
    if ("error" in outcome || isSame && areGreetingsWhole) continue;
    throw new Violation(
      `A handshake succeeds with other secrets or greetings: ${
        show({ opener, acceptor, up, down })
      }`,
    );
  }
  if ("error" in accepted && admissions.admitted > 0) {
    const isLate = accepted.error instanceof Deno.errors.BrokenPipe;
    if (!isLate) throw new Violation("An unaccepted peer is counted");
  }
  checkTerms(opener, acceptor, own, opened, accepted);
  const isPossible = isSame &&
    (!opener.offer.resume || acceptor.offer.resume) &&
    own?.session !== "f".repeat(32);
  if (!isUntouched || !isPossible) return;
  for (const outcome of [opened, accepted]) {
    if (!("error" in outcome)) continue;
    throw new Violation(`A valid handshake fails: ${show(outcome.error)}`);
  }
}

function equal(
  { sent, passed }: { readonly sent: Bytes[]; readonly passed: Bytes[] },
): boolean {
  return equalBytes(concat(...sent), concat(...passed));
}

type Opened = Outcome<Awaited<ReturnType<typeof openHandshake>>>;
type Accepted = Outcome<Awaited<ReturnType<typeof acceptHandshake>>>;

/** Checks that both sides agree on the same options, and on the right ones. */
function checkTerms(
  opener: Side,
  acceptor: Side,
  own: OwnSession | undefined,
  opened: Opened,
  accepted: Accepted,
): void {
  const checksum = opener.offer.checksum || acceptor.offer.checksum;
  const compression = opener.offer.compression && acceptor.offer.compression;
  const heartbeat = Math.min(opener.offer.heartbeat, acceptor.offer.heartbeat);
  const found = [
    ..."value" in opened ? [opened.value.terms] : [],
    ..."value" in accepted ? [accepted.value] : [],
  ];
  for (const terms of found) {
    if (
      terms.checksum === checksum && terms.compression === compression &&
      terms.heartbeat === heartbeat
    ) continue;
    throw new Violation(`Other terms were agreed on: ${show(terms)}`);
  }
  if (found.length === 2 && found[0]!.session !== found[1]!.session) {
    throw new Violation(`Two sessions were agreed on: ${show(found)}`);
  }
  if ("value" in accepted && accepted.value.received !== (own?.received ?? 0)) {
    throw new Violation(
      `Another position is received: ${show(accepted.value)}`,
    );
  }
  const position = own === undefined ? 0 : KNOWN_POSITION;
  if ("value" in opened && opened.value.terms.received !== position) {
    throw new Violation(`Another position is received: ${show(opened.value)}`);
  }
}

/** Fields of a greeting that every side must reject. */
const WRONG_FIELDS: readonly ((draw: Draw) => ValueMap)[] = [
  (draw) => ({ version: draw.pick([0, 2, -1, 2 ** 40]) }),
  (draw) => ({ nonce: draw.bytes(draw.pick([0, 31, 33, 64])) }),
  () => ({ nonce: "x".repeat(32) }),
  () => ({ heartbeat: -1 }),
  () => ({ heartbeat: 0.5 }),
  () => ({ heartbeat: "50" }),
  () => ({ checksum: 1 }),
  () => ({ compression: null }),
  () => ({ resume: "true" }),
  (draw) => ({ session: draw.bytes(draw.pick([0, 15, 17])) }),
  () => ({ secret: 1 }),
  () => ({ version: "1" }),
];

interface Greeted {
  readonly bytes: Bytes;
  readonly isRight: boolean;
}

/** A greeting of a peer, valid or not. */
function drawGreeting(draw: Draw, hasSecret: boolean): Greeted {
  const own = {
    secret: hasSecret,
    nonce: draw.bytes(32),
    heartbeat: draw.pick([0, 1, 50, 10_000, 2 ** 50]),
    checksum: draw.oneIn(2),
    compression: draw.oneIn(2),
  };
  switch (draw.below(8)) {
    case 0: {
      const wrong = draw.pick(WRONG_FIELDS)(draw);
      return { bytes: greeting({ ...own, ...wrong }), isRight: false };
    }
    case 1:
      return { bytes: greeting({ ...own, secret: !hasSecret }), isRight: true };
    case 2:
      // A field of a later version.
      return {
        bytes: greeting({ ...own, more: "x".repeat(draw.below(700)) }),
        isRight: true,
      };
    case 3:
      return {
        bytes: greeting({ ...own, more: "x".repeat(1_000) }),
        isRight: false,
      };
    default:
      return { bytes: greeting(own), isRight: true };
  }
}

/** A ready frame with a given proof. */
function readyWith(fields: ValueMap): Bytes {
  return frame(LINK.ready, encode(fields));
}

interface Proof {
  readonly bytes: Bytes;
  readonly isRight: boolean;
  readonly received: number;
}

/** A peer's knowledge of the secret. */
interface Knowledge {
  readonly role: "opener" | "acceptor";
  readonly greetings: Bytes[];
  /** The secret that it has. */
  readonly secret: string;
  /** Whether this is the right secret. */
  readonly isRight: boolean;
  /** A ready frame that was valid on another connection. */
  readonly replay: Bytes | undefined;
}

/** A ready frame whose proof is valid or nearly. */
async function drawReady(draw: Draw, known: Knowledge): Promise<Proof> {
  const { role, greetings, secret, isRight, replay } = known;
  const received = draw.pick([0, 1, 77, 2 ** 31]);
  const right = await ready(role, greetings, secret, received) as Bytes;
  const { proof } = decode(right.slice(LENGTH_SIZE + 1)) as { proof: Bytes };
  const wrong = (bytes: Bytes) => ({ bytes, isRight: false, received });
  const longer = draw.pick([
    proof.slice(0, draw.below(32)),
    concat(proof, draw.bytes(1 + draw.below(40))),
    new Uint8Array(32),
    draw.bytes(32),
  ]);
  const flipped = proof.slice();
  flipped[draw.below(32)]! ^= 1 << draw.below(8);
  const other = role === "opener" ? "acceptor" : "opener";
  switch (draw.below(12)) {
    case 0:
      return wrong(readyWith({ received, proof: longer }));
    case 1:
      return wrong(readyWith({ received, proof: flipped }));
    case 2:
      return wrong(readyWith({ received: received + 1, proof }));
    case 3:
      return wrong(await ready(other, greetings, secret, received) as Bytes);
    case 4:
      return wrong(
        await ready(role, greetings.toReversed(), secret, received) as Bytes,
      );
    case 5:
      return wrong(
        await ready(role, [greetings[0]!], secret, received) as Bytes,
      );
    case 6:
      return wrong(replay ?? readyWith({ proof }));
    case 7:
      return wrong(readyWith(draw.pick<ValueMap>([
        { received: -1, proof },
        { received: "0", proof },
        { received },
        { received, proof: proof.toHex().slice(0, 32) },
        { received, proof: [...proof] },
      ])));
    default:
      return { bytes: right, isRight, received };
  }
}

/** Bytes of a peer that does no handshake of its own. */
interface Attack {
  readonly side: Side;
  readonly secret: string;
  readonly draw: Draw;
}

/** Waits for the first frame that a side writes. */
function firstWrite(connection: MemoryConnection): {
  readonly written: Bytes[];
  readonly first: Promise<Bytes | undefined>;
} {
  const written: Bytes[] = [];
  const { promise, resolve } = Promise.withResolvers<Bytes | undefined>();
  connection.onWrite = (bytes) => {
    written.push(bytes);
    resolve(bytes);
  };
  connection.onEnd = () => resolve(undefined);
  return { written, first: promise };
}

/** A ready frame of a valid opener or acceptor on another connection. */
async function recordReady(
  side: Side,
  role: Knowledge["role"],
): Promise<Bytes | undefined> {
  const openerConnection = new MemoryConnection();
  const acceptorConnection = new MemoryConnection();
  const unchanged = { frame: -1, draw: Draw.seeded(1) };
  const up = join(openerConnection, acceptorConnection, unchanged);
  const down = join(acceptorConnection, openerConnection, unchanged);
  await Promise.allSettled([
    openHandshake(openerConnection, side.offer),
    acceptHandshake(
      acceptorConnection,
      { ...side.offer, resume: true },
      new Admissions(),
    ),
  ]);
  return (role === "opener" ? up : down).sent[1];
}

async function runOpener({ side, secret, draw }: Attack): Promise<void> {
  const connection = new MemoryConnection();
  const { written, first } = firstWrite(connection);
  const admissions = new Admissions();
  const running = settle(
    accept(connection, side.offer, admissions),
    "an acceptor",
  );
  const own = drawGreeting(draw, secret !== "" || draw.oneIn(4));
  feedCut(connection, own.bytes, draw);
  const isRight = own.isRight && hasSecret(own) === (side.secret !== "");
  const peerGreeting = await within(first, LIMIT, "a greeting");
  if (peerGreeting === undefined || peerGreeting[LENGTH_SIZE] === KIND.abort) {
    connection.end();
    return judge(await running, false, isRight);
  }
  const proof = await drawReady(draw, {
    role: "opener",
    greetings: [own.bytes, peerGreeting],
    secret,
    isRight: secret === side.secret,
    replay: draw.oneIn(3) ? await recordReady(side, "opener") : undefined,
  });
  const trailing = draw.bytes(draw.below(20));
  feedCut(connection, concat(proof.bytes, trailing), draw);
  connection.end();
  const outcome = await running;
  checkWritten(written);
  judge(outcome, isRight && proof.isRight, isRight && proof.isRight);
  if (admissions.admitted > 0 !== "value" in outcome) {
    throw new Violation("The count of proven peers is wrong");
  }
  if (!("value" in outcome)) return;
  checkRead(connection, trailing, proof, outcome.value.received);
}

function hasSecret({ bytes }: Greeted): boolean {
  const fields = decode(
    bytes.slice(LENGTH_SIZE + 1 + MAGIC.length),
  ) as ValueMap;
  return fields.secret === true;
}

/** Checks that a handshake does not read the bytes after it. */
function checkRead(
  connection: MemoryConnection,
  trailing: Bytes,
  { received }: Proof,
  found: number,
): void {
  if (!equalBytes(connection.rest, trailing)) {
    throw new Violation("A handshake reads more than its two frames");
  }
  if (found !== received) {
    throw new Violation(
      `Another position is received: ${found} instead of ${received}`,
    );
  }
}

function judge(outcome: Outcome<unknown>, may: boolean, must: boolean): void {
  if ("error" in outcome) {
    checkFailure(outcome.error);
    if (must) {
      throw new Violation(`A valid peer is refused: ${show(outcome.error)}`);
    }
  } else if (!may) {
    throw new Violation("A peer is accepted that must be rejected");
  }
}

async function runAcceptor({ side, secret, draw }: Attack): Promise<void> {
  const connection = new MemoryConnection();
  const { written, first } = firstWrite(connection);
  // A side that asks to resume requires a session in the answer.
  const offer = { ...side.offer, resume: false };
  const running = settle(open(connection, offer), "an opener");
  const ownGreeting = (await within(first, LIMIT, "a greeting"))!;
  const own = drawGreeting(draw, secret !== "" || draw.oneIn(4));
  const isRight = own.isRight && hasSecret(own) === (side.secret !== "");
  const proof = await drawReady(draw, {
    role: "acceptor",
    greetings: [ownGreeting, own.bytes],
    secret,
    isRight: secret === side.secret,
    replay: draw.oneIn(3)
      // The own frame sent back, or one of another connection.
      ? draw.oneIn(2) ? written[1] : await recordReady(side, "acceptor")
      : undefined,
  });
  const trailing = draw.bytes(draw.below(20));
  feedCut(connection, concat(own.bytes, proof.bytes, trailing), draw);
  connection.end();
  const outcome = await running;
  judge(outcome, isRight && proof.isRight, isRight && proof.isRight);
  if (!("value" in outcome)) return;
  checkRead(connection, trailing, proof, outcome.value.terms.received);
}

/** Random bytes instead of a handshake. */
async function runNoise({ side, draw }: Attack): Promise<void> {
  const connection = new MemoryConnection();
  const noise = draw.oneIn(2) ? draw.bytes(draw.below(100)) : mutate(
    concat(greeting(), await ready("opener", [greeting()]) as Bytes),
    draw,
  );
  feedCut(connection, noise, draw);
  connection.end();
  const running: Promise<unknown> = draw.oneIn(2)
    ? accept(connection, side.offer, new Admissions())
    : open(connection, side.offer);
  judge(await settle(running, "a handshake"), false, false);
}

async function run(input: Bytes): Promise<void> {
  const draw = Draw.from(input);
  const mode = draw.below(8);
  if (mode < 3) return await runProxy(draw);
  const side = drawSide(draw);
  const secret = draw.oneIn(3) ? draw.pick(SECRETS) : side.secret;
  const attack = { side, secret, draw };
  if (mode === 7) return await runNoise(attack);
  await (mode < 5 ? runOpener(attack) : runAcceptor(attack));
}

const secret: Target = {
  batch: 6_000,
  group: 200,
  isAsync: true,
  make(draw) {
    const bytes = draw.bytes(draw.between(40, 400));
    return draw.oneIn(3) ? mutate(bytes, draw) : bytes;
  },
  run,
  budget: (size) => ({ ms: 200 + size * 0.01, bytes: 3 * 2 ** 20 }),
  smaller: smallerBytes,
};

/** The targets of this file. */
export const SECRET_TARGETS: Readonly<Record<string, Target>> = { secret };
