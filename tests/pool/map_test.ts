// Copyright 2026 the Duplex authors. MIT license.

/**
 * What `Pool.map` and `Pool.mapSettled` promise: the order, how far they read
 * ahead, and how they end. The workers are in this process.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertLess,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { ClosedError } from "@duplex/ipc/duplex";
import { type MapProgress, Pool } from "@duplex/ipc/pool";
import {
  Gate,
  KINDS,
  numbers,
  Opener,
  poolOf,
  settle,
  Source,
} from "./_pools.ts";
import { test as anyTest } from "../workers/_processes.ts";

/** A test that may do nothing. */
function test(
  name: string,
  fn: (t: Deno.TestContext) => Promise<void>,
): void {
  anyTest(name, fn, "none");
}

const echo = { echo: <T>(value: T) => value };

test("Pool.map() gives results in order", async () => {
  const gates = numbers(4).map(() => new Gate());
  const methods = {
    async waits(n: number) {
      await gates[n]!.opened;
      return n;
    },
  };
  const [pool] = poolOf(methods, { workers: 4 });
  const map = pool.map(numbers(4), "waits");
  const results = numbers(4).map(() => map.next());
  for (const n of [3, 1, 2, 0]) {
    gates[n]!.open();
    await settle();
  }
  assertEquals(
    await Promise.all(results),
    numbers(4).map((value) => ({ value, done: false })),
  );
  assertEquals(await map.next(), { value: undefined, done: true });
  await pool.close();
});

test("Pool.map() gives results as they come where they need no order", async () => {
  const gates = numbers(4).map(() => new Gate());
  const methods = {
    async waits(n: number) {
      await gates[n]!.opened;
      return n;
    },
  };
  const [pool] = poolOf(methods, { workers: 4 });
  const map = pool.map(numbers(4), "waits", { ordered: false });
  const first = map.next();
  for (const n of [3, 1, 2, 0]) {
    gates[n]!.open();
    const { value } = await (n === 3 ? first : map.next());
    assertEquals(value, n);
  }
  await pool.close();
});

test("Pool.map() puts many small items into a message", async () => {
  for (const ordered of [true, false]) {
    const [pool, opener] = poolOf(echo, { workers: 2 });
    let sum = 0;
    for await (const n of pool.map(numbers(10_000), "echo", { ordered })) {
      sum += n as number;
    }
    assertEquals(sum, 49_995_000);
    assertLess(opener.sent, 2_000);
    await pool.close();
  }
});

test("Pool.map() takes any iterable", async () => {
  const [pool] = poolOf(echo, { workers: 2 });
  async function* later() {
    for (const n of numbers(100)) yield n;
  }
  const cases: [Iterable<unknown> | AsyncIterable<unknown>, unknown[]][] = [
    [[], []],
    ["añ😀", ["a", "ñ", "😀"]],
    [new Set([1, 2]), [1, 2]],
    [new Map([[1, 2]]), [[1, 2]]],
    [[undefined, null, 0], [undefined, null, 0]],
    [numbers(100).values(), numbers(100)],
    [later(), numbers(100)],
    [ReadableStream.from(numbers(100)), numbers(100)],
    [(async function* () {})(), []],
  ];
  for (const [items, expected] of cases) {
    assertEquals(await Array.fromAsync(pool.map(items, "echo")), expected);
  }
  await pool.close();
});

test("Pool.map() reads on while every result is awaited", async () => {
  const [pool] = poolOf(echo, { workers: 2 });
  for (const kind of KINDS) {
    for (const readAhead of [1, 2, 7]) {
      for (const ordered of [true, false]) {
        const items = new Source(100)[kind];
        const map = pool.map(items, "echo", { readAhead, ordered });
        const results = await Array.fromAsync(map) as number[];
        assertEquals(results.sort((a, b) => a - b), numbers(100));
      }
    }
  }
  await pool.close();
});

test("Pool.map() does not read far ahead of a slow reader", async () => {
  const readAhead = 5;
  for (const kind of KINDS) {
    for (const ordered of [true, false]) {
      const [pool] = poolOf(echo, { workers: 2 });
      const source = new Source();
      const map = pool.map(source[kind], "echo", { readAhead, ordered });
      await settle();
      assertEquals(source.read, 0);
      for (let taken = 1; taken < 8; taken++) {
        await map.next();
        while (source.read < taken + readAhead) await settle();
        for (let turn = 0; turn < 5; turn++) await settle();
        // As many as may be, and no more.
        assertEquals(source.read, taken + readAhead);
      }
      await map.return!();
      assertEquals(source.returned, 1);
      await pool.close();
    }
  }
});

