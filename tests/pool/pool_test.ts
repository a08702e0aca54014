// Copyright 2026 the Duplex authors. MIT license.

/**
 * What `Pool` promises of single tasks, of its workers and of its end. The same
 * worker script runs over three transports; what does not depend on them, with
 * workers in this process.
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
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { ClosedError, type Duplex, PeerExitError } from "@duplex/ipc/duplex";
import { TAG } from "../../_rpc/messages.ts";
import { openPipe } from "@duplex/ipc/pipe";
import { Pool, type PoolOptions, type TaskOptions } from "@duplex/ipc/pool";
import { openQueue } from "@duplex/ipc/queue";
import { withSignal } from "@duplex/ipc/rpc";
import { openShm } from "@duplex/ipc/shm";
import { Gate, numbers, Opener, poolOf, settle, Steps } from "./_pools.ts";
import { RUN, test, workerUrl } from "../workers/_processes.ts";
import type { Methods } from "../workers/pool_acts.ts";

const READ = { read: [new URL("../..", import.meta.url)] };
const NOTHING: Deno.PermissionOptions = "none";
const ACTS = workerUrl("pool_acts");

/** Opening functions, and what they need. */
const OPENINGS: [string, () => Promise<Duplex>, Deno.PermissionOptions][] = [
  ["openPipe", () => openPipe(ACTS), RUN],
  ["openShm", () => openShm(ACTS), READ],
  ["openQueue", () => openQueue(ACTS), READ],
];

/** A function that must not be called. */
function unwanted(): never {
  throw new Error("This was not to be called");
}

for (const [name, open, permissions] of OPENINGS) {
  test(
    `Pool.run() gives each task its own outcome over ${name}()`,
    async () => {
      const pool = new Pool<Methods>(open, { workers: 2 });
      const { promise, resolve } = Promise.withResolvers<number>();
      const outcomes = await Promise.allSettled([
        pool.run("add", [1, 2]),
        pool.run("throws", ["undefined"]),
        pool.run("throws", ["zero"]),
        pool.run("throws", ["empty"]),
        pool.run("throws", ["null"]),
        pool.run("rejects", ["Too far"]),
        pool.run("echo", [Symbol()]),
        pool.run("unsendable", []),
        pool.run("count", [3]),
        pool.run("progress", [20, async (n) => {
          if (n === 20) resolve(n);
          return await promise + 1;
        }]),
        pool.run("echo", [undefined]),
      ]);
      const values = outcomes.map((outcome) =>
        outcome.status === "fulfilled"
          ? [outcome.value]
          : outcome.reason instanceof Error
          ? `${outcome.reason.name}: ${outcome.reason.message}`
          : { thrown: outcome.reason }
      );
      const refusals = values.splice(6, 3) as string[];
      assertEquals<unknown[]>(values, [
        [3],
        { thrown: undefined },
        { thrown: 0 },
        { thrown: "" },
        { thrown: null },
        "RangeError: Too far",
        [42],
        [undefined],
      ]);
      assertStringIncludes(refusals[0]!, 'TypeError: Cannot call "echo"');
      assertStringIncludes(
        refusals[1]!,
        "TypeError: Cannot answer with the result",
      );
      assertStringIncludes(
        refusals[2]!,
        'TypeError: Cannot run "count" in a pool',
      );
      const { done, failed, retried, inFlight, waiting, latency } = pool.stats;
      assertEquals({ done, failed, retried, inFlight, waiting }, {
        done: 3,
        failed: 8,
        retried: 0,
        inFlight: 0,
        waiting: 0,
      });
      assertEquals(latency.count, 11);
      const error = await assertRejects(
        () => pool.run("exits", [3], { retry: 1 }),
        PeerExitError,
        'Cannot run "exits": the task was begun 2 times',
      );
      if (name === "openPipe") assertEquals(error.code, 3);
      assertEquals(await pool.run("square", [7]), 49);
      await pool.close();
      assertEquals([pool.stats.workers, pool.stats.starting], [0, 0]);
    },
    permissions,
  );
}

test("Pool.run() refuses a generator of a task that calls back", async () => {
  const methods = {
    *count(_onStep: () => void) {
      yield 1;
    },
    echo: (n: number) => n,
  };
  const [pool, opener] = poolOf(methods);
  await assertRejects(
    () => pool.run("count", [unwanted]),
    TypeError,
    'Cannot run "count" in a pool: its result is a stream',
  );
  assertEquals(await pool.run("echo", [1]), 1);
  assertEquals(opener.near.length, 1);
  await pool.close();
}, NOTHING);

