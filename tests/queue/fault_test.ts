// Copyright 2026 the Duplex authors. MIT license.

/**
 * How a queue behaves when its workers die. All workers are real threads.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertLess,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
} from "@std/assert";
import { ClosedError, PeerExitError } from "@duplex/ipc/duplex";
import {
  type Duplex,
  type FailedMessage,
  openQueue,
  type QueueOptions,
} from "@duplex/ipc/queue";
import { drawPlan, pick, play, RandomDeaths, violationsOf } from "./_faults.ts";
import { random, seed } from "../_seed.ts";
import { allDone, within, workerUrl } from "../workers/_processes.ts";
import type { Act } from "../workers/queue_acts.ts";
import type { Done, How, Job } from "../workers/queue_dies.ts";

const READ = { read: [new URL("../..", import.meta.url)] };

/** A test that fails by name if it hangs. */
function test(
  name: string,
  fn: (t: Deno.TestContext) => Promise<void>,
  permissions: Deno.PermissionOptions = READ,
): void {
  Deno.test({ name, permissions, fn: (t) => within(fn(t)) });
}

function open<In = unknown>(
  options: QueueOptions = {},
): Promise<Duplex<In, Act>> {
  return openQueue(workerUrl("queue_acts"), { permissions: READ, ...options });
}

function cells(): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(8));
}

