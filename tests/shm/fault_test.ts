// Copyright 2026 the Duplex authors. MIT license.

/**
 * Faults that only shared memory has: a worker that dies between any two of its
 * atomic operations, a header that is overwritten while both sides work, and a
 * worker that never reads.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertLess,
  assertRejects,
} from "@std/assert";
import { PeerExitError, ProtocolError } from "@duplex/ipc/duplex";
import { openShm, type ShmDuplex } from "@duplex/ipc/shm";
import { WORD } from "../../_shm/ring.ts";
import { random, seed } from "../_seed.ts";
import { within, workerUrl } from "../workers/_processes.ts";
import type { Order } from "../workers/shm_steps.ts";

/** Bytes of a ring that is quickly full. */
const CAPACITY = 4096;

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({
    name,
    permissions: { read: [new URL("../..", import.meta.url)], env: true },
    fn: () => within(fn(), 60_000),
  });
}

/** Receives to the end; checks order and content, and that the worker died. */
async function receiveAll(duplex: ShmDuplex, size: number): Promise<number> {
  let count = 0;
  const error = await assertRejects(async () => {
    for (;;) {
      const bytes = await duplex.receive() as Uint8Array;
      assertEquals(bytes.length, size);
      assert(bytes.every((byte) => byte === (count & 0xff)));
      count++;
    }
  });
  assertInstanceOf(error, PeerExitError);
  return count;
}

/** Concurrent workers: a single one would leave the machine idle. */
const LANES = 4;

/** Lets a worker die before one of its operations. */
async function dieAt(
  operations: number,
  blocking: boolean,
  size: number,
): Promise<number> {
  const duplex = await openShm(workerUrl("shm_steps"), { ringBytes: CAPACITY });
  const order: Order = { operations, blocking, size };
  await duplex.send(order);
  const count = await receiveAll(duplex, size);
  await assertRejects(() => duplex.closed, PeerExitError);
  return count;
}

for (const blocking of [false, true]) {
  const how = blocking ? "sendSync()" : "send()";
  test(`openShm() handles a worker that dies at any step of ${how}`, async () => {
    const draw = random(seed());
    // Small messages, messages that fill the ring, and larger ones.
    const sizes = Array.from(
      { length: 110 },
      () => Math.floor(draw() ** 3 * 3 * CAPACITY),
    );
    let most = 0;
    // The loops share one iterator, and thus the work.
    const cases = sizes.entries();
    await Promise.all(Array.from({ length: LANES }, async () => {
      for (const [operations, size] of cases) {
        const count = await dieAt(operations, blocking, size);
        most = Math.max(most, count);
      }
    }));
    assertGreater(most, 3);
  });
}

test("openShm() rejects a header that its worker overwrites", async () => {
  const damages: [word: number, value: number][] = [
    [WORD.acceptorWritten, 0x7fff_ffff],
    [WORD.acceptorWritten, -1],
    [WORD.acceptorRead, -5_000],
    [WORD.closed, 77],
  ];
  // A worker has one second to end; all workers wait in parallel.
  const endings: Promise<Error>[] = [];
  for (const damage of damages) {
    const duplex = await openShm(workerUrl("shm_steps"), {
      ringBytes: CAPACITY,
    });
    const order: Order = {
      operations: 40,
      blocking: true,
      size: 100,
      damage,
    };
    await duplex.send(order);
    const sending = assertRejects(async () => {
      // Enough to check for room.
      for (;;) await duplex.send(new Uint8Array(1_000));
    });
    const error = await assertRejects(async () => {
      for (;;) await duplex.receive();
    });
    await sending;
    assertInstanceOf(error, ProtocolError, `${damage}: ${error}`);
    endings.push(assertRejects(() => duplex.closed, ProtocolError));
  }
  await Promise.all(endings);
});

test("openShm() buffers no more than the window for a worker that never reads", async () => {
  const url = workerUrl("shm_acts");
  url.search = "sleep";
  const duplex = await openShm(url, { ringBytes: CAPACITY });
  const message = new Uint8Array(10_000);
  while (duplex.trySend(message));
  const { inFlight } = duplex.stats;
  // The ring and one batch are full, and no more is buffered.
  assertLess(inFlight * message.length, 2 ** 18);
  const waiting = duplex.send("never");
  const start = performance.now();
  duplex.abort(new Error("Enough"));
  await assertRejects(() => waiting, Error, "Enough");
  await assertRejects(() => duplex.closed, Error, "Enough");
  assertLess(performance.now() - start, 5_000);
});

test("sendSync() of more than the ring holds returns when the worker aborts", async () => {
  const source = `
    import { parent } from "${import.meta.resolve("../../parent.ts")}";
    const main = await parent();
    const [word] = await main.receive();
    // The worker reads nothing while it sleeps, so the parent's ring stays
    // full.
    Atomics.wait(word, 0, 0);
    main.abort(new RangeError("The worker has had enough"));
  `;
  const worker = await openShm<unknown>(
    `data:text/javascript,${encodeURIComponent(source)}`,
    { ringBytes: CAPACITY },
  );
  const word = new Int32Array(new SharedArrayBuffer(4));
  await worker.send([word]);
  // Wakes the worker once this thread blocks.
  const waker = new Worker(
    `data:text/javascript,onmessage = ({ data }) => {
      while (Atomics.notify(data, 0) === 0);
      Atomics.store(data, 0, 1);
    }; postMessage("ready");`,
    { type: "module" },
  );
  await new Promise((resolve) => waker.onmessage = resolve);
  waker.postMessage(word);
  worker.sendSync("x".repeat(10 * CAPACITY));
  waker.terminate();
  await assertRejects(() => worker.closed, RangeError, "had enough");
});
