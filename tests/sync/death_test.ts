// Copyright 2026 the Duplex authors. MIT license.

/**
 * The behaviour of `sync.ts` when threads die that hold a lock or wait for it.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertThrows,
} from "@std/assert";
import {
  Barrier,
  BrokenBarrierError,
  Condition,
  Mutex,
  type MutexGuard,
  OwnerDiedError,
  ResetEvent,
  Semaphore,
} from "../../sync.ts";
import { random, seed } from "../_seed.ts";
import {
  type Act,
  Actor,
  slotsInUse,
  threadOfFirst,
  untilWaiting,
  waiting,
  workerTest,
} from "../workers/_sync_acts.ts";

const FORMS: [string, boolean][] = [["task", false], ["blocked", true]];

/** A mutex, and data that is inconsistent while a worker holds the mutex. */
class Account {
  readonly mutex = new Mutex();
  readonly data = new SharedArrayBuffer(8);
  readonly view = new Int32Array(this.data);

  /** A worker that holds the mutex while the data is inconsistent. */
  async hold(
    act: Partial<Act> = {},
    ready: Promise<Actor> = Actor.ready(),
  ): Promise<Actor> {
    const { mutex: { buffer }, data } = this;
    const actor = await ready;
    actor.play({ name: "hold", buffer, data, ...act });
    assertEquals(await actor.nextMessage(), "held");
    assertEquals(this.view[0], 1);
    return actor;
  }

  /** A worker that waits for the mutex. */
  async wait(act: Partial<Act> = {}): Promise<Actor> {
    const { buffer } = this.mutex;
    const before = waiting(buffer);
    const wait = { name: "wait", what: "mutex", buffer } as const;
    const actor = await Actor.start({ ...wait, ...act });
    await untilWaiting(buffer, before + 1);
    return actor;
  }

  /** Repairs the data after the death of the holder. */
  repair(guard: MutexGuard): void {
    assertEquals([guard.ownerDied, this.view[0]], [true, 1]);
    this.view[0] = 0;
  }
}

/** The death of one owner, with random waiters. */
async function oneDeath(
  account: Account,
  draw: () => number,
  ready: Promise<Actor>,
): Promise<void> {
  const { mutex } = account;
  using holder = await account.hold({ sync: draw() < 0.5 }, ready);
  // The next thread waits already, or comes later; in either form.
  const early = draw() < 0.5 ? mutex.lock({ recover: true }) : undefined;
  using other = draw() < 0.2
    ? await account.wait({ sync: draw() < 0.5 })
    : undefined;
  if (draw() < 0.5) await new Promise((resolve) => setTimeout(resolve, 0));
  holder.terminate();
  if (early) {
    using guard = await early;
    account.repair(guard);
  } else {
    if (draw() < 0.5) assertThrows(() => mutex.lockSync(), OwnerDiedError);
    else await assertRejects(() => mutex.lock(), OwnerDiedError);
    using guard = mutex.lockSync({ recover: true });
    account.repair(guard);
  }
  // A waiter behind one with `recover` is not rejected.
  const expected = early ? { result: false } : { failed: "OwnerDiedError" };
  if (other) assertEquals(await other.nextMessage(), expected);
  using guard = mutex.lockSync();
  assertEquals([guard.ownerDied, account.view[0]], [false, 0]);
}

workerTest(
  "Mutex.lock() recovers after each of 200 terminated owners",
  async () => {
    const draw = random(seed());
    const account = new Account();
    // Each worker starts while the previous one dies.
    let next = Actor.ready();
    for (let death = 0; death < 200; death++) {
      const ready = next;
      if (death < 199) next = ready.then(() => Actor.ready());
      await oneDeath(account, draw, ready);
    }
  },
  ["DUPLEX_SEED"],
);

