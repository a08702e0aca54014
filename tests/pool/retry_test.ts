// Copyright 2026 the Duplex authors. MIT license.

/**
 * Tasks that are run again after a delay. Timers of delays are up at once, or never:
 * what is waited for is counted.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertGreater,
  assertLessOrEqual,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { ClosedError } from "@duplex/ipc/duplex";
import { openPipe } from "@duplex/ipc/pipe";
import { Pool, type PoolOptions, type RetryOptions } from "@duplex/ipc/pool";
import { Gate, numbers, Opener, poolOf, settle } from "./_pools.ts";
import { test, workerUrl } from "../workers/_processes.ts";
import type { Methods } from "../workers/pool_acts.ts";

const NOTHING = {};
const ACTS = workerUrl("pool_acts");

/** A delay that never ends in a test, and is not that of anything else. */
const LONG = 1_234_567;

const retryOn = (error: unknown) => error instanceof RangeError;

/** A method that throws until it was called so many times. */
class Failing {
  calls = 0;

  readonly methods = {
    fails: (times: number) => {
      if (++this.calls <= times) throw new RangeError(`Call ${this.calls}`);
      return this.calls;
    },
    echo: (value: string) => value,
  };
}

/** Replaces timers of at least a length: each is up at once, and its length is kept. */
class Timers implements Disposable {
  readonly #setTimeout = globalThis.setTimeout;
  readonly lengths: number[] = [];

  constructor(least: number) {
    const start = (run: () => void, ms = 0) => {
      if (ms < least) return this.#setTimeout(run, ms);
      this.lengths.push(ms);
      return this.#setTimeout(run, 0);
    };
    globalThis.setTimeout = start as typeof setTimeout;
  }

  [Symbol.dispose](): void {
    globalThis.setTimeout = this.#setTimeout;
  }
}

/** The delays of a task that fails so many times. */
async function delaysOf(
  retry: RetryOptions,
  fails: number,
  options: PoolOptions = {},
): Promise<number[]> {
  const failing = new Failing();
  const [pool, opener] = poolOf(failing.methods, options);
  await pool.run("echo", ["start"]);
  const timers = new Timers(10_000);
  try {
    const run = pool.run("fails", [fails], { retryOn, retry });
    assertEquals(await run, fails + 1);
  } finally {
    timers[Symbol.dispose]();
  }
  assertEquals(pool.stats.retried, fails);
  await pool.close();
  await opener.gone();
  return timers.lengths;
}

test("Pool.run() waits longer before each further run", async () => {
  const steady = { delay: 10_000, jitter: 0 };
  assertEquals(await delaysOf({ ...steady, times: 4 }, 4), [
    10_000,
    20_000,
    30_000,
    30_000,
  ]);
  assertEquals(
    await delaysOf({ ...steady, times: 3, factor: 3, maxDelay: 50_000 }, 3),
    [10_000, 30_000, 50_000],
  );
  assertEquals(await delaysOf({ ...steady, factor: 1 }, 2), [10_000, 10_000]);
  assertEquals(await delaysOf({ delay: 0 }, 2), []);
  // Members that are missing are those of the pool.
  const retry = { ...steady, times: 5, factor: 1 };
  assertEquals(await delaysOf({ maxDelay: 11_000 }, 5, { retry }), [
    ...numbers(5).map(() => 10_000),
  ]);
  const drawn = await delaysOf(
    { times: 30, delay: 20_000, factor: 1, jitter: 0.5 },
    30,
  );
  assertEquals(drawn.length, 30);
  assertGreater(new Set(drawn).size, 15);
  for (const ms of drawn) assert(ms > 10_000 && ms <= 20_000);
}, NOTHING);

test("Pool.events() reports tasks that are run again", async () => {
  const failing = new Failing();
  const [pool, opener] = poolOf(failing.methods);
  const events = pool.events();
  const retry = { delay: 2, factor: 3, jitter: 0 };
  await pool.run("fails", [2], { retryOn, retry, key: "a" });
  await pool.close();
  const retried = (await Array.fromAsync(events)).flatMap((event) =>
    event.type === "retried" ? [event] : []
  );
  const errors = retried.map(({ error }) => (error as Error).message);
  assertEquals(errors, ["Call 1", "Call 2"]);
  assertEquals(retried.map(({ error: _, ...rest }) => rest), [
    { type: "retried", method: "fails", key: "a", attempts: 1, delay: 2 },
    { type: "retried", method: "fails", key: "a", attempts: 2, delay: 6 },
  ]);
  await opener.gone();
}, NOTHING);