test("Pool.map() bounds what it reads ahead by itself", async () => {
  for (const kind of KINDS) {
    const [pool] = poolOf(echo, { workers: 2 });
    const source = new Source();
    const map = pool.map(source[kind], "echo");
    for (let taken = 1; taken <= 5_000; taken++) {
      await map.next();
      assertLess(source.read, taken + 2 * 1_024 + 1);
    }
    for (let turn = 0; turn < 10; turn++) await settle();
    assertLess(source.read, 5_000 + 2 * 1_024 + 1);
    await map.return!();
    await pool.close();
  }
});

test("Pool.map() ends with the first failure, after the results before it", async () => {
  const methods = {
    work(n: number) {
      if (n === 50) throw new RangeError(`No ${n}`);
      return n;
    },
  };
  for (const kind of KINDS) {
    const [pool] = poolOf(methods, { workers: 2 });
    const source = new Source();
    const results: number[] = [];
    const map = pool.map(source[kind], "work");
    await assertRejects(
      async () => {
        for await (const n of map) results.push(n);
      },
      RangeError,
      "No 50",
    );
    assertEquals(results, numbers(50));
    assertEquals(source.returned, 1);
    assertEquals(await map.next(), { value: undefined, done: true });
    assertEquals(pool.stats.waiting, 0);
    await pool.close();
  }
});

test("Pool.map() gives nothing after a failure although all is there", async () => {
  const methods = {
    work(n: number) {
      if (n === 0) throw new RangeError(`No ${n}`);
      return n;
    },
  };
  const [pool] = poolOf(methods);
  const map = pool.map([0, 1, 2], "work");
  const first = map.next();
  await assertRejects(() => first, RangeError, "No 0");
  assertEquals(await map.next(), { value: undefined, done: true });
  const left = pool.map([1, 2, 3], "work", { ordered: false });
  assertEquals((await left.next()).done, false);
  for (let turn = 0; turn < 10; turn++) await settle();
  assertEquals(await left.return!(), { value: undefined, done: true });
  assertEquals(await left.next(), { value: undefined, done: true });
  await pool.close();
});

test("Pool.map() throws what was thrown, whatever it is", async () => {
  const methods = {
    throws(value: unknown) {
      throw value;
    },
  };
  const [pool] = poolOf(methods);
  for (const thrown of [undefined, 0, "", null, false]) {
    const map = pool.map([thrown], "throws");
    const caught: unknown[] = [];
    await map.next().catch((error) => caught.push(error));
    assertEquals(caught, [thrown]);
    const [outcome] = await Array.fromAsync(
      pool.mapSettled([thrown], "throws"),
    );
    assertEquals(outcome, {
      status: "rejected",
      index: 0,
      item: thrown,
      reason: thrown,
      attempts: 1,
    });
  }
  await pool.close();
});

test("Pool.mapSettled() reports the outcome of each item", async () => {
  const methods = {
    work(n: number) {
      if (n % 3 === 0) throw new RangeError(`No ${n}`);
      return 2 * n;
    },
  };
  const [pool] = poolOf(methods, { workers: 2 });
  for (const ordered of [true, false]) {
    const map = pool.mapSettled(numbers(1_000), "work", { ordered });
    const outcomes = await Array.fromAsync(map);
    if (!ordered) outcomes.sort((a, b) => a.index - b.index);
    for (const [n, outcome] of outcomes.entries()) {
      assertEquals([outcome.index, outcome.item, outcome.attempts], [n, n, 1]);
      if (outcome.status === "fulfilled") assertEquals(outcome.value, 2 * n);
      else assertEquals((outcome.reason as Error).message, `No ${n}`);
      assertEquals(outcome.status === "rejected", n % 3 === 0);
    }
    assertEquals(outcomes.length, 1_000);
  }
  const { done, failed } = pool.stats;
  assertEquals([done, failed], [2 * 666, 2 * 334]);
  await pool.close();
});

test("Pool.map() runs an item again", async () => {
  const runs = new Map<number, number>();
  const opener = new Opener((worker) => ({
    async work(n: number) {
      const times = (runs.get(n) ?? 0) + 1;
      runs.set(n, times);
      if (n === 7 && times < 3) {
        opener.far[worker]!.abort(new Error("Lights out"));
        await new Promise(() => {});
      }
      if (n === 9 && times < 2) throw new RangeError("Again");
      return n;
    },
  }));
  const pool = new Pool(opener.open, { workers: 1 });
  const map = pool.mapSettled(numbers(20), "work", {
    retryOn: (error) => error instanceof RangeError,
  });
  const outcomes = await Array.fromAsync(map);
  for (const { index, status, attempts: stated } of outcomes) {
    assertEquals([index, status], [index, "fulfilled"]);
    // What was in the same message may have been begun.
    assert(stated >= runs.get(index)!);
  }
  assertEquals([runs.get(7), runs.get(9), outcomes[7]!.attempts], [3, 2, 3]);
  await pool.close();
});

