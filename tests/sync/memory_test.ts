// Copyright 2026 the Duplex authors. MIT license.

/**
 * The memory of locks: copies, and memory that was overwritten.
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
  Condition,
  Mutex,
  ResetEvent,
  Semaphore,
  type SyncWaitOptions,
} from "../../sync.ts";
import {
  Actor,
  untilWaiting,
  waiting,
  workerTest,
} from "../workers/_sync_acts.ts";

type Lock = { readonly buffer: SharedArrayBuffer };
type Attach = new (buffer: SharedArrayBuffer) => Lock;

const KINDS: [Attach, () => Lock][] = [
  [Mutex, () => new Mutex()],
  [Semaphore, () => new Semaphore({ permits: 0 })],
  [Condition, () => new Condition()],
  [Barrier, () => new Barrier({ parties: 2 })],
  [ResetEvent, () => new ResetEvent()],
  [AtomicCounter, () => new AtomicCounter()],
];

function test(name: string, fn: (t: Deno.TestContext) => Promise<void>): void {
  Deno.test({ name, permissions: "none", fn });
}

/** Another memory with the same content and some more bytes. */
function copyOf(buffer: SharedArrayBuffer, more = 0): SharedArrayBuffer {
  const copy = new SharedArrayBuffer(buffer.byteLength + more);
  new Uint8Array(copy).set(new Uint8Array(buffer));
  return copy;
}

test("A lock throws if the buffer is a copy of its memory", async (t) => {
  for (const [Kind, make] of KINDS) {
    await t.step(Kind.name, () => {
      const lock = make();
      const { buffer } = lock;
      const again = structuredClone(buffer);
      assert(again !== buffer);
      assertStrictEquals(new Kind(again).buffer, again);
      for (const copy of [copyOf(buffer), buffer.slice(0) as typeof buffer]) {
        assertThrows(
          () => new Kind(copy),
          TypeError,
          "is a copy of the memory",
        );
      }
      const bytes = new Uint8Array(buffer).slice().buffer;
      for (const wrong of [bytes, structuredClone(bytes)]) {
        assertThrows(
          () => new Kind(wrong as unknown as SharedArrayBuffer),
          TypeError,
          '"buffer" must be a SharedArrayBuffer: current value is an instance of ArrayBuffer',
        );
      }
      const long = copyOf(buffer, 4);
      assertThrows(() => new Kind(long), TypeError, "bytes in place of");
      assertStrictEquals(lock.buffer, buffer);
    });
  }
});

test("Mutex is the same lock for all buffers of its memory", async () => {
  const mutex = new Mutex();
  const { buffer } = mutex;
  const copy = copyOf(buffer);
  const same = new Mutex(structuredClone(buffer));
  using guard = mutex.lockSync();
  assertThrows(() => same.lockSync(), DOMException, "holds it already");
  assertThrows(() => new Mutex(copy), TypeError, "is a copy");
  same.unlock();
  assertThrows(() => guard.unlock(), DOMException, "does not hold it");
  // The first lock is still known after many short-lived ones.
  for (let count = 0; count < 1000; count++) new Mutex().buffer;
  assertThrows(() => new Mutex(copy), TypeError, "is a copy");
  await Promise.resolve();
});

/** The word of the latch. */
const LATCH = 4;

/**
 * A wait of each kind in both forms, and an operation that ends it with
 * success.
 */
interface Waiting {
  buffer: SharedArrayBuffer;
  wait(options: SyncWaitOptions): Promise<unknown>;
  waitSync(options: SyncWaitOptions): unknown;
  /** Ends a wait. */
  grant(): void;
  /** Calls that do not wait. */
  calls: (() => unknown)[];
  /** Whether the grant can be acquired. */
  isFree(): boolean;
}

const WAITS: [string, () => Waiting][] = [
  ["Semaphore", () => {
    const semaphore = new Semaphore({ permits: 0 });
    return {
      buffer: semaphore.buffer,
      wait: (o) => semaphore.acquire(o),
      waitSync: (o) => semaphore.acquireSync(o),
      grant: () => semaphore.release(),
      calls: [() => semaphore.tryAcquire(), () => semaphore.release()],
      isFree: () => semaphore.available === 1,
    };
  }],
  ["ResetEvent", () => {
    const event = new ResetEvent({ automatic: true });
    return {
      buffer: event.buffer,
      wait: (o) => event.wait(o),
      waitSync: (o) => event.waitSync(o),
      grant: () => event.set(),
      calls: [() => event.set(), () => event.reset()],
      isFree: () => event.isSet,
    };
  }],
  ["Barrier", () => {
    const barrier = new Barrier({ parties: 2 });
    return {
      buffer: barrier.buffer,
      wait: (o) => barrier.wait(o),
      waitSync: (o) => barrier.waitSync(o),
      grant: () => barrier.reset(),
      calls: [() => barrier.abort(), () => barrier.reset()],
      isFree: () => !barrier.broken,
    };
  }],
  ["Mutex", () => {
    const mutex = new Mutex();
    let guard: Disposable | undefined = mutex.lockSync();
    return {
      buffer: mutex.buffer,
      wait: (o) => mutex.lock({ ...o, queue: true }),
      waitSync: (o) => {
        // A thread can only wait for itself at the latch.
        const words = new Int32Array(mutex.buffer);
        const latch = Atomics.exchange(words, LATCH, 0);
        guard?.[Symbol.dispose]();
        guard = undefined;
        Atomics.store(words, LATCH, latch);
        return mutex.lockSync(o);
      },
      grant: () => guard?.[Symbol.dispose](),
      calls: [() => mutex.unlock()],
      isFree: () => {
        const guard = mutex.tryLock();
        guard?.unlock();
        return guard !== undefined;
      },
    };
  }],
];

