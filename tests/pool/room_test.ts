// Copyright 2026 the Duplex authors. MIT license.

/**
 * The limit of a pool's queue, and the wait for room; and `Pool.api`.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertLessOrEqual,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { ClosedError } from "@duplex/ipc/duplex";
import { openPipe } from "@duplex/ipc/pipe";
import { Pool } from "@duplex/ipc/pool";
import { Gate, listenersOf, numbers, poolOf, settle } from "./_pools.ts";
import { test, workerUrl } from "../workers/_processes.ts";
import type { Methods } from "../workers/pool_acts.ts";

const NOTHING = {};

/** A pool of one worker whose tasks wait for a gate, while one of them is running. */
async function busyPool(maxQueue: number) {
  const gate = new Gate();
  const methods = { wait: (n: number) => gate.opened.then(() => n) };
  const [pool, opener] = poolOf(methods, { maxQueue });
  const first = pool.run("wait", [-1]);
  await settle();
  assertEquals(pool.stats.inFlight, 1);
  return { pool, gate, first, opener };
}

test("Pool.run() rejects if the queue is full", async () => {
  const { pool, gate, first, opener } = await busyPool(3);
  const stop = new AbortController();
  const runs = [
    pool.run("wait", [0]),
    pool.run("wait", [1], { key: "a" }),
    pool.run("wait", [2], { signal: stop.signal }),
  ];
  for (const options of [{}, { key: "a" }, { priority: 9 }]) {
    await assertRejects(
      () => pool.run("wait", [9], options),
      RangeError,
      'Cannot run "wait" as the queue of the pool is full: "maxQueue" is 3; wait for room with "ready"',
    );
  }
  assertEquals(pool.stats.waiting, 3);
  // A task that is taken back makes room, and items of a map need none.
  stop.abort(new Error("Taken back"));
  await assertRejects(() => runs.pop()!, Error, "Taken back");
  runs.push(pool.run("wait", [2]));
  const map = Array.fromAsync(pool.map([3, 4, 5], "wait"));
  await assertRejects(() => pool.run("wait", [9]), RangeError);
  gate.open();
  assertEquals(await Promise.all([first, ...runs]), [-1, 0, 1, 2]);
  assertEquals(await map, [3, 4, 5]);
  await pool.close();
  await opener.gone();
}, NOTHING);

test("Pool.ready() gives room first come, first served", async () => {
  const { pool, gate, first, opener } = await busyPool(2);
  const order: number[] = [];
  const submit = async (n: number): Promise<number> => {
    await pool.ready();
    order.push(n);
    return await pool.run("wait", [n]);
  };
  const runs = numbers(200).map(submit);
  for (const _ of numbers(5)) await settle();
  assertEquals(order, [0, 1]);
  assertEquals(pool.stats.waiting, 2);
  gate.open();
  assertEquals(await Promise.all([first, ...runs]), [-1, ...numbers(200)]);
  assertEquals(order, numbers(200));
  await pool.close();
  await opener.gone();
}, NOTHING);

test("Pool.ready() gives room on that is not used", async () => {
  const { pool, gate, first } = await busyPool(1);
  const waiting = pool.run("wait", [0]);
  const ready = numbers(3).map(() => pool.ready());
  let count = 0;
  for (const one of ready) one.then(() => count++);
  await settle();
  assertEquals(count, 0);
  gate.open();
  await Promise.all(ready);
  assertEquals(await Promise.all([first, waiting]), [-1, 0]);
  await pool.close();
}, NOTHING);

test(
  "Pool.ready() ends by a signal, a timeout and the end of the pool",
  async () => {
    const { pool, gate, first } = await busyPool(1);
    const waiting = pool.run("wait", [0]);
    const stop = new AbortController();
    const listeners = listenersOf(stop.signal);
    const { signal } = stop;
    const stopped = numbers(50).map(() => pool.ready({ signal }));
    const late = pool.ready({ timeout: 1 });
    const closed = pool.ready();
    const error = await assertRejects(
      () => late,
      DOMException,
      "Cannot wait for room in the queue: there was none within 1 ms",
    );
    assertEquals(error.name, "TimeoutError");
    assertEquals(listeners.count, 1);
    const reason = new Error("Taken back");
    stop.abort(reason);
    for (const outcome of await Promise.allSettled(stopped)) {
      assert(outcome.status === "rejected");
      assertStrictEquals(outcome.reason, reason);
    }
    await assertRejects(() => pool.ready({ signal }), Error, "Taken back");
    const closing = pool.close();
    await assertRejects(() => closed, ClosedError, "the pool is closed");
    const text = "Cannot wait for room in the queue: the pool is closed";
    await assertRejects(() => pool.ready(), ClosedError, text);
    gate.open();
    await Promise.all([first, waiting, closing]);

    const other = await busyPool(1);
    const ends = [other.first, other.pool.run("wait", [0]), other.pool.ready()]
      .map((end) => assertRejects(() => end, RangeError, "All over"));
    await other.pool.abort(new RangeError("All over"));
    await Promise.all(ends);
  },
  NOTHING,
);

test("Pool.ready() resolves at once without a limit", async () => {
  const [pool] = poolOf({ echo: (n: number) => n });
  await pool.ready();
  await pool.ready({ timeout: 1 });
  assertEquals(pool.stats.workers + pool.stats.starting, 0);
  await pool.close();
}, NOTHING);

test("Pool.ready() bounds what waits for processes", async () => {
  const script = workerUrl("pool_acts");
  const pool = new Pool<Methods>(() => openPipe(script), {
    workers: 2,
    maxQueue: 5,
  });
  const runs: Promise<number>[] = [];
  for (const n of numbers(300)) {
    await pool.ready();
    runs.push(pool.run("square", [n], { key: `${n % 3}` }));
    assertLessOrEqual(pool.stats.waiting, 5);
  }
  assertEquals(await Promise.all(runs), numbers(300).map((n) => n * n));
  await pool.close();
}, { run: true });

test("Pool.api has the methods of the workers", async () => {
  const methods = {
    add: (a: number, b = 1) => a + b,
    async later(text: string) {
      return await Promise.resolve([text]);
    },
    fails(): never {
      throw new RangeError("It fails");
    },
  };
  const [pool] = poolOf(methods);
  const { api } = pool;
  const sum: Promise<number> = api.add(1);
  const list: Promise<string[]> = api.later("a");
  const never: Promise<never> = api.fails();
  assertEquals([await sum, await list], [2, ["a"]]);
  await assertRejects(() => never, RangeError, "It fails");
  assertEquals(await api.add(1, 2), await pool.run("add", [1, 2]));
  // @ts-expect-error The type of an argument differs.
  await api.add("1").catch(() => {});
  // @ts-expect-error There is no such method.
  await assertRejects(() => api.missing(), Error, "missing");
  assertStrictEquals(await Promise.resolve(api), api);
  assertStrictEquals(api.add, pool.api.add);
  await pool.close();
  await assertRejects(() => api.add(1), ClosedError);
}, NOTHING);
