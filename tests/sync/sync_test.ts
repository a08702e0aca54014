// Copyright 2026 the Duplex authors. MIT license.

/**
 * The behaviour of `sync.ts` within one thread: options, errors, order,
 * timeouts, and waits that are cancelled when they are granted.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import {
  AtomicCounter,
  Barrier,
  BrokenBarrierError,
  Condition,
  Mutex,
  ResetEvent,
  Semaphore,
  type WaitOptions,
} from "../../sync.ts";
import { random, seed } from "../_seed.ts";
import { waiting } from "../workers/_sync_acts.ts";

function test(name: string, fn: (t: Deno.TestContext) => Promise<void>): void {
  Deno.test({ name, permissions: "none", fn });
}

type Attach = new (buffer: SharedArrayBuffer) => { buffer: SharedArrayBuffer };

/** Each class, and the memory of a new instance. */
const KINDS: [Attach, () => { buffer: SharedArrayBuffer }][] = [
  [Mutex, () => new Mutex()],
  [Semaphore, () => new Semaphore({ permits: 0 })],
  [Condition, () => new Condition()],
  [Barrier, () => new Barrier({ parties: 2 })],
  [ResetEvent, () => new ResetEvent()],
  [AtomicCounter, () => new AtomicCounter()],
];

test("A lock attaches only to a buffer of its kind", async (t) => {
  for (const [Kind, make] of KINDS) {
    await t.step(Kind.name, () => {
      const { buffer } = make();
      assertStrictEquals(new Kind(buffer).buffer, buffer);
      for (const [Other, makeOther] of KINDS) {
        if (Other === Kind) continue;
        assertThrows(
          () => new Kind(makeOther().buffer),
          TypeError,
          `Cannot attach to the ${Kind.name} as "buffer" must be the "buffer" of a ${Kind.name}: it contains the lock ${Other.name}`,
        );
      }
      for (const length of [0, 3, 64, 65, 4096]) {
        assertThrows(
          () => new Kind(new SharedArrayBuffer(length)),
          TypeError,
          "it contains no lock",
        );
      }
      for (
        const wrong of [null, 1, "buffer", new ArrayBuffer(4096), buffer.slice]
      ) {
        assertThrows(
          () => new Kind(wrong as unknown as SharedArrayBuffer),
          TypeError,
          `Cannot attach to the ${Kind.name} as "buffer" must be a SharedArrayBuffer: current value is `,
        );
      }
    });
  }
});

/** A wait of each kind that never succeeds, in both forms, and its cleanup. */
const WAITS: [
  string,
  () => [
    (o: WaitOptions) => Promise<unknown>,
    (o: WaitOptions) => unknown,
    (() => void)?,
  ],
][] = [
  ["Semaphore", () => {
    const semaphore = new Semaphore({ permits: 0 });
    return [(o) => semaphore.acquire(o), (o) => semaphore.acquireSync(o)];
  }],
  ["Condition", () => {
    const condition = new Condition();
    const guard = new Mutex().lockSync();
    return [
      (o) => condition.wait(guard, o),
      (o) => condition.waitSync(guard, o),
      () => guard[Symbol.dispose](),
    ];
  }],
  ["Barrier", () => {
    const barrier = new Barrier({ parties: 2 });
    const reset = (): Barrier => (barrier.reset(), barrier);
    return [(o) => reset().wait(o), (o) => reset().waitSync(o)];
  }],
  ["ResetEvent", () => {
    const event = new ResetEvent();
    return [(o) => event.wait(o), (o) => event.waitSync(o)];
  }],
  ["AtomicCounter", () => {
    const counter = new AtomicCounter();
    const never = () => false;
    return [(o) => counter.until(never, o), (o) => counter.untilSync(never, o)];
  }],
  ["Mutex", () => {
    const mutex = new Mutex();
    let guard: Disposable | undefined = mutex.lockSync();
    return [(o) => mutex.lock({ ...o, queue: true }), (o) => {
      // A thread cannot block for itself, so only the checks of the timeouts
      // are tested.
      guard?.[Symbol.dispose]();
      guard = undefined;
      using _guard = mutex.lockSync(o);
      throw new DOMException("Cannot: 0 ms have passed", "TimeoutError");
    }];
  }],
];

