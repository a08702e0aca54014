// Copyright 2026 the Duplex authors. MIT license.

/**
 * The session with peers that break the protocol, and over links that split the
 * bytes at any place.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { decode, encode, type ValueMap } from "@std/msgpack";
import { msgpack } from "@duplex/ipc/codec";
import { ClosedError, PeerExitError, ProtocolError } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { FrameWire } from "../../_wire/frame_wire.ts";
import {
  type ControlFields,
  type ControlKind,
  encodeControl,
  KIND,
  MAGIC,
} from "../../_wire/frame_layout.ts";
import { helloFields } from "../../_wire/control_frames.ts";
import { DEFAULT_OPTIONS } from "../../_session/options.ts";
import { memoryStreams } from "../../_session/memory_stream.ts";
import { Session } from "../../_session/session.ts";
import { random, seed } from "../_seed.ts";
import type { ByteStream } from "../../_wire/byte_stream.ts";
import { drain, sessionAndRawEnd, splitReads } from "../wire/_streams.ts";

// The bytes of the peer are made with the reference implementation.
const HELLO = control(KIND.hello, helloFields(DEFAULT_OPTIONS));

/** The hello of a peer of version 0.1.0, which does not read graph form. */
const OLD_HELLO = control(
  KIND.hello,
  Object.fromEntries(
    Object.entries({ ...helloFields(DEFAULT_OPTIONS), maxMessage: 1000 })
      .filter(([name]) => name !== "graph"),
  ),
);

function frame(kind: number, ...body: (number[] | Uint8Array)[]): Uint8Array {
  const bytes = body.flatMap((part) => [...part]);
  const out = new Uint8Array(5 + bytes.length);
  new DataView(out.buffer).setUint32(0, 1 + bytes.length);
  out[4] = kind;
  out.set(bytes, 5);
  return out;
}

function u32(value: number): number[] {
  return [value >>> 24, value >>> 16, value >>> 8, value].map((b) => b & 255);
}

function data(number: number, message: unknown, taken = 0): Uint8Array {
  return frame(KIND.data, u32(number), u32(taken), msgpack.encode(message));
}

function control(kind: ControlKind, fields: ControlFields): Uint8Array {
  const map = encode(fields as ValueMap);
  return kind === KIND.hello ? frame(kind, MAGIC, map) : frame(kind, map);
}

function join(parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let length = 0;
  for (const part of parts) {
    out.set(part, length);
    length += part.length;
  }
  return out;
}

/** The error with which a session fails after these bytes. */
async function sessionError(parts: Uint8Array[]): Promise<unknown> {
  const { session, raw } = sessionAndRawEnd({
    windowMessages: 4,
    windowBytes: 4096,
  });
  const drained = drain(raw);
  const opening = session.open();
  const pending = session.receive();
  raw.write(join(parts)).catch(() => {});
  // The end of the stream: a session that has not failed yet fails now.
  await raw.close(1, []);
  await opening.catch(() => {});
  await pending.catch(() => {});
  const failure = await session.closed.catch((error) => error);
  await drained;
  return failure;
}

