// Copyright 2026 the Duplex authors. MIT license.

/**
 * Sessions over a stream of bytes, and the control frames that they read.
 *
 * @module
 */

import { FrameWire } from "../../_wire/frame_wire.ts";
import { decodeControl, KIND, MAGIC } from "../../_wire/frame_layout.ts";
import { readHello, readReason } from "../../_wire/control_frames.ts";
import {
  DEFAULT_OPTIONS,
  type SessionOptions,
} from "../../_session/options.ts";
import { costOfMsgpack } from "../../_codec/msgpack_decode.ts";
import { Session } from "../../_session/session.ts";
import { json, msgpack } from "../../codec.ts";
import { isEnd } from "../../_base/errors.ts";
import {
  type Bytes,
  concat,
  Draw,
  mutate,
  smallerBytes,
  utf8,
} from "./draw.ts";
import { difference, equalBytes } from "./equal.ts";
import { FeedStream } from "./feed_stream.ts";
import {
  makeControl,
  PeerMaker,
  readShape,
  type SessionShape,
  SHAPE_SIZE,
} from "./frame_bytes.ts";
import { type Expected, FrameModel, SENT_VALUE } from "./frame_model.ts";
import {
  BASE_TIME,
  type Budget,
  checkMessage,
  checkRefusal,
  show,
  type Target,
  timeFor,
  Violation,
  within,
} from "./harness.ts";
import { readReferenceFields } from "./reference.ts";
import { WORDS } from "./msgpack_bytes.ts";

/** The result of a session. */
interface Outcome {
  /** The error with which `closed` rejected, if any. */
  readonly failure: { readonly error: unknown } | undefined;
  readonly messages: readonly unknown[];
  readonly sent: number;
  /** All bytes that it wrote. */
  readonly output: Bytes;
  /** The text before the hello. */
  readonly text: Bytes;
}

/** Milliseconds within which each promise must settle. */
const LIMIT = 3_000;

/** Maximum number of pieces of a stream. */
const MAX_PIECES = 40;

/** The places at which a stream is split. */
function* cut(bytes: Bytes, cuts: number): Generator<Bytes> {
  if (cuts < 64) {
    yield bytes;
    return;
  }
  const draw = Draw.seeded(cuts);
  const most = cuts > 240 ? 3 : Math.ceil(bytes.length / 8) + 1;
  let at = 0;
  for (let left = MAX_PIECES; left > 0 && at < bytes.length; left--) {
    const end = left === 1 ? bytes.length : at + draw.between(1, most);
    yield bytes.slice(at, end);
    at = end;
  }
}

async function settled(promise: Promise<unknown>): Promise<
  { readonly error: unknown } | undefined
> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    return { error };
  }
}

/** Sends a stream to a session and waits for its end. */
async function runSession(
  shape: SessionShape,
  stream: Bytes,
  scans: boolean,
): Promise<Outcome> {
  const link = new FeedStream();
  const options: SessionOptions = {
    ...DEFAULT_OPTIONS,
    role: shape.role,
    name: "session",
    codecs: shape.onlyJson ? [json] : [msgpack, json],
    windowBytes: shape.window,
    windowMessages: shape.windowMessages,
    maxMessageBytes: shape.maxMessage,
    deadlockTimeout: Infinity,
  };
  const texts: Uint8Array[] = [];
  const session = new Session(
    new FrameWire(link, {
      ...shape.takesPings && { onPing() {} },
      ...scans && { onText: (text: Uint8Array) => void texts.push(text) },
    }),
    options,
  );
  const pending: Promise<unknown>[] = [session.open()];
  for (let left = shape.sends; left > 0; left--) {
    pending.push(session.send(SENT_VALUE));
  }
  if (shape.closes) pending.push(session.close({ timeout: LIMIT / 2 }));
  const messages: unknown[] = [];
  if (shape.takesAll) pending.push(receiveAll(session, messages));
  for (const promise of pending) promise.catch(() => {});
  const ended = settled(session.closed);
  for (const piece of cut(stream, shape.cuts)) {
    if (link.isGone) break;
    await within(link.feed(piece), LIMIT, "A read");
  }
  link.end();
  const failure = await within(ended, LIMIT, "`closed`");
  if (!shape.takesAll) await receiveAll(session, messages).catch(() => {});
  await within(Promise.allSettled(pending), LIMIT, "A pending promise");
  return {
    failure,
    messages,
    sent: session.stats.sent,
    output: link.output,
    text: concat(...texts),
  };
}

/** Receives to the end. Rejects like the last receive. */
async function receiveAll(
  session: Session,
  messages: unknown[],
): Promise<never> {
  for (;;) messages.push(await session.receive());
}