workerTest(
  "Mutex.lock() rejects with OwnerDiedError for every way in which the owner ends",
  async (t) => {
    for (const end of ["terminate", "close", "throw"] as const) {
      for (const [form, sync] of FORMS) {
        await t.step(`${end}, ${form}`, async () => {
          const account = new Account();
          using holder = await account.hold(end === "terminate" ? {} : { end });
          if (end === "terminate") holder.terminate();
          if (end === "throw") {
            assertEquals(await holder.nextMessage(), "failed");
          }
          const { mutex } = account;
          if (sync) assertThrows(() => mutex.lockSync(), OwnerDiedError);
          else await assertRejects(() => mutex.lock(), OwnerDiedError);
          // Every call throws until one has recovered the mutex.
          assertThrows(() => mutex.tryLock(), OwnerDiedError);
          using guard = sync
            ? mutex.lockSync({ recover: true })
            : await mutex.lock({ recover: true });
          account.repair(guard);
          guard.unlock();
          using after = mutex.tryLock();
          assertEquals(after?.ownerDied, false);
        });
      }
    }
  },
);

workerTest(
  "Mutex.lockSync() detects a dead owner without the main thread",
  async () => {
    // The main thread is not involved: the waiters detect the death themselves.
    const account = new Account();
    using holder = await account.hold();
    using refused = await account.wait({ sync: true });
    using recovers = await account.wait({ sync: true, recover: true });
    using behind = await account.wait({ sync: true });
    holder.terminate();
    const messages = [refused, recovers, behind].map((actor) =>
      actor.nextMessage()
    );
    assertEquals(await Promise.all(messages), [
      { failed: "OwnerDiedError" },
      { result: true },
      { result: false },
    ]);
  },
);

workerTest(
  "Mutex.lock() does not recover the mutex while its owner runs",
  async () => {
    const account = new Account();
    const { mutex, view } = account;
    using holder = await account.hold({ end: "busy" });
    holder.terminate();
    await assertRejects(() => mutex.lock({ timeout: 200 }), DOMException);
    assertThrows(() => mutex.lockSync({ timeout: 100 }), DOMException);
    // It now completes its change, and dies.
    Atomics.store(view, 1, 1);
    await assertRejects(() => mutex.lock(), OwnerDiedError);
    assertEquals(view[0], 0);
  },
);

workerTest("Mutex.lock() keeps the owner's thread alive", async () => {
  const account = new Account();
  using holder = await account.hold({ end: "drain" });
  await assertRejects(() => account.mutex.lock({ timeout: 100 }), DOMException);
  holder.terminate();
  await assertRejects(() => account.mutex.lock(), OwnerDiedError);
});

workerTest("Mutex.unlock() skips a waiter that died", async (t) => {
  for (const moment of ["before", "after"]) {
    await t.step(`${moment} it was its turn`, async () => {
      const account = new Account();
      const { mutex } = account;
      const guard = mutex.lockSync();
      using first = await account.wait();
      using second = await account.wait({ sync: true });
      if (moment === "before") first.terminate();
      guard.unlock();
      if (moment === "after") first.terminate();
      assertEquals(await second.nextMessage(), { result: false });
      using after = await mutex.lock();
      assertEquals(after.ownerDied, false);
    });
  }
});

workerTest(
  'Condition.wait() rejects with OwnerDiedError unless "recover" is set',
  async (t) => {
    for (const recover of [false, true]) {
      await t.step(`recover ${recover}`, async () => {
        const account = new Account();
        const condition = new Condition();
        const guard = await account.mutex.lock();
        const done = condition.wait(guard, { recover });
        using holder = await account.hold();
        assertEquals(condition.notify(), 1);
        holder.terminate();
        if (recover) {
          await done;
          account.repair(guard);
          guard.unlock();
        } else {
          assertInstanceOf(await done.catch((error) => error), OwnerDiedError);
          assertThrows(() => guard.unlock(), DOMException, "does not hold it");
        }
      });
    }
  },
);

