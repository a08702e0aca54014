// Copyright 2026 the Duplex authors. MIT license.

/**
 * Many waits at one lock: each keeps its timeout, its turn and its
 * notification; none leaks; and the cost of a call does not grow with their
 * number.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertLess,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { FIELDS, Memory } from "../../_sync/memory.ts";
import { NONE, Slots } from "../../_sync/slots.ts";
import { releaseId, retainId } from "../../_sync/liveness.ts";
import {
  AtomicCounter,
  Barrier,
  Condition,
  Mutex,
  ResetEvent,
  Semaphore,
  type WaitOptions,
} from "../../sync.ts";
import {
  Actor,
  sleepersOf,
  untilWaiting,
  waiting,
  workerTest,
} from "../workers/_sync_acts.ts";

/** More waits than a lock has slots. */
const MANY = 1000;

function test(name: string, fn: (t: Deno.TestContext) => Promise<void>): void {
  Deno.test({ name, permissions: "none", fn });
}

function times<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index));
}

/** Tasks that wait at a condition, and the notified ones. */
class Waiters {
  readonly mutex = new Mutex();
  readonly condition = new Condition();
  readonly notified: number[] = [];
  readonly tasks: Promise<void>[] = [];

  /** Starts tasks, and settles when all of them wait. */
  async add(count: number): Promise<void> {
    const { mutex, condition, notified, tasks } = this;
    const { length } = tasks;
    for (let index = length; index < length + count; index++) {
      tasks.push((async () => {
        using guard = await mutex.lock({ queue: true });
        await condition.wait(guard);
        notified.push(index);
      })());
    }
    await untilWaiting(condition.buffer, length + count);
  }
}

test("Condition.notify() notifies the given number of 1000 waits, in order", async () => {
  const { mutex, condition, notified, tasks, add } = bind(new Waiters());
  await add(MANY);
  assertEquals(condition.notify(3), 3);
  await Promise.all(tasks.slice(0, 3));
  {
    // No other wait ends, and a later one also waits.
    using guard = await mutex.lock({ queue: true });
    await assertTimeout(() => condition.wait(guard, { timeout: 30 }));
    assertThrows(() => condition.waitSync(guard, { timeout: 0 }), DOMException);
    assertThrows(
      () => condition.waitSync(guard, { timeout: 30 }),
      DOMException,
    );
  }
  assertEquals(notified, [0, 1, 2]);
  assertEquals(condition.notifyAll(), MANY - 3);
  await Promise.all(tasks);
  assertEquals(notified, times(MANY, (index) => index));
  assertEquals(condition.notifyAll(), 0);
  assertEquals(waiting(condition.buffer), 0);
});

/** The waiters, with a method that can be called without them. */
function bind(waiters: Waiters) {
  const { mutex, condition, notified, tasks } = waiters;
  return {
    mutex,
    condition,
    notified,
    tasks,
    add: (count: number) => waiters.add(count),
  };
}

async function assertTimeout(wait: () => Promise<unknown>): Promise<void> {
  const error = await assertRejects(wait);
  assertInstanceOf(error, DOMException);
  assertEquals(error.name, "TimeoutError");
}

/** A wait of each kind, and an operation that ends all waits with success. */
interface Waiting {
  buffer: SharedArrayBuffer;
  wait(options?: WaitOptions): Promise<unknown>;
  grantAll(): void;
}

const WAITS: [string, (count: number) => Waiting][] = [
  ["Semaphore", (count) => {
    const semaphore = new Semaphore({ permits: 0 });
    return {
      buffer: semaphore.buffer,
      wait: (o) => semaphore.acquire(o),
      grantAll: () => semaphore.release(count),
    };
  }],
  ["ResetEvent", () => {
    const event = new ResetEvent();
    return {
      buffer: event.buffer,
      wait: (o) => event.wait(o),
      // An immediate reset does not affect the waits that were pending.
      grantAll: () => {
        event.set();
        event.reset();
      },
    };
  }],
  ["Barrier", (count) => {
    const barrier = new Barrier({ parties: count + 1, threads: 1 });
    return {
      buffer: barrier.buffer,
      wait: (o) => barrier.wait(o),
      grantAll: () => assertEquals(barrier.waitSync(), count),
    };
  }],
  ["Mutex", () => {
    const mutex = new Mutex();
    const guard = mutex.lockSync();
    return {
      buffer: mutex.buffer,
      wait: async (o) => {
        using _guard = await mutex.lock({ ...o, queue: true });
      },
      grantAll: () => guard.unlock(),
    };
  }],
  ["Condition", () => {
    const mutex = new Mutex();
    const condition = new Condition();
    return {
      buffer: condition.buffer,
      wait: async (o) => {
        using guard = await mutex.lock({ queue: true });
        await condition.wait(guard, o);
      },
      grantAll: () => condition.notifyAll(),
    };
  }],
  ["AtomicCounter", () => {
    const counter = new AtomicCounter();
    return {
      buffer: counter.buffer,
      wait: (o) => counter.until((value) => value > 0, o),
      grantAll: () => counter.add(),
    };
  }],
];

