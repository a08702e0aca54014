// Copyright 2026 the Duplex authors. MIT license.

/**
 * How tasks and maps of a pool are taken back, and how a pool is closed while
 * there are some. The workers are in this process.
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
} from "@std/assert";
import { ClosedError } from "@duplex/ipc/duplex";
import { Pool } from "@duplex/ipc/pool";
import { withSignal } from "@duplex/ipc/rpc";
import {
  Gate,
  KINDS,
  listenersOf,
  NoWaiting,
  numbers,
  Opener,
  poolOf,
  settle,
  Source,
  Steps,
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

test("Pool.run() can be taken back", async (t) => {
  const [begun, stopped] = [new Gate(), new Gate()];
  const reason = new RangeError("No need");
  const methods = {
    waits: withSignal((signal) =>
      new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => {
          assertInstanceOf(signal.reason, RangeError);
          stopped.open();
          resolve();
        });
        begun.open();
      })
    ),
    echo: (n: number) => n,
  };
  const [pool, opener] = poolOf(methods);
  const controller = new AbortController();
  const { signal } = controller;
  const listeners = listenersOf(signal);
  await t.step("before it is asked for", async () => {
    const done = AbortSignal.abort(reason);
    const error = await assertRejects(
      () => pool.run("echo", [1], { signal: done }),
    );
    assertStrictEquals(error, reason);
    assertEquals(opener.near.length, 0);
  });
  await t.step("not any more", async () => {
    await Promise.all(
      numbers(50).map((n) => pool.run("echo", [n], { signal })),
    );
    assertEquals(listeners.count, 0);
  });
  await t.step("while it waits and while it runs", async () => {
    const runs = pool.run("waits", [], { signal });
    await begun.opened;
    const waits = pool.run("echo", [1], { signal });
    const other = pool.run("echo", [2]);
    controller.abort(reason);
    assertStrictEquals(await assertRejects(() => runs), reason);
    assertStrictEquals(await assertRejects(() => waits), reason);
    await stopped.opened;
    // Its worker has done with it, and goes on.
    assertEquals(await other, 2);
    assertEquals(opener.near.length, 1);
  });
  await pool.close();
});

test("Pool.run() takes back 100 000 tasks of one signal at once", async () => {
  const gate = new Gate();
  const [pool, opener] = poolOf({ waits: () => gate.opened });
  const controller = new AbortController();
  const listeners = listenersOf(controller.signal);
  let rejected = 0;
  const tasks = numbers(100_000).map(() =>
    pool.run("waits", [], { signal: controller.signal }).catch(() => rejected++)
  );
  assertEquals(listeners.count, 1);
  controller.abort();
  await Promise.all(tasks);
  assertEquals(rejected, 100_000);
  assertEquals([pool.stats.failed, pool.stats.waiting], [100_000, 0]);
  gate.open();
  await pool.close();
  assertLess(opener.near.length, 2);
});

test("Pool.stats counts a cancelled task once", async () => {
  const [gate, begun] = [new Gate(), new Gate()];
  const [pool] = poolOf({
    wait: () => {
      begun.open();
      return gate.opened;
    },
  });
  const stop = new AbortController();
  const task = pool.run("wait", [], { signal: stop.signal });
  await begun.opened;
  assertEquals([pool.stats.inFlight, pool.stats.failed], [1, 0]);
  stop.abort(new Error("No need"));
  await assertRejects(() => task, Error, "No need");
  // Its worker is still busy.
  assertEquals([pool.stats.inFlight, pool.stats.failed], [0, 1]);
  gate.open();
  await pool.close();
});

test(
  "Pool.run() replaces a worker that goes on with what was taken back",
  async () => {
    const begun = new Gate();
    const opener = new Opener((worker) => ({
      stubborn() {
        begun.open();
        return new Promise(() => {});
      },
      worker: () => worker,
    }));
    const pool = new Pool(opener.open, { workers: 1 });
    using _ = new NoWaiting(1_000);
    const controller = new AbortController();
    const stubborn = pool.run("stubborn", [], { signal: controller.signal });
    await begun.opened;
    controller.abort(new Error("Enough"));
    await assertRejects(() => stubborn, Error, "Enough");
    assertEquals(await pool.run("worker", []), 1);
    await pool.close();
    await opener.gone();
  },
);

test(
  "Pool.run() ends a worker whose task with functions was taken back",
  async () => {
    const busy = new Set<number>();
    const opener = new Opener((worker) => ({
      async waits(onBegin: () => Promise<void>) {
        busy.add(worker);
        await onBegin();
        await new Promise(() => {});
      },
      isBusy: () => busy.has(worker),
    }));
    const pool = new Pool(opener.open, { workers: 1 });
    // The worker does not report when the task ends, so it gets no other task.
    const reason = new Error("Enough");
    for (const retry of [0, 2]) {
      const controller = new AbortController();
      const { signal } = controller;
      const stop = () => controller.abort(reason);
      const options = { signal, retry };
      const run = pool.run("waits", [stop], options);
      assertStrictEquals(await assertRejects(() => run), reason);
      assertEquals(await pool.run("isBusy", [], { retry: 0 }), false);
    }
    for (const retry of [0, 2]) {
      const controller = new AbortController();
      const { signal } = controller;
      const stop = () => controller.abort(reason);
      const run = pool.run("waits", [stop, signal], { retry });
      assertStrictEquals(await assertRejects(() => run), reason);
      assertEquals(await pool.run("isBusy", [], { retry: 0 }), false);
      const again = pool.run("waits", [stop, signal], { retry });
      assertStrictEquals(await assertRejects(() => again), reason);
    }
    assertEquals(busy, new Set([0, 1, 2, 3]));
    await pool.close();
    await opener.gone();
  },
);

test("Pool.map() takes back what is at work when its reader leaves", async () => {
  const aborted = new Steps();
  const begun = new Steps();
  const methods = {
    work: withSignal((signal, n: number) => {
      if (n === 0) return 0;
      begun.step();
      return new Promise<number>((resolve) => {
        signal.addEventListener("abort", () => {
          aborted.step();
          resolve(n);
        });
      });
    }),
    ...echo,
  };
  for (const kind of KINDS) {
    const [pool, opener] = poolOf(methods, { workers: 2 });
    const source = new Source();
    const [before, taken] = [begun.count, aborted.count];
    for await (const n of pool.map(source[kind], "work", { readAhead: 4 })) {
      assertEquals(n, 0);
      await begun.until(before + 2);
      break;
    }
    assertEquals(source.returned, 1);
    await aborted.until(taken + 2);
    // They have done with it, and go on.
    assertEquals(await pool.run("echo", [1]), 1);
    assertEquals(opener.near.length, 2);
    assertEquals(pool.stats.waiting, 0);
    await pool.close();
  }
});

test("Pool.map() has workers replaced that go on although its reader left", async () => {
  const begun = new Gate();
  const opener = new Opener((worker) => ({
    work(n: number) {
      if (n === 0) return 0;
      begun.open();
      return new Promise<number>(() => {});
    },
    worker: () => worker,
  }));
  const pool = new Pool(opener.open, { workers: 1 });
  using _ = new NoWaiting(1_000);
  for await (const _ of pool.map(new Source().sync, "work")) {
    await begun.opened;
    break;
  }
  assertEquals(await pool.run("worker", []), 1);
  // Nothing of the map is run again.
  assertEquals(pool.stats.retried, 0);
  await pool.close();
  await opener.gone();
});

test("Pool.map() lets its reader leave while its iterable hangs", async () => {
  const [pool] = poolOf(echo);
  let returned = 0;
  const items = {
    [Symbol.asyncIterator]: () => ({
      read: 0,
      next() {
        return this.read++ === 0
          ? Promise.resolve({ value: 1, done: false })
          : new Promise<never>(() => {});
      },
      return() {
        returned++;
        return new Promise<never>(() => {});
      },
    }),
  };
  for await (const n of pool.map(items, "echo")) {
    assertEquals(n, 1);
    break;
  }
  assertEquals(returned, 1);
  async function* hangs() {
    yield 1;
    await new Promise(() => {});
  }
  const map = pool.map(hangs(), "echo");
  assertEquals(await map.next(), { value: 1, done: false });
  const waiting = map.next();
  await map.return!();
  assertEquals(await waiting, { value: undefined, done: true });
  await pool.close();
});

test("Pool.map() can be stopped by its signal", async (t) => {
  const reason = new RangeError("Enough");
  const gate = new Gate();
  const methods = { waits: () => gate.opened, ...echo };
  const [pool] = poolOf(methods);
  await t.step("before it begins", async () => {
    const source = new Source();
    const signal = AbortSignal.abort(reason);
    for (const kind of KINDS) {
      const map = pool.map(source[kind], "echo", { signal });
      assertStrictEquals(await assertRejects(() => map.next()), reason);
      assertEquals(await map.next(), { value: undefined, done: true });
    }
    assertEquals([source.read, source.returned], [0, 0]);
  });
  await t.step("in the middle", async () => {
    for (const kind of KINDS) {
      const controller = new AbortController();
      const { signal } = controller;
      const source = new Source();
      let taken = 0;
      const map = pool.map(source[kind], "echo", { signal });
      const error = await assertRejects(async () => {
        for await (const _ of map) {
          if (++taken === 100) controller.abort(reason);
        }
      });
      assertStrictEquals(error, reason);
      // What has come was dropped.
      assertEquals([taken, source.returned], [100, 1]);
    }
  });
  await t.step("not any more when it has ended", async () => {
    const { signal } = new AbortController();
    const listeners = listenersOf(signal);
    await Array.fromAsync(pool.map(numbers(5), "echo", { signal }));
    for await (const _ of pool.map(new Source().sync, "echo", { signal })) {
      assertEquals(listeners.count, 1);
      break;
    }
    assertEquals(listeners.count, 0);
    pool.map([], "echo", { signal });
    assertEquals(listeners.count, 0);
  });
  await pool.close();
});

test("Pool.map() gives what it has read when the pool is closed", async () => {
  for (const kind of KINDS) {
    const gate = new Gate();
    const methods = {
      async work(n: number) {
        await gate.opened;
        return n;
      },
    };
    const [pool] = poolOf(methods);
    const source = new Source();
    const map = pool.map(source[kind], "work", { readAhead: 10 });
    const first = map.next();
    const unbegun = pool.map(source[kind], "work");
    for (let turn = 0; turn < 5; turn++) await settle();
    const closing = pool.close();
    await assertRejects(() => unbegun.next(), ClosedError, "was closed");
    const { read } = source;
    gate.open();
    const results = [(await first).value];
    await assertRejects(
      async () => {
        for await (const n of map) results.push(n);
      },
      ClosedError,
      "Cannot finish the map: the pool was closed",
    );
    assertEquals(results, numbers(read));
    assertEquals(source.read, read);
    assertEquals(await map.next(), { value: undefined, done: true });
    await closing;
  }
});

test("Pool.close() does not wait for the reader of a map", async () => {
  const [pool] = poolOf(echo);
  const map = pool.map(new Source().sync, "echo", { readAhead: 5 });
  assertEquals((await map.next()).value, 0);
  await pool.close();
  const results: unknown[] = [];
  await assertRejects(async () => {
    for await (const n of map) results.push(n);
  }, ClosedError);
  assertEquals(results, numbers(results.length).map((n) => n + 1));
});

test("Pool.map() is not hurt by an iterable that meddles", async () => {
  for (const meddle of ["return", "close", "abort", "run"] as const) {
    const [pool] = poolOf(echo);
    let done: Promise<unknown> | undefined;
    const runs: Promise<unknown>[] = [];
    const items = {
      read: 0,
      [Symbol.iterator]() {
        return this;
      },
      next() {
        if (meddle === "run" && this.read < 50) {
          runs.push(pool.run("echo", [this.read]));
        } else if (this.read === 50) {
          done = meddle === "return"
            ? map.return!()
            : meddle === "close"
            ? pool.close()
            : pool.abort(new RangeError("Enough"));
        }
        return { value: this.read++, done: this.read > 100 };
      },
    };
    const map = pool.map(items, "echo");
    const results: unknown[] = [];
    const outcome = await (async () => {
      for await (const n of map) results.push(n);
    })().catch((error) => error);
    if (meddle === "close") assert(outcome instanceof ClosedError);
    else if (meddle !== "return") assert(outcome instanceof RangeError);
    else assertEquals(outcome, undefined);
    await done;
    await Promise.allSettled(runs);
    assertEquals(results, numbers(results.length));
    await pool.close();
  }
});

test("Pool.map() takes back what is at work whatever is thrown", async () => {
  const aborted = Promise.withResolvers<void>();
  const opener = new Opener(() => ({
    work: withSignal((signal, n: number) => {
      if (n === 1) return n;
      return new Promise<number>((_, reject) => {
        signal.addEventListener("abort", () => {
          aborted.resolve();
          reject(signal.reason);
        });
      });
    }),
  }));
  const pool = new Pool(opener.open, { workers: 2 });
  const map = pool.map([2, 1], "work", {
    onProgress() {
      throw undefined;
    },
  });
  const thrown = await map.next().then(() => "nothing", (error) => [error]);
  assertEquals(thrown, [undefined]);
  await aborted.promise;
  await pool.close();
});