test("Pool.run() puts many small tasks into a message", async () => {
  const [pool, opener] = poolOf({ square: (n: number) => n * n }, {
    workers: 2,
  });
  const squares = await Promise.all(
    numbers(10_000).map((n) => pool.run("square", [n])),
  );
  assertEquals(squares, numbers(10_000).map((n) => n * n));
  assertLess(opener.sent, 2_000);
  await pool.close();
}, NOTHING);

test(
  "Pool.run() does not put tasks together that must not be begun twice",
  async () => {
    const [pool, opener] = poolOf({ square: (n: number) => n * n });
    await Promise.all(
      numbers(500).map((n) => pool.run("square", [n], { retry: 0 })),
    );
    // The first message asks the worker to describe itself.
    assertEquals(opener.sent, 501);
    await pool.close();
  },
  NOTHING,
);

test("Pool.run() lets slow tasks keep to themselves", async () => {
  const gates = numbers(4).map(() => new Gate());
  const steps = new Steps();
  const methods = {
    async slow(n: number) {
      steps.step();
      await gates[n]!.opened;
      return n;
    },
    quick: (n: number) => n,
  };
  const [pool] = poolOf(methods, { workers: 2 });
  // What is known of one method is not held of another.
  for (const n of numbers(1_000)) pool.run("quick", [n]);
  const slow = gates.map((_, n) => pool.run("slow", [n]));
  await steps.until(2);
  assertEquals(pool.stats.inFlight, 2);
  for (const [n, gate] of gates.entries()) {
    gate.open();
    assertEquals(await slow[n], n);
  }
  await pool.close();
}, NOTHING);

test("Pool takes back what is left of a batch that takes long", async () => {
  const slow = [3_000, 5_003, 7_007, 8_011];
  const counts = new Uint8Array(10_000);
  const opener = new Opener(() => ({
    async work(n: number) {
      counts[n]!++;
      if (slow.includes(n)) await new Promise((end) => setTimeout(end, 50));
      return n;
    },
  }));
  let recalled = 0;
  const pool = new Pool(async () => {
    const duplex = await opener.open();
    const { trySend } = duplex;
    duplex.trySend = (message) => {
      if ((message as number[])[0] === TAG.recall) recalled++;
      return trySend.call(duplex, message);
    };
    return duplex;
  }, { workers: 2 });
  const map = pool.mapSettled(numbers(10_000), "work");
  const outcomes = await Array.fromAsync(map);
  assertEquals(outcomes.length, 10_000);
  assertGreater(recalled, 0);
  // What was recalled was not begun, and was run once.
  assertEquals(outcomes.filter(({ attempts: runs }) => runs !== 1), []);
  assertEquals(counts.findIndex((count) => count !== 1), -1);
  assertEquals(pool.stats.retried, 0);
  await pool.close();
}, NOTHING);

test("Pool gives others what waits behind a task that takes long", async () => {
  const gate = new Gate();
  const opener = new Opener(() => ({
    async work(n: number) {
      // Each would wait forever, if the one behind it waited for this one.
      if (n === 5_000) await gate.opened;
      if (n === 5_001) gate.open();
      return n;
    },
  }));
  const pool = new Pool(opener.open, { workers: 2 });
  const items = numbers(10_000);
  assertEquals(await Array.fromAsync(pool.map(items, "work")), items);
  await pool.close();
}, NOTHING);

test("Pool takes tasks from maps and from run() in turn", async () => {
  const order: string[] = [];
  const begin = new Gate();
  const methods = {
    async work(label: string) {
      await begin.opened;
      order.push(label);
      return label;
    },
  };
  const [pool] = poolOf(methods);
  // One at a time: the order is that of the turns.
  const options = { retry: 0 };
  const all = [
    Array.fromAsync(pool.map(["a", "a", "a"], "work", options)),
    Array.fromAsync(pool.map(["b", "b", "b"], "work", options)),
    ...["c", "c", "c"].map((label) => pool.run("work", [label], options)),
  ];
  await settle();
  begin.open();
  await Promise.all(all);
  assertEquals(order.join(""), "abcabcabc");
  await pool.close();
}, NOTHING);

