// Copyright 2026 the Duplex authors. MIT license.

/**
 * The behaviour of a queue while its workers run. `fault_test.ts` tests the
 * death of workers, `conformance_test.ts` the contract of every duplex.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertFalse,
  assertLess,
  assertNotStrictEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
} from "@std/assert";
import { ClosedError, DeadlockError, ProtocolError } from "@duplex/ipc/duplex";
import { json } from "@duplex/ipc/codec";
import { type Duplex, openQueue, type QueueOptions } from "@duplex/ipc/queue";
import { within, workerUrl } from "../workers/_processes.ts";
import type { Act } from "../workers/queue_acts.ts";

const READ = { read: [new URL("../..", import.meta.url)] };

/**
 * A test with the permissions that `openQueue` requires, which fails by name if
 * it hangs.
 */
function test(name: string, fn: (t: Deno.TestContext) => Promise<void>): void {
  Deno.test({ name, permissions: READ, fn: (t) => within(fn(t)) });
}

function open<In = unknown>(
  options: QueueOptions = {},
): Promise<Duplex<In, Act>> {
  const permissions = READ;
  return openQueue(workerUrl("queue_acts"), { permissions, ...options });
}

function cells(): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(8));
}

/** Waits until another thread has set a cell to a value. */
async function until(
  cells: Int32Array<SharedArrayBuffer>,
  index: number,
  value: number,
): Promise<void> {
  for (;;) {
    const now = Atomics.load(cells, index);
    if (now >= value) return;
    const change = Atomics.waitAsync(cells, index, now);
    if (!change.async) continue;
    // The workers do not notify the cell.
    await new Promise((resolve) => setTimeout(resolve, 1));
    Atomics.notify(cells, index);
    await change.value;
  }
}

/** Releases the thread that waits on a cell. */
function release(cells: Int32Array<SharedArrayBuffer>): void {
  Atomics.store(cells, 1, 1);
  Atomics.notify(cells, 1);
}

test("openQueue() sends to several workers and receives from all", async () => {
  const queue = await open<number>({ workers: 3 });
  const gates = [cells(), cells(), cells()];
  for (const [value, gate] of gates.entries()) {
    await queue.send({ act: "waits", value, cells: gate });
  }
  // Each worker has one message, otherwise not all would wait at the same time.
  for (const gate of gates) await until(gate, 0, 1);
  gates.forEach(release);
  const answers = [];
  for (const _ of gates) answers.push(await queue.receive());
  assertEquals(answers.sort(), [0, 1, 2]);
  await queue.close();
});

test("openQueue() numbers messages and marks redelivered ones", async () => {
  await using queue = await open();
  for (const value of ["a", "b"]) await queue.send({ act: "delivery", value });
  const delivery = (number: number, attempt: number) => ({ number, attempt });
  assertEquals(await queue.receive(), ["a", delivery(1, 1)]);
  assertEquals(await queue.receive(), ["b", delivery(2, 1)]);
  // Only now: an answer that has not left when its worker dies is sent again.
  await queue.send({ act: "diesOnce", value: "c" });
  assertEquals(await queue.receive(), ["c", delivery(3, 2)]);
});

test("openQueue() keeps the order of one worker", async () => {
  const queue = await open<number>({ capacity: 10 });
  const count = 2_000;
  const sending = (async () => {
    for (let value = 0; value < count; value++) {
      await queue.send({ act: "echo", value });
    }
    await queue.close();
  })();
  const answers = await Array.fromAsync(queue);
  assertEquals(answers, Array.from({ length: count }, (_, index) => index));
  await sending;
});

test("openQueue() keeps the order over all workers with ordered: true", async () => {
  const queue = await open<number>({ workers: 3, ordered: true });
  const count = 2_000;
  const sending = (async () => {
    for (let value = 0; value < count; value++) {
      await queue.send({ act: "echo", value });
    }
    await queue.close();
  })();
  const answers = await Array.fromAsync(queue);
  assertEquals(answers, Array.from({ length: count }, (_, index) => index));
  await sending;
});