test("A wait ends at its timeout or abort", async (t) => {
  for (const [name, make] of WAITS) {
    await t.step(name, async () => {
      const [wait, waitSync, end] = make();
      for (const timeout of [0, 5]) {
        const error = await assertRejects(
          () => wait({ timeout }),
          DOMException,
        );
        assertEquals(error.name, "TimeoutError");
      }
      const reason = new Error("Enough");
      const aborted = { signal: AbortSignal.abort(reason) };
      assertStrictEquals(await wait(aborted).catch((error) => error), reason);
      const controller = new AbortController();
      const pending = wait({ signal: controller.signal, timeout: 60_000 });
      controller.abort(reason);
      assertStrictEquals(await pending.catch((error) => error), reason);
      for (const timeout of [-1, NaN]) {
        await assertRejects(() => wait({ timeout }), RangeError, `${timeout}`);
        assertThrows(() => waitSync({ timeout }), RangeError, `${timeout}`);
      }
      const text = { timeout: "1" as unknown as number };
      await assertRejects(() => wait(text), TypeError, 'value is "1"');
      assertThrows(() => waitSync(text), TypeError, 'value is "1"');
      for (const timeout of [0, 5]) {
        const error = assertThrows(() => waitSync({ timeout }), DOMException);
        assertEquals(error.name, "TimeoutError");
      }
      end?.();
    });
  }
});

function assertState(error: unknown, text: string): void {
  assertInstanceOf(error, DOMException);
  assertEquals(error.name, "InvalidStateError");
  assert(error.message.includes(text), error.message);
}

test("Mutex.lock() rejects if its thread holds it, unlock() throws unless it does", async () => {
  const mutex = new Mutex();
  const other = new Mutex(mutex.buffer);
  assertState(assertThrows(() => mutex.unlock()), "thread does not hold it");
  const guard = await mutex.lock();
  for (const { lock, lockSync, tryLock } of [mutex, other].map(bound)) {
    const text = "this thread holds it already";
    assertState(await assertRejects(() => lock()), text);
    assertState(assertThrows(() => lockSync()), text);
    assertState(assertThrows(() => tryLock()), text);
  }
  const waits = mutex.lock({ queue: true });
  other.unlock();
  assertState(assertThrows(() => guard.unlock()), "guard does not hold it");
  assertState(assertThrows(() => mutex.unlock()), "thread does not hold it");
  // One of its tasks has been granted the mutex, and has not continued yet.
  const text = "a task of this thread waits for it already";
  assertState(assertThrows(() => mutex.lockSync()), text);
  assertState(
    await assertRejects(() => other.lock({ queue: false })),
    "already",
  );
  guard[Symbol.dispose]();
  const second = await waits;
  guard[Symbol.dispose]();
  assertState(assertThrows(() => mutex.lockSync()), "holds it already");
  second.unlock();
  mutex.lockSync().unlock();
});

function bound(mutex: Mutex): Pick<Mutex, "lock" | "lockSync" | "tryLock"> {
  return {
    lock: () => mutex.lock(),
    lockSync: () => mutex.lockSync(),
    tryLock: () => mutex.tryLock(),
  };
}

test('Mutex.lock() with "queue" serves the tasks of a thread in order', async () => {
  const mutex = new Mutex();
  const log: number[] = [];
  let inside = 0;
  // More tasks than have a slot of their own in the queue.
  await Promise.all(Array.from({ length: 300 }, async (_, index) => {
    using _guard = await mutex.lock({ queue: true });
    assertEquals(inside++, 0);
    await Promise.resolve();
    inside--;
    log.push(index);
  }));
  assertEquals(log, Array.from({ length: 300 }, (_, index) => index));
  assertEquals(waiting(mutex.buffer), 0);
});

test("Condition.wait() rejects unless the guard holds its mutex", async () => {
  const condition = new Condition();
  const mutex = new Mutex();
  const guard = mutex.lockSync();
  for (const wrong of [mutex, {}, null, undefined]) {
    const not = wrong as unknown as typeof guard;
    await assertRejects(() => condition.wait(not), TypeError, '"guard" must');
    assertThrows(() => condition.waitSync(not), TypeError, '"guard" must');
  }
  const waits = mutex.lock({ queue: true });
  assertState(
    assertThrows(() => condition.waitSync(guard)),
    "could not continue",
  );
  guard.unlock();
  assertState(assertThrows(() => condition.waitSync(guard)), "does not hold");
  assertState(
    await assertRejects(() => condition.wait(guard)),
    "does not hold",
  );
  (await waits).unlock();
  for (const count of [0, -1, 1.5, NaN]) {
    assertThrows(() => condition.notify(count), RangeError, `${count}`);
  }
});

test("Semaphore throws if a number is out of range", async () => {
  for (const permits of [-1, 1.5, NaN, 2 ** 31]) {
    assertThrows(() => new Semaphore({ permits }), RangeError, `${permits}`);
  }
  const semaphore = new Semaphore({ permits: 2 ** 31 - 2 });
  for (const count of [0, -1, 1.5, NaN, 2]) {
    assertThrows(() => semaphore.release(count), RangeError, `${count}`);
  }
  semaphore.release();
  assertEquals(semaphore.available, 2 ** 31 - 1);
  const permit = await semaphore.acquire();
  permit.release();
  permit[Symbol.dispose]();
  assertEquals(semaphore.available, 2 ** 31 - 1);
});

