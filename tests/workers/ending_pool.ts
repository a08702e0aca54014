// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program that ends pools and tasks in the middle of their tasks; the workers, which
 * this file is as well, have a timer that notifies. It prints the number of pools, and
 * nothing else unless an error is not handled.
 *
 * @module
 */

import { ClosedError } from "../../duplex.ts";
import { parent } from "../../parent.ts";
import { openPipe } from "../../pipe.ts";
import { Pool } from "../../pool.ts";
import { openQueue } from "../../queue.ts";
import { expose, notifier } from "../../rpc.ts";
import { openShm } from "../../shm.ts";
import { task } from "../../task.ts";

const methods = {
  double: (n: number) => 2 * n,
  async callBack(callback: (n: number) => Promise<void>) {
    for (let n = 0; n < 20; n++) await callback(n);
  },
};

type Methods = typeof methods;
type Ending = Pick<Pool<Methods>, "close" | "abort"> & AsyncDisposable;

/** The ways to end a pool. */
const WAYS: Record<string, (pool: Ending) => PromiseLike<unknown>> = {
  close: (pool) => pool.close(),
  reject: (pool) => pool.close({ waiting: "reject" }),
  using: (pool) => pool[Symbol.asyncDispose](),
  abort: (pool) => pool.abort(new RangeError("Enough")),
};

/** The number of results and callbacks at which a pool is ended. */
const MOMENT = 15;

/** Ends a pool at an event while tasks, maps and callbacks run. */
async function end(
  pool: Ending,
  way: string,
  acts: ((event: () => void) => Promise<unknown>)[],
): Promise<void> {
  const reached = Promise.withResolvers<void>();
  let events = 0;
  const event = () => {
    if (++events >= MOMENT) reached.resolve();
  };
  const results = Promise.allSettled(acts.map((act) => act(event)));
  await reached.promise;
  await WAYS[way]!(pool);
  for (const result of await results) {
    if (result.status === "fulfilled") continue;
    const { reason } = result;
    const isDocumented = reason instanceof ClosedError ||
      way === "abort" && reason instanceof RangeError;
    if (!isDocumented) throw reason;
  }
}

async function* numbers(): AsyncGenerator<number> {
  for (let n = 0; n < 200; n++) yield n;
}

async function endPool(
  open: typeof openPipe | typeof openQueue | typeof openShm,
  way: string,
): Promise<void> {
  const pool = new Pool<Methods>(() => open(import.meta.url), { workers: 1 });
  await end(pool, way, [
    (event) => pool.run("callBack", [() => Promise.resolve(event())]),
    async (event) => {
      for await (const _ of pool.map(numbers(), "double")) event();
    },
    async (event) => {
      for await (const _ of pool.mapSettled(numbers(), "double")) event();
    },
  ]);
}

async function endTask(way: string, isolate: "thread" | "process") {
  const double = task((n: number) => 2 * n, { workers: 1, isolate });
  await end(double as unknown as Ending, way, [
    async (event) => {
      for await (const _ of double.map(numbers())) event();
    },
    async (event) => {
      for (let n = 0; n < 50; n++) {
        await double.run([n]);
        event();
      }
    },
  ]);
}

async function endAll(): Promise<void> {
  const runs: Promise<void>[] = [];
  for (const way of Object.keys(WAYS)) {
    for (const open of [openPipe, openQueue, openShm]) {
      runs.push(endPool(open, way));
    }
    runs.push(endTask(way, "thread"), endTask(way, "process"));
    await Promise.all(runs);
  }
  console.log(runs.length);
}

async function work(): Promise<void> {
  const main = await parent();
  const events = notifier<{ tick(): void }>(main);
  setInterval(() => events.tick(), 1);
  expose(methods, main);
}

// A thread has the arguments of the program.
const isThread = "WorkerGlobalScope" in globalThis;
if (Deno.args[0] === "main" && !isThread) await endAll();
else await work();
