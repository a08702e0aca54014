// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a pool does when its workers die or never end: every task has exactly one
 * outcome. Workers are real ones, but where lots are drawn for many pools.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  AssertionError,
  assertLessOrEqual,
  assertMatch,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { ClosedError, type Duplex, PeerExitError } from "@duplex/ipc/duplex";
import { openPipe, type PipeDuplex } from "@duplex/ipc/pipe";
import { type MapOutcome, Pool } from "@duplex/ipc/pool";
import { remote, withSignal } from "@duplex/ipc/rpc";
import { openShm } from "@duplex/ipc/shm";
import { TAG } from "../../_rpc/messages.ts";
import { NoWaiting, numbers, Opener, poolOf } from "./_pools.ts";
import { random, seed } from "../_seed.ts";
import { isRunning, test, within, workerUrl } from "../workers/_processes.ts";
import type { Methods } from "../workers/pool_acts.ts";

const READ = { read: [new URL("../..", import.meta.url)] };
const SEED = { env: ["DUPLEX_SEED"] };
const ACTS = workerUrl("pool_acts");
const COUNT = 100_000;

/** Processes that are killed at any time. */
class Victims {
  readonly pids: number[] = [];
  readonly #alive = new Set<PipeDuplex>();
  killed = 0;

  readonly open = async (): Promise<Duplex> => {
    const duplex = await openPipe(ACTS);
    this.pids.push(duplex.pid);
    this.#alive.add(duplex);
    const gone = () => this.#alive.delete(duplex);
    duplex.closed.then(gone, gone);
    return duplex;
  };