/** Waits until another thread has counted up to a number. */
async function until(cells: Int32Array, value: number): Promise<void> {
  while (Atomics.load(cells, 0) < value) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** A job for `queue_dies.ts`. */
function job(id: number, values: Partial<Job> = {}): Job {
  const padding = new Uint8Array();
  return { id, answers: 1, padding, answerSize: 0, deaths: [], ...values };
}

function openDies(options: QueueOptions): Promise<Duplex<Done, Job>> {
  return openQueue(workerUrl("queue_dies"), { permissions: READ, ...options });
}

/** Concurrent runs, if they are independent of each other. */
const LANES = 4;

/** Each run has its own time limit. */
async function playRuns(): Promise<void> {
  const base = seed();
  let next = 0;
  async function playRun(run: number, deathRate: number): Promise<void> {
    const draw = random(base + run);
    const plan = drawPlan(draw);
    using _ = deathRate > 0 ? new RandomDeaths(draw, deathRate) : undefined;
    const where = `run ${run} of seed ${base}`;
    const faults = await within(play(plan)).then(
      (outcome) => violationsOf(plan, outcome),
      (error) => [error.message],
    );
    // The other runs end, so that they do not disturb the next test.
    if (faults.length > 0) next = Infinity;
    assertEquals(faults, [], where);
  }
  // Deaths at the start are drawn when workers start, so these plans run one by
  // one.
  while (next < 20) await playRun(next++, 0.2);
  await allDone(Array.from({ length: LANES }, async () => {
    while (next < 120) await playRun(next++, 0);
  }));
}

Deno.test({
  name: "openQueue() loses no message at whatever point a worker dies",
  permissions: { ...READ, env: ["DUPLEX_SEED"] },
  fn: playRuns,
});

test(
  "openQueue() handles 10 000 messages through 8 workers that die at random",
  async () => {
    const count = 10_000;
    const draw = random(seed());
    const log = new Int32Array(new SharedArrayBuffer(8 * count));
    const hows: How[] = ["throw", "close", "exit", "reject"];
    // Most messages can be stored as bytes; shared memory requires a clone.
    const jobs = Array.from({ length: count }, (_, id) =>
      job(id, {
        answerSize: 10,
        deaths: draw() < 0.01
          ? [[pick(draw, ["received", "inHand", "answered"]), pick(draw, hows)]]
          : [],
        log: draw() < 0.2 ? log : undefined,
      }));
    using _ = new RandomDeaths(draw, 0.05);
    const queue = await openDies({
      workers: 8,
      retries: 99,
      openTimeout: 20_000,
    })
      .catch(() => openDies({ workers: 8, retries: 99 }));
    const sending = (async () => {
      for (const each of jobs) await queue.send(each);
      await queue.close({ timeout: 30_000 });
    })();
    const times = new Uint32Array(count);
    let unexpected = 0;
    let marked = 0;
    for await (const { id, part, attempt } of queue) {
      if (part !== 0 || jobs[id] === undefined) unexpected++;
      if (attempt > 1) marked++;
      times[id]!++;
    }
    await sending;
    const lost = times.filter((each) => each === 0).length;
    const repeated = times.filter((each) => each > 1).length;
    const unmarked = jobs.filter(({ id }) => log[2 * id]! > 1).length;
    assertEquals({ lost, repeated, unexpected, unmarked }, {
      lost: 0,
      repeated: 0,
      unexpected: 0,
      unmarked: 0,
    });
    assert(marked > 50, `only ${marked} were delivered again`);
  },
  { ...READ, env: ["DUPLEX_SEED"] },
);

test("openQueue() redelivers in order and before other messages", async () => {
  await using queue = await open<[unknown, { attempt: number }]>();
  await queue.send({ act: "diesOnce", value: 1 });
  for (let value = 2; value < 50; value++) {
    await queue.send({ act: "delivery", value });
  }
  for (let value = 1; value < 50; value++) {
    const answer = await queue.receive();
    const delivery = { number: value, attempt: value === 1 ? 2 : 1 };
    assertEquals(answer, [value, delivery] as unknown);
  }
});

test("openQueue() returns a message that workers die of, and continues", async () => {
  for (const workers of [1, 3]) {
    const failed: FailedMessage[] = [];
    const queue = await open({
      workers,
      retries: 1,
      onFailed: (each) => failed.push(each),
    });
    const cycle: Record<string, unknown> = { error: new RangeError("Far") };
    cycle.self = cycle;
    await queue.send({ act: "echo", value: "before" });
    await queue.send({ act: "dies", value: cycle });
    await queue.send({ act: "dies", value: "bytes" });
    await queue.send({ act: "echo", value: "after" });
    const closing = queue.close();
    const answers = await Array.fromAsync(queue);
    await closing;
    assertEquals(answers.sort(), ["after", "before"]);
    failed.sort((one, other) => one.number - other.number);
    assertEquals(
      failed.map(({ number, attempts }) => [number, attempts]),
      [[2, 2], [3, 2]],
    );
    const { value } = failed[0]!.message as { value: typeof cycle };
    assertStrictEquals(value.self, value);
    assertInstanceOf(value.error, RangeError);
    assertEquals(failed[1]!.message, { act: "dies", value: "bytes" });
    assertInstanceOf(failed[0]!.error, PeerExitError);
    assertStringIncludes(
      failed[0]!.error.message,
      "The message ended the worker",
    );
  }
});

test("openQueue() does not count the death of a worker against other messages", async (t) => {
  // Both workers handle all messages in one turn, so nothing that they did
  // before their death has left: neither answers nor acknowledgements.
  const cases: [string, number][] = [["answers", 1], ["silence", 0]];
  for (const [name, answers] of cases) {
    await t.step(name, async () => {
      const count = 3_000;
      const log = new Int32Array(new SharedArrayBuffer(8 * count));
      const failed: FailedMessage[] = [];
      const queue = await openDies({
        retries: 1,
        onFailed: (each) => failed.push(each),
      });
      const killer: Job["deaths"] = [["received", "reject"], [
        "received",
        "reject",
      ]];
      for (let id = 0; id < count; id++) {
        const deaths = id % 1000 === 900 ? killer : [];
        await queue.send(job(id, { answers, deaths, log }));
      }
      const closing = queue.close({ timeout: 20_000 });
      const ids = (await Array.fromAsync(queue)).map(({ id }) => id);
      await closing;
      assertEquals(failed.map(({ number }) => number), [901, 1901, 2901]);
      assertEquals(ids.length, answers * (count - 3));
      assertEquals(new Set(ids).size, ids.length);
      for (let id = 0; id < count; id++) {
        assert(log[2 * id]! === 1, `${id} came ${log[2 * id]} times unmarked`);
      }
      const again = jobsTakenAgain(log);
      // No answer is needed here: only the messages in progress are
      // redelivered.
      if (answers === 0) assertEquals(again, [900, 1900, 2900]);
    });
  }
});

function jobsTakenAgain(log: Int32Array): number[] {
  const again = [];
  for (let id = 0; 2 * id < log.length; id++) {
    if (log[2 * id + 1]! > 0) again.push(id);
  }
  return again;
}

test("openQueue() ends with the failed message unless a callback receives it", async () => {
  const queue = await open({ retries: 1 });
  await queue.send({ act: "echo", value: "handled" });
  await queue.send({ act: "dies" });
  await queue.send({ act: "echo", value: "not handled" });
  assertEquals(await queue.receive(), "handled");
  const error = await assertRejects(() => queue.receive(), PeerExitError);
  assertStringIncludes(
    error.message,
    "Cannot deliver message 2: its worker ended at attempt 2",
  );
  assertStringIncludes(error.message, "The message ended the worker");
  assertEquals(error.unsent, [
    { act: "dies" },
    { act: "echo", value: "not handled" },
  ]);
  assertStrictEquals(await assertRejects(() => queue.closed), error);
  assertStrictEquals(
    await assertRejects(() => queue.send({ act: "echo" })),
    error,
  );
});

test("openQueue() ends with the error that onFailed throws", async () => {
  const thrown = new RangeError("Nowhere to put it");
  const queue = await open({
    retries: 0,
    onFailed() {
      throw thrown;
    },
  });
  const pending = queue.receive();
  await queue.send({ act: "dies" });
  assertStrictEquals(await assertRejects(() => pending), thrown);
  assertStrictEquals(await assertRejects(() => queue.closed), thrown);
});

test("openQueue() allows onFailed to send and to abort", async () => {
  const again = await open({
    retries: 0,
    onFailed: () => again.trySend({ act: "echo", value: "instead" }),
  });
  await again.send({ act: "dies" });
  assertEquals(await again.receive(), "instead");
  await again.close();
  const ends = await open({
    retries: 0,
    onFailed: () => ends.abort(new Error("Enough")),
  });
  await ends.send({ act: "dies" });
  await assertRejects(() => ends.closed, Error, "Enough");
});

test("openQueue() does not replace a worker with restart: false", async () => {
  const queue = await open<number>({ workers: 2, restart: false });
  const gate = cells();
  await queue.send({ act: "waitsAndDies", cells: gate });
  await until(gate, 1);
  Atomics.store(gate, 1, 1);
  // The other worker continues until it receives the message that kills it.
  await queue.send({ act: "echo", value: 1 });
  assertEquals(await queue.receive(), 1);
  const pending = queue.receive();
  const error = await assertRejects(() => pending, PeerExitError);
  assertEquals(
    error.unsent.map((act) => (act as Act).act),
    ["waitsAndDies"],
  );
  await assertRejects(() => queue.close(), PeerExitError);
});

test("openQueue() lets the other workers finish if one dies after the goodbye", async () => {
  const queue = await open<number>({ workers: 2, restart: false });
  const [dies, lives] = [cells(), cells()];
  await queue.send({ act: "waitsAndDies", cells: dies });
  await queue.send({ act: "waits", value: 1, cells: lives });
  await Promise.all([until(dies, 1), until(lives, 1)]);
  const closing = assertRejects(() => queue.close(), PeerExitError);
  Atomics.store(dies, 1, 1);
  await new Promise((resolve) => setTimeout(resolve, 50));
  Atomics.store(lives, 1, 1);
  assertEquals(await queue.receive(), 1);
  const error = await closing;
  assertEquals(
    error.unsent.map((act) => (act as Act).act),
    ["waitsAndDies"],
  );
});

test("openQueue() replaces a worker that dies after the goodbye", async () => {
  const queue = await open({ workers: 2 });
  for (let value = 0; value < 4; value++) {
    await queue.send({ act: "diesOnce", value });
  }
  const closing = queue.close();
  const answers = await Array.fromAsync(queue) as [number, unknown][];
  assertEquals(
    answers.sort(([one], [other]) => one - other),
    [0, 1, 2, 3].map((value) => {
      return [value, { number: value + 1, attempt: 2 }];
    }),
  );
  await closing;
});

test("openQueue() keeps the order of redelivered messages", async () => {
  const queue = await open<[number, { attempt: number }]>({
    workers: 3,
    ordered: true,
    capacity: 30,
  });
  const count = 200;
  const sending = (async () => {
    for (let value = 0; value < count; value++) {
      const act = value % 20 === 7 ? "diesOnce" : "delivery";
      await queue.send({ act, value });
    }
    await queue.close();
  })();
  const answers = await Array.fromAsync(queue);
  await sending;
  assertEquals(
    answers.map(([value]) => value),
    Array.from({ length: count }, (_, value) => value),
  );
  assertEquals(answers[7]![1].attempt, 2);
});

test("openQueue() ends if every worker dies at its start", async () => {
  const error = await assertRejects(
    () => openQueue("data:application/javascript,throw new Error('no')"),
    PeerExitError,
  );
  assertStringIncludes(error.message, "no");
  const missing = new URL("./workers/no_such.ts", import.meta.url);
  await assertRejects(
    () => openQueue(missing, { workers: 3, permissions: READ }),
    PeerExitError,
  );
});

test("openQueue() ends if every replacement dies at its start", async () => {
  const queue = await openDies({ retries: 1 });
  using deaths = new RandomDeaths(() => 0, 1);
  const pending = queue.receive();
  await queue.send(job(1, { deaths: [["received", "exit"]] }));
  const error = await assertRejects(() => pending, PeerExitError);
  assertEquals(error.unsent.map((each) => (each as Job).id), [1]);
  // A death caused by the message does not count as a failed start.
  assertEquals(deaths.started, 3);
});

test("openQueue() ends if every worker dies after its hello", async () => {
  const script = workerUrl("queue_dies");
  using deaths = new RandomDeaths(hello, 1);
  const queue = await openQueue(script, { permissions: READ, retries: 1 });
  const error = await assertRejects(() => queue.receive(), PeerExitError);
  assertEquals(error.unsent, []);
  // The first worker, and a replacement for each of two retries.
  assertEquals(deaths.started, 3);
});

/** The random number of a worker that dies after its hello. */
function hello(): number {
  return 0.5;
}

test("openQueue() rejects everything pending when its last worker dies", async () => {
  const limits = { windowMessages: 1, capacity: 2 };
  const queue = await open({ ...limits, restart: false });
  const gate = cells();
  await queue.send({ act: "waitsAndDies", cells: gate });
  await queue.send({ act: "echo", value: 1 });
  const pending = [
    queue.send({ act: "echo", value: 2 }),
    queue.receive(),
    queue[Symbol.asyncIterator]().next(),
    queue.readable.getReader().read(),
    queue.close(),
    queue.closed,
  ];
  const settled = Promise.allSettled(pending);
  Atomics.store(gate, 1, 1);
  const error = await assertRejects(() => queue.closed, PeerExitError);
  for (const result of await settled) {
    assert(result.status === "rejected");
    assertStrictEquals(result.reason, error);
  }
  assertEquals(error.unsent.length, 2);
});

test("openQueue() delivers all answers that arrived before the end", async () => {
  const queue = await open({ windowMessages: 4, restart: false });
  // Four wait for the reader, and four more before them in the link.
  for (let value = 0; value < 8; value++) {
    await queue.send({ act: "echo", value });
  }
  const gate = cells();
  await queue.send({ act: "waitsAndDies", cells: gate });
  await until(gate, 1);
  // All have left the worker; there is no event for their arrival at the link.
  await new Promise((resolve) => setTimeout(resolve, 50));
  Atomics.store(gate, 1, 1);
  await assertRejects(() => queue.closed, PeerExitError);
  const answers: unknown[] = [];
  await assertRejects(async () => {
    for await (const answer of queue) answers.push(answer);
  }, PeerExitError);
  assertEquals(answers, [0, 1, 2, 3, 4, 5, 6, 7]);
});

test("openQueue() returns the message if its answer cannot be sent", async () => {
  const failed: FailedMessage[] = [];
  const queue = await open({
    retries: 1,
    onFailed: (each) => failed.push(each),
  });
  await queue.send({ act: "sendsFunction" });
  await queue.send({ act: "echo", value: "next" });
  assertEquals(await queue.receive(), "next");
  assertEquals(failed.map(({ message }) => message), [{
    act: "sendsFunction",
  }]);
  assertStringIncludes(failed[0]!.error.message, "cannot be sent");
  await queue.close();
});

test("openQueue() redelivers transferred buffers and shared memory", async () => {
  const queue = await open<[unknown, { attempt: number }]>();
  const bytes = new Uint8Array([1, 2, 3]);
  const memory = cells();
  await queue.send(
    { act: "diesOnce", value: [bytes, memory], cells: memory },
    { transfer: [bytes.buffer] },
  );
  const [value, { attempt }] = await queue.receive();
  const [back, same] = value as [Uint8Array, Int32Array];
  assertEquals([back, attempt], [new Uint8Array([1, 2, 3]), 2]);
  Atomics.store(memory, 0, 5);
  assertEquals(Atomics.load(same, 0), 5);
  await queue.close();
});

test("openQueue() does not wait for a worker that never reads", async () => {
  const queue = await open({ windowMessages: 4, capacity: 4 });
  const gate = cells();
  await queue.send({ act: "spins", cells: gate });
  await until(gate, 1);
  while (queue.trySend({ act: "echo", value: new Uint8Array(300_000) }));
  const waiting = queue.send({ act: "echo" });
  const start = performance.now();
  const closing = queue.close({ timeout: 100 });
  const failure = await assertRejects(() => waiting, ClosedError);
  assertEquals(failure.unsent.length, 4);
  assertStrictEquals(await assertRejects(() => closing), failure);
  assertLess(performance.now() - start, 5_000);
  // Deno does not end a thread that never returns to its event loop.
  Atomics.store(gate, 1, 1);
  Atomics.notify(gate, 1);
});

test("openQueue() leaves no worker running if it ends while one starts", async () => {
  using workers = new Workers();
  const queue = await open({ openTimeout: 60_000 });
  const started = Promise.withResolvers<void>();
  const draw = () => {
    started.resolve();
    return 0.9;
  };
  using _ = new RandomDeaths(draw, 0);
  await queue.send({ act: "diesOnce" });
  await started.promise;
  queue.abort(new Error("Enough"));
  await assertRejects(() => queue.closed, Error, "Enough");
  assertEquals([workers.started, workers.terminated], [2, 2]);
});

const WRITABLE = { writable: true, configurable: true };

/**
 * Counts the Web Workers that are started and terminated until it is disposed
 * of.
 */
class Workers implements Disposable {
  readonly #worker = Worker;
  started = 0;
  terminated = 0;

  constructor() {
    const onStart = () => this.started++;
    const onEnd = () => this.terminated++;
    const Counted = class extends this.#worker {
      #isLive = true;

      constructor(url: string | URL, options?: WorkerOptions) {
        super(url, options);
        onStart();
      }

      override terminate(): void {
        if (this.#isLive) onEnd();
        this.#isLive = false;
        super.terminate();
      }
    };
    Object.defineProperty(globalThis, "Worker", {
      ...WRITABLE,
      value: Counted,
    });
  }

  [Symbol.dispose](): void {
    const value = this.#worker;
    Object.defineProperty(globalThis, "Worker", { ...WRITABLE, value });
  }
}
