// Copyright 2026 the Duplex authors. MIT license.

/**
 * Connections in records, and sessions that are resumed over connections that
 * break or change bytes.
 *
 * @module
 */

import { deflateRawSync, inflateRawSync } from "node:zlib";
import { FrameWire } from "../../_wire/frame_wire.ts";
import {
  DEFAULT_OPTIONS,
  type SessionOptions,
} from "../../_session/options.ts";
import { Session } from "../../_session/session.ts";
import { MIN_REPLAY_SIZE, SocketStream } from "../../_socket/stream.ts";
import { type RecordOptions, withRecords } from "../../_socket/records.ts";
import { isEnd } from "../../_base/errors.ts";
import { ProtocolError } from "../../duplex.ts";
import {
  type Bytes,
  concat,
  Draw,
  mutate,
  repeat,
  smallerBytes,
  uint32,
} from "./draw.ts";
import { equalBytes } from "./equal.ts";
import {
  checkMessage,
  checkRefusal,
  show,
  type Target,
  turn,
  Violation,
  within,
} from "./harness.ts";
import { feedCut, MemoryConnection } from "./memory_connection.ts";

/** Milliseconds within which each promise must settle. */
const LIMIT = 5_000;

/** Bytes of a record's header, and of its longest body. */
const HEADER = 9;
const MAX_BODY = 65_536;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit++) {
    value = value & 1 ? value >>> 1 ^ 0xedb88320 : value >>> 1;
  }
  return value;
});

/** CRC-32, a plain implementation. */
function crc32(...parts: readonly Uint8Array[]): number {
  let crc = 0xffff_ffff;
  for (const part of parts) {
    for (const byte of part) {
      crc = CRC_TABLE[(crc ^ byte) & 0xff]! ^ crc >>> 8;
    }
  }
  return (crc ^ 0xffff_ffff) >>> 0;
}

function checksumOf(
  options: RecordOptions,
  number: number,
  flags: number,
  body: Uint8Array,
): number {
  if (!options.checksum) return 0;
  const head = concat(
    uint32(number),
    uint32(body.length),
    new Uint8Array([flags]),
  );
  return crc32(head, body);
}

/** The content of a stream of records, according to the reference. */
interface Expected {
  readonly bytes: Bytes;
  readonly end: "end" | "cut" | "fault";
}

/** The bytes of a compressed body, if it is valid. */
function inflate(body: Bytes): Bytes | undefined {
  if (body.length <= 4) return undefined;
  const size = new DataView(body.buffer, body.byteOffset).getUint32(0);
  if (size === 0 || size > MAX_BODY) return undefined;
  try {
    const options = { maxOutputLength: MAX_BODY };
    const bytes = inflateRawSync(body.subarray(4), options);
    return bytes.length === size ? new Uint8Array(bytes) : undefined;
  } catch {
    // The reference only reports that it is invalid.
    return undefined;
  }
}

function readRecords(stream: Bytes, options: RecordOptions): Expected {
  const view = new DataView(stream.buffer);
  const parts: Uint8Array[] = [];
  const ended = (end: Expected["end"]) => ({ bytes: concat(...parts), end });
  let at = 0;
  for (let number = 0;; number++) {
    if (at === stream.length) return ended("end");
    if (at + HEADER > stream.length) return ended("cut");
    const length = view.getUint32(at);
    const flags = stream[at + 4]!;
    if (length < 1 || length > MAX_BODY || flags > 1) return ended("fault");
    const end = at + HEADER + length;
    if (end > stream.length) return ended("cut");
    const body = stream.slice(at + HEADER, end);
    const checksum = checksumOf(options, number, flags, body);
    if (checksum !== view.getUint32(at + 5)) return ended("fault");
    const bytes = flags === 0
      ? body
      : options.compression
      ? inflate(body)
      : undefined;
    if (bytes === undefined) return ended("fault");
    parts.push(bytes);
    at = end;
  }
}

/** Bytes that can be compressed, or cannot. */
function drawContent(draw: Draw, size: number): Bytes {
  return draw.oneIn(2)
    ? repeat(draw.bytes(1 + draw.below(20)), Math.ceil(size / 20)).slice(
      0,
      size,
    )
    : draw.bytes(size);
}