  /** Kills one of them, if any lives. */
  kill(draw: number): void {
    const alive = [...this.#alive];
    const victim = alive[Math.floor(draw * alive.length)];
    if (victim === undefined) return;
    this.#alive.delete(victim);
    Deno.kill(victim.pid, "SIGKILL");
    this.killed++;
  }
}

/** Opens a thread that counts in shared words. */
async function openSharing(
  words: Int32Array<SharedArrayBuffer>,
): Promise<Duplex> {
  const duplex = await openShm(ACTS);
  await remote<Methods>(duplex).share(words);
  return duplex;
}

/** The sum of what a map says of runs. */
function runsOf(outcomes: readonly { readonly attempts: number }[]): number {
  return outcomes.reduce((sum, { attempts }) => sum + attempts, 0);
}

test(
  "Pool.mapSettled() gives each of 100 000 tasks one outcome while processes are killed",
  async () => {
    const base = seed();
    const draw = random(base);
    const victims = new Victims();
    const pool = new Pool<Methods>(victims.open, { workers: 2 });
    const outcomes: MapOutcome<number, number[]>[] = [];
    const items = numbers(COUNT);
    for await (
      const outcome of pool.mapSettled(items, "begun", { ordered: false })
    ) {
      outcomes.push(outcome);
      const isDrawn = draw() < 20 / COUNT;
      // At the end those that are idle would be killed, and not close well.
      if (isDrawn && outcomes.length < 0.9 * COUNT) victims.kill(draw());
    }
    const where = `seed ${base}`;
    assertGreater(victims.killed, 8, where);
    assertEquals(outcomes.length, COUNT, where);
    const times = new Uint8Array(COUNT);
    for (const { index } of outcomes) times[index]!++;
    assertEquals(times.indexOf(0), -1, where);
    // Each value was given by a run of its own, in a worker of this pool.
    const last = new Map<number, number>();
    const reported = new Set<string>();
    for (const outcome of outcomes) {
      const { index, item, attempts: runs } = outcome;
      assertEquals(item, index);
      if (outcome.status === "rejected") {
        assertInstanceOf(outcome.reason, PeerExitError, where);
        assertEquals([outcome.reason.signal, runs], ["SIGKILL", 3], where);
        continue;
      }
      const [value, pid, number] = outcome.value as [number, number, number];
      assertEquals(value, 2 * index, where);
      assert(runs >= 1 && runs <= 3, where);
      reported.add(`${pid} ${number}`);
      last.set(pid, Math.max(last.get(pid) ?? 0, number));
    }
    const { done, failed, retried } = pool.stats;
    assertEquals([done, done + failed], [reported.size, COUNT], where);
    assertEquals(
      [...last.keys()].filter((pid) => !victims.pids.includes(pid)),
      [],
    );
    const begun = [...last.values()].reduce((sum, count) => sum + count, 0);
    assertLessOrEqual(begun, runsOf(outcomes), where);
    assertEquals(runsOf(outcomes) - COUNT, retried, where);
    // What was lost with a worker was in its one message.
    assertLessOrEqual(retried, victims.killed * 256, where);
    await pool.close();
  },
  { run: true, ...SEED },
);

test(
  "Pool.mapSettled() gives each of 100 000 tasks one outcome while threads end",
  async () => {
    const base = seed();
    const draw = random(base);
    const words = new Int32Array(new SharedArrayBuffer(8 * COUNT));
    for (const _ of numbers(12)) words[COUNT + Math.floor(draw() * COUNT)] = 1;
    const deaths = words.filter((word) => word > 0).length;
    const pool = new Pool<Methods>(() => openSharing(words), { workers: 2 });
    const times = new Uint8Array(COUNT);
    let runs = 0;
    for await (const outcome of pool.mapSettled(numbers(COUNT), "logOnce")) {
      const { index } = outcome;
      times[index]!++;
      runs += outcome.attempts;
      assert(outcome.status === "fulfilled", `${index} of seed ${base}`);
      assertEquals(outcome.value, 2 * index);
      // It was begun at least once, and no more often than is said.
      const begun = words[index]!;
      assert(
        begun >= 1 && begun <= outcome.attempts,
        `${index} of seed ${base}`,
      );
    }
    assertEquals(times.findIndex((count) => count !== 1), -1);
    assertEquals(runs - COUNT, pool.stats.retried);
    assertEquals([pool.stats.ended, pool.stats.done], [deaths, COUNT]);
    await pool.close();
  },
  { ...READ, ...SEED },
);

test("Pool.run() never begins a task twice that has no retries", async () => {
  const base = seed();
  const draw = random(base);
  const count = 2_000;
  const words = new Int32Array(new SharedArrayBuffer(4 * count));
  const pool = new Pool<Methods>(() => openSharing(words), {
    workers: 2,
    retry: 0,
  });
  const fatal = numbers(count).map(() => draw() < 6 / count);
  const outcomes = await Promise.allSettled(
    fatal.map((ends, n) => pool.run("log", [n, ends])),
  );
  for (const [n, outcome] of outcomes.entries()) {
    const where = `${n} of seed ${base}`;
    assertEquals(words[n], 1, where);
    assertEquals(outcome.status === "rejected", fatal[n], where);
    if (outcome.status === "rejected") {
      assertInstanceOf(outcome.reason, PeerExitError);
    }
  }
  assertEquals(pool.stats.retried, 0);
  await pool.close();
}, { ...READ, ...SEED });

test("Pool ends a process that never comes back", async () => {
  const pids: number[] = [];
  const pool = new Pool<Methods>(async () => {
    const duplex = await openPipe(ACTS);
    pids.push(duplex.pid);
    return duplex;
  }, { workers: 1 });
  const error = await assertRejects(
    () => pool.run("spin", [], { timeout: 100 }),
    DOMException,
    'Cannot run "spin": it took longer than 100 ms',
  );
  assertEquals(error.name, "TimeoutError");
  // Others need not wait until it is dead.
  assertEquals(await pool.run("square", [7]), 49);
  assertEquals(pids.length, 2);
  await pool.close();
  assertEquals(pids.filter(isRunning), []);
}, "inherit");

test("Pool.abort() ends a process that never comes back", async () => {
  const pids: number[] = [];
  const pool = new Pool<Methods>(async () => {
    const duplex = await openPipe(ACTS);
    pids.push(duplex.pid);
    return duplex;
  }, { workers: 1 });
  const begun = Promise.withResolvers<void>();
  const reason = new Error("Enough");
  const spins = pool.run("progress", [1, () => {
    begun.resolve();
    return new Promise<number>(() => {});
  }]);
  const waits = pool.run("spin", []);
  await begun.promise;
  const aborting = pool.abort(reason);
  await assertRejects(() => spins, Error, "Enough");
  await assertRejects(() => waits, Error, "Enough");
  await aborting;
  assertEquals(pids.filter(isRunning), []);
}, "inherit");

test("Pool replaces a thread whose task never settles", async () => {
  const pool = new Pool<Methods>(() => openShm(ACTS), { workers: 1 });
  const never = pool.run("never", [], { timeout: 20 });
  await assertRejects(() => never, DOMException, "longer than 20 ms");
  assertEquals(await pool.run("square", [7]), 49);
  assertEquals(pool.stats.ended, 1);
  await pool.close();
}, READ);

test("Pool.map() lets its reader stop early", async () => {
  const pool = new Pool<Methods>(() => openShm(ACTS), { workers: 2 });
  let read = 0;
  let left = 0;
  function* items() {
    try {
      for (;;) yield read++;
    } finally {
      left++;
    }
  }
  for await (const square of pool.map(items(), "square")) {
    if (square === 2_500) break;
  }
  assertEquals(left, 1);
  assertLessOrEqual(read, 51 + 2 * 1_024);
  await pool.close();
}, READ);

test("Pool.map() notifies a thread when its reader has stopped", async () => {
  const words = new Int32Array(new SharedArrayBuffer(4));
  const pool = new Pool<Methods>(() => openSharing(words), { workers: 1 });
  for await (const _ of pool.map([0, 1], "waitsFrom")) {
    await Atomics.waitAsync(words, 0, 0).value;
    break;
  }
  assertEquals(await pool.run("wasAborted", []), 1);
  assertEquals(pool.stats.ended, 0);
  await pool.close();
}, READ);

test("Pool.map() over processes ends as its iterable does", async () => {
  await using pool = new Pool<Methods>(() => openPipe(ACTS), { workers: 2 });
  function* items() {
    yield* numbers(1_000);
    throw new RangeError("Out of items");
  }
  let results = 0;
  await assertRejects(
    async () => {
      for await (const _ of pool.map(items(), "square")) results++;
    },
    RangeError,
    "Out of items",
  );
  assertEquals(results, 1_000);
  assertEquals(await pool.run("square", [7]), 49);
}, { run: [Deno.execPath()] });

/** What becomes of a task, drawn beforehand. */
type Fate = "value" | "later" | "throws" | "dies" | "hangs" | "symbol";

const FATES: readonly Fate[] = [
  "value",
  "value",
  "value",
  "value",
  "later",
  "later",
  "throws",
  "dies",
  "hangs",
  "symbol",
];

/** Workers whose tasks have drawn fates. */
class Doomed extends Opener {
  #starts = 0;