workerTest(
  "Condition.wait() passes its notification on if it rejects with OwnerDiedError",
  async () => {
    const account = new Account();
    const { mutex } = account;
    const condition = new Condition();
    const first = await mutex.lock();
    const refused = condition.wait(first);
    const second = await mutex.lock();
    const recovers = condition.wait(second, { recover: true });
    using holder = await account.hold();
    assertEquals(condition.notify(), 1);
    holder.terminate();
    assertInstanceOf(await refused.catch((error) => error), OwnerDiedError);
    await recovers;
    account.repair(second);
    second.unlock();
    assertEquals(waiting(condition.buffer), 0);
  },
);

workerTest(
  "Semaphore.release() loses no permit if a waiter dies",
  async (t) => {
    for (const moment of ["before", "after"]) {
      await t.step(`${moment} it was released`, async () => {
        for (let round = 0; round < 10; round++) {
          const semaphore = new Semaphore({ permits: 0 });
          const { buffer } = semaphore;
          const act = { name: "wait", what: "semaphore", buffer } as const;
          using actor = await Actor.start(act);
          await untilWaiting(buffer, 1);
          const behind = semaphore.acquire();
          if (moment === "before") {
            actor.terminate();
            // Its death is detected, and its place is free.
            await untilWaiting(buffer, 1);
            semaphore.release();
          } else {
            // It may or may not receive its permit before it ends.
            semaphore.release();
            actor.terminate();
            semaphore.release();
          }
          using _permit = await behind;
        }
      });
    }
  },
);

workerTest(
  "Semaphore does not return the permits of a dead thread",
  async () => {
    const semaphore = new Semaphore({ permits: 1 });
    const { buffer } = semaphore;
    using actor = await Actor.start({
      name: "wait",
      what: "semaphore",
      buffer,
    });
    assertEquals(await actor.nextMessage(), { result: "acquired" });
    actor.terminate();
    await assertRejects(() => semaphore.acquire({ timeout: 60 }), DOMException);
    semaphore.release();
    using _permit = semaphore.acquireSync();
  },
);

workerTest("ResetEvent.set() skips a waiter that died", async () => {
  const event = new ResetEvent({ automatic: true });
  const { buffer } = event;
  const act = { name: "wait", what: "event", buffer } as const;
  using first = await Actor.start(act);
  await untilWaiting(buffer, 1);
  using second = await Actor.start({ ...act, sync: true });
  await untilWaiting(buffer, 2);
  first.terminate();
  await untilWaiting(buffer, 1);
  event.set();
  assertEquals(await second.nextMessage(), { result: undefined });
});

workerTest("Condition.notify() skips a waiter that died", async () => {
  const mutex = new Mutex();
  const condition = new Condition();
  const { buffer } = condition;
  const data = new SharedArrayBuffer(4);
  const act = {
    name: "wait",
    what: "condition",
    buffer,
    mutex: mutex.buffer,
    data,
  } as const;
  using first = await Actor.start(act);
  await untilWaiting(buffer, 1);
  using second = await Actor.start(act);
  await untilWaiting(buffer, 2);
  first.terminate();
  await untilWaiting(buffer, 1);
  {
    using _guard = await mutex.lock();
    new Int32Array(data)[0] = 1;
    assertEquals(condition.notify(), 1);
  }
  assertEquals(await second.nextMessage(), { result: 1 });
});

workerTest(
  "Barrier.wait() rejects with BrokenBarrierError if a waiter dies",
  async (t) => {
    for (const [form, sync] of FORMS) {
      await t.step(form, async () => {
        const barrier = new Barrier({ parties: 3 });
        const { buffer } = barrier;
        using dies = await Actor.start({
          name: "wait",
          what: "barrier",
          buffer,
        });
        await untilWaiting(buffer, 1);
        dies.terminate();
        if (sync) assertThrows(() => barrier.waitSync(), BrokenBarrierError);
        else await assertRejects(() => barrier.wait(), BrokenBarrierError);
        assert(barrier.broken);
        barrier.reset();
        assertEquals([barrier.broken, waiting(buffer)], [false, 0]);
      });
    }
  },
);