test("openQueue() keeps several answers to one message together", async () => {
  await using queue = await open({ workers: 2, ordered: true });
  const gate = cells();
  await queue.send({ act: "answersSlowly", value: "a", cells: gate });
  // The next message goes to the other worker, since this one is busy.
  for (const value of ["b", "c"]) await queue.send({ act: "echo", value });
  await until(gate, 0, 1);
  assertEquals(await queue.receive(), ["a", 0]);
  assertEquals(await queue.receive(), ["a", 1]);
  const next = queue.receive();
  // The other answers arrived long before, but are delivered after this one.
  await new Promise((resolve) => setTimeout(resolve, 50));
  release(gate);
  assertEquals(await next, ["a", 2]);
  assertEquals(await queue.receive(), "b");
  assertEquals(await queue.receive(), "c");
});

test("openQueue() waits only while it is full", async () => {
  await using queue = await open<number>({ workers: 2, capacity: 3 });
  const gate = cells();
  const act = { act: "waits", cells: gate } as const;
  for (let value = 0; value < 3; value++) await queue.send({ ...act, value });
  assertEquals(queue.stats.inFlight, 3);
  assertFalse(queue.trySend({ ...act, value: 3 }));
  const waiting = queue.send({ ...act, value: 4 });
  await until(gate, 0, 2);
  assertEquals(queue.stats.inFlight, 3);
  release(gate);
  await waiting;
  const answers = [];
  for (let index = 0; index < 4; index++) answers.push(await queue.receive());
  assertEquals(answers.sort(), [0, 1, 2, 4]);
});

test("openQueue() buffers no more than its capacity behind the first answer in order", async () => {
  const capacity = 20;
  await using queue = await open<number>({
    workers: 2,
    ordered: true,
    capacity,
  });
  const gate = cells();
  const counter = cells();
  await queue.send({ act: "waits", value: -1, cells: gate });
  await until(gate, 0, 1);
  // Handled immediately by the other worker, without an answer.
  for (let sent = 1; sent < capacity; sent++) {
    await queue.send({ act: "count", cells: counter });
  }
  const waiting = queue.send({ act: "echo", value: 7 });
  await until(counter, 0, capacity - 2);
  assertFalse(queue.trySend({ act: "count", cells: counter }));
  assertEquals(queue.stats.inFlight, capacity);
  release(gate);
  assertEquals(await queue.receive(), -1);
  await waiting;
  assertEquals(await queue.receive(), 7);
});

test("openQueue() continues while one message never ends", async () => {
  await using queue = await open<number>({ workers: 2 });
  const gate = cells();
  await queue.send({ act: "waits", value: -1, cells: gate });
  await until(gate, 0, 1);
  let most = 0;
  for (let value = 0; value < 3_000; value++) {
    await queue.send({ act: "echo", value });
    if (value < 2) continue;
    most = Math.max(most, queue.stats.inFlight);
    if (value % 100 === 99) {
      // Two messages wait behind the one that never ends.
      while (queue.stats.inFlight > 3) await queue.receive();
    }
  }
  assertLess(most, 300);
  release(gate);
});

test("openQueue() sends few messages to a slow worker", async () => {
  await using queue = await open<number>({ workers: 2 });
  const gate = cells();
  await queue.send({ act: "waits", value: -1, cells: gate });
  await until(gate, 0, 1);
  const count = 500;
  for (let value = 0; value < count; value++) {
    await queue.send({ act: "echo", value });
  }
  // All messages but those already sent to the slow worker are handled while it
  // waits.
  const answers = [];
  while (answers.length < count - 1) answers.push(await queue.receive());
  assertEquals(queue.stats.inFlight, 2);
  assertFalse(answers.includes(-1));
  release(gate);
  assertEquals(
    [await queue.receive(), await queue.receive()].includes(-1),
    true,
  );
});

