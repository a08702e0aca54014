// Copyright 2026 the Duplex authors. MIT license.

/**
 * The contract over the in-memory pair.
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

/** As `duplexPair`, with names, and a link that can break. */
async function openPair(
  options: DuplexOptions,
  far: DuplexOptions,
): Promise<Duplex> {
  const [near, distant] = memoryStreams();
  const own = sessionOptions("Cannot open", "opener", options);
  const theirs = sessionOptions("Cannot open", "acceptor", {
    closeTimeout: Infinity,
    ...far,
  });
  const main = new Session(new FrameWire(near), own);
  const worker = new Session(new FrameWire(distant), theirs);
  await Promise.all([main.open(), worker.open()]);
  behave(worker, () => distant.destroy()).catch(() => {});
  return main;
}

conformance({ name: "duplexPair()", permissions: "none", open: openPair });

Deno.test({
  name: "duplexPair() joins two ends with types of their own",
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
  name: "duplexPair() refuses limits that are out of range",
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
  name: "duplexPair() numbers sends that waited for the hello one by one",
  permissions: "none",
  async fn() {
    const [left, right] = duplexPair<number>({ windowMessages: 4 });
    const numbers = Array.from({ length: 100 }, (_, index) => index);
    // All of them wait: neither side has said hello yet.
    const sends = numbers.map((number) => left.send(number));
    for (const number of numbers) assertEquals(await right.receive(), number);
    await Promise.all(sends);
    await Promise.all([left.close(), right.close()]);
  },
});

Deno.test({
  name: "Duplex.abort() takes any reason",
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