/** The last frame of an output that consists of whole frames. */
function lastFrame(output: Bytes): Bytes {
  const view = new DataView(output.buffer);
  let start = 0;
  for (let at = 0; at < output.length;) {
    start = at;
    if (at + 5 > output.length) break;
    at += 4 + view.getUint32(at);
    if (at > output.length) break;
    if (at === output.length) return output.subarray(start);
  }
  throw new Violation(`The session has not written whole frames: ${output}`);
}

/** Checks that a session has sent its error in an abort. */
function checkAbort(output: Bytes, error: Error): void {
  const last = lastFrame(output);
  if (last[4] === KIND.abort) {
    const { fault, text } = msgpack.decode(last.subarray(5)) as Record<
      string,
      unknown
    >;
    const expected = error.message.slice(0, 200).toWellFormed();
    if (fault === true && text === expected) return;
  }
  throw new Violation(
    `The session sent no abort that names the fault: ${show(error)}`,
  );
}

/** Reasons for which a session may reject what the model accepts. */
const IS_COSTLY =
  /takes too much memory for its size|too many .* collide|more than 500 containers|has more than \d+ (items|keys)/;

/** Compares the result of a session with the expected one. */
function compare(
  shape: SessionShape,
  expected: Expected,
  { failure, messages, sent, output }: Outcome,
): void {
  const error = failure?.error;
  const isFault = error instanceof Error && error.name === "ProtocolError";
  if (isFault) checkRefusal(error);
  else if (error instanceof Error && expected.end !== "abort") {
    if (!isEnd(error)) {
      throw new Violation(
        `The session failed with an unexpected error: ${show(error)}`,
      );
    }
    checkMessage(error);
  }
  if (expected.isCreditUnknown || shape.closes) return;
  if (isFault && expected.end !== "abort") {
    if (expected.end !== "fault" && !IS_COSTLY.test(error.message)) {
      throw new Violation(
        `Refused an input that the reference accepts: ${show(error)}`,
      );
    }
    checkAbort(output, error);
    if (IS_COSTLY.test(error.message)) return;
  } else if (expected.end === "fault") {
    throw new Violation(
      `Accepted an input that the reference refuses (${expected.why}): ${
        show(error)
      }`,
    );
  }
  if (expected.end === "goodbye" && !expected.isCut && failure !== undefined) {
    if (sent === 0 && shape.sends === 0) {
      throw new Violation(`Refused a goodbye: ${show(error)}`);
    }
  }
  if (sent !== expected.sent) {
    throw new Violation(
      `Sent ${sent} messages instead of ${expected.sent}`,
    );
  }
  // An abort drops waiting messages.
  if (expected.end === "abort" && !shape.takesAll) return;
  const found = difference(messages, expected.messages);
  if (found === undefined || expected.end === "abort") return;
  throw new Violation(
    `Received other messages, at ${found}: ${show(messages)} instead of ${
      show(expected.messages)
    }`,
  );
}

/** A session needs some turns of the event loop, and buffers of 64 KiB. */
function budget(size: number): Budget {
  return {
    ms: 2 * BASE_TIME + size * 2_000e-6,
    bytes: 6 * 2 ** 20 + 800 * size,
  };
}

/** The same budget, plus the cost of the messages. */
function exactBudget(shape: SessionShape, stream: Bytes, size: number): Budget {
  const { ms, bytes } = budget(size);
  const { cost } = new FrameModel(shape, stream).run();
  return { ms: ms + timeFor(cost), bytes: bytes + cost };
}

const frames: Target = {
  batch: 2_000,
  group: 200,
  isAsync: true,
  make(draw) {
    const shape = draw.bytes(SHAPE_SIZE);
    const stream = new PeerMaker(draw, readShape(shape)).make();
    return concat(shape, draw.oneIn(3) ? mutate(stream, draw) : stream);
  },
  async run(input) {
    const shape = readShape(input);
    const stream = input.slice(SHAPE_SIZE);
    const outcome = await runSession(shape, stream, false);
    return { shape, stream, outcome };
  },
  check(_input, result) {
    const { shape, stream, outcome } = result as {
      shape: SessionShape;
      stream: Bytes;
      outcome: Outcome;
    };
    compare(shape, new FrameModel(shape, stream).run(), outcome);
  },
  budget,
  exactBudget: (input) =>
    exactBudget(readShape(input), input.slice(SHAPE_SIZE), input.length),
  smaller: smallerBytes,
};

/** The stream from its hello. */
function fromHello(stream: Bytes): Bytes {
  const at = findHello(stream);
  return at < 0 ? new Uint8Array() : stream.slice(at);
}

/** The start of the hello after a text: a second implementation. */
function findHello(stream: Bytes): number {
  for (let at = 0; at + 12 <= stream.length; at++) {
    // A control frame has at most 4096 bytes, so the first two are always zero.
    if (
      stream[at] === 0 && stream[at + 1] === 0 &&
      stream[at + 4] === KIND.hello &&
      equalBytes(stream.subarray(at + 5, at + 12), MAGIC)
    ) return at;
  }
  return -1;
}

