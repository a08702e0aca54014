// Copyright 2026 the Duplex authors. MIT license.

/**
 * How many tasks a pool puts into a message: `Paces` with given times, and a pool of
 * many workers that wait for one thread.
 *
 * @module
 */

import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { Pool } from "@duplex/ipc/pool";
import { type BatchTimes, Paces } from "../../_pool/pace.ts";
import { numbers, Opener } from "./_pools.ts";
import { test as anyTest } from "../workers/_processes.ts";

/** A test that may do nothing. */
function test(name: string, fn: () => Promise<void> | void): void {
  anyTest(name, async () => await fn(), "none");
}

/** The times of a batch whose tasks take `each` milliseconds. */
function times(
  count: number,
  each: number,
  more: Partial<BatchTimes> = {},
): BatchTimes {
  const own = count * each;
  const rest = { total: own, own, isRecalled: false, ...more };
  return { method: "f", count, ...rest };
}

/** The paces of a method after `count` full batches. */
function pacesAfter(
  count: number,
  each: number,
  more: Partial<BatchTimes> = {},
): Paces {
  const paces = new Paces();
  for (let batch = 0; batch < count; batch++) {
    paces.add(times(paces.next("f", Infinity), each, more));
  }
  return paces;
}

test("Paces.next() is one until the time of a task is known", () => {
  const paces = new Paces();
  assertEquals([paces.next("f", Infinity), paces.last("f")], [1, 1]);
  // A batch without a task says nothing.
  paces.add(times(0, 1));
  assertEquals(paces.next("f", Infinity), 1);
});

test("Paces.next() grows by four up to 256", () => {
  const paces = new Paces();
  const sizes = numbers(7).map(() => {
    const size = paces.next("f", Infinity);
    paces.add(times(size, 0.001));
    return size;
  });
  assertEquals(sizes, [1, 4, 16, 64, 256, 256, 256]);
  assertEquals(paces.last("f"), 256);
});

test("Paces.next() gives a batch two milliseconds", () => {
  assertEquals(pacesAfter(10, 0.1).next("f", Infinity), 20);
  assertEquals(pacesAfter(10, 1.5).next("f", Infinity), 1);
});

test("Paces.next() ignores how long a worker waits for a core", () => {
  for (const total of [0.01, 1, 100, 10_000]) {
    const paces = pacesAfter(10, 0.001, { total });
    assertEquals(paces.next("f", Infinity), 256, `${total}`);
  }
});

test("Paces.next() uses the whole time of a peer that reports none", () => {
  const paces = pacesAfter(20, 0, { total: 8, own: undefined });
  assertEquals(paces.next("f", Infinity), 1);
});

test("Paces.next() keeps a batch with its waits within the timeout", () => {
  // A batch of 256 takes 64 milliseconds with its wait.
  const paces = new Paces();
  for (let batch = 0; batch < 20; batch++) {
    const size = paces.next("f", Infinity);
    paces.add(times(size, 0.001, { total: size / 4 }));
  }
  assertEquals(paces.next("f", 100_000), 256);
  assertEquals(paces.next("f", 100), 40);
  assertEquals(paces.next("f", 1), 1);
});

test("Paces.add() is not misled by a worker that was interrupted", () => {
  const paces = pacesAfter(10, 0.01);
  assertEquals(paces.next("f", Infinity), 200);
  // Every third batch contains a wait of fifty milliseconds.
  for (const batch of numbers(30)) {
    const size = paces.next("f", Infinity);
    const own = size * 0.01 + (batch % 3 === 0 ? 50 : 0);
    paces.add(times(size, 0, { own, total: own }));
  }
  assertGreater(paces.next("f", Infinity), 100);
});

test("Paces.add() follows tasks that become slow", () => {
  const paces = pacesAfter(10, 0.001);
  let batches = 0;
  for (; paces.next("f", Infinity) > 1; batches++) paces.add(times(256, 2));
  assertLess(batches, 20);
  // One batch that was recalled is enough.
  const recalled = pacesAfter(10, 0.001);
  recalled.add(times(1, 20, { isRecalled: true }));
  assertEquals(recalled.next("f", Infinity), 1);
});