test("A wait ends at its timeout if the latch is never released", async (t) => {
  for (const [kind, make] of WAITS) {
    await t.step(kind, async () => {
      for (const latch of [1, 2]) {
        const { buffer, wait, waitSync } = make();
        new Int32Array(buffer)[LATCH] = latch;
        const timeout = latch === 1 ? 0 : 5;
        assertTimeout(await assertRejects(() => wait({ timeout })));
        assertTimeout(assertThrows(() => waitSync({ timeout })));
      }
    });
  }
});

function assertTimeout(error: unknown): void {
  assertInstanceOf(error, DOMException);
  assertEquals(error.name, "TimeoutError");
}

test("A wait in a task ends at its timeout if the latch is held meanwhile", async (t) => {
  for (const [kind, make] of WAITS) {
    await t.step(kind, async () => {
      const { buffer, wait, grant, isFree } = make();
      const words = new Int32Array(buffer);
      const waits = wait({ timeout: 5 });
      assertEquals(waiting(buffer), 1);
      words[LATCH] = 1;
      assertTimeout(await assertRejects(() => waits));
      // It could not leave the queue, and does so when the latch is free.
      // Grants that it receives meanwhile are not lost.
      words[LATCH] = 0;
      grant();
      await untilWaiting(buffer, 0);
      while (!isFree()) await new Promise((resolve) => setTimeout(resolve, 1));
    });
  }
});

test("Every call throws if the latch was overwritten", async (t) => {
  for (const [kind, make] of WAITS) {
    await t.step(kind, async () => {
      for (const latch of [3, -1, 0x7fffffff]) {
        const { buffer, wait, waitSync, grant, calls } = make();
        const words = new Int32Array(buffer);
        const waits = wait({});
        words[LATCH] = latch;
        await assertRejects(
          () => waits,
          Error,
          "memory of the lock is damaged",
        );
        await assertRejects(() => wait({}), Error, "is damaged");
        if (kind !== "Mutex") {
          assertThrows(() => waitSync({}), Error, "is damaged");
        }
        for (const call of calls) assertThrows(call, Error, "is damaged");
        words[LATCH] = 0;
        grant();
      }
    });
  }
});

workerTest(
  "A blocking wait ends if the latch is held meanwhile",
  async () => {
    for (
      const [latch, failed] of [[1, "TimeoutError"], [3, "Error"]] as const
    ) {
      const semaphore = new Semaphore({ permits: 0 });
      const { buffer } = semaphore;
      const timeout = latch === 1 ? 30 : Infinity;
      const act = { name: "wait", what: "semaphore", sync: true } as const;
      using actor = await Actor.start({ ...act, buffer, timeout });
      await untilWaiting(buffer, 1);
      // The actor may still hold the latch, and would overwrite the value.
      const words = new Int32Array(buffer);
      while (Atomics.compareExchange(words, LATCH, 0, latch) !== 0) {
        await new Promise((resolve) => setTimeout(resolve));
      }
      assertEquals(await actor.nextMessage(), { failed });
    }
  },
);

test("Condition.wait() keeps the mutex if the latch cannot be acquired", async () => {
  const condition = new Condition();
  const mutex = new Mutex();
  const waits = condition.wait(mutex.lockSync());
  const guard = mutex.lockSync();
  const words = new Int32Array(condition.buffer);
  words[LATCH] = 3;
  for (const call of [() => condition.notify(), () => condition.notifyAll()]) {
    assertThrows(call, Error, "is damaged");
  }
  await assertRejects(() => condition.wait(guard), Error, "is damaged");
  assertThrows(() => condition.waitSync(guard), Error, "is damaged");
  guard.unlock();
  await assertRejects(() => waits, Error, "is damaged");
  mutex.unlock();
  // The reverse case: the condition is intact, and the mutex is not.
  words[LATCH] = 0;
  const again = mutex.lockSync();
  const before = waiting(condition.buffer);
  new Int32Array(mutex.buffer)[LATCH] = 3;
  await assertRejects(() => condition.wait(again), Error, "is damaged");
  assertThrows(() => condition.waitSync(again), Error, "is damaged");
  assertEquals(waiting(condition.buffer), before);
  new Int32Array(mutex.buffer)[LATCH] = 0;
  again.unlock();
});