test("A lock serves 1000 waits of a thread in order", async (t) => {
  for (const [kind, make] of WAITS) {
    await t.step(kind, async () => {
      const { buffer, wait, grantAll } = make(MANY);
      const served: number[] = [];
      const waits = times(MANY, async (index) => {
        const number = await wait();
        if (kind === "Barrier") assertEquals(number, index);
        served.push(index);
      });
      if (kind !== "AtomicCounter") await untilWaiting(buffer, MANY);
      grantAll();
      await Promise.all(waits);
      // A barrier that opens ends the waits of all slots at once.
      assertEquals(served, times(MANY, (index) => index));
      assertEquals(waiting(buffer), 0);
      assertEquals(sleepersOf(buffer), 0);
    });
  }
});

test("A cancelled wait leaves no slot, pending wait of Atomics or waiter", async (t) => {
  for (const [kind, make] of WAITS) {
    // All waits at a barrier end with the first.
    if (kind === "Barrier") continue;
    await t.step(kind, async () => {
      const { buffer, wait, grantAll } = make(0);
      for (let round = 0; round < 10; round++) {
        const controller = new AbortController();
        const { signal } = controller;
        const waits = times(
          200,
          (index) => wait(index % 2 === 0 ? { signal } : { timeout: 1 }),
        );
        const ends = Promise.allSettled(waits);
        controller.abort();
        for (const { status } of await ends) assertEquals(status, "rejected");
      }
      assertEquals(waiting(buffer), 0);
      // All tasks that wait for a counter share one wait, which is reused.
      assertLess(sleepersOf(buffer), kind === "AtomicCounter" ? 2 : 1);
      if (kind === "Semaphore") return;
      grantAll();
    });
  }
});

test("AtomicCounter.until() ends its wait of Atomics after the last waiter", async () => {
  const timers: Promise<unknown>[] = [];
  const { waitAsync } = Atomics;
  Object.assign(Atomics, {
    waitAsync: (
      words: Int32Array,
      word: number,
      value: number,
      timeout?: number,
    ) => {
      // Waits with a timeout are timers: they are faster here.
      const limit = timeout === undefined ? undefined : 1;
      const asleep = waitAsync(words, word, value, limit);
      if (limit !== undefined) timers.push(asleep.value as Promise<unknown>);
      return asleep;
    },
  });
  try {
    const signal = () => AbortSignal.abort();
    const counters = times(20, () => new AtomicCounter());
    for (const counter of counters) {
      await assertRejects(() =>
        counter.until(() => false, { signal: signal() })
      );
      await assertTimeout(() => counter.until(() => false, { timeout: 0 }));
    }
    // They do not keep the program running.
    let isOver = false;
    Promise.all(timers).then(() => isOver = true);
    while (!isOver) await new Promise((resolve) => setTimeout(resolve, 1));
    assertEquals(timers.length, counters.length);
    for (const { buffer } of counters) assertEquals(sleepersOf(buffer), 0);
  } finally {
    Object.assign(Atomics, { waitAsync });
  }
});

test("AtomicCounter.until() keeps its timeout while the value changes", async () => {
  // A change between two checks: the wait of Atomics ends before it begins.
  const counter = new AtomicCounter();
  let looks = 0;
  const never = () => {
    // Like another thread, but forever.
    counter.add();
    looks++;
    return false;
  };
  await assertTimeout(() => counter.until(never, { timeout: 20 }));
  assert(looks > 0);
});

