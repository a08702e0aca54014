// Copyright 2026 the Duplex authors. MIT license.

/**
 * Keys and priorities of tasks: seeded plans with workers that die, and a checker of
 * what the workers have run.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertLess,
  assertLessOrEqual,
  assertRejects,
} from "@std/assert";
import { ClosedError } from "@duplex/ipc/duplex";
import { openPipe } from "@duplex/ipc/pipe";
import { Pool, type RunOptions } from "@duplex/ipc/pool";
import { openShm } from "@duplex/ipc/shm";
import { Keys } from "../../_pool/keys.ts";
import { DEFAULT_RETRY } from "../../_pool/retry.ts";
import { Task, type TaskSource } from "../../_pool/task.ts";
import { Turns } from "../../_pool/turns.ts";
import type { PoolWorker } from "../../_pool/worker.ts";
import { Gate, numbers, Opener, poolOf, settle } from "./_pools.ts";
import { random, seed } from "../_seed.ts";
import { test, workerUrl } from "../workers/_processes.ts";
import type { Methods } from "../workers/pool_acts.ts";

const NOTHING = {};
const SEED = { env: ["DUPLEX_SEED"] };
const READ = { read: [new URL("../..", import.meta.url)] };

/** A task of a plan. */
interface Planned {
  readonly id: number;
  readonly key: string | undefined;
  readonly priority: number;
  readonly times: number;
  /** Runs in which it ends its worker, and runs in which it throws. */
  readonly deaths: number;
  readonly errors: number;
  readonly isCancelled: boolean;
  /** Turns of the event loop that a run takes, or none. */
  readonly turns: number;
}

interface Entry {
  readonly what: "begin" | "end" | "death";
  readonly worker: number;
  readonly task: Planned;
}

/** Draws tasks, most of them quick and well. */
function drawTasks(draw: () => number, count: number): Planned[] {
  const pick = <T>(values: readonly T[]) =>
    values[Math.floor(draw() * values.length)]!;
  return numbers(count).map((id) => ({
    id,
    key: pick([undefined, "a", "a", "b", "c", `own ${id}`]),
    priority: pick([0, 0, 0, 1, -1.5]),
    times: pick([0, 2, 2, 3]),
    deaths: draw() < 0.06 ? pick([1, 2, 9]) : 0,
    errors: draw() < 0.1 ? pick([1, 2, 9]) : 0,
    isCancelled: draw() < 0.1,
    turns: pick([0, 0, 0, 1]),
  }));
}

/** Workers that run planned tasks, and what they did. */
class Recorder extends Opener {
  readonly log: Entry[] = [];
  readonly #runs = new Map<number, number>();
  readonly #tasks: readonly Planned[];

