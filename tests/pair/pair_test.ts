// Copyright 2026 the Duplex authors. MIT license.

/**
 * The contract for the in-memory pair.
 *
 * @module
 */

import {
  assertEquals,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import type { Duplex, DuplexOptions } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { FrameWire } from "../../_wire/frame_wire.ts";
import { sessionOptions } from "../../_session/options.ts";
import { memoryStreams } from "../../_session/memory_stream.ts";
import { Session } from "../../_session/session.ts";
import { behave } from "../_behaviours.ts";
import { conformance } from "../_conformance.ts";

/** Like `duplexPair`, with names and a link that can be cut. */
async function openPair(
  options: DuplexOptions,
  peer: DuplexOptions,
): Promise<Duplex> {
  const [ownStream, peerStream] = memoryStreams();
  const ownOptions = sessionOptions("Cannot open", "opener", options);
  const peerOptions = sessionOptions("Cannot open", "acceptor", {
    closeTimeout: Infinity,
    ...peer,
  });
  const main = new Session(new FrameWire(ownStream), ownOptions);
  const worker = new Session(new FrameWire(peerStream), peerOptions);
  await Promise.all([main.open(), worker.open()]);
  behave(worker, () => peerStream.destroy()).catch(() => {});
  return main;
}

conformance({ name: "duplexPair()", permissions: "none", open: openPair });

Deno.test({
  name: "duplexPair() connects two ends with different types",
  permissions: "none",
  async fn() {
    const [left, right] = duplexPair<string, number>();
    await Promise.all([left.send(1), right.send("one")]);
    assertEquals(await left.receive(), "one");
    assertEquals(await right.receive(), 1);
    await Promise.all([left.close(), right.close()]);
  },
});

Deno.test({
  name: "duplexPair() rejects limits that are out of range",
  permissions: "none",
  fn() {
    for (const value of [0, -1, 1.5, NaN, Infinity]) {
      assertThrows(
        () => duplexPair({ windowBytes: value }),
        RangeError,
        `"windowBytes" must be a positive integer`,
      );
    }
    assertThrows(() => duplexPair({ maxMessageBytes: 2 ** 32 }), RangeError);
    assertThrows(() => duplexPair({ deadlockTimeout: 0 }), RangeError);
  },
});

Deno.test({
  name: "duplexPair() numbers sends that waited for the hello consecutively",
  permissions: "none",
  async fn() {
    const [left, right] = duplexPair<number>({ windowMessages: 4 });
    const numbers = Array.from({ length: 100 }, (_, index) => index);
    // All of them wait: neither side has sent its hello yet.
    const sends = numbers.map((number) => left.send(number));
    for (const number of numbers) assertEquals(await right.receive(), number);
    await Promise.all(sends);
    await Promise.all([left.close(), right.close()]);
  },
});

Deno.test({
  name: "Duplex.abort() accepts any reason",
  permissions: "none",
  async fn() {
    const revoked = Proxy.revocable(new Error(), {});
    revoked.revoke();
    for (const reason of [revoked.proxy, Object.create(null), Symbol("no")]) {
      const [left, right] = duplexPair();
      left.abort(reason);
      const [caught] = await left.closed.then(() => [], (error) => [error]);
      assertStrictEquals(caught, reason);
      await assertRejects(() => right.receive());
    }
  },
});