test("openQueue() sends the state of a message at the time of the call", async () => {
  await using queue = await open<unknown>();
  const gate = cells();
  await queue.send({ act: "waits", cells: gate });
  const value = { text: "before" };
  const cycle: Record<string, unknown> = { text: "before" };
  cycle.self = cycle;
  await queue.send({ act: "echo", value });
  await queue.send({ act: "echo", value: cycle });
  value.text = cycle.text = "after";
  release(gate);
  await queue.receive();
  assertEquals(await queue.receive(), { text: "before" });
  assertEquals((await queue.receive() as typeof cycle).text, "before");
});

test("openQueue() carries cycles, shared references and transferred buffers", async () => {
  await using queue = await open<Record<string, unknown>>();
  const shared = { n: 1 };
  const value: Record<string, unknown> = { one: shared, two: shared };
  value.self = value;
  await queue.send({ act: "echo", value });
  const back = await queue.receive();
  assertStrictEquals(back.self, back);
  assertStrictEquals(back.one, back.two);
  assertNotStrictEquals(back, value);
  const bytes = new Uint8Array([1, 2, 3]);
  await queue.send({ act: "echo", value: bytes }, { transfer: [bytes.buffer] });
  assertEquals(bytes.length, 0);
  assertEquals(await queue.receive() as unknown, new Uint8Array([1, 2, 3]));
  await queue.send({ act: "sendsClones" });
  const cycle = await queue.receive();
  assertStrictEquals(cycle.self, cycle);
  assertEquals(await queue.receive() as unknown, new Uint8Array([7, 8]).buffer);
  assertEquals(await queue.receive() as unknown, true);
});

test("openQueue() keeps cycles and shared references with JSON", async () => {
  await using queue = await open<Record<string, unknown>>({ codec: json });
  const shared = { n: 1 };
  const value: Record<string, unknown> = { one: shared, two: shared };
  await queue.send({ act: "echo", value });
  const first = await queue.receive();
  assertStrictEquals(first.one, first.two);
  value.self = value;
  await queue.send({ act: "echo", value });
  const second = await queue.receive();
  assertStrictEquals(second.self, second);
});

test("openQueue() shares shared memory", async () => {
  await using queue = await open<Int32Array>();
  const memory = cells();
  await queue.send({ act: "count", cells: memory });
  await until(memory, 0, 1);
  await queue.send({ act: "echo", value: memory });
  const back = await queue.receive();
  Atomics.store(memory, 0, 42);
  assertEquals(Atomics.load(back, 0), 42);
});

test("openQueue() rejects messages that it cannot deliver or redeliver", async () => {
  await using queue = await open();
  const { port1, port2 } = new MessageChannel();
  const error = await assertRejects(
    () => queue.send({ act: "echo", value: port1 }, { transfer: [port1] }),
    TypeError,
  );
  assertStringIncludes(error.message, "only once");
  port1.close();
  port2.close();
  const cycle: Record<string, unknown> = { run: () => 1 };
  cycle.self = cycle;
  const refused = await assertRejects(
    () => queue.send({ act: "echo", value: cycle }),
    TypeError,
  );
  assertStringIncludes(refused.message, '"$.value.run"');
  const thrown = new TypeError("The getter has failed");
  const value = {
    get bad() {
      throw thrown;
    },
  };
  const own = await assertRejects(() => queue.send({ act: "echo", value }));
  assertStrictEquals(own, thrown);
  const nested = {
    get bad() {
      return queue.trySend({ act: "echo" });
    },
  };
  await assertRejects(
    () => queue.send({ act: "echo", value: nested }),
    TypeError,
    "a getter of another message",
  );
  await queue.send({ act: "echo", value: "good" });
  assertEquals(await queue.receive(), "good");
});

test("openQueue() accepts messages up to the exact size limit", async () => {
  const script = workerUrl("queue_small");
  await using queue = await openQueue<Uint8Array>(script, {
    permissions: READ,
  });
  // 1000 bytes, including the two of the MessagePack header.
  const largest = new Uint8Array(997);
  await queue.send(largest);
  assertEquals(await queue.receive(), largest);
  const larger = new Uint8Array(998);
  const error = await assertRejects(() => queue.send(larger), RangeError);
  assertStringIncludes(error.message, "1001 bytes");
  assertStringIncludes(error.message, "at most 1000");
  const moved = { transfer: [larger.buffer] };
  await assertRejects(
    () => queue.send(new Uint8Array(1000), moved),
    RangeError,
  );
  const { buffer } = new Uint8Array(1001);
  const transfer = { transfer: [buffer] };
  const message = buffer as unknown as Uint8Array;
  await assertRejects(() => queue.send(message, transfer), RangeError);
  assertFalse(buffer.detached);
  await queue.send(largest);
  assertEquals(await queue.receive(), largest);
});