test("Paces.add() takes times of zero", () => {
  const paces = pacesAfter(10, 0);
  assertEquals(paces.next("f", Infinity), 256);
  assertEquals(paces.next("f", 1_000), 256);
  for (const _ of numbers(20)) paces.add(times(256, 1));
  assertEquals(paces.next("f", Infinity), 2);
});

test("Paces.recallAfter is later if batches wait for a core", () => {
  assertEquals(new Paces().recallAfter, 20);
  assertEquals(pacesAfter(10, 0.5).recallAfter, 20);
  const { recallAfter } = pacesAfter(10, 0.001, { total: 50 });
  assert(recallAfter > 200 && recallAfter < 230, `${recallAfter}`);
  // A peer cannot report so little that its batches are kept without a limit.
  assertEquals(pacesAfter(10, 0, { total: 1e9 }).recallAfter, 1_020);
  // It cannot report more than the whole time either.
  assertEquals(pacesAfter(10, 1e9, { total: 1 }).recallAfter, 20);
});

test("Paces.add() keeps a limited number of methods", () => {
  const paces = pacesAfter(10, 0.001);
  for (const n of numbers(1_000)) paces.add({ ...times(1, 1), method: `${n}` });
  assertEquals(paces.last("f"), 1);
});

for (const workers of [1, 32]) {
  test(`Pool fills batches with ${workers} workers on one thread`, async () => {
    const opener = new Opener(() => ({ echo: (n: number) => n }));
    const pool = new Pool<{ echo(n: number): number }>(opener.open, {
      workers,
    });
    const run = async (count: number) => {
      const { sent } = opener;
      const tasks = numbers(count).map((n) => pool.run("echo", [n]));
      assertEquals(await Promise.all(tasks), numbers(count));
      return count / (opener.sent - sent);
    };
    await run(2_000);
    assertGreater(await run(20_000), 100);
    const { sent } = opener;
    const results = pool.map(numbers(40_000), "echo");
    assertEquals(await Array.fromAsync(results), numbers(40_000));
    assertGreater(40_000 / (opener.sent - sent), 100);
    assertEquals(opener.near.length, workers);
    await pool.close();
  });
}

test("Pool.run() gives the quick tasks of a turn together", async () => {
  const opener = new Opener(() => ({ echo: (n: number) => n }));
  const pool = new Pool<{ echo(n: number): number }>(opener.open, {
    workers: 8,
  });
  const run = () => Promise.all(numbers(50).map((n) => pool.run("echo", [n])));
  for (const _ of numbers(50)) await run();
  const { sent } = opener;
  assertEquals(await run(), numbers(50));
  assertEquals([opener.sent - sent, opener.near.length], [1, 8]);
  await pool.close();
});

test("Pool.map() fills batches for a reader that is slower than its workers", async () => {
  const opener = new Opener(() => ({ echo: (n: number) => n }));
  const pool = new Pool<{ echo(n: number): number }>(opener.open, {
    workers: 2,
  });
  await Array.fromAsync(pool.map(numbers(5_000), "echo"));
  const { sent } = opener;
  let count = 0;
  for await (const _ of pool.map(numbers(20_000), "echo")) {
    // The workers are idle whenever the reader takes a result.
    if (++count % 4 === 0) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  assertEquals(count, 20_000);
  assertGreater(20_000 / (opener.sent - sent), 100);
  await pool.close();
});

test("Pool spreads slow items over its workers although they were quick before", async () => {
  const running = new Set<number>();
  let isSlow = false;
  const { promise, resolve } = Promise.withResolvers<void>();
  const opener = new Opener((worker) => ({
    async work(n: number) {
      if (!isSlow) return n;
      running.add(worker);
      if (running.size === 8) resolve();
      await promise;
      return n;
    },
  }));
  const pool = new Pool<{ work(n: number): Promise<number> }>(opener.open, {
    workers: 8,
  });
  await Array.fromAsync(pool.map(numbers(5_000), "work"));
  isSlow = true;
  // It ends only when all workers run one.
  const { sent } = opener;
  const results = pool.map(numbers(8), "work");
  assertEquals(await Array.fromAsync(results), numbers(8));
  // One batch, its recall, and one message for each of the others.
  assertEquals(opener.sent - sent, 9);
  await pool.close();
});