const FAULTS: [string, Uint8Array[], string][] = [
  ["a message before the hello", [data(1, "x")], "frame of kind 2"],
  ["a second hello", [HELLO, HELLO], "second hello"],
  ["a goodbye before the hello", [control(KIND.goodbye, {})], "hello"],
  [
    "another version",
    [control(KIND.hello, { ...helloFields(DEFAULT_OPTIONS), version: 99 })],
    "version 99 of the protocol and this side version 1",
  ],
  [
    "no codec in common",
    [control(KIND.hello, { ...helloFields(DEFAULT_OPTIONS), codecs: ["xml"] })],
    'the peer has "xml" and this side',
  ],
  [
    "an empty window",
    [control(KIND.hello, { ...helloFields(DEFAULT_OPTIONS), window: 0 })],
    '"window"',
  ],
  [
    "a gap in the numbers",
    [HELLO, data(1, "x"), data(3, "y")],
    "the next one must be 2",
  ],
  [
    "a repeated number",
    [HELLO, data(1, "x"), data(1, "x")],
    "the next one must be 2",
  ],
  ["an unknown kind", [HELLO, frame(0x7f)], "frame of kind 127"],
  ["an empty frame", [HELLO, new Uint8Array(8)], "frame of kind 0"],
  ["text", [HELLO, new TextEncoder().encode("Hello, world")], "Hello, world"],
  [
    "a control frame over its limit",
    [HELLO, join([new Uint8Array([0, 0, 0x20, 0, KIND.credit])])],
    "frame of kind 5",
  ],
  ["a control frame that is not MessagePack", [
    HELLO,
    frame(KIND.credit, [0xc1]),
  ], "no MessagePack"],
  [
    "a control frame without a map",
    [HELLO, frame(KIND.credit, [0x90])],
    "no map",
  ],
  [
    "a wrong count in a control frame",
    [HELLO, frame(KIND.credit, [0xdf, 0xff, 0xff, 0xff, 0xff])],
    "more than 64 items",
  ],
  [
    "credit that is not a number",
    [HELLO, control(KIND.credit, { taken: "all" })],
    '"taken" must be an integer',
  ],
  [
    "credit for a message that was not sent",
    [HELLO, control(KIND.credit, { taken: 1 })],
    "the last one sent is 0",
  ],
  [
    "an acknowledgement of a message that was not sent",
    [HELLO, data(1, "x", 7)],
    "the last one sent is 0",
  ],
  [
    "a goodbye that counts messages which did not arrive",
    [HELLO, control(KIND.goodbye, { sent: 5, taken: 0 })],
    "goodbye after 5 messages",
  ],
  [
    "a goodbye inside a message",
    [
      HELLO,
      frame(KIND.first, u32(1), u32(0), u32(9), [1]),
      control(KIND.goodbye, { sent: 0, taken: 0 }),
    ],
    "frame of kind 9",
  ],
  [
    "a message after the goodbye",
    [HELLO, control(KIND.goodbye, { sent: 0, taken: 0 }), data(1, "x")],
    "has sent its goodbye",
  ],
  [
    "more messages than the window",
    [HELLO, ...[1, 2, 3, 4, 5, 6].map((number) => data(number, "x"))],
    "more than the window",
  ],
  [
    "more bytes than the window",
    [HELLO, ...[1, 2, 3, 4].map((number) => data(number, "x".repeat(4000)))],
    "more than the window",
  ],
  [
    "an invalid payload",
    [HELLO, frame(KIND.data, u32(1), u32(0), [0xc1])],
    "decode",
  ],
  ["an empty payload", [HELLO, frame(KIND.data, u32(1), u32(0))], "decode"],
  [
    "a message over the limit",
    [HELLO, join([new Uint8Array([0x70, 0, 0, 0, KIND.data])])],
    '"maxMessageBytes"',
  ],
  [
    "a first part of a message over the limit",
    [HELLO, frame(KIND.first, u32(1), u32(0), u32(2 ** 31), [1])],
    '"maxMessageBytes"',
  ],
  [
    "a part without a first part",
    [HELLO, frame(KIND.next, [1])],
    "frame of kind 4",
  ],
  [
    "a part longer than its message",
    [HELLO, frame(KIND.first, u32(1), u32(0), u32(2), [1, 2, 3])],
    "part of 3 bytes",
  ],
  [
    "a message inside another",
    [HELLO, frame(KIND.first, u32(1), u32(0), u32(9), [1]), data(2, "x")],
    "frame of kind 2",
  ],
];

Deno.test({
  name: "Session.trySend() throws the reason of an aborted signal",
  permissions: "none",
  fn: async () => {
    const [left, right] = duplexPair<number>({ windowMessages: 1 });
    const reason = new Error("No longer needed");
    const signal = AbortSignal.abort(reason);
    const thrown = () => assertThrows(() => left.trySend(2, { signal }));
    await left.send(1);
    assertEquals(left.trySend(2), false);
    assertStrictEquals(thrown(), reason);
    assertEquals(await right.receive(), 1);
    assertStrictEquals(thrown(), reason);
    assertEquals(right.tryReceive(), { state: "empty" });
    await Promise.all([left.close(), right.close()]);
    assertStrictEquals(thrown(), reason);
  },
});

Deno.test({
  name: "Session writes control frames that any MessagePack decoder can read",
  permissions: "none",
  fn() {
    const fields = { ...helloFields(DEFAULT_OPTIONS), window: 2 ** 40 };
    const hello = encodeControl(KIND.hello, fields);
    assertEquals(decode(hello.slice(5 + MAGIC.length)), {
      ...fields,
      window: 2n ** 40n,
    });
    const abort = { text: "no", fault: false, reason: new Uint8Array([0xc0]) };
    assertEquals(decode(encodeControl(KIND.abort, abort).slice(5)), abort);
  },
});

/** Reads what a session writes until this has arrived. */
async function readUntil(raw: ByteStream, expected: Uint8Array): Promise<void> {
  const into = new Uint8Array(65_536);
  const decoder = new TextDecoder("latin1");
  const sought = decoder.decode(expected);
  for (let text = ""; !text.includes(sought);) {
    const bytes = await raw.read(into);
    if (bytes === null) throw new Error(`The session has ended: ${text}`);
    text += decoder.decode(bytes);
  }
}