/** Output of a program before its hello. */
function makeText(draw: Draw): Bytes {
  const parts: Uint8Array[] = [];
  for (let left = draw.size(8); left > 0; left--) {
    switch (draw.below(5)) {
      case 0:
        // A truncated hello.
        parts.push(
          new Uint8Array([0, 0, 0, 60, 1]),
          MAGIC.slice(0, draw.below(8)),
        );
        break;
      case 1:
        parts.push(MAGIC.slice(draw.below(8)));
        break;
      case 2:
        parts.push(
          draw.bytes(
            draw.oneIn(20) ? draw.pick([4_080, 4_096, 70_000]) : draw.size(40),
          ),
        );
        break;
      default:
        parts.push(utf8(draw.pick(WORDS)), utf8("\n"));
    }
  }
  return concat(...parts);
}

const scan: Target = {
  ...frames,
  make(draw) {
    const shape = draw.bytes(SHAPE_SIZE);
    const text = makeText(draw);
    const stream = draw.oneIn(5)
      ? text
      : concat(text, new PeerMaker(draw, readShape(shape)).make());
    return concat(shape, draw.oneIn(4) ? mutate(stream, draw) : stream);
  },
  exactBudget(input) {
    const stream = fromHello(input.slice(SHAPE_SIZE));
    return exactBudget(readShape(input), stream, input.length);
  },
  async run(input) {
    const shape = readShape(input);
    const stream = input.slice(SHAPE_SIZE);
    const outcome = await runSession(shape, stream, true);
    return { shape, stream, outcome };
  },
  check(_input, result) {
    const { shape, stream, outcome } = result as {
      shape: SessionShape;
      stream: Bytes;
      outcome: Outcome;
    };
    const at = findHello(stream);
    const text = at < 0 ? stream : stream.subarray(0, at);
    if (!equalBytes(outcome.text, text)) {
      throw new Violation(
        `The text before the hello is another: ${outcome.text.toHex()} instead of ${text.toHex()}`,
      );
    }
    const expected = new FrameModel(shape, fromHello(stream)).run();
    compare(shape, expected, outcome);
  },
};

/**
 * Reads the body of a control frame like a link; returns the fields that it
 * reads.
 */
function readControl(body: Bytes): { fields: unknown } | { error: unknown } {
  let fields: Record<string, unknown>;
  try {
    fields = decodeControl(body);
  } catch (error) {
    return { error };
  }
  try {
    readHello(fields, DEFAULT_OPTIONS);
  } catch (error) {
    checkRefusal(error);
  }
  const reason = readReason(fields, msgpack);
  if (reason instanceof Error && reason.message.length > 400) {
    // An abort that the peer has encoded is its own.
    if (!(fields.reason instanceof Uint8Array)) checkMessage(reason);
  }
  return { fields };
}

function tryFields(body: Bytes): Record<string, unknown> | undefined {
  try {
    return decodeControl(body);
  } catch {
    return undefined;
  }
}

const control: Target = {
  batch: 20_000,
  group: 1_000,
  make(draw) {
    const body = makeControl(draw);
    return draw.oneIn(3) ? mutate(body, draw) : body;
  },
  run: (input) => {
    if (input.length === 0 || input.length > 4_096) return undefined;
    return readControl(input);
  },
  check(input, result) {
    if (result === undefined) return;
    const read = result as { fields: unknown } | { error: unknown };
    const hasMagic = input[0] === KIND.hello || input[0] === KIND.greeting;
    const start = hasMagic ? 1 + MAGIC.length : 1;
    const isMagic = !hasMagic || equalBytes(input.subarray(1, start), MAGIC);
    const expected = isMagic ? readReferenceFields(input, start) : undefined;
    if ("error" in read) {
      checkRefusal(read.error);
      if (expected === undefined) return;
      throw new Violation(
        `Refused an input that the reference accepts: ${show(read.error)}`,
      );
    }
    if (expected === undefined) {
      throw new Violation(
        `Accepted an input that the reference refuses: ${show(read.fields)}`,
      );
    }
    const found = difference(read.fields, expected);
    if (found === undefined) return;
    throw new Violation(`Decoded other fields than the reference, at ${found}`);
  },
  // As long as a frame may be, for any content.
  budget: () => ({ ms: BASE_TIME, bytes: 3 * 2 ** 20 }),
  // The reason of an abort is a separate message.
  exactBudget(input) {
    const { ms, bytes } = this.budget(input.length);
    const reason = tryFields(input)?.reason;
    const cost = reason instanceof Uint8Array ? costOfMsgpack(reason) : 0;
    return { ms: ms + timeFor(cost), bytes: bytes + cost };
  },
  smaller: smallerBytes,
};

/** The targets of this file. */
export const FRAME_TARGETS: Readonly<Record<string, Target>> = {
  control,
  frames,
  scan,
};