test("Waits of a thread share one timer and one listener", async (t) => {
  for (const [kind, make] of WAITS) {
    // Its waits first take turns at a mutex.
    if (kind === "Condition") continue;
    await t.step(kind, async () => {
      const { wait, grantAll } = make(MANY);
      const { signal } = new AbortController();
      using listeners = new Calls(signal, "addEventListener");
      using timeouts = new Calls(globalThis, "setTimeout");
      using intervals = new Calls(globalThis, "setInterval");
      const waits = times(MANY, () => wait({ signal }));
      assertEquals(listeners.count, 1);
      assertEquals(timeouts.count, 0);
      assertEquals(intervals.count, 1);
      grantAll();
      await Promise.all(waits);
    });
  }
});

/** Counts the calls of a function, which works as before. */
class Calls<Name extends PropertyKey> implements Disposable {
  readonly #object: Record<Name, unknown>;
  readonly #name: Name;
  readonly #descriptor: PropertyDescriptor | undefined;
  count = 0;

  constructor(object: object, name: Name) {
    this.#object = object as Record<Name, unknown>;
    this.#name = name;
    const was = this.#object[name] as (...args: unknown[]) => unknown;
    this.#descriptor = Object.getOwnPropertyDescriptor(object, name);
    const onCall = () => this.count++;
    Object.defineProperty(object, name, {
      configurable: true,
      writable: true,
      value(this: unknown, ...args: unknown[]) {
        onCall();
        return was.apply(this, args);
      },
    });
  }

