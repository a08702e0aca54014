// Copyright 2026 the Duplex authors. MIT license.

/**
 * What goes wrong with shared memory and with nothing else: a worker that is
 * terminated between any two of its atomic operations, a header that is
 * overwritten while both sides work, a worker that never reads.
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
import { openShm, type ShmDuplex, type ShmOptions } from "@duplex/ipc/shm";
import { WORD } from "../_ring.ts";
import { random, seed } from "./_seed.ts";
import { within, workerUrl } from "./workers/_processes.ts";
import type { Order } from "./workers/shm_steps.ts";

/** As many messages as any worker sends here before it stands still. */
const CAPACITY = 4096;

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({
    name,
    permissions: { read: [new URL("..", import.meta.url)], env: true },
    fn: () => within(fn(), 60_000),
  });
}

/** Opens a worker, and gives the `Worker` too, as nobody else can terminate it. */
async function openWithWorker(
  options: ShmOptions,
): Promise<[duplex: ShmDuplex, worker: Worker]> {
  const { Worker: Original } = globalThis;
  let started: Worker | undefined;
  globalThis.Worker = class extends Original {
    constructor(specifier: string | URL, options?: WorkerOptions) {
      super(specifier, options);
      started = this;
    }
  };
  try {
    const duplex = await openShm(workerUrl("shm_steps"), options);
    return [duplex, started!];
  } finally {
    globalThis.Worker = Original;
  }
}

function control(operations: number): Int32Array<SharedArrayBuffer> {
  const words = new Int32Array(new SharedArrayBuffer(16));
  words[1] = operations;
  return words;
}

/** Receives to the end; checks order and content, and that the end is a death. */
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

/** Terminates a worker at one of its operations. */
async function terminateAt(
  operations: number,
  blocking: boolean,
  size: number,
): Promise<number> {
  const [duplex, worker] = await openWithWorker({ capacity: CAPACITY });
  const words = control(operations);
  const order: Order = { control: words, blocking, size };
  await duplex.send(order);
  const received = receiveAll(duplex, size);
  // One that waits to be read is never still: it is read all the time.
  while (Atomics.load(words, 0) === 0) {
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  worker.terminate();
  const count = await received;
  await assertRejects(() => duplex.closed, PeerExitError);
  return count;
}

for (const blocking of [false, true]) {
  const how = blocking ? "sendSync()" : "send()";
  test(`openShm() outlives a worker terminated at any step of ${how}`, async () => {
    const draw = random(seed());
    let most = 0;
    for (let operations = 0; operations < 110; operations++) {
      // Small ones, ones that fill the ring, and ones that do not fit into it.
      const size = Math.floor(draw() ** 3 * 3 * CAPACITY);
      const count = await terminateAt(operations, blocking, size);
      most = Math.max(most, count);
    }
    assertGreater(most, 3);
  });
}

test("openShm() refuses a header that its worker overwrites", async () => {
  const damages: [word: number, value: number][] = [
    [WORD.acceptorWritten, 0x7fff_ffff],
    [WORD.acceptorWritten, -1],
    [WORD.acceptorRead, -5_000],
    [WORD.closed, 77],
  ];
  for (const damage of damages) {
    const duplex = await openShm(workerUrl("shm_steps"), {
      capacity: CAPACITY,
    });
    const order: Order = {
      control: control(40),
      blocking: true,
      size: 100,
      damage,
    };
    await duplex.send(order);
    const error = await assertRejects(async () => {
      for (;;) {
        await duplex.send("more");
        await duplex.receive();
      }
    });
    assertInstanceOf(error, ProtocolError, `${damage}: ${error}`);
    await assertRejects(() => duplex.closed, ProtocolError);
  }
});

test("openShm() holds no more than the window for a worker that never reads", async () => {
  const url = workerUrl("shm_acts");
  url.search = "sleep";
  const duplex = await openShm(url, { capacity: CAPACITY });
  const message = new Uint8Array(10_000);
  while (duplex.trySend(message));
  const { inFlight } = duplex.stats;
  // What the ring and a batch hold, and nothing of the window beyond.
  assertLess(inFlight * message.length, 2 ** 18);
  const waiting = duplex.send("never");
  const start = performance.now();
  duplex.abort(new Error("Enough"));
  await assertRejects(() => waiting, Error, "Enough");
  await assertRejects(() => duplex.closed, Error, "Enough");
  assertLess(performance.now() - start, 5_000);
});