test("openQueue() redistributes the messages of a worker that leaves", async () => {
  await using queue = await open<number>({ workers: 2 });
  const gate = cells();
  await queue.send({ act: "waits", value: 0, cells: gate });
  await queue.send({ act: "retires", value: 1 });
  // Both workers have one message in advance now.
  for (let value = 2; value < 6; value++) {
    await queue.send({ act: "echo", value });
  }
  release(gate);
  const answers = [];
  for (let count = 0; count < 6; count++) answers.push(await queue.receive());
  assertEquals(answers.sort(), [0, 1, 2, 3, 4, 5]);
  assertEquals(queue.stats.inFlight, 0);
});

test("openQueue() ends when all workers have sent a goodbye", async () => {
  const queue = await open<number>({ workers: 2 });
  await queue.send({ act: "retires", value: 1 });
  await queue.send({ act: "retires", value: 1 });
  assertEquals(await Array.fromAsync(queue), [1, 1]);
  await queue.send({ act: "echo", value: "not received" });
  const error = await assertRejects(() => queue.close(), ClosedError);
  assertEquals(error.unsent, [{ act: "echo", value: "not received" }]);
});

test("openQueue() receives from workers that send and leave at once", async () => {
  for (const workers of [1, 2]) {
    const queue = await openQueue<string>(workerUrl("queue_brief"), {
      workers,
      permissions: READ,
    });
    const answers = await Array.fromAsync(queue);
    assertEquals(answers, Array(workers).fill("hello and goodbye"));
    await queue.close();
  }
});

test("openQueue() delivers all answers of workers that have left", async () => {
  const queue = await openQueue<string>(workerUrl("queue_brief"), {
    windowMessages: 1,
    workers: 3,
    permissions: READ,
  });
  const answers = [];
  for await (const answer of queue) answers.push(answer);
  assertEquals(answers.length, 3);
  await queue.close();
});

test("openQueue() detects that both sides only send", async (t) => {
  const limits = { windowMessages: 4, deadlockTimeout: 100 };
  const cases: [string, QueueOptions][] = [
    ["one worker", {}],
    ["three workers", { workers: 3 }],
    ["a small capacity", { workers: 3, capacity: 2 }],
    ["an order", { workers: 2, ordered: true, capacity: 3 }],
    ["an order and one place", {
      ordered: true,
      capacity: 1,
      windowMessages: 1,
    }],
  ];
  for (const [name, options] of cases) {
    await t.step(name, async () => {
      const queue = await openQueue<string, string>(workerUrl("queue_echo"), {
        permissions: READ,
        ...limits,
        ...options,
      });
      let sent = 0;
      const error = await assertRejects(async () => {
        for (;; sent++) await queue.send(`${sent}`);
      }, DeadlockError);
      assertStringIncludes(error.message, '"main" and "worker" both wait');
      // Every accepted message is answered, and the queue continues.
      const closing = queue.close();
      const answers = await Array.fromAsync(queue);
      assertEquals(answers.length, sent);
      await closing;
    });
  }
});

test("openQueue() aborts all workers", async () => {
  const queue = await open({ workers: 2 });
  const both = [cells(), cells()];
  for (const own of both) await queue.send({ act: "reportsAbort", cells: own });
  for (const _ of both) assertEquals(await queue.receive(), "listening");
  queue.abort(new Error("Enough"));
  await assertRejects(() => queue.closed, Error, "Enough");
  for (const own of both) assertEquals(Atomics.load(own, 1), 1);
  assertEquals(queue.tryReceive(), { state: "closed" });
});

