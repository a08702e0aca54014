// Copyright 2026 the Duplex authors. MIT license.

/**
 * Features of `openShm` beyond the contract: blocking calls, shared and
 * transferred memory, and rings smaller than messages.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { DeadlockError, PeerExitError } from "@duplex/ipc/duplex";
import { openShm, type ShmDuplex, type ShmOptions } from "@duplex/ipc/shm";
import { random, seed } from "../_seed.ts";
import { within, workerUrl } from "../workers/_processes.ts";
import type { ACTS } from "../workers/shm_acts.ts";

// deno-lint-ignore no-explicit-any
type Worker = ShmDuplex<any>;

function open(act: keyof typeof ACTS, options?: ShmOptions): Promise<Worker> {
  const url = workerUrl("shm_acts");
  url.search = act;
  return openShm(url, options);
}

/**
 * A test with the permissions to read a worker's script, and with a time limit.
 */
function test(name: string, fn: () => Promise<void>): void {
  Deno.test({
    name,
    permissions: { read: [new URL("../..", import.meta.url)], env: true },
    fn: () => within(fn()),
  });
}

test("ShmDuplex.receiveSync() and sendSync() need no event loop", async () => {
  await using worker = await open("echo");
  const count = 20_000;
  const sending = (async () => {
    for (let number = 0; number < count; number++) await worker.send(number);
  })();
  for (let number = 0; number < count; number++) {
    assertStrictEquals(await worker.receive(), number);
  }
  await sending;
});

test("ShmDuplex.receiveSync() and sendSync() work at the opener", async () => {
  await using worker = await open("echo");
  for (let number = 0; number < 10_000; number++) {
    worker.sendSync([number]);
    if (number % 3 === 0) assertEquals(await worker.receive(), [number]);
    else assertEquals(worker.receiveSync({ timeout: 60_000 }), [number]);
  }
});

test("ShmDuplex.sendSync() sends many windows to a peer that also blocks", async () => {
  await using worker = await open("echo", {
    windowMessages: 16,
    windowBytes: 4096,
  });
  const messages = Array.from(
    { length: 500 },
    (_, number) => "x".repeat(number),
  );
  // The peer's window is large enough for all messages that are sent meanwhile.
  for (const message of messages) {
    worker.sendSync(message, { timeout: 60_000 });
    assertStrictEquals(worker.receiveSync({ timeout: 60_000 }), message);
  }
});

test("ShmDuplex keeps one order for blocking and other calls", async () => {
  await using worker = await open("mix");
  await worker.send(1);
  await worker.send(2);
  await worker.send(3);
  assertEquals(await worker.receive(), "a");
  assertEquals(await worker.receive(), "b");
  assertEquals(await worker.receive(), [1, 2, 3, "empty"]);
});

test("ShmDuplex.receiveSync() throws after its timeout", async () => {
  await using worker = await open("timeouts");
  await worker.send("go");
  assertEquals(
    await worker.receive(),
    "TimeoutError: Cannot receive: nothing has arrived within 20 ms",
  );
  assertStringIncludes(await worker.receive(), "RangeError");
  const error = assertThrows(
    () => worker.receiveSync({ timeout: 10 }),
    Error,
  );
  // The worker sends its goodbye when its script ends.
  assert(["TimeoutError", "ClosedError"].includes(error.name));
});

test("ShmDuplex.sendSync() sends nothing and throws after its timeout", async () => {
  const worker = await open("sleep");
  let sent = 0;
  while (worker.trySend(sent)) sent++;
  const error = assertThrows(
    () => worker.sendSync("too much", { timeout: 20 }),
    DOMException,
  );
  assertEquals(error.name, "TimeoutError");
  assertEquals(worker.stats.sent, sent);
  worker.abort(new Error("Enough"));
  await assertRejects(() => worker.closed, Error, "Enough");
});

test("ShmDuplex.receiveSync() rejects messages that require the event loop", async () => {
  await using worker = await open("posted");
  const numbers = new Int32Array(new SharedArrayBuffer(4));
  await worker.send("before");
  await worker.send(numbers);
  await worker.send("after");
  assertEquals(await worker.receive(), "before");
  const refused = String(await worker.receive());
  assertStringIncludes(refused, "InvalidStateError");
  assertStringIncludes(
    refused,
    "shared or transferred memory, or an object such as a Blob",
  );
  assertEquals(await worker.receive(), "after");
  assertEquals(numbers[0], 42);
});

test("ShmDuplex shares memory and transfers buffers in order", async () => {
  await using worker = await open("gives");
  assertEquals(await worker.receive(), "first");
  const { shared, again } = await worker.receive();
  assert(shared.buffer instanceof SharedArrayBuffer);
  assertStrictEquals(shared.buffer, again);
  const moved = await worker.receive();
  assertEquals(moved, new Uint8Array(8).fill(7));
  assertEquals(await worker.receive(), [0, "last"]);
  shared[3] = 9;
  await worker.send("look");
  assertEquals(await worker.receive(), [0, 0, 0, 9, 0, 0, 0, 0]);
});