test("Pool.run() fails alone what cannot be sent, and goes on", async () => {
  const [pool] = poolOf({ echo: (value: unknown) => value });
  const getter = {
    get secret(): never {
      throw new RangeError("Not for you");
    },
  };
  // Nothing else wakes the pool between these.
  const outcomes = await Promise.allSettled([
    pool.run("echo", [Symbol()]),
    pool.run("echo", [new WeakMap()]),
    pool.run("echo", [1]),
    assertRejects(() => pool.run("echo", [getter]), RangeError, "Not for you"),
    pool.run("echo", [2]),
  ]);
  assertEquals(outcomes.map(({ status }) => status[0]).join(""), "rrfff");
  // Many of one message, after the pace is known.
  await Promise.all(numbers(500).map((n) => pool.run("echo", [n])));
  const values = numbers(300).map((n) => n === 7 ? Symbol() : n);
  const mixed = await Promise.allSettled(
    values.map((value) => pool.run("echo", [value])),
  );
  assertEquals(
    mixed.flatMap(({ status }, n) => status === "rejected" ? [n] : []),
    [7],
  );
  const map = pool.mapSettled([1, getter, 2], "echo");
  const found = (await Array.fromAsync(map)).map(({ status }) => status[0]);
  assertEquals(found.join(""), "frf");
  await pool.close();
}, NOTHING);

test("Pool.run() fails alone what cannot be sent back", async () => {
  const [pool] = poolOf({
    echo: (n: number) => n % 100 === 7 ? Symbol("x") : n,
  });
  await Promise.all(numbers(7).map((n) => pool.run("echo", [n])));
  const outcomes = await Promise.allSettled(
    numbers(1_000).map((n) => pool.run("echo", [n])),
  );
  const failed = outcomes.flatMap(({ status }, n) =>
    status === "rejected" ? [n] : []
  );
  assertEquals(failed, numbers(10).map((n) => 100 * n + 7));
  await pool.close();
}, NOTHING);

test("Pool refuses options that make no sense", async (t) => {
  const open = () => Promise.reject(new Error());
  const wrong: [PoolOptions, ErrorConstructor][] = [
    [{ workers: 0 }, RangeError],
    [{ workers: 1.5 }, RangeError],
    [{ maxTasks: 0 }, RangeError],
    [{ maxMemory: -1 }, RangeError],
    [{ minWorkers: -1 }, RangeError],
    [{ timeout: 0 }, RangeError],
    [{ waitTimeout: NaN }, RangeError],
    [{ retry: -1 }, RangeError],
    [{ retry: 0.5 }, RangeError],
    [{ retry: "2" as never }, TypeError],
    [{ retry: null as never }, TypeError],
  ];
  await t.step("of the pool", () => {
    assertThrows(() => new Pool(undefined as never), TypeError, '"open"');
    for (const [options, Kind] of wrong) {
      const [name] = Object.keys(options);
      assertThrows(() => new Pool(open, options), Kind, `"${name}"`);
    }
  });
  await t.step("of tasks", async () => {
    await using pool = new Pool(open);
    const tasks: [object, ErrorConstructor][] = [
      [{ timeout: -1 }, RangeError],
      [{ retry: 1.5 }, RangeError],
      [{ signal: {} }, TypeError],
      [{ retryOn: "always" }, TypeError],
    ];
    for (const [options, Kind] of tasks) {
      const [name] = Object.keys(options);
      const text = `"${name}"`;
      await assertRejects(() => pool.run("f", [], options), Kind, text);
      assertThrows(() => pool.map([], "f", options), Kind, text);
    }
    await assertRejects(
      () => pool.run("f", [], { waitTimeout: 0 }),
      RangeError,
      '"waitTimeout"',
    );
    await assertRejects(() => pool.run("f", 1 as never), TypeError, "array");
    assertThrows(() => pool.map([], "f", { readAhead: 0 }), RangeError);
    for (const options of [{ ordered: 0 }, { onProgress: {} }] as object[]) {
      const [name] = Object.keys(options);
      assertThrows(() => pool.map([], "f", options), TypeError, `"${name}"`);
    }
    assertThrows(() => pool.map(7 as never, "f"), TypeError, "iterable");
    assertEquals(pool.stats.workers + pool.stats.starting, 0);
  });
}, NOTHING);

test("Pool.run() runs a task again whose worker ended", async () => {
  let runs = 0;
  const opener = new Opener((worker) => ({
    async dies(times: number) {
      runs++;
      if (runs > times) return runs;
      opener.far[worker]!.abort(new Error("Lights out"));
      return await new Promise(() => {});
    },
  }));
  const pool = new Pool(opener.open, { workers: 1 });
  assertEquals(await pool.run("dies", [2]), 3);
  assertEquals(pool.stats.retried, 2);
  runs = 0;
  const error = await assertRejects(
    () => pool.run("dies", [Infinity], { retry: 1 }),
    ClosedError,
    'Cannot run "dies": the task was begun 2 times and its worker ended each time: Lights out',
  );
  assertInstanceOf(error.cause, Error);
  runs = 0;
  await assertRejects(
    () => pool.run("dies", [Infinity], { retry: 0 }),
    ClosedError,
    "the task was begun and its worker ended: Lights out",
  );
  assertEquals(runs, 1);
  await pool.close();
}, NOTHING);