  [Symbol.dispose](): void {
    delete this.#object[this.#name];
    if (this.#descriptor === undefined) return;
    Object.defineProperty(this.#object, this.#name, this.#descriptor);
  }
}

const { locks } = navigator as unknown as { locks: object };

workerTest(
  "A check looks up each thread once for any number of locks with waits",
  async () => {
    const count = 50;
    const data = new SharedArrayBuffer(8);
    const mutexes = times(count, () => new Mutex());
    const buffers = mutexes.map(({ buffer }) => buffer);
    using _holder = await holderOf(buffers, data);
    const ticks: (() => void)[] = [];
    const { setInterval } = globalThis;
    const waits: Promise<unknown>[] = [];
    const controller = new AbortController();
    const { signal } = controller;
    try {
      // The timers call it later; here it is called directly.
      globalThis.setInterval = ((run: () => void, ms: number) => {
        ticks.push(run);
        return setInterval(run, ms);
      }) as typeof setInterval;
      for (const mutex of mutexes) {
        for (let index = 0; index < 20; index++) {
          waits.push(mutex.lock({ queue: true, signal }));
        }
      }
    } finally {
      globalThis.setInterval = setInterval;
    }
    const ends = Promise.allSettled(waits);
    {
      using requests = new Calls(locks, "request");
      for (const tick of ticks) tick();
      assertEquals(requests.count, 1);
    }
    controller.abort();
    for (const { status } of await ends) assertEquals(status, "rejected");
  },
);

/** A worker that holds mutexes. */
async function holderOf(
  buffers: SharedArrayBuffer[],
  data: SharedArrayBuffer,
): Promise<Actor> {
  const actor = await Actor.ready();
  for (const buffer of buffers) {
    actor.play({ name: "hold", buffer, data });
    assertEquals(await actor.nextMessage(), "held");
    await actor.nextMessage();
  }
  return actor;
}

/** An array that counts its reads, writes and atomic operations. */
function counted(memory: Memory): { memory: Memory; steps: () => number } {
  let count = 0;
  const words = new Proxy(memory.words, {
    get: (target, name) => {
      count++;
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
    set: (target, name, value) => {
      count++;
      return Reflect.set(target, name, value, target);
    },
  });
  const real = new Map([[words, memory.words]]);
  for (const name of ["add", "sub", "store", "load", "notify"] as const) {
    const was = Atomics[name] as (...args: unknown[]) => number;
    Object.defineProperty(Atomics, name, {
      configurable: true,
      writable: true,
      value: (array: typeof words, ...args: unknown[]) => {
        const target = real.get(array);
        if (target !== undefined) count++;
        return was(target ?? array, ...args);
      },
    });
    undo.push(() => {
      Object.defineProperty(Atomics, name, {
        configurable: true,
        writable: true,
        value: was,
      });
    });
  }
  return { memory: new Memory(words), steps: () => count };
}

const undo: (() => void)[] = [];

test("Slots needs the same number of steps for any number of waits", async () => {
  /** The steps of each operation with a given number of waits in the queue. */
  function stepsWith(waits: number): Record<string, number> {
    const thread = retainId();
    try {
      const { memory, steps } = counted(
        Memory.create("Semaphore", { fields: [0], capacity: 5000 }),
      );
      const slots = new Slots(memory, {
        attempt: () => 0,
        revoke: () => {},
      });
      for (let wait = 0; wait < waits; wait++) slots.append(thread, 0, NONE);
      // The sweep that is due now; the next one is due later.
      slots.sweep();
      memory.words[FIELDS - 1] = Date.now() + 1_000_000 | 0;
      const counts: Record<string, number> = {};
      const count = <T>(name: string, run: () => T): T => {
        const before = steps();
        const result = run();
        counts[name] = steps() - before;
        return result;
      };
      const last = count("append", () => slots.append(thread, 0, NONE));
      count("addWait", () => slots.addWait(last));
      const first = count("first", () => slots.first());
      count("grant", () => slots.grant(first, 0));
      count("takeBack", () => slots.takeBack(first));
      slots.grant(first, 0);
      count("settle", () => slots.settle(first, 1));
      count("removeWaits", () => slots.removeWaits(last, 2));
      count("runDeferred", () => slots.runDeferred());
      return counts;
    } finally {
      releaseId();
      for (const restore of undo.splice(0)) restore();
    }
  }
  assertEquals(stepsWith(4000), stepsWith(4));
  await Promise.resolve();
});

workerTest("A lock has slots for the given number of threads", async () => {
  const kinds = [
    ["mutex", (threads: number) => {
      const mutex = new Mutex({ threads });
      const guard = mutex.lockSync();
      return {
        buffer: mutex.buffer,
        wait: async () => {
          using _guard = await mutex.lock({ queue: true });
        },
        end: () => guard.unlock(),
      };
    }],
    ["semaphore", (threads: number) => {
      const semaphore = new Semaphore({ permits: 0, threads });
      return {
        buffer: semaphore.buffer,
        wait: async () => void await semaphore.acquire(),
        end: () => semaphore.release(MANY + threads),
      };
    }],
    ["event", (threads: number) => {
      const event = new ResetEvent({ automatic: false, threads });
      return {
        buffer: event.buffer,
        wait: () => event.wait(),
        end: () => event.set(),
      };
    }],
  ] as const;
  for (const [what, make] of kinds) {
    const { buffer, wait, end } = make(2);
    const waits = times(MANY, wait);
    await untilWaiting(buffer, MANY);
    const act = { name: "wait", what, buffer } as const;
    using first = await Actor.start({ ...act, sync: true });
    await untilWaiting(buffer, MANY + 1);
    using second = await Actor.start(act);
    await untilWaiting(buffer, MANY + 2);
    for (const sync of [true, false]) {
      using third = await Actor.start({ ...act, sync });
      assertEquals(await third.nextMessage(), { failed: "RangeError" });
    }
    end();
    await Promise.all(waits);
    for (const actor of [first, second]) {
      assert("result" in (await actor.nextMessage() as object));
    }
  }
});

workerTest(
  "Condition.wait() keeps the mutex if the queue is full",
  async () => {
    const mutex = new Mutex();
    const condition = new Condition({ threads: 1 });
    const waiters = times(MANY, async () => {
      using guard = await mutex.lock({ queue: true });
      await condition.wait(guard);
    });
    const { buffer } = condition;
    await untilWaiting(buffer, MANY);
    const data = new SharedArrayBuffer(4);
    const act = {
      name: "wait",
      what: "condition",
      buffer,
      mutex: mutex.buffer,
      data,
    } as const;
    using first = await Actor.start(act);
    await untilWaiting(buffer, MANY + 1);
    for (const sync of [true, false]) {
      using second = await Actor.start({ ...act, sync });
      assertEquals(await second.nextMessage(), { failed: "RangeError" });
      // It held the mutex, and has unlocked it.
      assertEquals(waiting(buffer), MANY + 1);
      mutex.lockSync({ timeout: 1000 }).unlock();
    }
    new Int32Array(data)[0] = 1;
    assertEquals(condition.notifyAll(), MANY + 1);
    await Promise.all(waiters);
    assertEquals(await first.nextMessage(), { result: 1 });
  },
);
