// Copyright 2026 the Duplex authors. MIT license.

/**
 * The bridge between a peer and its worker, over pairs in memory.
 *
 * @module
 */

import {
  assertEquals,
  assertLess,
  assertLessOrEqual,
  assertRejects,
} from "@std/assert";
import { bridge, reasonOf } from "../../_cli/bridge.ts";
import {
  ClosedError,
  DeadlockError,
  type Duplex,
  type DuplexOptions,
  PeerExitError,
  ProtocolError,
} from "../../duplex.ts";
import { duplexPair } from "../../pair.ts";
import { within } from "../workers/_processes.ts";

function test(name: string, fn: () => Promise<void>): void {
  Deno.test(name, () => within(fn()));
}

/** A peer and a worker with a bridge between them. */
function bridged(options: DuplexOptions = {}, lastWords?: number) {
  const [peer, nearPeer] = duplexPair(options);
  const [nearWorker, worker] = duplexPair(options);
  const ended = bridge(nearPeer, nearWorker, lastWords);
  return { peer, worker, ended };
}

/** Sends until no more is taken, and tells how much was. */
async function fill(duplex: Duplex): Promise<number> {
  for (let count = 0;; count++) {
    try {
      await duplex.send(count, { signal: AbortSignal.timeout(50) });
    } catch {
      return count;
    }
  }
}

test("bridge() passes on messages both ways, and both goodbyes", async () => {
  const { peer, worker, ended } = bridged();
  await peer.send("to the worker");
  await worker.send(undefined);
  assertEquals(await worker.receive(), "to the worker");
  assertEquals(await peer.receive(), undefined);
  await peer.writable.close();
  await assertRejects(() => worker.receive(), ClosedError);
  await worker.send("late");
  assertEquals(await peer.receive(), "late");
  await worker.close();
  await peer.close();
  assertEquals(await ended, undefined);
});

test("bridge() takes no more than its windows hold", async () => {
  const { peer, worker } = bridged({ windowMessages: 4 });
  const taken = await fill(peer);
  // Two windows, and one message in the bridge's hand.
  assertLessOrEqual(taken, 9);
  for (let count = 0; count < taken; count++) {
    assertEquals(await worker.receive(), count);
  }
  peer.abort();
  await assertRejects(() => worker.closed);
});

test("bridge() passes the reason of an abort on", async () => {
  for (const side of ["peer", "worker"] as const) {
    const { ended, ...ends } = bridged();
    const other = ends[side === "peer" ? "worker" : "peer"];
    await other.send("Both are there");
    await ends[side].receive();
    ends[side].abort(new RangeError("Too far"));
    await assertRejects(() => other.receive(), RangeError, "Too far");
    const collapse = await ended;
    assertEquals(collapse?.side, side);
  }
});

test("bridge() ends both sides with a message that cannot go on", async () => {
  const [peer, nearPeer] = duplexPair({ maxMessageBytes: 1000 });
  const [nearWorker, worker] = duplexPair();
  const ended = bridge(nearPeer, nearWorker);
  await worker.send("x".repeat(2000));
  await assertRejects(() => peer.receive(), RangeError, "1000");
  await assertRejects(() => worker.receive(), RangeError, "1000");
  await ended;
});

test("bridge() goes on after a deadlock that both ends are told of", async () => {
  const { peer, worker, ended } = bridged({
    windowMessages: 1,
    deadlockTimeout: 20,
  });
  const sendUntilDeadlock = async (end: Duplex) => {
    for (let count = 0;; count++) {
      try {
        await end.send(count);
      } catch (error) {
        if (error instanceof DeadlockError) return count;
        throw error;
      }
    }
  };
  const sent = await Promise.all([peer, worker].map(sendUntilDeadlock));
  for (const [index, end] of [worker, peer].entries()) {
    for (let count = 0; count < sent[index]!; count++) {
      assertEquals(await end.receive(), count);
    }
  }
  await Promise.all([peer.close(), worker.close()]);
  assertEquals(await ended, undefined);
});

test("bridge() delivers what a worker sent before it failed", async () => {
  const [peer, nearPeer] = duplexPair({ windowMessages: 2 });
  const [nearWorker, worker] = duplexPair();
  // The worker fails as one does whose process has ended.
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {});
  const failing: Duplex = Object.create(nearWorker, {
    closed: { value: failed.promise },
    [Symbol.asyncIterator]: {
      value: async function* () {
        for (let count = 0; count < 10; count++) {
          yield await nearWorker.receive();
        }
        throw await failed.promise.catch((error) => error);
      },
    },
    abort: { value: (reason: unknown) => nearWorker.abort(reason) },
    send: { value: (message: unknown) => nearWorker.send(message) },
    writable: { get: () => nearWorker.writable },
  });
  const ended = bridge(nearPeer, failing);
  for (let count = 0; count < 10; count++) await worker.send(count);
  failed.reject(
    new PeerExitError("It exited with code 3", { code: 3, unsent: [1] }),
  );
  for (let count = 0; count < 10; count++) {
    assertEquals(await peer.receive(), count);
  }
  const error = await assertRejects(() => peer.receive(), Error, "code 3");
  assertEquals((error as PeerExitError).code, 3);
  assertEquals((error as PeerExitError).unsent, []);
  assertEquals((await ended)?.side, "worker");
});

test("bridge() ends a worker that stays when its peer has left", async () => {
  const [peer, nearPeer] = duplexPair();
  const [nearWorker, worker] = duplexPair();
  const ended = bridge(nearPeer, nearWorker, 50);
  await peer.writable.close();
  // The peer's connection ends, which is as good as a goodbye to it.
  await assertRejects(() => peer.close({ timeout: 1 }), ClosedError);
  const start = performance.now();
  await ended;
  assertLess(performance.now() - start, 5_000);
  await assertRejects(() => worker.send("too late"));
});

test("reasonOf() keeps to itself what is of no use to the other side", () => {
  const own = reasonOf(
    "worker",
    new PeerExitError("It exited with code 3", {
      code: 3,
      stderr: "x".repeat(4096),
      unsent: ["secret"],
      cause: new Error("inner"),
    }),
  ) as PeerExitError;
  assertEquals(own.message, "It exited with code 3");
  assertEquals([own.code, own.stderr.length, own.unsent], [3, 400, []]);
  assertEquals(own.stack, "PeerExitError: It exited with code 3");
  assertEquals(own.cause, undefined);
  const fault = reasonOf("peer", new ProtocolError("Bad frame")) as Error;
  assertEquals(fault.message, "The peer broke the protocol: Bad frame");
  assertEquals(reasonOf("peer", "enough"), "enough");
  return Promise.resolve();
});