test("Pool.map() that is not read does nothing", async () => {
  const [pool, opener] = poolOf(echo);
  const source = new Source();
  const [one, other] = KINDS.map((kind) => pool.map(source[kind], "echo"));
  await settle();
  assertEquals(await one!.return!(), { value: undefined, done: true });
  assertEquals(await one!.next(), { value: undefined, done: true });
  await pool.close();
  assertEquals([source.read, source.returned, opener.near.length], [0, 0, 0]);
  await assertRejects(() => other!.next(), ClosedError, "the pool is closed");
});

test("Pool.map() shares results among readers", async () => {
  const [pool] = poolOf(echo, { workers: 2 });
  const map = pool.map(numbers(1_000), "echo");
  const read = async () => {
    const results = [];
    for await (const n of map) results.push(n as number);
    return results;
  };
  const [one, other] = await Promise.all([read(), read()]);
  assertEquals([...one, ...other].sort((a, b) => a - b), numbers(1_000));
  assert(one.length > 0 && other.length > 0);
  await pool.close();
});

test("Pool.map() gives an error to one of its readers", async () => {
  const methods = {
    work: (_n: number) => Promise.reject(new RangeError("No")),
  };
  const [pool] = poolOf(methods);
  const map = pool.map(numbers(10), "work");
  const outcomes = await Promise.allSettled([map.next(), map.next()]);
  // Both were asked for before it was known that the first fails.
  assertEquals(outcomes[0]!.status, "rejected");
  assertEquals(await map.next(), { value: undefined, done: true });
  await pool.close();
});

test("Pool.map() ends with what its iterable throws, after all before", async () => {
  const thrown = new RangeError("Out of items");
  const cases = [
    function* () {
      yield* numbers(300);
      throw thrown;
    },
    async function* () {
      yield* numbers(300);
      throw thrown;
    },
  ];
  const [pool] = poolOf(echo, { workers: 2 });
  for (const make of cases) {
    for (const ordered of [true, false]) {
      const results: unknown[] = [];
      const map = pool.map(make(), "echo", { ordered });
      const error = await assertRejects(async () => {
        for await (const n of map) results.push(n);
      });
      assertStrictEquals(error, thrown);
      assertEquals(results.length, 300);
      assertEquals(await map.next(), { value: undefined, done: true });
    }
  }
  const unready = { [Symbol.iterator]: () => Promise.reject as never };
  await assertRejects(() => pool.map(unready, "echo").next(), TypeError);
  const refuses = {
    [Symbol.iterator](): never {
      throw thrown;
    },
  };
  const first = pool.map(refuses, "echo").next();
  assertStrictEquals(await assertRejects(() => first), thrown);
  await pool.close();
});

test("Pool.map() does not return an iterable that ended or threw", async () => {
  const [pool] = poolOf(echo);
  for (const kind of KINDS) {
    const source = new Source(10);
    await Array.fromAsync(pool.map(source[kind], "echo"));
    assertEquals(source.returned, 0);
    const whole = pool.map(new Source(3)[kind], "echo");
    await whole.next();
    for (let turn = 0; turn < 10; turn++) await settle();
    await whole.return!();
    assertEquals(source.returned, 0);
  }
  await pool.close();
});

test("Pool.map() reports its progress", async () => {
  const methods = {
    work(n: number | string) {
      if (Number(n) % 2 === 1) throw new RangeError();
      return n;
    },
  };
  const [pool] = poolOf(methods, { workers: 2 });
  const cases = [
    [numbers(100), 100],
    [new Set(numbers(100)), 100],
    [new Source(100).sync, undefined],
    // It gives fewer than its length: some are two units long.
    ["1😀".repeat(50), undefined],
  ] as const;
  for (const [items, total] of cases) {
    const reported: MapProgress[] = [];
    const onProgress = (progress: MapProgress) => reported.push(progress);
    await Array.fromAsync(pool.mapSettled(items, "work", { onProgress }));
    assertEquals(reported.at(-1), { done: 100, failed: 50, total });
    const done = reported.map(({ done }) => done);
    assertEquals(done, [...new Set(done)].sort((a, b) => a - b));
  }
  await pool.close();
});

test("Pool.map() ends with what onProgress throws", async () => {
  const thrown = new RangeError("Seen enough");
  const [pool] = poolOf(echo);
  const source = new Source();
  const map = pool.map(source.sync, "echo", {
    onProgress({ done }) {
      if (done > 100) throw thrown;
    },
  });
  const error = await assertRejects(() => Array.fromAsync(map));
  assertStrictEquals(error, thrown);
  assertEquals(source.returned, 1);
  assertEquals(await pool.run("echo", [1]), 1);
  await pool.close();
});
