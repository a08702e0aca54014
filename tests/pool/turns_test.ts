// Copyright 2026 the Duplex authors. MIT license.

/**
 * What waits in a pool costs nothing while others work: steps are counted, and
 * what is no longer needed is not kept.
 *
 * @module
 */

import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { EventLog } from "../../_pool/events.ts";
import { Scheduler } from "../../_pool/scheduler.ts";
import { DEFAULT_RETRY } from "../../_pool/retry.ts";
import { RunQueue } from "../../_pool/run.ts";
import type { Task, TaskSource } from "../../_pool/task.ts";
import { Turns } from "../../_pool/turns.ts";
import {
  Gate,
  listenersOf,
  numbers,
  Opener,
  poolOf,
  settle,
} from "./_pools.ts";
import { random, seed } from "../_seed.ts";
import { test as anyTest } from "../workers/_processes.ts";

/** A test that may do nothing but draw lots. */
function test(name: string, fn: () => Promise<void>): void {
  anyTest(name, fn, { env: ["DUPLEX_SEED"] });
}

const JOB = {
  method: "echo",
  timeout: Infinity,
  retry: { ...DEFAULT_RETRY, times: 0 },
  retryOn: undefined,
  priority: 0,
};
const LIMITS = { signal: undefined, waitTimeout: Infinity, key: undefined };

/** A source without tasks that counts how often it is asked for something. */
class IdleSource implements TaskSource {
  finish(): void {}

  turn: TaskSource["turn"];
  readonly priority: number;
  steps = 0;

  constructor(priority = 0) {
    this.priority = priority;
  }

  get waiting(): number {
    this.steps++;
    return 0;
  }
  prepare(): number {
    this.steps++;
    return 0;
  }
  take(): Task[] {
    this.steps++;
    return [];
  }
  onReport(): void {
    this.steps++;
  }
  fail(): void {}
}

test("Scheduler does not ask sources that have no tasks", async () => {
  const opener = new Opener(() => ({ echo: (n: number) => n }));
  const core = new Scheduler({
    open: opener.open,
    workers: 2,
    maxTasks: 10,
    maxMemory: Infinity,
    minWorkers: 0,
    idleTimeout: Infinity,
    startTimeout: 30_000,
    init: undefined,
    events: new EventLog(),
  });
  const idle = numbers(100).map(() => new IdleSource());
  for (const source of idle) core.begin(source);
  const queue = new RunQueue(core);
  for (const n of numbers(200)) {
    assertEquals(await queue.run(JOB, [n], LIMITS), n);
  }
  for (const { steps } of idle) assertLessOrEqual(steps, 2);
  await core.close();
  await opener.gone();
});

test("RunQueue keeps no queue of a priority without tasks", async () => {
  const opener = new Opener(() => ({ echo: (n: number) => n }));
  const core = new Scheduler({
    open: opener.open,
    workers: 1,
    maxTasks: Infinity,
    maxMemory: Infinity,
    minWorkers: 0,
    idleTimeout: Infinity,
    startTimeout: 30_000,
    init: undefined,
    events: new EventLog(),
  });
  const queue = new RunQueue(core);
  const stop = new AbortController();
  const runs = numbers(200).map((priority) => {
    const job = { ...JOB, priority };
    const signal = priority % 2 === 0 ? stop.signal : undefined;
    return queue.run(job, [priority], { ...LIMITS, signal });
  });
  assertEquals(queue.priorities, 200);
  const done = Promise.allSettled(runs);
  stop.abort();
  await done;
  await settle();
  assertLessOrEqual(queue.priorities, 1);
  await core.close();
  await opener.gone();
});

test("Turns gives sources by priority and in the order of their turns", () => {
  const next = random(seed());
  const sources = numbers(40).map((n) => new IdleSource(n % 3));
  const turns = new Turns<IdleSource>();
  let expected: IdleSource[] = [];
  const check = () => {
    const first = Math.max(...expected.map(({ priority }) => priority));
    const found = expected.find(({ priority }) => priority === first);
    assert(turns.first === found);
  };
  for (let step = 0; step < 4000; step++) {
    const source = sources[Math.floor(next() * sources.length)]!;
    const isThere = expected.includes(source);
    if (next() < 0.5) {
      turns.add(source);
      if (!isThere) expected.push(source);
    } else {
      assertEquals(turns.delete(source), isThere);
      expected = expected.filter((other) => other !== source);
    }
    check();
    assertEquals([...turns].length, expected.length);
  }
  while (expected.length > 0) {
    const { first } = turns;
    assert(turns.delete(first!));
    expected = expected.filter((other) => other !== first);
    check();
  }
  assertEquals([...turns], []);
  return Promise.resolve();
});

test("Pool.map() takes turns with other maps and tasks", async () => {
  const order: string[] = [];
  const methods = { note: (name: string) => void order.push(name) };
  const [pool] = poolOf(methods);
  const map = async (name: string) => {
    const items = numbers(20).map(() => name);
    await Array.fromAsync(pool.map(items, "note", { retry: 0 }));
  };
  await Promise.all([
    map("a"),
    map("b"),
    map("c"),
    ...numbers(20).map(() => pool.run("note", ["d"], { retry: 0 })),
  ]);
  for (let turn = 4; turn < 40; turn += 4) {
    assertEquals(order.slice(turn, turn + 4).toSorted(), ["a", "b", "c", "d"]);
  }
  await pool.close();
});

test("Pool.map() of one signal listens to it once", async () => {
  const [pool, opener] = poolOf({ echo: (n: number) => n });
  const controller = new AbortController();
  const { signal } = controller;
  const listeners = listenersOf(signal);
  const options = { signal, readAhead: 2 };
  const maps = numbers(50).map(() => pool.map(numbers(9), "echo", options));
  for (const map of maps) await map.next();
  assertEquals(listeners.count, 1);
  assertEquals((await Array.fromAsync(maps.pop()!)).length, 8);
  assertEquals(listeners.count, 1);
  controller.abort(new RangeError("Enough"));
  for (const map of maps) {
    const [outcome] = await Promise.allSettled([map.next()]);
    assert(outcome.status === "rejected");
    assert(outcome.reason === signal.reason);
  }
  await pool.close();
  await opener.gone();
});

test("Pool.run() keeps no task that was taken back", async () => {
  const gate = new Gate();
  const [pool] = poolOf({ wait: (_value?: object) => gate.opened });
  // The first is at work, and the second waits in front of the others.
  const first = [pool.run("wait", []), pool.run("wait", [])];
  await settle();
  const { signal, abort } = abortable();
  const references = numbers(100).map((n) => {
    const value = { n };
    pool.run("wait", [value], { signal }).catch(() => {});
    return new WeakRef(value);
  });
  abort();
  await settle();
  await collectGarbage();
  const kept = references.filter((reference) => reference.deref());
  assertLessOrEqual(kept.length, 64);
  gate.open();
  await Promise.all(first);
  await pool.close();
});

function abortable(): { signal: AbortSignal; abort: () => void } {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}

/** Has the engine free what nothing refers to. */
async function collectGarbage(): Promise<void> {
  const { setFlagsFromString } = await import("node:v8");
  const { runInNewContext } = await import("node:vm");
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  await settle();
  collect();
}