  constructor() {
    const work = (worker: number) =>
      withSignal(async (signal, fate: Fate, n: number) => {
        if (fate === "later") await undefined;
        if (fate === "throws") throw new RangeError(`No ${n}`);
        if (fate === "dies") this.far[worker]!.abort(new Error("Lights out"));
        if (fate !== "dies" && fate !== "hangs") return n;
        const { promise, reject } = Promise.withResolvers<number>();
        signal.addEventListener("abort", () => reject(signal.reason));
        return await promise;
      });
    const item = (worker: number) =>
      withSignal((signal, [fate, n]: [Fate, number]) => {
        const reason = new Promise<never>((_, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason));
        });
        return Promise.race([work(worker)(fate, n), reason]);
      });
    super((worker) => ({ work: work(worker), item: item(worker) }));
  }

  readonly openOrNot = (): Promise<Duplex> => {
    if (++this.#starts % 7 === 3) throw new Error("Bad luck");
    return this.open();
  };
}

interface DoomedMethods {
  work(fate: Fate | symbol, n: number): number;
  item(item: [Fate | symbol, number]): number;
}

/** Takes outcomes of a map until it ends, or fewer; each index comes once. */
async function readMap(
  pool: Pool<DoomedMethods>,
  items: [Fate | symbol, number][],
  ordered: boolean,
  most: number,
): Promise<void> {
  const seen = new Set<number>();
  try {
    for await (const outcome of pool.mapSettled(items, "item", { ordered })) {
      const { index, status, attempts: runs } = outcome;
      assert(!seen.has(index), `${index} came twice`);
      if (ordered) assertEquals(index, seen.size);
      seen.add(index);
      if (status === "fulfilled") assertEquals(outcome.value, items[index]![1]);
      assert(runs <= 3, `${index} was run ${runs} times`);
      if (seen.size === most) break;
    }
    assertEquals(seen.size, Math.min(most, items.length));
  } catch (error) {
    // The pool was closed or aborted meanwhile.
    if (error instanceof AssertionError) throw error;
  }
}