test("Semaphore.acquireSync() uses a permit that was granted to a task of its thread", async () => {
  const semaphore = new Semaphore({ permits: 0 });
  const tasks = [semaphore.acquire(), semaphore.acquire()];
  semaphore.release();
  // The permit belongs to the first task, which cannot accept it now.
  semaphore.acquireSync({ timeout: 1000 });
  assertEquals(waiting(semaphore.buffer), 2);
  semaphore.release(2);
  await Promise.all(tasks);
  assertEquals(semaphore.available, 0);
});

test("Barrier.reset() makes a broken barrier usable again", async () => {
  const barrier = new Barrier({ parties: 3 });
  const [first, second] = [barrier.wait({ timeout: 5 }), barrier.wait()];
  await assertRejects(() => first, DOMException, "5 ms have passed");
  await assertRejects(() => second, BrokenBarrierError);
  assertThrows(() => barrier.waitSync(), BrokenBarrierError);
  barrier.reset();
  const again = [barrier.wait(), barrier.wait()];
  barrier.reset();
  for (const wait of again) await assertRejects(() => wait, BrokenBarrierError);
  const whole = [barrier.wait(), barrier.wait(), barrier.wait()];
  assertEquals(await Promise.all(whole), [0, 1, 2]);
  for (const parties of [0, 1.5, 65_537]) {
    assertThrows(() => new Barrier({ parties }), RangeError, `${parties}`);
  }
});

test("Barrier opens with more parties than other locks have slots", async () => {
  const barrier = new Barrier({ parties: 300 });
  const numbers = Array.from({ length: 300 }, () => barrier.wait());
  assertEquals((await Promise.all(numbers)).at(-1), 299);
});

test("ResetEvent.set() of an automatic event ends one wait", async () => {
  const event = new ResetEvent({ automatic: true });
  event.set();
  event.set();
  await event.wait();
  await assertRejects(() => event.wait({ timeout: 1 }), DOMException);
  const waits = event.wait();
  event.set();
  // The set was granted to the task, which cannot continue now.
  event.waitSync({ timeout: 1000 });
  event.set();
  await waits;
  assertEquals(event.isSet, false);
});

test("AtomicCounter throws unless its value is a safe integer", async () => {
  const max = Number.MAX_SAFE_INTEGER;
  const counter = new AtomicCounter({ value: max - 1 });
  assertEquals(counter.add(), max);
  assertThrows(() => counter.add(), RangeError, "must be a safe integer");
  assertEquals(counter.set(-max), max);
  assertThrows(() => counter.add(-1), RangeError, "must be a safe integer");
  assertEquals(counter.value, -max);
  for (const wrong of [0.5, NaN, 2 ** 53]) {
    assertThrows(() => new AtomicCounter({ value: wrong }), RangeError);
    assertThrows(() => counter.add(wrong), RangeError);
    assertThrows(() => counter.set(wrong), RangeError);
    assertThrows(() => counter.compareExchange(0, wrong), RangeError);
  }
  const reason = new Error("Not this one");
  const fails = counter.until(() => {
    throw reason;
  });
  assertStrictEquals(await fails.catch((error) => error), reason);
});

Deno.test({
  name: "A wait that is cancelled when it is granted loses no grant",
  permissions: { env: ["DUPLEX_SEED"] },
  async fn() {
    const draw = random(seed());
    for (let round = 0; round < 300; round++) {
      const permits = 1 + Math.floor(draw() * 3);
      const semaphore = new Semaphore({ permits: 0 });
      const mutex = new Mutex();
      const guard = mutex.lockSync();
      const controller = new AbortController();
      const options = Array.from(
        { length: 5 },
        () =>
          draw() < 0.5
            ? { signal: controller.signal }
            : { timeout: draw() < 0.5 ? 0 : 1 },
      );
      const acquires = Promise.allSettled(
        options.map((limits) => semaphore.acquire(limits)),
      );
      const locks = Promise.allSettled(options.map(async (limits) => {
        using _guard = await mutex.lock({ ...limits, queue: true });
      }));
      const steps = [
        () => semaphore.release(permits),
        () => guard.unlock(),
        () => controller.abort(),
      ];
      for (const step of steps.sort(() => draw() - 0.5)) {
        if (draw() < 0.3) await Promise.resolve();
        if (draw() < 0.3) {
          await new Promise((resolve) => setTimeout(resolve, 0));
        }
        step();
      }
      const ends = await acquires;
      await locks;
      const acquired = ends.filter((end) => end.status === "fulfilled").length;
      assertEquals(semaphore.available, permits - acquired);
      assertEquals([waiting(semaphore.buffer), waiting(mutex.buffer)], [0, 0]);
      mutex.tryLock()!.unlock();
    }
  },
});
