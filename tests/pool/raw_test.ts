// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a pool makes of answers that come late, out of place or never. Its far sides
 * answer message by message, as the test says.
 *
 * @module
 */

import {
  assertEquals,
  assertLess,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { ClosedError, type Duplex } from "@duplex/ipc/duplex";
import { Pool } from "@duplex/ipc/pool";
import { remote } from "@duplex/ipc/rpc";
import { TAG } from "../../_rpc/messages.ts";
import {
  compute,
  Gate,
  NoWaiting,
  numbers,
  Opener,
  poolOf,
  type Raw,
  rawPool,
  settle,
} from "./_pools.ts";
import { test as anyTest } from "../workers/_processes.ts";

/** A test that may do nothing. */
function test(
  name: string,
  fn: (t: Deno.TestContext) => Promise<void>,
): void {
  anyTest(name, fn, "none");
}

/** Answers a batch with what it was called with. */
function answer([tag, id, , list]: Raw, far: Duplex): void {
  if (tag !== TAG.batch) return;
  const values = (list as unknown[][]).map(([value]) => value);
  far.send([TAG.items, id, values]).catch(() => {});
}

/** Has the pool know that the method is quick, so that many share a message. */
async function warmUp(pool: Pool): Promise<void> {
  for (const n of numbers(8)) {
    const tasks = numbers(50).map((m) => pool.run("f", [n * m]));
    await Promise.all(tasks);
  }
}

test("Pool.run() ends no task whose answer has come and was not read", async () => {
  const pool = rawPool((message, far, worker) => {
    // It is there when this side comes to read, right after the limit is over.
    setTimeout(() => answer(message, far), 15);
    setTimeout(() => compute(30), 0);
    assertEquals(worker, 0);
  });
  assertEquals(await pool.run("f", [7], { timeout: 10 }), 7);
  assertEquals(pool.stats.ended, 0);
  await pool.close();
});

test("Pool keeps a worker that has done with what was taken back", async () => {
  const begun = new Gate();
  let batch: Raw | undefined;
  const pool = rawPool((message, far) => {
    if (message[0] === TAG.cancel) setTimeout(() => answer(batch!, far), 0);
    else if (message[3] === undefined) return;
    else if (batch !== undefined) answer(message, far);
    else {
      batch = message;
      begun.open();
    }
  });
  const controller = new AbortController();
  const run = pool.run("f", [1], { signal: controller.signal });
  await begun.opened;
  using _ = new NoWaiting(1_000);
  controller.abort(new Error("Enough"));
  await assertRejects(() => run, Error, "Enough");
  assertEquals(await pool.run("f", [2]), 2);
  assertEquals(pool.stats.ended, 0);
  await pool.close();
});

test("Pool replaces a worker that does not tell its memory", async () => {
  const workers: number[] = [];
  // Five seconds are counted in steps of one.
  using _ = new NoWaiting(1_000);
  const pool = rawPool((message, far, worker) => {
    if (message[0] === TAG.batch) workers.push(worker);
    answer(message, far);
  }, { maxMemory: 2 ** 40 });
  assertEquals(await pool.run("f", [1]), 1);
  assertEquals(await pool.run("f", [2]), 2);
  assertEquals(workers, [0, 1]);
  await pool.abort();
});

test("Pool ends a worker whose answer is out of place", async (t) => {
  const cases: [string, (id: number) => unknown[]][] = [
    ["no values", (id) => [TAG.items, id, []]],
    ["too many values", (id) => [TAG.items, id, [1, 2]]],
    ["what was not recalled", (id) => [TAG.recalled, id, 0]],
    ["many values", (id) => [TAG.stream, id]],
  ];
  for (const [name, wrong] of cases) {
    await t.step(name, async () => {
      let answers = 0;
      const pool = rawPool(([tag, id], far) => {
        if (tag === TAG.batch && ++answers < 5) far.send(wrong(id));
      }, { retry: 0 });
      const error = await assertRejects(
        () => pool.run("f", [1]),
        ClosedError,
        "it is out of place",
      );
      assertStringIncludes(error.message, "was begun and its worker ended");
      assertEquals(answers, 1);
      await pool.close();
    });
  }
});

test("Pool takes a value by itself as that of the next task", async () => {
  const pool = rawPool(([tag, id, , list], far) => {
    if (tag !== TAG.batch) return;
    for (const [value] of list as unknown[][]) {
      far.send([TAG.value, id, value === 7 ? undefined : value]);
    }
  });
  await warmUp(pool);
  const values = numbers(20).map((n) => pool.run("f", [n]));
  const expected = numbers(20).map((n) => n === 7 ? undefined : n);
  assertEquals(await Promise.all(values), expected);
  await pool.close();
});

test("Pool.run() has waited too long when it is given back late", async () => {
  const held: [Raw, Duplex][] = [];
  const begun = numbers(2).map(() => new Gate());
  let isHeld = false;
  const pool = rawPool((message, far) => {
    const [tag, id] = message;
    if (tag === TAG.recall) {
      // Its first task was begun; the others come back when their time is over.
      setTimeout(() => far.send([TAG.recalled, id, 1]), 10);
    } else if (!isHeld) answer(message, far);
    else if (tag === TAG.batch) begun[held.push([message, far]) - 1]!.open();
  });
  await warmUp(pool);
  isHeld = true;
  // Another method, so that its time does not change the estimate for the others.
  const first = pool.run("g", [0]);
  await begun[0]!.opened;
  const others = [Infinity, 15, 15, 60_000].map((waitTimeout) =>
    pool.run("f", [1], { waitTimeout })
  );
  answer(...held[0]!);
  assertEquals(await first, 0);
  await begun[1]!.opened;
  assertEquals(pool.stats.inFlight, 4);
  for (const late of others.splice(1, 2)) {
    await assertRejects(
      () => late,
      DOMException,
      'Cannot run "f": no worker was free within 15 ms',
    );
  }
  // The last one still waits.
  assertEquals([pool.stats.inFlight, pool.stats.waiting], [1, 1]);
  const ends = others.map((run) => assertRejects(() => run, Error, "Enough"));
  await pool.abort(new Error("Enough"));
  await Promise.all(ends);
});

test("Pool.close() after abort() waits until no worker is left", async () => {
  const gate = new Gate();
  const opener = new Opener(() => ({ echo: (n: number) => n }));
  const pool = new Pool(async () => {
    const duplex = await opener.open();
    return Object.defineProperty(duplex, "closed", { value: gate.opened });
  }, { workers: 1 });
  assertEquals(await pool.run("echo", [1]), 1);
  let isClosed = false;
  const aborting = pool.abort();
  const closing = pool.close().then(() => isClosed = true);
  await settle();
  assertEquals(isClosed, false);
  gate.open();
  await Promise.all([aborting, closing]);
  await opener.gone();
});

test("Pool.stats counts no task as waiting that has its outcome", async () => {
  const [begun, gate] = [new Gate(), new Gate()];
  const [pool] = poolOf({
    async waits() {
      begun.open();
      await gate.opened;
    },
  });
  const first = pool.run("waits", []);
  await begun.opened;
  const controller = new AbortController();
  const { signal } = controller;
  const waiting = [
    pool.run("waits", []),
    assertRejects(() => pool.run("waits", [], { signal })),
    pool.run("waits", []),
  ];
  assertEquals(pool.stats.waiting, 3);
  controller.abort();
  assertEquals(pool.stats.waiting, 2);
  gate.open();
  await Promise.all([first, ...waiting]);
  assertEquals(pool.stats.waiting, 0);
  await pool.close();
});

test("Pool.run() says where what cannot be sent stands, as remote() does", async () => {
  const [pool, opener] = poolOf({ echo: (value: unknown) => value });
  assertEquals(await pool.run("echo", [1]), 1);
  const api = remote<{ echo(value: unknown): unknown }>(opener.near[0]!);
  for (const value of [Symbol(), [1, { a: Symbol() }]]) {
    const expected = await assertRejects(() => api.echo(value), TypeError);
    const error = await assertRejects(() => pool.run("echo", [value]));
    assertEquals(`${error}`, `${expected}`);
  }
  assertLess(opener.near.length, 2);
  await pool.close();
});