/** A pool of drawn size, tasks of drawn fates, and a drawn end. */
async function play(draw: () => number): Promise<void> {
  const pick = <T>(values: readonly T[]) =>
    values[Math.floor(draw() * values.length)]!;
  const opener = new Doomed();
  const pool = new Pool<DoomedMethods>(opener.openOrNot, {
    workers: pick([1, 2, 5]),
    retry: pick([0, 1, 2]),
    maxTasks: pick([3, 40, Infinity]),
    timeout: 15,
  });
  const drawFate = () => {
    const fate = pick(FATES);
    return fate === "symbol" ? Symbol() : fate;
  };
  const maps = numbers(pick([0, 1, 3])).map(() => {
    const items = numbers(50).map((n): [Fate | symbol, number] => [
      drawFate(),
      n,
    ]);
    return readMap(pool, items, draw() < 0.5, pick([10, Infinity]));
  });
  const controllers = numbers(3).map(() => new AbortController());
  const tasks = numbers(pick([20, 60])).map((n) => {
    const signal = draw() < 0.2 ? pick(controllers).signal : undefined;
    return pool.run("work", [drawFate(), n], signal && { signal });
  });
  const settled = Promise.allSettled(tasks);
  if (draw() < 0.5) await Promise.race(tasks).catch(() => {});
  controllers[0]!.abort(new Error("Taken back"));
  if (draw() < 0.5) await Promise.all(maps);
  if (draw() < 0.3) await pool.abort(new Error("All over"));
  else await pool.close();
  await Promise.all(maps);
  for (const [n, outcome] of (await settled).entries()) {
    if (outcome.status === "fulfilled") assertEquals(outcome.value, n);
  }
  const { stats } = pool;
  assertEquals([stats.workers, stats.inFlight, stats.waiting], [0, 0, 0]);
  await opener.gone();
}

test("Pool gives each task one outcome, whatever is drawn", async () => {
  const base = seed();
  using _ = new NoWaiting(100);
  let next = 0;
  await Promise.all(
    numbers(16).map(async () => {
      while (next < 32) {
        const run = next++;
        await within(play(random(base + run))).catch((cause) => {
          throw new Error(`run ${run} of seed ${base}`, { cause });
        });
      }
    }),
  );
}, SEED);

/** What a program or a peer may give as a reason or throw, and `String` cannot convert. */
function oddReasons(): [name: string, reason: unknown, text: string][] {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  const throws = {
    get() {
      throw new Error("A getter threw");
    },
  };
  return [
    ["no toString", { toString: 1, valueOf: 1 }, "an object"],
    ["no prototype", Object.create(null), "an object"],
    ["a symbol", Symbol("s"), "Symbol(s)"],
    ["a revoked proxy", proxy, "an object"],
    [
      "a message that is no string",
      Object.assign(new Error("x"), { message: { toString: 1 } }),
      "an object",
    ],
    [
      "a message that throws",
      Object.defineProperty(new Error("x"), "message", throws),
      "",
    ],
  ];
}