  constructor(tasks: readonly Planned[]) {
    super((worker) => ({ work: (id: number) => this.#work(worker, id) }));
    this.#tasks = tasks;
  }

  async #work(worker: number, id: number): Promise<number> {
    const task = this.#tasks[id]!;
    const run = (this.#runs.get(id) ?? 0) + 1;
    this.#runs.set(id, run);
    this.log.push({ what: "begin", worker, task });
    if (task.turns > 0) await settle();
    if (run <= task.deaths) {
      this.log.push({ what: "death", worker, task });
      this.far[worker]!.abort(new Error("The worker dies"));
      await new Promise(() => {});
    }
    this.log.push({ what: "end", worker, task });
    if (run <= task.deaths + task.errors) throw new RangeError(`Run ${run}`);
    return id;
  }
}

/** Checks what the workers did with the tasks of each key. */
function checkKeys(log: readonly Entry[], where: string): void {
  const dead = new Set<number>();
  const owners = new Map<string, number>();
  const running = new Map<string, Entry>();
  const latest = new Map<string, number>();
  for (const entry of log) {
    const { what, worker, task: { id, key } } = entry;
    if (what === "death") dead.add(worker);
    if (key === undefined) continue;
    const text = `task ${id} of key ${key} in worker ${worker}, ${where}`;
    if (what !== "begin") {
      running.delete(key);
      continue;
    }
    // One at a time, in one worker while it lives, in order.
    const other = running.get(key);
    assert(other === undefined || dead.has(other.worker), text);
    const owner = owners.get(key) ?? worker;
    assert(owner === worker || dead.has(owner), text);
    // A worker that dies takes with it the results of the batch: it is repeated.
    if (owner === worker) assertGreaterOrEqual(id, latest.get(key) ?? 0, text);
    running.set(key, entry);
    owners.set(key, worker);
    latest.set(key, id);
  }
}

/** Runs a plan; checks each outcome and what the workers did. */
async function play(base: number): Promise<void> {
  const draw = random(base);
  const where = `seed ${base}`;
  const tasks = drawTasks(draw, 150);
  const recorder = new Recorder(tasks);
  const workers = 1 + Math.floor(draw() * 4);
  const delay = draw() < 0.5 ? 0 : 1;
  const pool = new Pool<{ work(id: number): number }>(recorder.open, {
    workers,
  });
  const retryOn = (error: unknown) => error instanceof RangeError;
  const cancel = new AbortController();
  const outcomes = tasks.map(async (task): Promise<void> => {
    const { id, key, priority, times, isCancelled } = task;
    const options: RunOptions = {
      priority,
      retry: { times, delay },
      ...task.errors > 0 && { retryOn },
      ...key !== undefined && { key },
      ...isCancelled && { signal: cancel.signal },
    };
    const [outcome] = await Promise.allSettled([
      pool.run("work", [id], options),
    ]);
    const fails = task.deaths + task.errors > times;
    if (outcome.status === "fulfilled") {
      assertEquals([outcome.value, fails], [id, false], where);
    } else if (outcome.reason !== cancel.signal.reason) {
      // A task that shares a message with one that ends its worker loses a run too.
      const isShared = times > 0 && task.errors === 0 && !isCancelled;
      const lost = task.deaths + task.errors + (isShared ? 1 : 0);
      assertGreater(lost, times, where);
    }
  });
  for (const _ of numbers(3)) await settle();
  cancel.abort(new Error("Taken back"));
  await Promise.all(outcomes);
  const begun = new Map<number, number>();
  for (const { what, task: { id } } of recorder.log) {
    if (what === "begin") begun.set(id, (begun.get(id) ?? 0) + 1);
  }
  for (const { id, times, isCancelled } of tasks) {
    const count = begun.get(id) ?? 0;
    assertLessOrEqual(count, times + 1, where);
    if (!isCancelled) assertGreaterOrEqual(count, 1, where);
  }
  checkKeys(recorder.log, where);
  const { waiting, inFlight } = pool.stats;
  assertEquals([waiting, inFlight], [0, 0], where);
  await pool.close();
  await recorder.gone();
}

test("Pool.run() keeps the order of keys although workers die", async () => {
  const base = seed();
  // Several at once, as plans wait for the event loop.
  await Promise.all(numbers(40).map((run) => play(base + run)));
}, SEED);

/** A pool of one worker whose task `note` records what it got. */
function notes(): {
  pool: Pool<{ note(name: string): void; wait(): Promise<void> }>;
  order: string[];
  gate: Gate;
} {
  const order: string[] = [];
  const gate = new Gate();
  const [pool] = poolOf({
    note: (name: string) => void order.push(name),
    wait: () => gate.opened,
  });
  return { pool, order, gate };
}

test("Pool.run() runs tasks of higher priority first", async () => {
  const { pool, order, gate } = notes();
  const first = pool.run("wait", []);
  await settle();
  const given: [string, RunOptions][] = [
    ["a", {}],
    ["low", { priority: -Number.MAX_VALUE }],
    ["high", { priority: 2.5 }],
    ["b", { priority: 0 }],
    ["high too", { priority: 2.5 }],
    ["highest of x", { priority: 7, key: "x" }],
    ["low of y", { priority: -1, key: "y" }],
    ["second of y", { priority: 9, key: "y" }],
  ];
  const runs = given.map(([name, options]) =>
    pool.run("note", [name], { ...options, retry: 0 })
  );
  const map = Array.fromAsync(
    pool.map(["map", "map 2"], "note", { priority: 1, retry: 0 }),
  );
  gate.open();
  await Promise.all([first, map, ...runs]);
  assertEquals(order, [
    "highest of x",
    "high",
    "high too",
    "map",
    "map 2",
    "a",
    "b",
    "low of y",
    "second of y",
    "low",
  ]);
  await pool.close();
}, NOTHING);

test("Pool.run() lets keys take turns", async () => {
  const { pool, order, gate } = notes();
  const first = pool.run("wait", []);
  await settle();
  const run = (name: string, key?: string) =>
    pool.run("note", [name], { retry: 0, ...key !== undefined && { key } });
  const runs = [
    ...numbers(300).map(() => run("many", "many")),
    ...numbers(3).map(() => run("few", "few")),
    ...numbers(300).map(() => run("none")),
    run("one", "one"),
  ];
  gate.open();
  await Promise.all([first, ...runs]);
  const all = ["few", "many", "none"];
  assertEquals(order.slice(0, 4).toSorted(), [...all, "one"]);
  assertEquals(order.slice(4, 7).toSorted(), all);
  assertEquals(order.slice(7, 10).toSorted(), all);
  await pool.close();
}, NOTHING);

test(
  "Pool.run() does not let a key wait for the batches of another",
  async () => {
    const { pool, order } = notes();
    await Promise.all(numbers(1_000).map(() => pool.run("note", ["before"])));
    const many = numbers(10_000).map(() =>
      pool.run("note", ["many"], { key: "many" })
    );
    await Promise.race(many);
    const before = order.length;
    await pool.run("note", ["one"], { key: "one" });
    // What one message has, and the next that was given meanwhile.
    assertLessOrEqual(order.indexOf("one") - before, 2 * 256);
    await Promise.all(many);
    await pool.close();
  },
  NOTHING,
);

test("Pool.map() runs items with one key in order", async () => {
  const running = new Map<string, number>();
  const seen: number[] = [];
  const methods = {
    async work([key, n]: [string, number]) {
      assertEquals(running.get(key), undefined);
      running.set(key, n);
      if (n % 3 === 0) await settle();
      running.delete(key);
      seen.push(n);
      return n;
    },
  };
  const opener = new Opener(() => methods);
  const pool = new Pool<typeof methods>(opener.open, { workers: 3 });
  const items = numbers(200).map((n): [string, number] => [`${n % 7}`, n]);
  for (const ordered of [true, false]) {
    seen.length = 0;
    const key = ([key]: [string, number]) => key;
    const results = await Array.fromAsync(
      pool.map(items, "work", { key, ordered }),
    );
    if (ordered) assertEquals(results, numbers(200));
    assertEquals(results.toSorted((a, b) => a - b), numbers(200));
    for (const rest of numbers(7)) {
      const own = seen.filter((n) => n % 7 === rest);
      assertEquals(own, own.toSorted((a, b) => a - b));
    }
  }
  async function* later() {
    yield* items;
  }
  const bad = pool.map(later(), "work", {
    key: ([key, n]) => {
      if (n === 20) throw new RangeError("No key");
      return key;
    },
  });
  const results: number[] = [];
  await assertRejects(
    async () => {
      for await (const result of bad) results.push(result);
    },
    RangeError,
    "No key",
  );
  assertEquals(results, numbers(20));
  await assertRejects(
    () => pool.map(items, "work", { key: () => 7 as never }).next(),
    TypeError,
    'Cannot map as "key(item)" must be a string: current value is 7',
  );
  assertEquals(pool.stats.waiting, 0);
  await pool.close();
  await opener.gone();
}, NOTHING);

test(
  "Pool.map() with keys ends with its pool, its signal and its reader",
  async () => {
    for (const end of ["close", "abort", "signal", "return"] as const) {
      const gate = new Gate();
      const [pool] = poolOf({ wait: (_: number) => gate.opened });
      const stop = new AbortController();
      const map = pool.map(numbers(9), "wait", {
        key: () => "one",
        retry: 0,
        signal: stop.signal,
      });
      const next = map.next();
      await settle();
      assertEquals([pool.stats.inFlight, pool.stats.waiting], [1, 8]);
      const reason = new Error("Enough");
      if (end === "close") {
        const closing = pool.close({ waiting: "reject" });
        gate.open();
        assertEquals((await next).done, false);
        await assertRejects(() => map.next(), ClosedError);
        await closing;
      } else {
        if (end === "abort") pool.abort(reason);
        if (end === "signal") stop.abort(reason);
        if (end === "return") await map.return!();
        const [outcome] = await Promise.allSettled([next]);
        const isRejected = outcome.status === "rejected";
        assertEquals(isRejected && outcome.reason === reason, end !== "return");
      }
      assertEquals(pool.stats.waiting, 0);
      gate.open();
      await pool.close().catch(() => {});
    }
  },
  NOTHING,
);

test(
  "Pool.run() spreads keys over workers, which it starts for them",
  async () => {
    const opener = new Opener((worker) => ({ worker: () => worker }));
    const pool = new Pool<{ worker(): number }>(opener.open, { workers: 3 });
    const keys = numbers(30).map((n) => `key ${n}`);
    const owners = new Map<string, number>();
    for (const key of keys) {
      owners.set(key, await pool.run("worker", [], { key }));
      await settle();
    }
    for (const worker of numbers(3)) {
      const own = [...owners.values()].filter((owner) => owner === worker);
      assertGreaterOrEqual(own.length, 8);
    }
    // Each stays where it is, until its worker ends.
    for (const key of keys) {
      assertEquals(await pool.run("worker", [], { key }), owners.get(key));
    }
    opener.far[0]!.abort(new Error("The worker dies"));
    await settle();
    for (const key of keys) {
      const owner = await pool.run("worker", [], { key });
      if (owners.get(key) === 0) assert(owner > 0);
      else assertEquals(owner, owners.get(key));
    }
    await pool.close();
  },
  NOTHING,
);

test("Pool.run() shares new keys among free workers", async () => {
  const opener = new Opener((worker) => ({ worker: (_: number) => worker }));
  const pool = new Pool<{ worker(n: number): number }>(opener.open, {
    workers: 2,
  });
  // Both workers run, and the method is known as quick.
  await Promise.all(numbers(600).map((n) => pool.run("worker", [n])));
  const owners = await Promise.all(
    numbers(20).map((n) => pool.run("worker", [n], { key: `${n}` })),
  );
  const first = owners.filter((owner) => owner === 0).length;
  assertEquals(pool.stats.workers, 2);
  assert(first >= 8 && first <= 12, `${first} of 20`);
  await pool.close();
}, NOTHING);

const JOB = {
  method: "f",
  timeout: Infinity,
  retry: DEFAULT_RETRY,
  retryOn: undefined,
  priority: 0,
};

class KeyTask extends Task {
  override readonly origin = undefined;
  protected override onFulfilled(): void {}
  protected override onRejected(): void {}
}

test("Keys remembers the workers of a limited number of keys", () => {
  const turns = new Turns<TaskSource>();
  const sources = new Set<TaskSource>();
  const keys = new Keys({ reject() {} }, 1, turns, sources);
  const worker = {} as PoolWorker;
  for (const n of numbers(25_000)) {
    keys.push(`key ${n}`, new KeyTask(JOB, [], 0));
    const source = keys.first(worker)!;
    turns.delete(source);
    assertEquals(source.take(() => 1).length, 1);
    keys.onGiven(source as never, worker);
    assertEquals(keys.counts, { active: 1, idle: Math.min(n, 10_000) });
    keys.onFree(worker);
  }
  assertEquals([sources.size, [...turns].length], [0, 0]);
  keys.onRetired(worker);
  return Promise.resolve();
}, NOTHING);

test("Keys releases a key whose tasks were cancelled", () => {
  const turns = new Turns<TaskSource>();
  const sources = new Set<TaskSource>();
  const keys = new Keys({ reject() {} }, 1, turns, sources);
  const [first, second] = [new KeyTask(JOB, [], 0), new KeyTask(JOB, [], 0)];
  keys.push("key", first);
  keys.push("key", second);
  second.reject(new Error("No need"));
  second.place!.drop(second);
  assertEquals([keys.counts.active, keys.waiting], [1, 1]);
  first.reject(new Error("No need"));
  first.place!.drop(first);
  assertEquals(keys.counts.active, 0);
  assertEquals([sources.size, [...turns].length], [0, 0]);
  return Promise.resolve();
}, NOTHING);

test("Pool.run() goes by the priority of what is left of a key", async () => {
  const gate = new Gate();
  const order: string[] = [];
  const [pool] = poolOf({
    wait: () => gate.opened,
    note: (name: string) => void order.push(name),
  });
  const first = pool.run("wait", []);
  const stop = new AbortController();
  const { signal } = stop;
  const low = pool.run("note", ["low"], { key: "one", signal });
  const tasks = [
    pool.run("note", ["middle"], { priority: 5 }),
    pool.run("note", ["high"], { key: "one", priority: 10 }),
  ];
  stop.abort(new Error("No need"));
  await assertRejects(() => low, Error, "No need");
  gate.open();
  await Promise.all([first, ...tasks]);
  assertEquals(order, ["high", "middle"]);
  await pool.close();
}, NOTHING);

test(
  "Pool.run() runs a lost task with callbacks before others of its key",
  async () => {
    for (const later of [0, 1]) {
      const log: string[] = [];
      const opener: Opener = new Opener((worker) => ({
        async calls(back: (n: number) => Promise<number>) {
          if (worker === 0) {
            opener.far[0]!.abort(new Error("The worker dies"));
            await opener.near[0]!.closed;
          }
          log.push("calls");
          return await back(7);
        },
        note: () => void log.push("note"),
      }));
      const pool = new Pool(opener.open, { workers: 2 });
      await pool.warm();
      const back = (n: number) => n + 1;
      const task = pool.run("calls", [back], { key: "one" });
      const notes = numbers(later).map(() =>
        pool.run("note", [], { key: "one" })
      );
      assertEquals(await task, 8);
      await Promise.all(notes);
      assertEquals(
        log.slice(-1 - later),
        ["calls", "note"].slice(0, 1 + later),
      );
      const { waiting, inFlight, done, retried } = pool.stats;
      assertEquals([waiting, inFlight, done, retried], [0, 0, 1 + later, 1]);
      await pool.close();
    }
  },
  NOTHING,
);

test("Pool.map() sends many items with keys in one message", async () => {
  const opener = new Opener(() => ({ echo: (n: number) => n }));
  const pool = new Pool<{ echo(n: number): number }>(opener.open, {
    workers: 2,
  });
  // The method is known as quick then.
  await Promise.all(numbers(2_000).map((n) => pool.run("echo", [n])));
  const { sent } = opener;
  const items = numbers(4_000);
  const map = pool.map(items, "echo", { key: (n) => `${n % 5}` });
  assertEquals(await Array.fromAsync(map), items);
  assertLess(opener.sent - sent, items.length / 8);
  await pool.close();
}, NOTHING);

test(
  "Pool.map() leaves nothing in the queues of keys when it is stopped",
  async () => {
    const gate = new Gate();
    const opener = new Opener(() => ({
      wait: () => gate.opened,
      echo: (n: number) => n,
    }));
    const pool = new Pool(opener.open, { workers: 2 });
    const first = pool.run("wait", [], { key: "one" });
    const second = pool.run("echo", [2], { key: "one" });
    const map = pool.map(numbers(9), "echo", { key: () => "one" });
    const next = map.next();
    await settle();
    assertEquals(pool.stats.waiting, 10);
    await map.return!();
    assertEquals(pool.stats.waiting, 1);
    assert((await next).done);
    gate.open();
    await first;
    assertEquals(await second, 2);
    await pool.close();
  },
  NOTHING,
);

test("Pool.run() does not search through all keys for a task", async () => {
  const pool = new Pool(() => Promise.reject(new Error("No server")), {
    workers: 3,
  });
  const events = pool.events();
  const tasks = [pool.run("echo", [0], { key: "first" })];
  // After a failure each further task could lead to a start.
  await events.next();
  const iterator = Turns.prototype[Symbol.iterator];
  let searches = 0;
  Turns.prototype[Symbol.iterator] = function () {
    searches++;
    return iterator.call(this);
  };
  try {
    for (const n of numbers(100)) {
      tasks.push(pool.run("echo", [n], { key: `${n}` }));
    }
  } finally {
    Turns.prototype[Symbol.iterator] = iterator;
  }
  assertEquals(searches, 0);
  const outcomes = Promise.allSettled(tasks);
  await pool.abort();
  assertEquals((await outcomes).length, 101);
}, NOTHING);

test("Pool.run() keeps a key in one thread and in one process", async () => {
  for (const open of [() => openShm(ACTS), () => openPipe(ACTS)]) {
    const pool = new Pool<Methods>(open, { workers: 2 });
    const results = await Promise.all(
      numbers(400).map((n) => pool.run("square", [n], { key: `${n % 5}` })),
    );
    assertEquals(results, numbers(400).map((n) => n * n));
    await pool.close();
  }
}, { ...READ, run: true });

const ACTS = workerUrl("pool_acts");
