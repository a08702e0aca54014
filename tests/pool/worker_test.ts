// Copyright 2026 the Duplex authors. MIT license.

/**
 * What `Pool` promises of its workers, how they start and are replaced, and of its
 * end. Most workers are in this process.
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
  assertThrows,
} from "@std/assert";
import { ClosedError, type Duplex, PeerExitError } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { Pool } from "@duplex/ipc/pool";
import { openQueue } from "@duplex/ipc/queue";
import { expose, remote } from "@duplex/ipc/rpc";
import {
  Gate,
  NoWaiting,
  numbers,
  Opener,
  poolOf,
  settle,
  Steps,
} from "./_pools.ts";
import { test, workerUrl } from "../workers/_processes.ts";
import type { Methods } from "../workers/pool_acts.ts";

const READ = { read: [new URL("../..", import.meta.url)] };
const NOTHING: Deno.PermissionOptions = "none";
const ACTS = workerUrl("pool_acts");

test("Pool starts as many workers as there are tasks", async () => {
  const [pool, opener] = poolOf({ echo: (n: number) => n }, { workers: 8 });
  assertEquals(opener.near.length, 0);
  assertEquals(await Array.fromAsync(pool.map([1], "echo")), [1]);
  await pool.run("echo", [1]);
  assertEquals(opener.near.length, 1);
  await Promise.all(numbers(3).map((n) => pool.run("echo", [n])));
  assertEquals(opener.near.length, 3);
  await pool.close();
  const [other, others] = poolOf({ echo: (n: number) => n }, { workers: 8 });
  assertEquals(await Array.fromAsync(other.map([1, 2, 3], "echo")), [1, 2, 3]);
  assertEquals(others.near.length, 3);
  await other.close();
}, NOTHING);

test("Pool replaces a worker after maxTasks", async () => {
  const counts: number[] = [];
  const opener = new Opener((worker) => ({
    count: () => counts[worker] = (counts[worker] ?? 0) + 1,
  }));
  const pool = new Pool(opener.open, { workers: 1, maxTasks: 30 });
  await Promise.all(numbers(100).map(() => pool.run("count", [])));
  assertEquals(counts, [30, 30, 30, 10]);
  assertEquals([pool.stats.workers, pool.stats.ended], [1, 3]);
  await Promise.all(opener.near.slice(0, 3).map(({ closed }) => closed));
  await pool.close();
}, NOTHING);

test("Pool replaces a worker whose memory has grown", async () => {
  const [small, few] = poolOf({ echo: (n: number) => n }, {
    maxMemory: 2 ** 50,
  });
  for (const n of numbers(3)) await small.run("echo", [n]);
  assertEquals(few.near.length, 1);
  await small.close();
  // It is asked after its first task, and every one has more than this.
  const [large, many] = poolOf({ echo: (n: number) => n }, { maxMemory: 1 });
  for (const n of numbers(3)) assertEquals(await large.run("echo", [n]), n);
  assertEquals(many.near.length, 3);
  await large.close();
}, NOTHING);

test("Pool replaces an idle worker that died", async () => {
  const [pool, opener] = poolOf({ echo: (n: number) => n });
  assertEquals(await pool.run("echo", [1]), 1);
  opener.far[0]!.abort(new Error("It died"));
  await assertRejects(() => opener.near[0]!.closed, Error, "It died");
  await settle();
  assertEquals([pool.stats.workers, pool.stats.ended], [0, 1]);
  assertEquals(await pool.run("echo", [2], { retry: 0 }), 2);
  assertEquals(pool.stats.retried, 0);
  await pool.close();
}, NOTHING);

test("Pool drops a worker that sends goodbye", async () => {
  const [pool, opener] = poolOf({ echo: (n: number) => n });
  assertEquals(await pool.run("echo", [1]), 1);
  await opener.far[0]!.close();
  await opener.near[0]!.closed;
  assertEquals(await pool.run("echo", [2]), 2);
  await pool.close();
}, NOTHING);

test("Pool rejects tasks at once if every start would fail", async () => {
  const failures: [() => unknown, string][] = [
    [() => (undefined as unknown as Methods).never(), "undefined"],
    [() => Promise.reject(new Deno.errors.NotCapable("May not")), "May not"],
    [() => undefined, "must give a duplex: current value is undefined"],
    [() => ({ send() {} }), "must give a duplex"],
    [() => openQueue(ACTS, { workers: 2 }), "a queue with 2 workers"],
  ];
  await Promise.all(failures.map(async ([open, text]) => {
    let opened = 0;
    const pool = new Pool(() => {
      opened++;
      return open() as Promise<Duplex>;
    }, { workers: 2 });
    const map = pool.map(numbers(100), "f", { ordered: false });
    const next = assertRejects(() => map.next(), Error);
    const error = await assertRejects(
      () => pool.run("f", []),
      Error,
      "Cannot start a worker: ",
    );
    assertStringIncludes(error.message, text);
    assertStringIncludes((await next).message, text);
    const before = opened;
    // A later task leads to another attempt.
    await assertRejects(() => pool.run("f", []), Error, text);
    assert(before <= 4 && opened > before, `${opened} after ${before}`);
    await pool.close();
  }));
}, READ);

test("Pool tries again to start a worker, one at a time", async () => {
  const opener = new Opener(() => ({ echo: (n: number) => n }));
  let starting = 0;
  const startings: number[] = [];
  const pool = new Pool(async () => {
    startings.push(++starting);
    const attempt = startings.length;
    await settle();
    starting--;
    if (attempt <= 4) throw new Error("Bad luck");
    return await opener.open();
  }, { workers: 4 });
  const echoes = numbers(100).map((n) => pool.run("echo", [n]));
  assertEquals(await Promise.all(echoes), numbers(100));
  // Four fail at the same time, one is tried, and all is well with it.
  assertEquals(startings.slice(0, 6), [1, 2, 3, 4, 1, 1]);
  await pool.close();
}, NOTHING);

test("Pool waits longer before each attempt, within bounds", async () => {
  let attempts = 0;
  const opener = new Opener(() => ({ echo: (n: number) => n }));
  const pool = new Pool(() => {
    if (++attempts <= 40) throw new Error("Bad luck");
    return opener.open();
  }, { startTimeout: Infinity });
  const events = pool.events();
  // The test's own timer is to be as long as it is.
  await settle();
  using waiting = new NoWaiting();
  assertEquals(await pool.run("echo", [1]), 1);
  const bounds = [100, 200, 400, 800, 1600, 3200, 5000, 5000];
  const lengths = waiting.lengths.slice(0, 40);
  for (const [attempt, most] of bounds.entries()) {
    const length = lengths[attempt]!;
    assert(length >= most / 2 && length <= most, `${length} of ${most}`);
  }
  assert(Math.min(...lengths.slice(8)) >= 2_500);
  assert(Math.max(...lengths) <= 5_000);
  assert(new Set(lengths.slice(8)).size > 1, "All delays are equal");
  await pool.close();
  const delays: (number | undefined)[] = [];
  for await (const event of events) {
    if (event.type === "startFailed") delays.push(event.delay);
  }
  assertEquals(delays, lengths);
}, NOTHING);

test("Pool goes on with the workers that it has", async () => {
  const opener = new Opener(() => ({ echo: (n: number) => n }));
  let attempts = 0;
  const pool = new Pool(() => {
    if (++attempts > 1) throw new Error("No more");
    return opener.open();
  }, { workers: 4, startTimeout: 1 });
  const echoes = numbers(100).map((n) => pool.run("echo", [n]));
  assertEquals(await Promise.all(echoes), numbers(100));
  opener.far[0]!.abort(new Error("It died"));
  await opener.gone();
  await settle();
  await assertRejects(() => pool.run("echo", [1]), Error, "No more");
  assert(attempts > 1);
  await pool.close();
}, NOTHING);

test("Pool ends although a worker never starts", async (t) => {
  const opened = Promise.withResolvers<Duplex>();
  // Five seconds are counted in steps of one.
  using _ = new NoWaiting(1_000);
  await t.step("by close()", async () => {
    const pool = new Pool(() => new Promise(() => {}), { workers: 2 });
    const run = assertRejects(
      () => pool.run("f", [], { waitTimeout: 5 }),
      DOMException,
      "no worker was free",
    );
    const closing = pool.close();
    await run;
    await closing;
  });
  await t.step("by abort()", async () => {
    const pool = new Pool(() => opened.promise, { workers: 1 });
    const run = pool.run("f", []);
    const reason = new Error("Enough");
    const aborting = pool.abort(reason);
    assertStrictEquals(await assertRejects(() => run), reason);
    await aborting;
  });
  await t.step("and ends one that comes late", async () => {
    const [near, far] = duplexPair();
    expose({ f() {} }, far);
    opened.resolve(near);
    await assertRejects(() => far.closed, Error, "Enough");
  });
}, NOTHING);

test(
  "Pool.close() does not wait for tasks that have given up waiting",
  async () => {
    const reason = new Error("Bad luck");
    const pool = new Pool(() => Promise.reject(reason));
    // It ends while no worker runs or starts.
    const run = pool.run("f", [], { waitTimeout: 20 });
    const closing = pool.close();
    const error = await assertRejects(
      () => run,
      DOMException,
      "no worker was free within 20 ms: Cannot start a worker: Bad luck",
    );
    assertStrictEquals(error.cause, reason);
    await closing;
  },
  NOTHING,
);

test("Pool.close() waits for the tasks that it has", async () => {
  const [pool, opener] = poolOf({ echo: (n: number) => n }, { workers: 2 });
  // None is started yet.
  const tasks = Promise.all(numbers(100).map((n) => pool.run("echo", [n])));
  const closing = pool.close();
  assertStrictEquals(pool.close(), closing);
  await assertRejects(() => pool.run("echo", [1]), ClosedError, "is closed");
  assertThrows(() => pool.map([], "echo"), ClosedError, "is closed");
  assertEquals(await tasks, numbers(100));
  await closing;
  await opener.gone();
  assertEquals(pool.stats.workers, 0);
  await assertRejects(() => pool.run("echo", [1]), ClosedError, "is closed");
}, NOTHING);

test("Pool.close() reports errors of goodbyes", async () => {
  const gate = new Gate();
  const methods = { waits: () => gate.opened };
  for (const size of [1, 2]) {
    const fars: Duplex[] = [];
    const pool = new Pool(() => {
      const [near, far] = duplexPair({ closeTimeout: 20 });
      expose(methods, far);
      fars.push(far);
      // A call outside of the pool keeps the peer open.
      remote<typeof methods>(near).waits().catch(() => {});
      return Promise.resolve(near);
    }, { workers: size });
    const tasks = numbers(size).map(() => pool.run("missing", []));
    await Promise.allSettled(tasks);
    assertEquals(fars.length, size);
    const error = await assertRejects(() => pool.close());
    if (size === 1) assertInstanceOf(error, ClosedError);
    else {
      assertInstanceOf(error, AggregateError);
      assertEquals(error.errors.length, 2);
    }
  }
  gate.open();
}, NOTHING);

test("Pool.close() lets a task be run again", async () => {
  let runs = 0;
  const opener = new Opener((worker) => ({
    async dies() {
      if (++runs > 1) return "at last";
      opener.far[worker]!.abort(new Error("Lights out"));
      return await new Promise<string>(() => {});
    },
  }));
  const pool = new Pool(opener.open, { workers: 1 });
  const task = pool.run("dies", []);
  await pool.close();
  assertEquals(await task, "at last");
}, NOTHING);

test("Pool.abort() rejects everything, at once", async () => {
  const begun = new Steps();
  const methods = {
    never(_n?: number) {
      begun.step();
      return new Promise(() => {});
    },
  };
  const [pool, opener] = poolOf(methods, { workers: 2 });
  const tasks = numbers(10).map(() => pool.run("never", []));
  const map = pool.map(numbers(10), "never");
  const next = map.next();
  await begun.until(2);
  const reason = new RangeError("Enough");
  const outcomes = Promise.allSettled([...tasks, next]);
  const aborting = pool.abort(reason);
  for (const outcome of await outcomes) {
    assert(outcome.status === "rejected");
    assertStrictEquals(outcome.reason, reason);
  }
  await aborting;
  await opener.gone();
  assertEquals(begun.count, 2);
  assertStrictEquals(await assertRejects(() => pool.run("never", [])), reason);
  assertEquals([pool.stats.workers, pool.stats.failed], [0, 10]);
  await pool.close();
  await pool.abort();
}, NOTHING);

test("Pool.abort() ends workers that send goodbye", async () => {
  const gate = new Gate();
  const methods = { waits: () => gate.opened, echo: (n: number) => n };
  const pool = new Pool<typeof methods>(() => {
    const [near, far] = duplexPair({ closeTimeout: Infinity });
    expose(methods, far);
    // A call outside of the pool keeps the peer open.
    remote<typeof methods>(near).waits().catch(() => {});
    return Promise.resolve(near);
  }, { workers: 1, maxTasks: 1 });
  assertEquals(await pool.run("echo", [1]), 1);
  await pool.abort();
  gate.open();
}, NOTHING);

test("Pool.abort() ends a close() that waits", async () => {
  const begun = new Gate();
  const methods = {
    never() {
      begun.open();
      return new Promise(() => {});
    },
  };
  const [pool] = poolOf(methods);
  const task = pool.run("never", []);
  await begun.opened;
  const closing = pool.close();
  const reason = new Error("Enough");
  await Promise.all([
    assertRejects(() => task, Error, "Enough"),
    pool.abort(reason),
    closing,
  ]);
}, NOTHING);

test("Pool[Symbol.asyncDispose]() closes the pool", async () => {
  const opener = new Opener(() => ({ echo: (n: number) => n }));
  let echo: Promise<unknown>;
  {
    await using pool = new Pool(opener.open, { workers: 1 });
    echo = pool.run("echo", [1]);
  }
  assertEquals(await echo, 1);
  await opener.gone();
}, NOTHING);

test(
  "openQueue() takes calls to one worker, which is not replaced",
  async (t) => {
    await t.step("among several there is no one to call", async () => {
      const queue = await openQueue(ACTS, { workers: 2 });
      assertThrows(() => remote(queue), TypeError, "a queue with 2 workers");
      await queue.close();
    });
    await t.step(
      "its death ends what is pending, and nothing comes again",
      async () => {
        const queue = await openQueue(ACTS);
        const words = new Int32Array(new SharedArrayBuffer(8));
        const api = remote<Methods>(queue);
        await api.share(words);
        const calls = [
          api.never(),
          api.log(0, false),
          api.log(1, true),
          api.log(0, false),
        ];
        const outcomes = await Promise.allSettled(calls);
        for (const outcome of [outcomes[0]!, outcomes[2]!, outcomes[3]!]) {
          assert(outcome.status === "rejected");
          assertInstanceOf(outcome.reason, PeerExitError);
        }
        await assertRejects(() => queue.closed, PeerExitError);
        assertLess(words[0]!, 3);
        assertEquals(words[1], 1);
      },
    );
  },
  READ,
);