/**
 * Settles when the thread of the first slot in the memory of a lock has ended.
 */
async function untilFirstIsGone(
  buffer: SharedArrayBuffer,
  thread: number = threadOfFirst(buffer),
): Promise<void> {
  const { locks } = navigator as unknown as {
    locks: { request(name: string, callback: () => void): Promise<void> };
  };
  await locks.request(`@duplex/ipc thread ${thread}`, () => {});
}

workerTest(
  "Semaphore.release() grants no permit to a dead thread",
  async () => {
    const semaphore = new Semaphore({ permits: 0 });
    const { buffer } = semaphore;
    using actor = await Actor.start({
      name: "wait",
      what: "semaphore",
      buffer,
    });
    await untilWaiting(buffer, 1);
    actor.terminate();
    await untilFirstIsGone(buffer);
    semaphore.release();
    assertEquals(semaphore.available, 1);
  },
);

workerTest("Condition.notify() notifies no dead thread", async () => {
  const condition = new Condition();
  const { buffer } = condition;
  const mutex = new Mutex().buffer;
  const data = new SharedArrayBuffer(4);
  const act = { name: "wait", what: "condition", buffer, mutex, data } as const;
  using actor = await Actor.start(act);
  await untilWaiting(buffer, 1);
  actor.terminate();
  await untilFirstIsGone(buffer);
  assertEquals(condition.notify(), 0);
});

/**
 * A worker that waits in a task and stays busy: it cannot accept a grant, and
 * ends without it.
 */
class Expiring implements Disposable {
  readonly #actor: Actor;
  readonly #data: Int32Array;
  readonly #thread: number;
  readonly #buffer: SharedArrayBuffer;

  private constructor(
    actor: Actor,
    data: Int32Array,
    buffer: SharedArrayBuffer,
  ) {
    this.#actor = actor;
    this.#data = data;
    this.#buffer = buffer;
    this.#thread = threadOfFirst(buffer);
  }

  static async start(act: Partial<Act> & { buffer: SharedArrayBuffer }) {
    const data = new SharedArrayBuffer(8);
    const actor = await Actor.start({ ...act, name: "expire", data });
    assertEquals(await actor.nextMessage(), "waits");
    return new Expiring(actor, new Int32Array(data), act.buffer);
  }