Deno.test({
  name: "Session sends copies of objects to a peer without graph form",
  permissions: "none",
  async fn() {
    const { session, raw } = sessionAndRawEnd();
    raw.write(join([OLD_HELLO])).catch(() => {});
    await session.open();
    const shared = { n: 1 };
    await session.send({ a: shared, b: [shared] });
    await readUntil(raw, data(1, { a: { n: 1 }, b: [{ n: 1 }] }));
    const cycle: Record<string, unknown> = { list: [1] };
    (cycle.list as unknown[]).push(cycle);
    const { message } = await assertRejects(
      () => session.send(cycle),
      TypeError,
    );
    assertStringIncludes(
      message,
      'the value at "$.list[1]" is the object at "$" that contains it: a cycle',
    );
    let doubled: unknown[] = [];
    for (let level = 0; level < 100; level++) doubled = [doubled, doubled];
    await assertRejects(() => session.send(doubled), RangeError, "1000 bytes");
    await session.send("goes on");
    await readUntil(raw, data(2, "goes on"));
    session.abort({ first: shared, second: shared });
    await readUntil(raw, msgpack.encode({ first: { n: 1 }, second: { n: 1 } }));
    await assertRejects(() => session.closed);
    await raw.destroy();
  },
});

Deno.test({
  name: "Session sends graph form to a peer that reads it",
  permissions: "none",
  async fn() {
    const { session, raw } = sessionAndRawEnd();
    assertEquals(helloFields(DEFAULT_OPTIONS).graph, true);
    raw.write(join([HELLO])).catch(() => {});
    await session.open();
    const shared = { n: 1 };
    await session.send([shared, shared]);
    const graph = msgpack.encode([shared, shared]);
    assertEquals(graph.slice(0, 6), new Uint8Array([0xc9, 0, 0, 0, 8, 12]));
    await readUntil(raw, graph);
    session.abort([shared, shared]);
    await readUntil(raw, graph);
    await assertRejects(() => session.closed);
    await raw.destroy();
  },
});

for (const [what, parts, message] of FAULTS) {
  Deno.test({
    name: `Session rejects ${what}`,
    permissions: "none",
    async fn() {
      const failure = await sessionError(parts);
      assertInstanceOf(failure, ProtocolError);
      assertStringIncludes(failure.message, message);
    },
  });
}

Deno.test({
  name: "Session reports to the peer what it rejected",
  permissions: "none",
  async fn() {
    const [leftStream, rightStream] = memoryStreams();
    const left = new Session(new FrameWire(leftStream));
    const right = new Session(new FrameWire(rightStream), {
      role: "acceptor",
    });
    await Promise.all([left.open(), right.open()]);
    left.onFault(new ProtocolError("Cannot read this"));
    const error = await assertRejects(() => right.receive(), ProtocolError);
    assertStringIncludes(error.message, "Cannot read this");
    await assertRejects(() => left.closed, ProtocolError);
    await assertRejects(() => right.closed, ProtocolError);
  },
});

Deno.test({
  name:
    "Session rejects waiting sends when both sides close and neither receives",
  permissions: "none",
  async fn() {
    const limits = { windowMessages: 2, deadlockTimeout: 20 };
    const [leftStream, rightStream] = memoryStreams();
    const left = new Session(new FrameWire(leftStream), limits);
    const right = new Session(new FrameWire(rightStream), {
      ...limits,
      role: "acceptor",
    });
    await Promise.all([left.open(), right.open()]);
    const sends = [1, 2, 3, 4].map((number) => left.send(number));
    const closing = [left.close(), right.close()];
    const [first, second, third, fourth] = await Promise.allSettled(sends);
    assertEquals([first!.status, second!.status], ["fulfilled", "fulfilled"]);
    for (const late of [third!, fourth!]) {
      assert(late.status === "rejected");
      assertInstanceOf(late.reason, ClosedError);
      assertEquals(late.reason.unsent, [1, 2]);
    }
    await Promise.all(closing);
  },
});

Deno.test({
  name: "Session keeps credit out of a message whose getter receives",
  permissions: "none",
  async fn() {
    const [leftStream, rightStream] = memoryStreams();
    const left = new Session(new FrameWire(leftStream), {
      windowMessages: 2,
    });
    const right = new Session(new FrameWire(rightStream), {
      role: "acceptor",
    });
    await Promise.all([left.open(), right.open()]);
    await Promise.all([right.send("a"), right.send("b")]);
    while (left.stats.queued < 2) {
      await new Promise((resolve) => setTimeout(resolve));
    }
    const message = {
      get taken() {
        return [left.tryReceive(), left.tryReceive()].map(({ state }) => state);
      },
    };
    await left.send(message);
    assertEquals(await right.receive(), { taken: ["ok", "ok"] });
    await Promise.all([left.close(), right.close()]);
  },
});