for (const [name, reason, text] of oddReasons()) {
  // The worker's own end does not take a proxy that throws.
  if (name !== "a revoked proxy") {
    test(`Pool.run() rejects when its worker aborts with ${name}`, async () => {
      const opener = new Opener((worker) => ({
        fails: () => opener.far[worker]!.abort(reason),
        add: (n: number) => n + 1,
      }));
      const pool = new Pool(opener.open, { workers: 1, retry: 1 });
      const [error] = await Promise.allSettled([pool.run("fails", [])]);
      assert(error.status === "rejected");
      assertInstanceOf(error.reason, Error);
      assertMatch(error.reason.message, /^Cannot run "fails": .* 2 times/);
      assertEquals(await pool.run("add", [1]), 2);
      await pool.close();
      await opener.gone();
    }, "none");
  }

  test(`Pool.run() rejects when a task throws ${name}`, async () => {
    const [pool] = poolOf({
      fails(..._args: unknown[]) {
        throw reason;
      },
    });
    const calls = [pool.run("fails", []), pool.run("fails", [() => {}])];
    const outcomes = await Promise.allSettled(calls);
    assertEquals(outcomes.map(({ status }) => status), [
      "rejected",
      "rejected",
    ]);
    await pool.close();
  }, "none");

  test(`Pool rejects when no worker starts because of ${name}`, async () => {
    const pool = new Pool(() => Promise.reject(reason), { startTimeout: 1 });
    const error = await assertRejects(
      () => pool.run("any", []),
      Error,
      "Cannot start a worker within 1 ms: attempt ",
    );
    assert(error.message.includes(` failed: ${text}`), error.message);
    assertStrictEquals(error.cause, reason);
    await pool.close();
  }, "none");

  test(`Pool.abort() ends every task with ${name}`, async () => {
    const [pool, opener] = poolOf({ hangs: () => new Promise(() => {}) });
    const running = Promise.allSettled([pool.run("hangs", [])]);
    await Promise.all([pool.abort(reason), pool.abort(reason)]);
    const [outcome] = await running;
    assert(outcome.status === "rejected");
    assertStrictEquals(outcome.reason, reason);
    await opener.gone();
  }, "none");
}

test(
  "Pool.run() rejects when a thread aborts with what String() cannot convert",
  async () => {
    const script = `data:text/javascript,${
      encodeURIComponent(`
    import { parent } from "${import.meta.resolve("../../parent.ts")}";
    const main = await parent();
    const [, id] = await main.receive();
    await main.send([${TAG.value}, id]);
    await main.receive();
    main.abort({ toString: 1, valueOf: 1 });
  `)
    }`;
    const pool = new Pool(() => openShm(script), { workers: 1, retry: 0 });
    await assertRejects(
      () => pool.run("any", []),
      ClosedError,
      'Cannot run "any": the task was begun and its worker ended: an object',
    );
    await pool.close();
  },
  READ,
);

test("Pool shows what a worker said without control characters", async () => {
  const text = "\x1b[31mred\u202e\r\n";
  const shown = String.raw`\u{1b}[31mred\u{202e}\u{d}\u{a}`;
  const failing = new Pool(() => Promise.reject(new Error(text)), {
    startTimeout: 1,
  });
  const failed = await assertRejects(() => failing.run("any", []), Error);
  assert(failed.message.endsWith(shown), failed.message);
  await failing.close();
  const opener: Opener = new Opener(() => ({
    leave: () => opener.far[0]!.abort(new Error(text)),
  }));
  const pool = new Pool(opener.open, { workers: 1, retry: 0 });
  const ended = await assertRejects(() => pool.run("leave", []), ClosedError);
  assert(ended.message.endsWith(shown), ended.message);
  assertInstanceOf(ended.cause, Error);
  await pool.close();
  await opener.gone();
}, "none");