test("Pool.events() reports tasks whose worker ended", async () => {
  const opener = new Opener((worker) => ({
    async dies() {
      opener.far[worker]!.abort(new Error("Lights out"));
      return await new Promise<void>(() => {});
    },
  }));
  const pool = new Pool(opener.open, { workers: 1, retry: 1 });
  const events = pool.events();
  await assertRejects(() => pool.run("dies", []), ClosedError);
  await pool.close();
  const types = (await Array.fromAsync(events)).map(({ type }) => type);
  const count = (name: string) => types.filter((type) => type === name).length;
  assertEquals([count("retried"), count("started")], [1, 2]);
}, NOTHING);

test("Pool.run() holds no worker during a delay", async () => {
  const failing = new Failing();
  const [pool, opener] = poolOf(failing.methods);
  const stop = new AbortController();
  const retry = { delay: LONG, maxDelay: LONG };
  const run = pool.run("fails", [9], { retryOn, retry, signal: stop.signal });
  const held = pool.run("echo", ["held"], { key: "a" });
  const keyed = pool.run("fails", [9], {
    retryOn,
    retry,
    key: "a",
    signal: stop.signal,
  });
  const later = pool.run("echo", ["later"], { key: "a" });
  assertEquals(await held, "held");
  while (failing.calls < 2) await settle();
  await settle();
  // Tasks without a key and with another one go on; later ones of the key wait.
  assertEquals(await pool.run("echo", ["other"]), "other");
  assertEquals(await pool.run("echo", ["b"], { key: "b" }), "b");
  const { waiting, inFlight } = pool.stats;
  assertEquals([waiting, inFlight, failing.calls], [3, 0, 2]);
  const reason = new Error("Taken back");
  stop.abort(reason);
  for (const outcome of await Promise.allSettled([run, keyed])) {
    assert(outcome.status === "rejected");
    assertStrictEquals(outcome.reason, reason);
  }
  assertEquals(await later, "later");
  assertEquals([pool.stats.waiting, failing.calls], [0, 2]);
  await pool.close();
  await opener.gone();
}, NOTHING);

test("Pool.run() keeps the order of a key during a delay", async () => {
  const order: string[] = [];
  const fails = new Set(["a1", "a2"]);
  const [pool] = poolOf({
    note(name: string) {
      order.push(name);
      if (fails.delete(name)) throw new RangeError(name);
    },
  });
  const options = { key: "a", retryOn, retry: { delay: 1 } };
  await Promise.all([
    pool.run("note", ["a1"], options),
    pool.run("note", ["a2"], options),
    pool.run("note", ["a3"], { key: "a" }),
  ]);
  assertEquals(order, ["a1", "a1", "a2", "a2", "a3"]);
  await pool.close();
}, NOTHING);

test(
  "Pool.map() keeps the order of a key when an item is run again",
  async () => {
    const order: number[] = [];
    const fails = new Set<number>();
    const [pool] = poolOf({
      note(n: number) {
        order.push(n);
        if (fails.delete(n)) throw new RangeError(`${n}`);
        return n;
      },
    });
    await Array.fromAsync(pool.map(numbers(600), "note"));
    order.length = 0;
    fails.add(3).add(11);
    const options = { key: () => "a", retryOn, retry: 1 };
    const results = await Array.fromAsync(
      pool.map(numbers(20), "note", options),
    );
    assertEquals(results, numbers(20));
    const expected = [...numbers(20), 3, 11].toSorted((a, b) => a - b);
    assertEquals(order, expected);
    await pool.close();
  },
  NOTHING,
);

test(
  "Pool.run() does not run a task again that retryOn has ended",
  async (t) => {
    for (const end of ["signal", "close", "abort"] as const) {
      await t.step(end, async () => {
        const failing = new Failing();
        const [pool] = poolOf(failing.methods);
        const stop = new AbortController();
        const task = pool.run("fails", [9], {
          key: "one",
          retry: { times: 5, delay: LONG },
          signal: stop.signal,
          retryOn: () => {
            if (end === "signal") stop.abort(new RangeError("Call 1"));
            else if (end === "close") pool.close({ waiting: "reject" });
            else pool.abort(new RangeError("Call 1"));
            return true;
          },
        });
        const later = pool.run("echo", ["later"], { key: "one" });
        const outcomes = Promise.allSettled([task, later]);
        await assertRejects(() => task, RangeError, "Call 1");
        // The task has no delay for which the other one would have to wait.
        const [, { status }] = await outcomes;
        assertEquals(status, end === "signal" ? "fulfilled" : "rejected");
        await pool.close({ waiting: "reject" }).catch(() => {});
        assertEquals(failing.calls, 1);
        assertEquals([pool.stats.waiting, pool.stats.retried], [0, 0]);
      });
    }
  },
  NOTHING,
);