Deno.test({
  name: "Session ends with a PeerExitError at every cut of a conversation",
  permissions: "none",
  async fn() {
    const whole = join([
      HELLO,
      data(1, { a: [1, "two"] }),
      frame(KIND.first, u32(2), u32(0), u32(8), [0xc4, 6, 1]),
      frame(KIND.next, [2, 3, 4, 5, 6]),
    ]);
    for (let length = 0; length < whole.length; length++) {
      const failure = await sessionError([whole.subarray(0, length)]);
      assertInstanceOf(failure, PeerExitError, `after ${length} bytes`);
    }
  },
});

Deno.test({
  name: "Session allocates no memory for bytes that have not arrived",
  permissions: "none",
  async fn() {
    const before = Deno.memoryUsage().external;
    const sessions = Array.from(
      { length: 20 },
      () => sessionAndRawEnd({ windowBytes: 4096 }),
    );
    const claim = frame(KIND.first, u32(1), u32(0), u32(200 << 20), [1]);
    const drained = sessions.map(({ raw }) => drain(raw));
    await Promise.all(sessions.map(({ session, raw }) => {
      raw.write(join([HELLO, claim]));
      return session.open();
    }));
    const grown = Deno.memoryUsage().external - before;
    assert(grown < 20 << 20, `external memory grew by ${grown} bytes`);
    for (const { session, raw } of sessions) {
      session.abort(new Error("Enough"));
      await assertRejects(() => session.closed, Error, "Enough");
      await raw.close(1, []);
    }
    await Promise.all(drained);
  },
});

Deno.test({
  name: "Session fails with a documented error for any bytes",
  permissions: { env: ["DUPLEX_SEED"] },
  async fn() {
    const next = random(seed());
    const good = join([
      HELLO,
      data(1, { a: [1, "two"] }),
      frame(KIND.first, u32(2), u32(0), u32(8), [0xc4, 6, 1]),
      frame(KIND.next, [2, 3, 4, 5, 6]),
      control(KIND.goodbye, { sent: 2, taken: 0 }),
    ]);
    for (let run = 0; run < 2000; run++) {
      const bytes = good.slice();
      const flips = 1 + Math.floor(next() * 4);
      for (let flip = 0; flip < flips; flip++) {
        bytes[Math.floor(next() * bytes.length)] = Math.floor(next() * 256);
      }
      const failure = await sessionError([bytes]);
      const known = failure === undefined || failure instanceof PeerExitError ||
        failure instanceof ProtocolError;
      assert(known, `run ${run}: ${failure}`);
    }
  },
});

Deno.test({
  name:
    "Session keeps order and content over a link that splits bytes at any place",
  permissions: { env: ["DUPLEX_SEED"] },
  async fn() {
    const next = random(seed());
    for (const most of [3, 100, 5000, 1 << 20]) {
      const [leftStream, rightStream] = memoryStreams();
      const left = new Session<Uint8Array>(
        new FrameWire(splitReads(leftStream, next, most)),
        { name: "left", windowMessages: 7 },
      );
      const right = new Session<Uint8Array>(
        new FrameWire(splitReads(rightStream, next, most)),
        { role: "acceptor", name: "right", windowBytes: 100_000 },
      );
      await Promise.all([left.open(), right.open()]);
      const largest = Math.min(most * 500, 2 ** 20);
      const sizes = Array.from(
        { length: 40 },
        () => Math.floor(next() ** 4 * largest),
      );
      const send = async (side: Session<Uint8Array>) => {
        for (const size of sizes) {
          await side.send(new Uint8Array(size).fill(size));
        }
        await side.close();
      };
      const check = async (side: Session<Uint8Array>) => {
        let index = 0;
        for await (const bytes of side) {
          const size = sizes[index++]!;
          assertEquals(bytes.length, size);
          assert(bytes.every((byte) => byte === (size & 255)));
        }
        assertEquals(index, sizes.length);
      };
      await Promise.all([send(left), send(right), check(left), check(right)]);
    }
  },
});

Deno.test({
  name: "memoryStreams() accepts writes after the peer has closed",
  permissions: "none",
  async fn() {
    // Such as credit that crosses the last goodbye: the peer no longer reads.
    const [leftStream, rightStream] = memoryStreams();
    const written = leftStream.write(new Uint8Array(1));
    await rightStream.close(1, []);
    await written;
    await leftStream.write(new Uint8Array(1));
    await leftStream.close(1, []);
  },
});
