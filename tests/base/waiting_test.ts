// Copyright 2026 the Duplex authors. MIT license.

/**
 * The cost of waiting for any number of waiters, measured as the number of
 * times that a waiter is examined, not as time.
 *
 * @module
 */

import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import {
  Deque,
  RunningTimer,
  settlesWithin,
  Waiter,
  WaitQueue,
} from "../../_base/waiting.ts";
import { random, seed } from "../_seed.ts";

const COUNT = 20_000;

/** Counts how often a queue examines a waiter while `fn` runs. */
async function countLooks(fn: () => Promise<void> | void): Promise<number> {
  const { get } = Object.getOwnPropertyDescriptor(
    Waiter.prototype,
    "isCancelled",
  )!;
  let looks = 0;
  Object.defineProperty(Waiter.prototype, "isCancelled", {
    configurable: true,
    get() {
      looks++;
      return get!.call(this);
    },
  });
  try {
    await fn();
  } finally {
    Object.defineProperty(Waiter.prototype, "isCancelled", {
      configurable: true,
      get: get!,
    });
  }
  return looks;
}

/**
 * A queue with `COUNT` waiting promises, some of which have a signal of their
 * own.
 */
function filled(signals: (AbortSignal | undefined)[] = []) {
  const queue = new WaitQueue<number, number>();
  const waits = Array.from({ length: COUNT }, (_, index) => {
    const wait = queue.wait(index, signals[index]);
    wait.catch(() => {});
    return wait;
  });
  return { queue, waits };
}

Deno.test({
  name: "WaitQueue serves waits in order and examines each a few times",
  permissions: "none",
  async fn() {
    const { queue, waits } = filled();
    const looks = await countLooks(() => {
      for (let index = 0; index < COUNT; index++) {
        const { payload, resolve } = queue.shift();
        assertEquals(payload, index);
        resolve(payload);
      }
    });
    assertLessOrEqual(looks, COUNT);
    assertEquals((await Promise.all(waits)).at(-1), COUNT - 1);
  },
});

Deno.test({
  name: "WaitQueue examines a few waits for each cancelled one",
  permissions: "none",
  async fn() {
    const controllers = Array.from(
      { length: COUNT },
      () => new AbortController(),
    );
    const { queue, waits } = filled(controllers.map(({ signal }) => signal));
    const looks = await countLooks(async () => {
      // In reverse order, so that the cancelled wait is never the first one.
      for (const controller of controllers.slice(1).reverse()) {
        controller.abort("cancelled");
      }
      await Promise.allSettled(waits.slice(1));
    });
    assertLessOrEqual(looks, 3 * COUNT);
    assertEquals(queue.length, 1);
    assertEquals(queue.shift().payload, 0);
  },
});

Deno.test({
  name: "WaitQueue rejects all waits and examines each a few times",
  permissions: "none",
  async fn() {
    const { signal } = new AbortController();
    const { queue, waits } = filled(new Array(COUNT / 2).fill(signal));
    const looks = await countLooks(() => {
      assert(queue.rejectAll("over"));
    });
    assertLessOrEqual(looks, COUNT);
    assertEquals(queue.length, 0);
    for (const outcome of await Promise.allSettled(waits)) {
      assertEquals(outcome, { status: "rejected", reason: "over" });
    }
  },
});

Deno.test({
  name: "WaitQueue calls back when the last wait is cancelled",
  permissions: "none",
  fn() {
    let empty = 0;
    const queue = new WaitQueue<number, void>(() => empty++);
    const controller = new AbortController();
    for (const payload of [1, 2, 3]) {
      queue.wait(payload, controller.signal).catch(() => {});
    }
    queue.shift().resolve();
    controller.abort();
    assertEquals([queue.length, empty], [0, 1]);
  },
});

Deno.test({
  name: "WaitQueue and Deque agree with arrays after any operation",
  permissions: { env: ["DUPLEX_SEED"] },
  async fn() {
    const next = random(seed());
    const queue = new WaitQueue<number, void>();
    const deque = new Deque<number>();
    const waiting: { payload: number; controller: AbortController }[] = [];
    const items: number[] = [];
    for (let step = 0; step < 20_000; step++) {
      // Grows for a while, then shrinks.
      const isGrowing = Math.floor(step / 2_000) % 2 === 0;
      const choice = next();
      if (choice < (isGrowing ? 0.7 : 0.2)) {
        const controller = new AbortController();
        queue.wait(step, controller.signal).catch(() => {});
        waiting.push({ payload: step, controller });
        deque.push(step);
        items.push(step);
      } else if (choice < 0.85 && waiting.length > 0) {
        assertEquals(queue.shift().payload, waiting.shift()!.payload);
        assertEquals(deque.shift(), items.shift());
      } else if (waiting.length > 0) {
        const index = Math.floor(next() * waiting.length);
        for (const { controller } of waiting.splice(index, 1)) {
          controller.abort();
        }
        const [dropped] = items.splice(index, 1);
        deque.retain((item) => item !== dropped);
      }
      assertEquals(queue.length, waiting.length);
      assertEquals(deque.length, items.length);
    }
    assertEquals(deque.toArray(), items);
    queue.rejectAll("end");
    await Promise.resolve();
  },
});

/** Stops this thread, and with it its timers. */
function stop(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** Milliseconds by which a timer must be late: more than `MAX_DELAY`. */
const STOP = 300;

Deno.test({
  name: "RunningTimer does not count the time of a stop",
  permissions: "none",
  async fn() {
    const order: string[] = [];
    const acted = Promise.withResolvers<void>();
    const timer = new RunningTimer(20, () => {
      order.push("timer");
      acted.resolve();
    });
    const cleared = new RunningTimer(20, () => order.push("cleared"));
    stop(20 + STOP);
    assertEquals(timer.left, 20);
    setTimeout(() => {
      order.push("turn");
      cleared.clear();
    });
    await acted.promise;
    assertEquals(order, ["turn", "timer"]);
  },
});

Deno.test({
  name: "RunningTimer acts in a program that is always busy",
  permissions: "none",
  async fn() {
    let turns = 0;
    const acted = Promise.withResolvers<void>();
    new RunningTimer(1, () => acted.resolve());
    const busy = setInterval(() => {
      turns++;
      stop(STOP);
    });
    await acted.promise;
    clearInterval(busy);
    assertLessOrEqual(turns, 3);
  },
});

Deno.test({
  name: "settlesWithin() sees what happened during a stop",
  permissions: "none",
  async fn() {
    const settled = Promise.withResolvers<void>();
    const inTime = settlesWithin(settled.promise, 20);
    stop(20 + STOP);
    setTimeout(() => settled.resolve());
    assertEquals(await inTime, true);
  },
});