test("Pool ends while tasks wait for a delay", async (t) => {
  const ends = {
    close: (pool: Pool) => pool.close({ waiting: "reject" }),
    abort: (pool: Pool) => pool.abort(new RangeError("All over")),
  };
  for (const [name, end] of Object.entries(ends)) {
    await t.step(`by ${name}()`, async () => {
      const failing = new Failing();
      const [pool, opener] = poolOf(failing.methods);
      const retry = { delay: LONG, maxDelay: LONG };
      const options = { retryOn, retry };
      const runs = [
        pool.run("fails", [9], options),
        pool.run("fails", [9], { ...options, key: "a" }),
        pool.run("echo", ["later"], { key: "a" }),
      ];
      const map = pool.map([9], "fails", options).next();
      while (failing.calls < 3) await settle();
      await settle();
      assertEquals(pool.stats.waiting, 4);
      const ended = end(pool as unknown as Pool);
      const outcomes = await Promise.allSettled([...runs, map]);
      for (const outcome of outcomes) {
        assert(outcome.status === "rejected");
        const Kind = name === "close" ? ClosedError : RangeError;
        assert(outcome.reason instanceof Kind, `${outcome.reason}`);
      }
      await ended;
      assertEquals([pool.stats.waiting, failing.calls], [0, 3]);
      await opener.gone();
    });
  }
  await t.step("and waits for them in a plain close()", async () => {
    const failing = new Failing();
    const [pool] = poolOf(failing.methods);
    const run = pool.run("fails", [1], { retryOn, retry: { delay: 5 } });
    while (failing.calls < 1) await settle();
    await pool.close();
    assertEquals(await run, 2);
  });
  await t.step("and a map ends that its reader leaves", async () => {
    const failing = new Failing();
    const [pool] = poolOf(failing.methods);
    const retry = { delay: LONG, maxDelay: LONG };
    const map = pool.map([9, 9], "fails", { retryOn, retry });
    const next = map.next();
    while (failing.calls < 2) await settle();
    await map.return!();
    assertEquals((await next).done, true);
    assertEquals(pool.stats.waiting, 0);
    await pool.close();
  });
}, NOTHING);

test("Pool.run() runs a lost task again after its delay", async () => {
  const pids = new Set<number>();
  const pool = new Pool<Methods>(async () => {
    const duplex = await openPipe(ACTS);
    pids.add(duplex.pid);
    return duplex;
  }, { workers: 1, retry: { times: 1, delay: 2, jitter: 0 } });
  const lost = pool.run("exits", [3], { key: "a" });
  const later = pool.run("square", [7], { key: "a" });
  await assertRejects(() => lost, Error, "begun 2 times");
  assertEquals(await later, 49);
  assertEquals([pids.size, pool.stats.retried], [3, 1]);
  await pool.close();
}, { run: true });

test("Pool.run() delays the tasks of a lost batch together", async () => {
  const gate = new Gate();
  let deaths = 0;
  const order: number[] = [];
  const opener = new Opener((worker) => ({
    async work(n: number) {
      await gate.opened;
      order.push(n);
      if (n === 3 && deaths++ === 0) {
        opener.far[worker]!.abort(new Error("Lights out"));
        await new Promise(() => {});
      }
      return n;
    },
    quick: (n: number) => n,
  }));
  const pool = new Pool<{
    work(n: number): Promise<number>;
    quick(n: number): number;
  }>(opener.open, { workers: 1 });
  gate.open();
  // The method becomes known as quick, so that its tasks share messages.
  await Promise.all(numbers(600).map((n) => pool.run("work", [10 + n])));
  order.length = 0;
  using timers = new Timers(10_000);
  const retry = { delay: 10_000, jitter: 0 };
  const runs = numbers(8).map((n) =>
    pool.run("work", [n], { key: "a", retry })
  );
  assertEquals(await Promise.all(runs), numbers(8));
  // One delay for the key, and then its tasks in order.
  assertEquals(timers.lengths.length, 1);
  const again = order.slice(order.indexOf(3) + 1);
  assertEquals(again, numbers(8).slice(8 - again.length));
  assertLessOrEqual(again[0]!, 3);
  await pool.close();
}, NOTHING);