/** The output of the package for some bytes. */
async function writeRecords(
  contents: readonly Bytes[],
  options: RecordOptions,
): Promise<Bytes> {
  const connection = new MemoryConnection();
  const parts: Bytes[] = [];
  connection.onWrite = (bytes) => void parts.push(bytes);
  const records = await withRecords(connection, options);
  for (const content of contents) await records.write(content);
  return concat(...parts);
}

/** A body with a wrong size, or one that is expensive to inflate. */
function drawPacked(draw: Draw): Bytes {
  const size = draw.pick([1, 100, 1_000, MAX_BODY, MAX_BODY + 1, 8 * 2 ** 20]);
  const packed = deflateRawSync(new Uint8Array(size), { level: 9 });
  const claimed = draw.oneIn(3) ? Math.min(size, MAX_BODY) : draw.pick([
    size,
    size - 1,
    size + 1,
    1,
    0,
    MAX_BODY,
    MAX_BODY + 1,
    draw.boundary(),
  ]);
  const part = packed.subarray(
    0,
    draw.oneIn(4) ? draw.below(packed.length) : packed.length,
  );
  return concat(
    uint32(claimed),
    part,
    draw.oneIn(5) ? draw.bytes(5) : new Uint8Array(),
  );
}

/** Records that the package never writes, with valid checksums. */
function drawHostile(draw: Draw, options: RecordOptions): Bytes {
  const parts: Uint8Array[] = [];
  const count = 1 + draw.below(5);
  for (let number = 0; number < count; number++) {
    const isPacked = draw.oneIn(2);
    const body = isPacked ? drawPacked(draw) : draw.bytes(draw.size(500));
    const flags = draw.oneIn(12)
      ? draw.pick([2, 3, 128, 255])
      : isPacked
      ? 1
      : 0;
    const place = draw.oneIn(12) ? number + 1 : number;
    const checksum = checksumOf(options, place, flags, body);
    const length = draw.oneIn(15) ? draw.boundary() : body.length;
    parts.push(
      ...[uint32(length), new Uint8Array([flags]), uint32(checksum), body],
    );
  }
  return concat(...parts);
}

function drawOptions(draw: Draw): RecordOptions {
  const checksum = !draw.oneIn(4);
  return { checksum, compression: !checksum || draw.oneIn(2) };
}

/** Reads a stream of records to its end, which contains `length` bytes. */
async function readAll(
  stream: Bytes,
  options: RecordOptions,
  length: number,
  draw: Draw,
): Promise<{ readonly bytes: Bytes; readonly error: unknown }> {
  const connection = new MemoryConnection();
  const records = await withRecords(connection, options);
  feedCut(connection, stream, draw);
  connection.end();
  const parts: Bytes[] = [];
  const size = draw.pick([1, 7, 100, 4_096, 100_000]);
  // Many small reads would only take time.
  const into = new Uint8Array(length > 5_000 ? 100_000 : size);
  let error: unknown;
  try {
    for (;;) {
      const count = await within(records.read(into), LIMIT, "a read");
      if (count === null) break;
      if (count < 1 || count > into.length) {
        throw new Violation(`A read gives ${count} bytes of ${into.length}`);
      }
      parts.push(into.slice(0, count));
    }
  } catch (thrown) {
    if (thrown instanceof Violation) throw thrown;
    error = thrown;
  }
  return { bytes: concat(...parts), error };
}

async function runLayer(draw: Draw): Promise<void> {
  const options = drawOptions(draw);
  const contents: Bytes[] = [];
  let stream: Bytes;
  const isHostile = draw.oneIn(3);
  if (isHostile) stream = drawHostile(draw, options);
  else {
    for (let left = draw.below(8); left > 0; left--) {
      const size = draw.oneIn(6) ? draw.below(200_000) : draw.below(3_000);
      contents.push(drawContent(draw, size));
    }
    stream = await writeRecords(contents, options);
  }
  const isMutated = draw.oneIn(3);
  if (isMutated) stream = mutate(stream, draw);
  const expected = readRecords(stream, options);
  const { length } = expected.bytes;
  const { bytes, error } = await readAll(stream, options, length, draw);
  if (!equalBytes(bytes, expected.bytes)) {
    throw new Violation(
      `Records contain other bytes: ${bytes.length} instead of ${expected.bytes.length}`,
    );
  }
  const isCut = error instanceof Deno.errors.UnexpectedEof;
  if (error !== undefined && !isCut) checkPlainRefusal(error);
  const end = error === undefined ? "end" : isCut ? "cut" : "fault";
  if (end !== expected.end) {
    throw new Violation(
      `Records end with "${end}" instead of "${expected.end}": ${show(error)}`,
    );
  }
  if (isHostile || isMutated && !options.checksum) return;
  const sent = concat(...contents);
  if (!equalBytes(bytes, sent.subarray(0, bytes.length))) {
    throw new Violation("Records contain bytes that were not sent");
  }
  if (!isMutated && bytes.length !== sent.length) {
    throw new Violation("Records lose bytes that were sent");
  }
}