test("openQueue() ends with the reason of one worker's abort", async () => {
  const queue = await open({ workers: 2 });
  const counter = cells();
  await queue.send({ act: "deaf", cells: counter });
  await until(counter, 0, 1);
  const pending = queue.receive();
  await queue.send({ act: "aborts" });
  const error = await assertRejects(() => pending, RangeError);
  assertEquals(error.message, "The worker has had enough");
  assertStrictEquals(await assertRejects(() => queue.closed), error);
});

test("openQueue() closes in time if a worker receives nothing", async () => {
  const queue = await open({ workers: 2 });
  const counter = cells();
  await queue.send({ act: "deaf", cells: counter });
  await until(counter, 0, 1);
  await queue.send({ act: "echo", value: 1 });
  assertEquals(await queue.receive(), 1);
  const error = await assertRejects(
    () => queue.close({ timeout: 50 }),
    ClosedError,
    "50 ms",
  );
  assertEquals(error.unsent.map((act) => (act as Act).act), ["deaf"]);
});

test("openQueue() grants no permission by default", async () => {
  const script = workerUrl("queue_echo");
  // A worker may import the modules of its static imports only.
  await using queue = await openQueue<string>(script);
  await queue.send("no permission");
  assertEquals(await queue.receive(), "no permission");
});

test("openQueue() rejects options that are out of range", async (t) => {
  const cases: [QueueOptions, string][] = [
    [{ workers: 0 }, '"workers" must be a positive integer'],
    [{ workers: 1.5 }, "current value is 1.5"],
    [{ capacity: 0 }, '"capacity" must be a positive integer'],
    [{ capacity: Infinity }, "current value is Infinity"],
    [{ retries: -1 }, '"retries" must be an integer from 0 to 254'],
    [{ retries: 255 }, "current value is 255"],
    [{ openTimeout: 0 }, '"openTimeout" must be a positive number'],
    [{ windowMessages: 0 }, '"windowMessages" must be a positive integer'],
  ];
  for (const [options, text] of cases) {
    await t.step(text, async () => {
      const error = await assertRejects(() => open(options), RangeError);
      assertStringIncludes(error.message, text);
      assertStringIncludes(error.message, "Cannot open a queue");
    });
  }
  await t.step("a value that is not a function", async () => {
    const options = JSON.parse('{ "onFailed": "not a function" }');
    await assertRejects(() => open(options), TypeError, "not a function");
  });
});

test("openQueue() names the worker that sent no hello", async () => {
  const script = "data:application/javascript,setInterval(() => {}, 1000)";
  const error = await assertRejects(
    () => openQueue(script, { workers: 2, openTimeout: 200 }),
    DOMException,
  );
  assertEquals(error.name, "TimeoutError");
  assertStringIncludes(
    error.message,
    '"data:": it did not send its hello within',
  );
});

test("openQueue() ends a worker that posts a value that is not a frame", async () => {
  const queue = await openQueue(workerUrl("queue_posts"), {
    permissions: READ,
  });
  await assertRejects(() => queue.receive(), ProtocolError);
  const error = await assertRejects(() => queue.closed, ProtocolError);
  assert(error.message.length > 0);
});

for (const workers of [1, 2, 3]) {
  Deno.test({
    name:
      `openQueue() hands back what ${workers} workers throw at, goodbye or not`,
    permissions: READ,
    fn: () =>
      within((async () => {
        const failed: unknown[] = [];
        const queue = await openQueue<number>(workerUrl("queue_throws"), {
          workers,
          retries: 1,
          onFailed: ({ message, attempts, error }) => {
            assertStringIncludes(error.message, "No fives");
            failed.push([message, attempts]);
          },
        });
        for (let number = 0; number < 10; number++) await queue.send(number);
        const answers = [];
        while (answers.length < 9) answers.push(await queue.receive());
        await queue.close();
        assertEquals(answers.sort(), [0, 1, 2, 3, 4, 6, 7, 8, 9]);
        assertEquals(failed, [[5, 2]]);
      })()),
  });
}