test("Pool.run() runs a task again that threw what retryOn names", async () => {
  let runs = 0;
  const methods = {
    fails(times: number) {
      if (++runs <= times) throw new RangeError(`Time ${runs}`);
      return runs;
    },
  };
  const [pool] = poolOf(methods);
  const retryOn = (error: unknown) => error instanceof RangeError;
  await assertRejects(() => pool.run("fails", [1]), RangeError, "Time 1");
  runs = 0;
  assertEquals(await pool.run("fails", [2], { retryOn }), 3);
  runs = 0;
  await assertRejects(
    () => pool.run("fails", [9], { retryOn, retry: 3 }),
    RangeError,
    "Time 4",
  );
  runs = 0;
  const options: TaskOptions = { retryOn: () => unwanted() };
  await assertRejects(
    () => pool.run("fails", [9], options),
    Error,
    "not to be",
  );
  assertEquals(pool.stats.retried, 5);
  await pool.close();
}, NOTHING);

test("Pool.run() bounds waiting and running apart", async () => {
  const [begun, gate] = [new Gate(), new Gate()];
  const methods = {
    async waits() {
      begun.open();
      await gate.opened;
      return "done";
    },
  };
  const [pool] = poolOf(methods, { waitTimeout: 20, timeout: 60_000 });
  const first = pool.run("waits", []);
  await begun.opened;
  const error = await assertRejects(
    () => pool.run("waits", [], { timeout: 1 }),
    DOMException,
    'Cannot run "waits": no worker was free within 20 ms',
  );
  assertEquals(error.name, "TimeoutError");
  gate.open();
  // It has waited no longer than it should, however long it runs.
  assertEquals(await first, "done");
  await pool.close();
}, NOTHING);

test("Pool.run() ends a task that takes too long, and its worker", async () => {
  const begun = new Gate();
  const [pool, opener] = poolOf({
    never: withSignal((signal) => {
      signal.addEventListener("abort", () => begun.open());
      return new Promise(() => {});
    }),
    echo: (n: number) => n,
  });
  const error = await assertRejects(
    () => pool.run("never", [], { timeout: 10 }),
    DOMException,
    'Cannot run "never": it took longer than 10 ms',
  );
  assertEquals(error.name, "TimeoutError");
  await begun.opened;
  assertEquals(await pool.run("echo", [1]), 1);
  assertEquals([opener.near.length, pool.stats.retried], [2, 0]);
  await pool.close();
  await opener.gone();
}, NOTHING);

test("Pool.run() finds out which of many takes too long", async () => {
  let runs = 0;
  const methods = {
    work(n: number) {
      if (n !== 3_000) return n;
      runs++;
      return new Promise<number>(() => {});
    },
  };
  const [pool] = poolOf(methods, { timeout: 200 });
  const outcomes = await Promise.allSettled(
    numbers(4_000).map((n) => pool.run("work", [n])),
  );
  const failed = outcomes.flatMap((outcome, n) =>
    outcome.status === "rejected" ? [[n, outcome.reason.name]] : []
  );
  assertEquals(failed, [[3_000, "TimeoutError"]]);
  assertLess(runs, 3);
  await pool.close();
}, NOTHING);

test("Pool.stats reports how long tasks took", async () => {
  const [pool] = poolOf({ echo: (n: number) => n });
  assertEquals(pool.stats.latency, {
    count: 0,
    min: 0,
    max: 0,
    mean: 0,
    p50: 0,
    p90: 0,
    p99: 0,
    buckets: [],
  });
  for (const n of numbers(50)) await pool.run("echo", [n]);
  const { latency } = pool.stats;
  const { min, mean, p50, p90, p99, max, buckets } = latency;
  assertGreater(min, 0);
  for (
    const [less, more] of [[min, mean], [mean, max], [p50, p90], [p90, p99], [
      p99,
      max,
    ]]
  ) {
    assert(less! <= more!, `${less} is more than ${more}`);
  }
  assertEquals(buckets.reduce((sum, { count }) => sum + count, 0), 50);
  assertEquals(buckets, buckets.toSorted((a, b) => a.upTo - b.upTo));
  await pool.close();
}, NOTHING);