/** Checks a refusal, whose cause may be an error of zlib. */
function checkPlainRefusal(error: unknown): void {
  if (!(error instanceof ProtocolError)) {
    throw new Violation(`It throws an unexpected error: ${show(error)}`);
  }
  checkMessage(error);
  if (error.cause === undefined) return;
  const { code } = error.cause as { code?: unknown };
  if (/^(Z_|ERR_BUFFER_TOO_LARGE$)/.test(String(code))) return;
  throw new Violation(`A refusal has another cause: ${show(error)}`);
}

/** A fault of a connection. */
interface Fault {
  /** Bytes that pass before the fault. */
  readonly after: number;
  /** The bits that are changed before the connection breaks. */
  readonly flip: number;
}

const SIDES = ["opener", "acceptor"] as const;

/** Two sessions whose connections break. */
class Resumed {
  readonly sessions: Session[] = [];
  readonly #links: SocketStream[] = [];
  readonly #draw: Draw;
  readonly #options: RecordOptions;
  readonly #faults: Fault[];
  /**
   * The number of messages by which one side exaggerates its acknowledgement,
   * once.
   */
  #excess: number;
  #connecting: Promise<void> | undefined;
  #ended = 0;
  failure: unknown;

  constructor(draw: Draw, options: RecordOptions, excess: number) {
    this.#draw = draw;
    this.#options = options;
    this.#excess = excess;
    this.#faults = Array.from({ length: draw.below(6) }, () => ({
      after: draw.below(draw.oneIn(3) ? 300_000 : 3_000),
      flip: options.checksum && draw.oneIn(2) ? 1 << draw.below(8) : 0,
    }));
    for (const role of SIDES) this.#addSide(role);
  }

  #addSide(role: SessionOptions["role"]): void {
    const options = {
      ...DEFAULT_OPTIONS,
      role,
      name: role,
      deadlockTimeout: Infinity,
    };
    const link = new SocketStream(role, {
      replayBytes: MIN_REPLAY_SIZE,
      onDetached: () => this.connect(),
      onEnded: () => void this.#ended++,
    });
    this.#links.push(link);
    this.sessions.push(
      new Session(
        new FrameWire(link, {
          onPing: (fields) => link.onPing(fields),
        }),
        options,
      ),
    );
  }

  /** Connects both sides, for the first time or again. */
  connect(): void {
    this.#connecting ??= this.#connect();
  }

  async #connect(): Promise<void> {
    await turn();
    this.#connecting = undefined;
    const [opener, acceptor] = this.#links as [SocketStream, SocketStream];
    if (this.#ended > 0) {
      // A side that comes back then finds that the session does not exist.
      for (const link of this.#links) {
        if (link.isDetached) {
          link.abandon(new Error("there is no such session"));
        }
      }
      return;
    }
    opener.detach();
    acceptor.detach();
    const openerConnection = new MemoryConnection();
    const acceptorConnection = new MemoryConnection();
    this.#join(openerConnection, acceptorConnection);
    const [openerRecords, acceptorRecords] = await Promise.all([
      withRecords(openerConnection, this.#options),
      withRecords(acceptorConnection, this.#options),
    ]);
    const excess = this.#excess;
    this.#excess = 0;
    const [openerReceived, acceptorReceived] = [
      opener.received,
      acceptor.received,
    ];
    acceptor.attach(
      acceptorRecords,
      Infinity,
      Math.max(0, openerReceived + excess),
    );
    opener.attach(openerRecords, Infinity, acceptorReceived);
  }

  #join(
    openerConnection: MemoryConnection,
    acceptorConnection: MemoryConnection,
  ): void {
    const fault = this.#faults.pop();
    let passed = 0;
    const pass = (to: MemoryConnection) => (bytes: Bytes) => {
      const at = fault === undefined ? -1 : fault.after - passed;
      passed += bytes.length;
      if (at < 0 || at >= bytes.length) {
        // Bytes after a fault are lost.
        if (fault === undefined || at > 0) feedCut(to, bytes, this.#draw);
        return;
      }
      if (fault!.flip !== 0) {
        bytes[at]! ^= fault!.flip;
        feedCut(to, bytes, this.#draw);
      } else to.feed(bytes.slice(0, at));
      // Also after a change: the reader would wait for the bytes of a larger
      // length.
      openerConnection.end();
      acceptorConnection.end();
    };
    openerConnection.onWrite = pass(acceptorConnection);
    acceptorConnection.onWrite = pass(openerConnection);
    openerConnection.onEnd = () => acceptorConnection.end();
    acceptorConnection.onEnd = () => openerConnection.end();
  }
}

/** The messages of one side. */
function drawMessages(draw: Draw): Bytes[] {
  return Array.from(
    { length: draw.below(8) },
    () =>
      drawContent(draw, draw.oneIn(5) ? draw.below(300_000) : draw.below(500)),
  );
}

/** Receives to the end; returns the error, if any. */
async function receiveAll(
  session: Session,
  found: unknown[],
): Promise<unknown> {
  try {
    for await (const message of session) found.push(message);
    await session.closed;
    return undefined;
  } catch (error) {
    return error;
  }
}

async function sendAll(
  session: Session,
  messages: readonly Bytes[],
): Promise<void> {
  try {
    for (const message of messages) await session.send(message);
    await session.close();
  } catch {
    // The other promises report the same error.
  }
}

async function runResumed(draw: Draw): Promise<void> {
  const checksum = draw.oneIn(2);
  const options = { checksum, compression: draw.oneIn(2) };
  const excess = draw.oneIn(6) ? draw.pick([1, -1, 2 ** 20, 2 ** 40]) : 0;
  const resumed = new Resumed(draw, options, excess);
  const messages = SIDES.map(() => drawMessages(draw));
  const { sessions } = resumed;
  for (const session of sessions) session.open().catch(() => {});
  resumed.connect();
  const found: unknown[][] = [[], []];
  const working = sessions.map(async (session, index) => {
    const sending = sendAll(session, messages[index]!);
    const error = await receiveAll(session, found[index]!);
    await sending;
    return error;
  });
  const errors = await within(Promise.all(working), LIMIT, "a session");
  for (const [index, error] of errors.entries()) {
    checkEnd(error, excess !== 0);
    checkReceived(found[index]!, messages[1 - index]!, excess === 0);
  }
}

/** Checks that a session ended with an allowed error. */
function checkEnd(error: unknown, mayFail: boolean): void {
  if (error === undefined) return;
  // The last acknowledgement is not acknowledged itself: if the connection
  // breaks then, one side does not receive it.
  const isLast = isEnd(error) &&
    error.message.includes("has not acknowledged what was sent last");
  if (!mayFail && !isLast) {
    throw new Violation(`A session is lost: ${show(error)}`);
  }
  if (error instanceof ProtocolError) return checkRefusal(error);
  if (isEnd(error)) {
    return checkMessage(error);
  }
  // The error of a link that was abandoned.
  throw new Violation(`A session ends with another error: ${show(error)}`);
}

function checkReceived(
  found: readonly unknown[],
  sent: readonly Bytes[],
  isAll: boolean,
): void {
  if (isAll && found.length !== sent.length) {
    throw new Violation(`${found.length} of ${sent.length} messages arrive`);
  }
  for (const [index, message] of found.entries()) {
    const expected = sent[index];
    if (
      expected !== undefined && message instanceof Uint8Array &&
      equalBytes(message, expected)
    ) continue;
    throw new Violation(`Message ${index} arrives changed`);
  }
}

const records: Target = {
  batch: 1_500,
  group: 100,
  isAsync: true,
  make: (draw) => draw.bytes(draw.between(20, 400)),
  async run(input) {
    const draw = Draw.from(input);
    if (draw.oneIn(4)) await runResumed(draw);
    else await runLayer(draw);
  },
  // Valid peers send up to a few MB, which the reference reads again.
  budget: () => ({ ms: 1_500, bytes: 96 * 2 ** 20 }),
  smaller: smallerBytes,
};

/** The targets of this file. */
export const RECORD_TARGETS: Readonly<Record<string, Target>> = { records };
