// Copyright 2026 the Duplex authors. MIT license.

/**
 * How a duplex over a socket ends: when its last frames are cut off, and when
 * the peer does not receive them.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertRejects,
} from "@std/assert";
import { ClosedError, type Duplex, PeerExitError } from "@duplex/ipc/duplex";
import { listenSocket, openSocket } from "@duplex/ipc/socket";
import { type Direction, type Plan, Proxy } from "./_proxy.ts";
import { random, seed } from "../_seed.ts";
import { RawPeer } from "./_raw.ts";
import { until } from "./_peers.ts";
import { allDone, test } from "../workers/_processes.ts";
import { control, hello, KIND } from "../workers/_wire.ts";

const SEED = seed();
const NET = { net: ["127.0.0.1"] };
const TCP = "tcp://127.0.0.1:0";

/** Comes back at once, and for as long as a test may take. */
const RESUME = { timeout: 60_000, minDelay: 1, maxDelay: 4 };

/** Nothing but events ends these: a session that waited for a timer would hang. */
const PATIENT = { heartbeat: Infinity, closeTimeout: Infinity };

/** Draws where the next connection is cut: a fifth of them while they greet. */
function drawCut(draw: () => number): Plan {
  const way = draw() < 0.5 ? "up" : "down";
  const most = draw() < 0.2 ? 300 : 300_000;
  return { [way]: { cutAfter: Math.floor(draw() * most) } };
}

/** Both ends of a session through a proxy; whether each knows that all arrived. */
async function runBrief(plan: (index: number) => Plan) {
  await using listener = listenSocket<number>(TCP, {
    ...PATIENT,
    resume: RESUME,
  });
  await using proxy = new Proxy(listener.address, plan);
  const [main, worker] = await Promise.all([
    openSocket<number>(proxy.address, { ...PATIENT, resume: RESUME }),
    listener.accept(),
  ]);
  const run = async (duplex: Duplex<number>) => {
    for (let number = 0; number < 5; number++) await duplex.send(number);
    const closing = duplex.close().then(() => true, (error) => {
      assertInstanceOf(error, ClosedError, String(error));
      assertGreater(error.unsent.length, 0);
      return false;
    });
    assertEquals(await Array.fromAsync(duplex), [0, 1, 2, 3, 4]);
    return await closing;
  };
  // Who has both goodbyes goes, and the listener need not wait for it to come back.
  const running = run(main).finally(() => listener.close());
  const known = await allDone([running, run(worker)]);
  return { known, proxy };
}

// A side whose connection ended does not know whether its last frame arrived; it
// then reports that, although here the frame always has arrived.
test(
  "openSocket() loses nothing when the goodbyes are cut off",
  async () => {
    const draw = random(SEED);
    const { known, proxy: { passages: [whole] } } = await runBrief(() => ({}));
    assertEquals(known, [true, true]);
    const drawEnd = (way: Direction): Plan => ({
      [way]: {
        cutAfter: whole!.passed[way] - Math.floor(draw() * 120),
      },
    });
    let certain = 0;
    const run = async () => {
      const first = drawEnd(draw() < 0.5 ? "up" : "down");
      const second = drawCut(draw);
      const { known } = await runBrief((index) => [first, second][index] ?? {});
      assert(known.includes(true));
      if (!known.includes(false)) certain++;
    };
    for (let round = 0; round < 4; round++) {
      await allDone(Array.from({ length: 50 }, run));
    }
    assertGreater(certain, 100);
  },
  NET,
);

test(
  "SocketDuplex.close() rejects when the peer does not end the connection",
  async () => {
    await using listener = listenSocket<string>(TCP);
    using far = await RawPeer.connect(listener.address);
    await far.greet();
    await far.write(hello(), control(KIND.goodbye, { sent: 0, taken: 0 }));
    const worker = await listener.accept();
    assertEquals(await Array.fromAsync(worker), []);
    await worker.send("lost");
    const error = await assertRejects(
      () => worker.close({ timeout: 100 }),
      ClosedError,
      "the last messages may not have arrived",
    );
    assertEquals(error.unsent, ["lost"]);
    assertEquals(await assertRejects(() => worker.closed), error);
  },
  NET,
);

test(
  "SocketDuplex.close() rejects when the last message was not acknowledged",
  async () => {
    let isLost = false;
    const resume = { timeout: 100 };
    await using listener = listenSocket<string>(TCP, { ...PATIENT, resume });
    await using proxy = new Proxy(listener.address, (index) => ({
      up: index > 0
        ? { cutAfter: 0 }
        : { alter: (chunk) => isLost ? [] : [chunk] },
    }));
    const [main, worker] = await Promise.all([
      openSocket<string>(proxy.address, { ...PATIENT, resume: RESUME }),
      listener.accept(),
    ]);
    isLost = true;
    await main.send("lost");
    const farEnd = assertRejects(() => worker.close(), PeerExitError);
    assertEquals(await Array.fromAsync(main), []);
    const closing = main.close({ timeout: 100 });
    const error = await assertRejects(() => closing, ClosedError);
    assertEquals(error.unsent, ["lost"]);
    assertEquals(await assertRejects(() => main.closed), error);
    proxy.passages[0]!.cut();
    await farEnd;
  },
  NET,
);

for (const how of ["close", "abort"] as const) {
  test(
    `SocketDuplex.${how}() ends although the peer reads nothing`,
    async () => {
      await using listener = listenSocket<Uint8Array>(TCP, {
        closeTimeout: 100,
      });
      using far = await RawPeer.connect(listener.address);
      await far.greet();
      await far.write(hello());
      const worker = await listener.accept();
      const sends = [1, 2, 3, 4].map(() => worker.send(new Uint8Array(4e6)));
      const settled = Promise.allSettled(sends);
      if (how === "abort") worker.abort(new Error("Enough"));
      else await assertRejects(() => worker.close(), ClosedError);
      await assertRejects(() => worker.closed, Error);
      await settled;
      assertEquals(listener.stats.peers, 0);
    },
    NET,
  );
}

test(
  "DuplexListener.close() closes a connection that has not sent its hello",
  async () => {
    const listener = listenSocket(TCP);
    using far = await RawPeer.connect(listener.address);
    await far.greet();
    await until(() => listener.stats.peers === 1);
    await listener.close();
    await far.untilEnd();
    await until(() => listener.stats.peers === 0);
  },
  NET,
);
