// Copyright 2026 the Duplex authors. MIT license.

/**
 * A peer that sends many frames without a message. Its bytes are always
 * available at once, so reading them never waits unless the reader yields.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { ByteStream } from "../../_wire/byte_stream.ts";
import { FrameWire } from "../../_wire/frame_wire.ts";
import { Flow } from "../../_session/flow.ts";
import { DEFAULT_OPTIONS } from "../../_session/options.ts";
import type { WireEvents } from "../../_wire/wire.ts";
import { concat, control, frame, hello, uint32 } from "../workers/_wire.ts";

const PING = 0x08;
const [FIRST, NEXT] = [0x03, 0x04];
const MIB = 2 ** 20;

/**
 * Reads frames, all of which are available, in reads of a given number, and
 * counts the turns of a timer.
 */
async function readAll(frames: Uint8Array, size: number): Promise<boolean> {
  const bytes = concat(hello(), frames);
  let ranBefore = false;
  let position = 0;
  const stream = {
    read(into: Uint8Array<ArrayBuffer>) {
      const part = bytes.subarray(position, position + size)
        .subarray(0, into.length);
      if (part.length === 0) return Promise.resolve(null);
      into.set(part);
      position += part.length;
      return Promise.resolve(into.subarray(0, part.length));
    },
    write: () => Promise.resolve(),
  } as unknown as ByteStream;
  const ended = Promise.withResolvers<void>();
  const events: WireEvents = {
    flow: new Flow(MIB, 1),
    onHello() {},
    onMessage() {},
    onAcknowledged() {},
    onStall() {},
    onGoodbye() {},
    onAbort: ended.reject,
    onDrain() {},
    onFault: ended.reject,
    onLost: () => ended.resolve(),
  };
  const wire = new FrameWire(stream, { onPing() {} });
  const timer = setTimeout(() => ranBefore = true, 0);
  wire.start(events, {
    ...DEFAULT_OPTIONS,
    maxMessageBytes: MIB,
    windowBytes: MIB,
  });
  await ended.promise;
  clearTimeout(timer);
  assertEquals(position, bytes.length);
  return ranBefore;
}

function times(count: number, bytes: Uint8Array): Uint8Array {
  return concat(...Array.from({ length: count }, () => bytes));
}

const ping = control(PING, { received: 0 });
const first = frame(FIRST, uint32(1, 0, MIB), new Uint8Array(1));
const FLOODS: readonly [string, Uint8Array, number][] = [
  ["control frames", times(1_000, ping), 64 * 1024],
  [
    "parts of a byte",
    concat(first, times(1_000, frame(NEXT, new Uint8Array(1)))),
    64 * 1024,
  ],
  ["control frames, byte by byte", times(100, ping), 1],
];

for (const [what, bytes, size] of FLOODS) {
  Deno.test({
    name: `FrameWire yields to the event loop between ${what}`,
    permissions: "none",
    fn: async () => assert(await readAll(bytes, size)),
  });
}
