// Copyright 2026 the Duplex authors. MIT license.

/**
 * Control frames with fields of the wrong type: each is a protocol error, which
 * is reported to the peer.
 *
 * @module
 */

import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import { decode } from "@std/msgpack";
import { msgpack } from "@duplex/ipc/codec";
import { ProtocolError } from "@duplex/ipc/duplex";
import { KIND, MAGIC } from "../../_wire/frame_layout.ts";
import { helloFields } from "../../_wire/control_frames.ts";
import { DEFAULT_OPTIONS } from "../../_session/options.ts";
import { sessionAndRawEnd } from "./_streams.ts";
import { concat, frame } from "../workers/_wire.ts";

/** Values that are not a valid count. */
const NOT_COUNTS: unknown[] = [
  null,
  true,
  "1",
  -1,
  0.5,
  NaN,
  Infinity,
  2 ** 60,
  -(2n ** 63n),
  [],
  [1],
  {},
  { toString: 1, valueOf: 1 },
  { toJSON: "x" },
  new Uint8Array([1]),
];

/** Values that are not a valid list of codec names. */
const NOT_NAMES: unknown[] = [
  null,
  7,
  "msgpack",
  {},
  [],
  [2n ** 63n],
  [{ toString: 1 }],
  [null, ["msgpack"]],
  ["\u202e\u001b[2J"],
];

const HELLO = helloFields(DEFAULT_OPTIONS);

/** Every field that is read, with invalid values. */
const FIELDS: [
  kind: keyof typeof KIND,
  fields: Record<string, unknown>,
  name: string,
  wrong: unknown[],
][] = [
  ["hello", HELLO, "version", NOT_COUNTS],
  ["hello", HELLO, "codecs", NOT_NAMES],
  ["hello", HELLO, "window", [...NOT_COUNTS, 0]],
  ["hello", HELLO, "messages", [...NOT_COUNTS, 0]],
  ["hello", HELLO, "maxMessage", [...NOT_COUNTS, 0]],
  ["credit", { taken: 0 }, "taken", NOT_COUNTS],
  ["stall", { taken: 0 }, "taken", NOT_COUNTS],
  ["goodbye", { sent: 0, taken: 0 }, "sent", NOT_COUNTS],
  ["goodbye", { sent: 0, taken: 0 }, "taken", NOT_COUNTS],
];

function control(
  kind: keyof typeof KIND,
  fields: Record<string, unknown>,
): Uint8Array {
  const map = msgpack.encode(fields);
  return kind === "hello"
    ? frame(KIND.hello, MAGIC, map)
    : frame(KIND[kind], map);
}

/**
 * Sends frames to a session; returns its error and the last frame that it sent.
 */
async function answerTo(
  frames: Uint8Array<ArrayBuffer>,
): Promise<{ failure: unknown; last: Uint8Array }> {
  const { session, raw } = sessionAndRawEnd();
  const opening = session.open();
  opening.catch(() => {});
  raw.write(frames).catch(() => {});
  let received: Uint8Array = new Uint8Array();
  const into = new Uint8Array(4096);
  for (;;) {
    const part = await raw.read(into);
    if (part === null) break;
    received = concat(received, part);
  }
  const failure = await session.closed.catch((error) => error);
  await raw.close(1, []);
  let last = received;
  for (let rest = received; rest.length > 0;) {
    const { buffer, byteOffset } = rest;
    const size = 4 + new DataView(buffer, byteOffset).getUint32(0);
    last = rest.subarray(0, size);
    rest = rest.subarray(size);
  }
  return { failure, last };
}

for (const [kind, fields, name, wrong] of FIELDS) {
  Deno.test({
    name: `Session rejects a ${kind} with an invalid "${name}", and reports it`,
    permissions: "none",
    async fn() {
      const absent = { ...fields };
      delete absent[name];
      const variants = [
        absent,
        ...wrong.map((value) => ({ ...fields, [name]: value })),
      ];
      for (const variant of variants) {
        const what = Deno.inspect(variant[name]);
        const before = kind === "hello"
          ? new Uint8Array()
          : control("hello", HELLO);
        const { failure, last } = await answerTo(
          concat(before, control(kind, variant)),
        );
        assertInstanceOf(failure, ProtocolError, what);
        assert(!/\p{C}/u.test(failure.message), failure.message);
        assertEquals(last[4], KIND.abort, what);
        const abort = decode(last.subarray(5)) as Record<string, unknown>;
        assertEquals(abort.fault, true, what);
        assertEquals(abort.text, failure.message.slice(0, 200), what);
      }
    },
  });
}

Deno.test({
  name:
    "Session shows the name and the reason of a peer without control characters",
  permissions: "none",
  async fn() {
    const evil = "\u001b[2J\u202e\r\nroot# \u0007";
    const hello = concat(control("hello", { ...HELLO, name: evil }));
    const abort = control("abort", { text: evil, fault: false });
    const { failure } = await answerTo(concat(hello, abort));
    assertInstanceOf(failure, Error);
    assertEquals(
      failure.message,
      "The peer aborted: \\u{1b}[2J\\u{202e}\\u{d}\\u{a}root# \\u{7}",
    );
    const { session, raw } = sessionAndRawEnd({ closeTimeout: 1 });
    const opening = session.open();
    raw.write(hello).catch(() => {});
    await opening;
    assert(!/\p{C}/u.test(session.peer!.name), session.peer!.name);
    await raw.close(1, []);
    await session.closed.catch(() => {});
  },
});
