// Copyright 2026 the Duplex authors. MIT license.

/**
 * Greetings and readys with wrong fields: the side that reads one says what was
 * wrong, to its caller and to its peer.
 *
 * @module
 */

import {
  assertEquals,
  assertInstanceOf,
  assertNotMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { encode, type ValueMap, type ValueType } from "@std/msgpack";
import { ProtocolError } from "@duplex/ipc/duplex";
import { openSocket } from "@duplex/ipc/socket";
import { frameByFrame, type Plan, Proxy } from "./_proxy.ts";
import { EchoListener, exchange, until } from "./_peers.ts";
import { greeting, LINK, MAGIC, RawPeer } from "./_raw.ts";
import { test } from "../workers/_processes.ts";
import { concat, control, frame, KIND } from "../workers/_wire.ts";

const NET = { net: ["127.0.0.1"] };
const TCP = "tcp://127.0.0.1:0";

/** What a field may be. */
type Kind = "integer" | "boolean" | "binary" | "optional binary";

const GREETING: Record<string, [Kind, ValueType]> = {
  version: ["integer", 1],
  nonce: ["binary", new Uint8Array(32)],
  secret: ["boolean", false],
  heartbeat: ["integer", 0],
  checksum: ["boolean", false],
  compression: ["boolean", false],
  resume: ["boolean", false],
  session: ["optional binary", new Uint8Array(16)],
};

const READY: Record<string, [Kind, ValueType]> = {
  received: ["integer", 0],
  proof: ["binary", new Uint8Array(32)],
};

const EXTENSION = new Uint8Array([0xd4, 0x05, 0x00]);
const TIMESTAMP = new Uint8Array([0xd6, 0xff, 0, 0, 0, 0]);

/** Values in MessagePack, and the kinds of field that they are right for. */
const VALUES: [string, Uint8Array | undefined, Kind[]][] = [
  ["missing", undefined, ["optional binary"]],
  ["nil", encode(null), []],
  ["true", encode(true), ["boolean"]],
  ["a text", encode("text"), []],
  ["-1", encode(-1), []],
  ["0.5", encode(0.5), []],
  ["NaN", encode(NaN), []],
  ["Infinity", encode(Infinity), []],
  ["1e300", encode(1e300), []],
  ["2 ** 64 - 1", encode(2n ** 64n - 1n), []],
  ["-(2 ** 63)", encode(-(2n ** 63n)), []],
  ["no bytes", encode(new Uint8Array()), []],
  ["33 bytes", encode(new Uint8Array(33)), []],
  ["an array", encode([1, [2]]), []],
  ["a map", encode({ constructor: { name: "x" }, toString: 1 }), []],
  ["an extension", EXTENSION, []],
  ["a timestamp", TIMESTAMP, []],
];

/** A frame with one field that is wrong. */
function wrongFrame(
  fields: Record<string, [Kind, ValueType]>,
  name: string,
  value: Uint8Array | undefined,
): Uint8Array {
  const entries: [string, Uint8Array][] = Object.entries(fields)
    .filter(([key, [kind]]) => key !== name && kind !== "optional binary")
    .map(([key, [, right]]) => [key, encode(right)]);
  if (value !== undefined) entries.push([name, value]);
  const map = concat(
    new Uint8Array([0x80 | entries.length]),
    ...entries.flatMap(([key, bytes]) => [encode(key), bytes]),
  );
  return fields === GREETING
    ? concat(frame(LINK.greeting, MAGIC, map))
    : concat(frame(LINK.ready, map));
}

/** Every field with every value that is wrong for it. */
function* wrongFrames(
  fields: Record<string, [Kind, ValueType]>,
): Generator<[string, Uint8Array]> {
  for (const [name, [kind]] of Object.entries(fields)) {
    for (const [what, value, kinds] of VALUES) {
      if (kinds.includes(kind)) continue;
      yield [`"${name}" is ${what}`, wrongFrame(fields, name, value)];
    }
  }
}

/** The error that a peer receives names the field, unless its value has parts. */
function checkRefusal(what: string, fields: Record<string, unknown>): void {
  assertEquals(fields.fault, true, what);
  const text = String(fields.text);
  assertStringIncludes(text, "Cannot read", what);
  if (/an? (array|map|extension|timestamp)$/.test(what)) return;
  assertStringIncludes(text, what.slice(0, what.lastIndexOf('"') + 1), what);
}

test("listenSocket() says what is wrong with a greeting", async () => {
  await using server = new EchoListener(TCP);
  for (const [what, bytes] of wrongFrames(GREETING)) {
    const count = server.errors.length;
    using peer = await RawPeer.connect(server.address);
    await peer.write(bytes);
    checkRefusal(what, await peer.refusal());
    await until(() => server.errors.length > count);
    assertInstanceOf(server.errors.at(-1), ProtocolError, what);
  }
}, NET);

test("listenSocket() says what is wrong with a ready", async () => {
  await using server = new EchoListener(TCP);
  for (const [what, bytes] of wrongFrames(READY)) {
    const count = server.errors.length;
    using peer = await RawPeer.connect(server.address);
    await peer.write(greeting());
    await peer.frame();
    await peer.write(bytes);
    checkRefusal(what, await peer.refusal());
    await until(() => server.errors.length > count);
    assertInstanceOf(server.errors.at(-1), ProtocolError, what);
  }
}, NET);

/** Opens a socket to a raw acceptor, which must receive the reason. */
async function openWrong(
  what: string,
  accept: (peer: RawPeer) => Promise<void>,
  options: object = {},
): Promise<void> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const address = `tcp://127.0.0.1:${listener.addr.port}`;
  const opening = assertRejects(
    () => openSocket(address, options),
    ProtocolError,
    `Cannot open a socket to "${address}": Cannot read`,
    what,
  );
  using peer = new RawPeer(await listener.accept());
  await accept(peer);
  checkRefusal(what, await peer.refusal());
  peer[Symbol.dispose]();
  await opening;
}

