// Copyright 2026 the Duplex authors. MIT license.

/**
 * `Pool.close({ waiting: "reject" })`: what has begun is finished, and nothing new
 * is begun.
 *
 * @module
 */

import {
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { ClosedError, type Duplex } from "@duplex/ipc/duplex";
import { openPipe } from "@duplex/ipc/pipe";
import { Pool } from "@duplex/ipc/pool";
import { openShm } from "@duplex/ipc/shm";
import { TAG } from "../../_rpc/messages.ts";
import {
  Gate,
  KINDS,
  numbers,
  Opener,
  poolOf,
  type Raw,
  rawPool,
  settle,
  Source,
  Steps,
} from "./_pools.ts";
import { test, workerUrl } from "../workers/_processes.ts";
import type { Methods } from "../workers/pool_acts.ts";

const REJECT: Parameters<Pool["close"]>[0] = { waiting: "reject" };
const UNBEGUN =
  'Cannot run "callBack": the pool was closed before the task was begun';
const ACTS = workerUrl("pool_acts");

const TRANSPORTS: [string, () => Promise<Duplex>, Deno.PermissionOptions][] = [
  ["openPipe", () => openPipe(ACTS), { run: [Deno.execPath()] }],
  ["openShm", () => openShm(ACTS), {
    read: [new URL("../..", import.meta.url)],
  }],
];

/** Tasks that run until a gate opens, and which of them were begun. */
class Work {
  readonly gate = new Gate();
  readonly steps = new Steps();
  readonly begun: number[] = [];

  task(n: number): () => Promise<number> {
    return async () => {
      this.begun.push(n);
      this.steps.step();
      await this.gate.opened;
      return n;
    };
  }

  async *tasks(): AsyncGenerator<() => Promise<number>> {
    for (let n = 0;; n++) yield this.task(n);
  }
}

for (const [name, open, permissions] of TRANSPORTS) {
  test(
    `Pool.close() finishes what runs and rejects what waits, over ${name}`,
    async () => {
      const pool = new Pool<Methods>(open, { workers: 2 });
      const work = new Work();
      const runs = numbers(5).map((n) => pool.run("callBack", [work.task(n)]));
      await work.steps.until(2);
      const closing = pool.close(REJECT);
      for (const run of runs.slice(2)) {
        await assertRejects(() => run, ClosedError, UNBEGUN);
      }
      work.gate.open();
      assertEquals(await Promise.all(runs.slice(0, 2)), [0, 1]);
      await closing;
      assertEquals(work.begun.toSorted(), [0, 1]);
      const { done, failed, waiting, inFlight } = pool.stats;
      assertEquals([done, failed, waiting, inFlight], [2, 3, 0, 0]);
    },
    permissions,
  );

  for (const ordered of [true, false]) {
    const how = ordered ? "in order" : "unordered";
    test(
      `Pool.map() gives the results of all that was begun, ${how}, over ${name}`,
      async () => {
        const pool = new Pool<Methods>(open, { workers: 2 });
        const work = new Work();
        const map = pool.map(work.tasks(), "callBack", { ordered });
        const results: unknown[] = [];
        const mapped = assertRejects(
          async () => {
            for await (const result of map) results.push(result);
          },
          ClosedError,
          "Cannot finish the map: the pool was closed",
        );
        await work.steps.until(2);
        await settle();
        assertGreater(pool.stats.waiting, 2);
        const closing = pool.close(REJECT);
        assertEquals(pool.stats.waiting, 0);
        work.gate.open();
        await Promise.all([closing, mapped]);
        assertEquals(results.toSorted(), [0, 1]);
        assertEquals(work.begun.toSorted(), [0, 1]);
      },
      permissions,
    );
  }
}

/** A test that may do nothing. */
function bareTest(name: string, fn: () => Promise<void>): void {
  test(name, fn, "none");
}

bareTest(
  "Pool.close() can still reject what waits after a plain close",
  async () => {
    const work = new Work();
    const methods = { work: (n: number) => work.task(n)() };
    const [pool] = poolOf(methods);
    const [first, second] = numbers(2).map((n) => pool.run("work", [n]));
    await work.steps.until(1);
    const closing = pool.close();
    assertStrictEquals(pool.close(REJECT), closing);
    assertStrictEquals(pool.close({ waiting: "run" }), closing);
    await assertRejects(
      () => second!,
      ClosedError,
      "before the task was begun",
    );
    await assertRejects(() => pool.run("work", [3]), ClosedError, "is closed");
    work.gate.open();
    assertEquals(await first, 0);
    await closing;
    assertThrows(
      () =>
        pool.close(
          { waiting: "wait" } as unknown as Parameters<Pool["close"]>[0],
        ),
      TypeError,
      'Cannot close the pool as "waiting" must be "run" or "reject": current value is "wait"',
    );
  },
);

bareTest("Pool.close() ends at once if nothing was begun", async () => {
  const [pool, opener] = poolOf({ work: (n: number) => n });
  const source = new Source();
  const map = pool.map(source.sync, "work");
  const waiting = pool.run("work", [1]);
  const closing = pool.close(REJECT);
  const first = map.next();
  await assertRejects(() => waiting, ClosedError);
  await assertRejects(() => first, ClosedError, "Cannot finish the map");
  await closing;
  await opener.gone();
  assertEquals([source.read, source.returned], [0, 1]);
});

bareTest("Pool.close() ends a map whose items were all read", async () => {
  for (const kind of KINDS) {
    const work = new Work();
    const [pool] = poolOf({ work: (n: number) => work.task(n)() });
    const map = pool.map(new Source(5)[kind], "work");
    const first = map.next();
    await work.steps.until(1);
    await settle();
    const closing = pool.close(REJECT);
    work.gate.open();
    assertEquals((await first).value, 0);
    await assertRejects(() => map.next(), ClosedError, "Cannot finish the map");
    assertEquals(await map.next(), { value: undefined, done: true });
    await closing;
    assertEquals(work.begun, [0]);
  }
});

bareTest(
  "Pool.close() does not run a task again whose worker ended",
  async () => {
    const work = new Work();
    const opener = new Opener(() => ({ work: (n: number) => work.task(n)() }));
    const pool = new Pool(opener.open, { workers: 1, retry: 5 });
    const map = pool.mapSettled([1], "work");
    const outcome = map.next();
    await work.steps.until(1);
    const closing = pool.close(REJECT);
    opener.far[0]!.abort(new Error("It died"));
    const { value } = await outcome;
    assertEquals(value?.status === "rejected" && value.attempts, 1);
    await closing;
    assertEquals(work.begun, [1]);
    assertEquals(opener.near.length, 1);
  },
);

bareTest("Pool.close() rejects a task that waits to be run again", async () => {
  const work = new Work();
  const opener = new Opener(() => ({ work: (n: number) => work.task(n)() }));
  const [second, started] = [new Gate(), new Gate()];
  const pool = new Pool(async () => {
    if (opener.near.length === 1) {
      second.open();
      await started.opened;
    }
    return await opener.open();
  }, { workers: 1 });
  const run = pool.run("work", [1]);
  await work.steps.until(1);
  opener.far[0]!.abort(new Error("It died"));
  await second.opened;
  assertEquals(pool.stats.waiting, 1);
  const closing = pool.close(REJECT);
  const error = await assertRejects(() => run);
  assertInstanceOf(error, ClosedError);
  assertEquals(
    error.message,
    'Cannot run "work": the pool was closed before the task was run again; it was begun before and has no result',
  );
  started.open();
  await closing;
  await opener.gone();
  assertEquals(work.begun, [1]);
});

bareTest("Pool.close() drops items that their worker returns", async () => {
  let held: Raw | undefined;
  let isWarm = false;
  let closing: Promise<void> | undefined;
  /** Indexes of items that were begun. */
  const begun = new Set<number>();
  const pool = rawPool((message, far) => {
    const [tag, id, , list] = message;
    if (tag === TAG.recall) {
      // The pool is closed before it receives how many were begun.
      closing = pool.close(REJECT);
      far.send([TAG.recalled, id, 2]);
      far.send([TAG.items, id, numbers(2)]);
    }
    if (tag !== TAG.batch) return;
    const values = (list as [number][]).map(([value]) => value);
    const isHeld = isWarm && held === undefined && values.length > 2;
    if (isHeld) held = message;
    for (const value of isHeld ? values.slice(0, 2) : values) begun.add(value);
    if (!isHeld) far.send([TAG.items, id, values]).catch(() => {});
  }, { workers: 2 });
  const results: number[] = [];
  const map = pool.mapSettled(new Source().sync, "f");
  await assertRejects(
    async () => {
      for await (const { index, status } of map) {
        assertEquals(status, "fulfilled");
        results.push(index);
        isWarm ||= index === 2_000;
      }
    },
    ClosedError,
    "Cannot finish the map",
  );
  await closing;
  assertEquals(results, [...begun].sort((a, b) => a - b));
  const [[first]] = held![3] as [[number]];
  assertEquals([begun.has(first + 1), begun.has(first + 2)], [true, false]);
  // Items behind those that were returned have their results as well.
  assertGreater(results.at(-1)!, first + (held![3] as unknown[]).length);
  assertEquals(pool.stats.inFlight, 0);
});