  /** Ends the worker. */
  async end(): Promise<void> {
    Atomics.store(this.#data, 1, 1);
    await untilFirstIsGone(this.#buffer, this.#thread);
  }

  [Symbol.dispose](): void {
    this.#actor.terminate();
  }
}

workerTest(
  "Semaphore returns a permit that was granted to a thread that died",
  async () => {
    for (const look of ["tryAcquire", "available", "acquire", "acquireSync"]) {
      const semaphore = new Semaphore({ permits: 0 });
      const { buffer } = semaphore;
      using dies = await Expiring.start({ what: "semaphore", buffer });
      semaphore.release();
      assertEquals(semaphore.available, 0);
      await dies.end();
      if (look === "available") assertEquals(semaphore.available, 1);
      using permit = look === "acquire"
        ? await semaphore.acquire()
        : look === "acquireSync"
        ? semaphore.acquireSync()
        : semaphore.tryAcquire();
      assert(permit !== undefined);
      assertEquals(semaphore.tryAcquire(), undefined);
    }
  },
);

workerTest(
  "Semaphore returns the permits of a shared slot whose thread died",
  async () => {
    const semaphore = new Semaphore({ permits: 0 });
    const { buffer } = semaphore;
    const rounds = 500;
    using dies = await Expiring.start({ what: "semaphore", buffer, rounds });
    assertEquals(waiting(buffer), rounds);
    semaphore.release(400);
    assertEquals([semaphore.available, waiting(buffer)], [0, 100]);
    await dies.end();
    // The next sweep detects it.
    while (semaphore.available < 400) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    assertEquals([semaphore.available, waiting(buffer)], [400, 0]);
    assertEquals(slotsInUse(buffer), 0);
  },
);

workerTest(
  "ResetEvent is set again if it was granted to a thread that died",
  async () => {
    const event = new ResetEvent({ automatic: true });
    const { buffer } = event;
    using dies = await Expiring.start({ what: "event", buffer });
    event.set();
    assertEquals(event.isSet, false);
    await dies.end();
    assertEquals(event.isSet, true);
    await event.wait();
    assertEquals(event.isSet, false);
  },
);

workerTest("Barrier.broken is true if the only party died", async () => {
  const barrier = new Barrier({ parties: 2 });
  const { buffer } = barrier;
  using dies = await Expiring.start({ what: "barrier", buffer });
  await dies.end();
  assertEquals(barrier.broken, true);
});

workerTest(
  "Barrier.wait() rejects if another party died before the last arrives",
  async () => {
    for (const [, sync] of FORMS) {
      const barrier = new Barrier({ parties: 2 });
      const { buffer } = barrier;
      using dies = await Expiring.start({ what: "barrier", buffer });
      await dies.end();
      if (sync) assertThrows(() => barrier.waitSync(), BrokenBarrierError);
      else await assertRejects(() => barrier.wait(), BrokenBarrierError);
      barrier.reset();
      assertEquals([barrier.broken, waiting(buffer)], [false, 0]);
    }
  },
);

workerTest(
  "Barrier.reset() ignores a party that died before",
  async () => {
    const barrier = new Barrier({ parties: 2 });
    const { buffer } = barrier;
    using dies = await Expiring.start({ what: "barrier", buffer });
    await dies.end();
    barrier.reset();
    assertEquals(barrier.broken, false);
    const first = barrier.wait();
    assertEquals(barrier.waitSync(), 1);
    assertEquals(await first, 0);
  },
);

workerTest(
  "Mutex.lock() succeeds if the owner died before it received its grant",
  async () => {
    const mutex = new Mutex();
    const { buffer } = mutex;
    const guard = mutex.lockSync();
    using dies = await Expiring.start({ what: "mutex", buffer });
    guard.unlock();
    assertEquals(mutex.tryLock(), undefined);
    await dies.end();
    using after = mutex.tryLock();
    assertEquals(after?.ownerDied, false);
  },
);

workerTest(
  "Condition passes on the notification of a dead thread",
  async (t) => {
    for (const moment of ["before it woke", "before it held the mutex"]) {
      for (const [form, sync] of FORMS) {
        await t.step(`${moment}, ${form}`, async () => {
          const mutex = new Mutex();
          const condition = new Condition();
          const { buffer } = condition;
          const data = new SharedArrayBuffer(4);
          const act = {
            name: "wait",
            what: "condition",
            buffer,
            mutex: mutex.buffer,
            data,
          } as const;
          const isBusy = moment === "before it woke";
          using dies = isBusy
            ? await Expiring.start({ ...act })
            : await Actor.start(act);
          await untilWaiting(buffer, 1);
          const thread = threadOfFirst(buffer);
          using next = await Actor.start({ ...act, sync });
          await untilWaiting(buffer, 2);
          {
            using _guard = await mutex.lock();
            new Int32Array(data)[0] = 1;
            assertEquals(condition.notify(), 1);
            if (dies instanceof Expiring) await dies.end();
            else {
              // It is notified, and waits for the mutex.
              await untilWaiting(mutex.buffer, 1);
              dies.terminate();
              await untilFirstIsGone(buffer, thread);
            }
          }
          assertEquals(await next.nextMessage(), { result: 1 });
          assertEquals(waiting(buffer), 0);
        });
      }
    }
  },
);