test("openSocket() says what is wrong with a greeting", async () => {
  for (const [what, bytes] of wrongFrames(GREETING)) {
    await openWrong(what, async (peer) => {
      await peer.frame();
      await peer.write(bytes);
    });
  }
}, NET);

test("openSocket() says what is wrong with a ready", async () => {
  for (const [what, bytes] of wrongFrames(READY)) {
    await openWrong(what, async (peer) => {
      await peer.frame();
      await peer.write(greeting());
      await peer.frame();
      await peer.write(bytes);
    });
  }
}, NET);

/** Has something else pass in the place of the listener's ready. */
function replaceReady(bytes: Uint8Array<ArrayBuffer>): Plan {
  const greetings = frameByFrame((frame, index) =>
    index === 1 ? [bytes] : [frame]
  );
  let count = 0;
  // The listener sends a greeting and its ready before anything else.
  const alter = (chunk: Uint8Array<ArrayBuffer>) =>
    count++ < 2 ? greetings(chunk) : [chunk];
  return { down: { alter } };
}

const WRONG_READY = concat(wrongFrame(READY, "proof", encode(1)));

test("openSocket() says in a record what is wrong with a ready", async () => {
  await using server = new EchoListener(TCP, { checksum: true });
  await using proxy = new Proxy(
    server.address,
    () => replaceReady(WRONG_READY),
  );
  await assertRejects(
    () => openSocket(proxy.address),
    ProtocolError,
    '"proof"',
  );
  await until(() => server.errors.length > 0);
  assertInstanceOf(server.errors[0], ProtocolError);
  assertStringIncludes(server.errors[0].message, 'as "proof" must be 32 bytes');
}, NET);

test("openSocket() sends no abort in a session that is resumed", async () => {
  await using server = new EchoListener(TCP);
  await using proxy = new Proxy(
    server.address,
    (index) => index === 1 ? replaceReady(WRONG_READY) : {},
  );
  await using main = await openSocket(proxy.address, {
    resume: { minDelay: 1, maxDelay: 1, timeout: 10_000 },
  });
  await exchange(main);
  proxy.passages[0]!.cut();
  // The stream goes on behind the opener's ready: an abort there would be part
  // of a message.
  await exchange(main);
  await until(() => proxy.passages.length === 3);
  await exchange(main);
}, NET);

/**
 * A text that a terminal does not show as it is: it sets a colour, clears a line,
 * turns the direction of text around, ends a line and hides characters.
 */
const NASTY = "\u001b[31m\u009b2K\u202e\u2066\u2028\u200b\r\nnasty";

/** Throws unless a text holds what a terminal shows as it is. */
function checkPrintable(what: string, text: string): void {
  assertStringIncludes(text, "nasty", what);
  assertNotMatch(text, /[\p{C}\p{Zl}\p{Zp}]/u, what);
}

/** An abort with a text, and what a text may not be. */
const ABORTS: [string, ValueMap][] = [
  ["a refusal", { text: NASTY, fault: false, refusal: "full" }],
  ["a fault", { text: NASTY, fault: true }],
  ["an array", { text: ["nasty"], fault: false, refusal: "secret" }],
  ["a map", { text: { nasty: { toString: 1 } }, fault: [1], refusal: {} }],
  ["nothing", {}],
];

test("openSocket() escapes the text of an abort", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  for (const [what, fields] of ABORTS) {
    const opening = assertRejects(
      () => openSocket(`tcp://127.0.0.1:${listener.addr.port}`),
      Error,
      "Cannot open a socket to",
      what,
    );
    using peer = new RawPeer(await listener.accept());
    await peer.frame();
    await peer.write(control(KIND.abort, fields));
    const { message } = await opening;
    if (fields.text === NASTY) checkPrintable(what, message);
    else assertNotMatch(message, /\[object|is not a function/, what);
  }
}, NET);

test("listenSocket() escapes the text of an abort", async () => {
  await using server = new EchoListener(TCP);
  for (const [what, fields] of ABORTS) {
    const count = server.errors.length;
    using peer = await RawPeer.connect(server.address);
    await peer.write(greeting());
    await peer.frame();
    await peer.write(control(KIND.abort, fields));
    await until(() => server.errors.length > count);
    const { message } = server.errors.at(-1) as Error;
    if (fields.text === NASTY) checkPrintable(what, message);
    else assertNotMatch(message, /\[object|is not a function/, what);
    // A peer that has sent a reason does not receive one.
    assertEquals(await peer.untilEnd(), new Uint8Array());
  }
}, NET);

test("listenSocket() escapes bytes of a peer", async () => {
  const bytes = new TextEncoder().encode(NASTY);
  await using server = new EchoListener(TCP);
  using client = await RawPeer.connect(server.address);
  await client.write(new Uint8Array([127, 0, 0, 0]), bytes);
  const { text } = await client.refusal();
  await until(() => server.errors.length > 0);
  assertStringIncludes(String(text), "the bytes are");
  assertNotMatch(String(text), /[\p{C}\p{Zl}\p{Zp}]/u);
  assertNotMatch((server.errors[0] as Error).message, /[\p{C}\p{Zl}\p{Zp}]/u);

  using peer = await RawPeer.connect(server.address);
  await peer.greet();
  await peer.write(new Uint8Array([0, 0, 0, 32, 127]), bytes);
  const refusal = await peer.refusal();
  await until(() => server.errors.length > 1);
  checkPrintable("the abort", String(refusal.text));
  checkPrintable("the error", (server.errors[1] as Error).message);
}, NET);