test("openShm() transfers a buffer without a copy", async () => {
  await using worker = await open("lengths");
  const bytes = new Uint8Array(1000).fill(2);
  await worker.send("before");
  await worker.send(bytes, { transfer: [bytes.buffer] });
  await worker.send("behind it");
  assert(bytes.buffer.detached);
  assertEquals(await worker.receive(), 6);
  assertEquals(await worker.receive(), 1000);
  assertEquals(await worker.receive(), 9);
});

test("openShm() sends messages larger than the rings", async () => {
  const draw = random(seed());
  await using worker = await open("weigh", { ringBytes: 4096 });
  for (let round = 0; round < 20; round++) {
    const size = Math.floor(draw() * 2 ** 20);
    const bytes = Uint8Array.from({ length: size }, () => draw() * 256);
    const total = bytes.reduce((sum, byte) => sum + byte, 0);
    if (round % 2 === 0) {
      await worker.send(bytes);
      assertEquals(await worker.receive(), total);
      assertEquals(await worker.receive(), bytes);
    } else {
      worker.sendSync(bytes);
      assertEquals(worker.receiveSync(), total);
      assertEquals(worker.receiveSync(), bytes);
    }
  }
  await worker.send(null);
});

test("openShm() rejects an invalid size of the rings", async () => {
  for (const capacity of [0, 2048, 5000, 2 ** 31, NaN, 4096.5]) {
    await assertRejects(
      () => open("echo", { ringBytes: capacity }),
      RangeError,
      `"ringBytes" must be a power of two from 4096 to 1073741824: current value is ${capacity}`,
    );
  }
});

/** Sent by a worker that blocks. */
async function wordsOf(words: Int32Array): Promise<string> {
  while (Atomics.load(words, 0) === 0) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return String.fromCharCode(...words.subarray(1, 1 + words[0]!));
}

test("ShmDuplex.receiveSync() throws the reason of the parent's abort", async () => {
  const worker = await open("ends");
  const words = new Int32Array(new SharedArrayBuffer(4096));
  await worker.send(words);
  assertEquals(await worker.receive(), "waiting");
  worker.abort(new RangeError("The parent has had enough"));
  assertEquals(await wordsOf(words), "RangeError: The parent has had enough");
  await assertRejects(() => worker.closed, RangeError);
});

test("ShmDuplex.receiveSync() ends after the parent's goodbye", async () => {
  const worker = await open("ends");
  const words = new Int32Array(new SharedArrayBuffer(4096));
  await worker.send(words);
  assertEquals(await worker.receive(), "waiting");
  await worker.close();
  assertEquals(
    await wordsOf(words),
    "ClosedError: Cannot receive from a closed duplex",
  );
});

test("ShmDuplex.sendSync() detects that both sides only send", async () => {
  await using worker = await open("onlySend", {
    windowMessages: 8,
    deadlockTimeout: 100,
  });
  const error = await assertRejects(async () => {
    for (;;) await worker.send("more");
  }, DeadlockError);
  assertStringIncludes(error.message, "both wait");
  const rest = Array.fromAsync(worker);
  await worker.send("go on");
  const last = (await rest).at(-1);
  assertStringIncludes(last.text, "DeadlockError");
});

test("openShm() yields to the event loop during a flood of messages", async () => {
  await using worker = await open("flood");
  let ran = false;
  setTimeout(() => ran = true, 1);
  for await (const message of worker) {
    if (message === "ran") break;
    await worker.send(message);
  }
  assert(ran);
});

test("ShmDuplex.receiveSync() notices that the worker has ended", async () => {
  const worker = await open("exit");
  worker.sendSync("end");
  assertThrows(() => worker.receiveSync(), PeerExitError, "without a goodbye");
  assertThrows(() => worker.sendSync("late"), PeerExitError);
  await assertRejects(() => worker.closed, PeerExitError);
});

test("ShmDuplex.receiveSync() detects that both sides only receive", async () => {
  await using worker = await open("deadlock");
  assertEquals(worker.receiveSync(), "begun");
  let own = "";
  try {
    own = worker.receiveSync();
  } catch (error) {
    assert(error instanceof DeadlockError);
    assertStringIncludes(error.message, "both block their threads");
  }
  // The side that blocked second has the error; the other one gets a message.
  if (own === "") worker.sendSync("continue");
  const report = own === "" ? worker.receiveSync() : own;
  assertStringIncludes(
    report,
    own === "" ? "no error but continue" : "DeadlockError",
  );
});
