// Copyright 2026 the Duplex authors. MIT license.

/**
 * The behaviour of `sync.ts` between running threads.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import {
  AtomicCounter,
  Barrier,
  Condition,
  Mutex,
  ResetEvent,
  Semaphore,
} from "../../sync.ts";
import {
  Actor,
  untilWaiting,
  waiting,
  workerTest,
} from "../workers/_sync_acts.ts";

const FORMS: [string, boolean][] = [["task", false], ["blocked", true]];

workerTest("Mutex.lock() admits one thread at a time", async () => {
  const rounds = 2000;
  const mutex = new Mutex();
  const data = new SharedArrayBuffer(200);
  const actors = await Promise.all(
    [true, false, true, false].map((sync) =>
      Actor.start({ name: "count", buffer: mutex.buffer, data, rounds, sync })
    ),
  );
  const view = new Int32Array(data);
  for (let round = 0; round < rounds; round++) {
    using _guard = await mutex.lock();
    const before = view[0]!;
    await Promise.resolve();
    view[0] = before + 1;
  }
  for (using actor of actors) {
    assertEquals(await actor.nextMessage(), { result: undefined });
  }
  assertEquals(view[0], 5 * rounds);
});

workerTest("Mutex.lock() serves threads in order", async (t) => {
  for (const [form, sync] of FORMS) {
    await t.step(form, async () => {
      const mutex = new Mutex();
      const guard = await mutex.lock();
      const served: number[] = [];
      const actors: Actor[] = [];
      for (let index = 0; index < 4; index++) {
        const { buffer } = mutex;
        actors.push(
          // The last one waits in the other form: all share one queue.
          await Actor.start({
            name: "wait",
            what: "mutex",
            buffer,
            sync: sync !== (index === 3),
          }),
        );
        await untilWaiting(buffer, index + 1);
      }
      const messages = actors.map(async (actor, index) => {
        assertEquals(await actor.nextMessage(), { result: false });
        served.push(index);
      });
      const locked = mutex.lock({ queue: true });
      await untilWaiting(mutex.buffer, 5);
      guard.unlock();
      using _guard = await locked;
      await Promise.all(messages);
      assertEquals(served.toSorted(), [0, 1, 2, 3]);
      for (using _actor of actors);
    });
  }
});

workerTest(
  "Mutex.tryLock() and Semaphore.tryAcquire() do not overtake a wait",
  async () => {
    const mutex = new Mutex();
    const guard = mutex.lockSync();
    const { buffer } = mutex;
    const data = new SharedArrayBuffer(8);
    using holder = await Actor.start({ name: "hold", buffer, data });
    await untilWaiting(buffer, 1);
    guard.unlock();
    assertEquals(mutex.tryLock(), undefined);
    assertEquals(await holder.nextMessage(), "held");

    const semaphore = new Semaphore({ permits: 0 });
    const act = { name: "wait", what: "semaphore", sync: true } as const;
    using waiter = await Actor.start({ ...act, buffer: semaphore.buffer });
    await untilWaiting(semaphore.buffer, 1);
    semaphore.release();
    assertEquals(semaphore.tryAcquire(), undefined);
    assertEquals(await waiter.nextMessage(), { result: "acquired" });
  },
);

workerTest(
  "Mutex.lock() rejects at its timeout if another thread holds it",
  async (t) => {
    for (const [form, sync] of FORMS) {
      await t.step(form, async () => {
        const mutex = new Mutex();
        using _guard = mutex.lockSync();
        const { buffer } = mutex;
        const act = { name: "wait", what: "mutex", timeout: 30 } as const;
        using actor = await Actor.start({ ...act, buffer, sync });
        assertEquals(await actor.nextMessage(), { failed: "TimeoutError" });
        assertEquals(waiting(buffer), 0);
      });
    }
  },
);

workerTest("Semaphore.acquire() resolves once for each permit", async (t) => {
  for (const [form, sync] of FORMS) {
    await t.step(form, async () => {
      const semaphore = new Semaphore({ permits: 1 });
      const { buffer } = semaphore;
      const act = { name: "wait", what: "semaphore", buffer, sync } as const;
      const actors = await Promise.all([1, 2, 3].map(() => Actor.start(act)));
      await untilWaiting(buffer, 2);
      semaphore.release(2);
      for (using actor of actors) {
        assertEquals(await actor.nextMessage(), { result: "acquired" });
      }
      assertEquals(semaphore.available, 0);
    });
  }
});

workerTest(
  "Condition.notify() wakes one other thread, notifyAll() all",
  async (t) => {
    for (const [form, sync] of FORMS) {
      await t.step(form, async () => {
        const mutex = new Mutex();
        const condition = new Condition();
        const data = new SharedArrayBuffer(4);
        const view = new Int32Array(data);
        const { buffer } = condition;
        const act = {
          name: "wait",
          what: "condition",
          buffer,
          data,
          sync,
        } as const;
        const actors = await Promise.all(
          [1, 2, 3].map(() => Actor.start({ ...act, mutex: mutex.buffer })),
        );
        await untilWaiting(buffer, 3);
        const messages = actors.map((actor) => actor.nextMessage());
        {
          using _guard = await mutex.lock();
          view[0] = 1;
          assertEquals(condition.notify(), 1);
        }
        assertEquals(await Promise.race(messages), { result: 1 });
        assertEquals(waiting(buffer), 2);
        {
          using _guard = mutex.lockSync();
          view[0] = 2;
          assertEquals(condition.notifyAll(), 2);
        }
        await Promise.all(messages);
        assertEquals(view[0], 0);
        for (using _actor of actors);
      });
    }
  },
);

workerTest(
  "Barrier.wait() resolves for all parties in each of 200 rounds",
  async () => {
    const rounds = 200;
    const barrier = new Barrier({ parties: 4 });
    const { buffer } = barrier;
    const actors = await Promise.all(
      [true, false, true].map((sync) =>
        Actor.start({ name: "wait", what: "barrier", buffer, sync, rounds })
      ),
    );
    const all: number[][] = [[]];
    for (let round = 0; round < rounds; round++) {
      all[0]!.push(round % 2 ? await barrier.wait() : barrier.waitSync());
    }
    for (using actor of actors) {
      all.push((await actor.nextMessage() as { result: number[] }).result);
    }
    for (let round = 0; round < rounds; round++) {
      assertEquals(all.map((numbers) => numbers[round]).toSorted(), [
        0,
        1,
        2,
        3,
      ]);
    }
  },
);

workerTest(
  "ResetEvent.set() ends one wait of another thread, or all",
  async (t) => {
    for (const [form, sync] of FORMS) {
      for (const automatic of [true, false]) {
        await t.step(
          `${form}, ${automatic ? "automatic" : "manual"}`,
          async () => {
            const event = new ResetEvent({ automatic });
            const { buffer } = event;
            const act = { name: "wait", what: "event", buffer, sync } as const;
            const actors = await Promise.all(
              [1, 2, 3].map(() => Actor.start(act)),
            );
            await untilWaiting(buffer, 3);
            event.set();
            assertEquals(waiting(buffer), automatic ? 2 : 0);
            assertEquals(event.isSet, !automatic);
            event.set();
            event.set();
            for (using actor of actors) {
              assertEquals(await actor.nextMessage(), { result: undefined });
            }
            assertEquals(event.isSet, !automatic);
          },
        );
      }
    }
  },
);

workerTest(
  "AtomicCounter.add() loses no change and wakes waiters",
  async (t) => {
    const counter = new AtomicCounter();
    const { buffer } = counter;
    const act = { name: "add", buffer, rounds: 20_000 } as const;
    const actors = await Promise.all([1, 2].map(() => Actor.start(act)));
    for (let round = 0; round < act.rounds; round++) counter.add();
    for (using actor of actors) await actor.nextMessage();
    assertEquals(counter.value, 3 * act.rounds);
    for (const [form, sync] of FORMS) {
      await t.step(form, async () => {
        const counter = new AtomicCounter();
        const { buffer } = counter;
        const act = { name: "wait", what: "counter", buffer, sync } as const;
        using actor = await Actor.start(act);
        for (let value = 0; value < 3; value++) {
          await new Promise((resolve) => setTimeout(resolve, 1));
          counter.add();
        }
        assertEquals(await actor.nextMessage(), { result: 3 });
      });
    }
  },
);

const root = new URL("../../", import.meta.url);
Deno.test({
  name: "A wait keeps the program running",
  permissions: { read: [root], run: [Deno.execPath()] },
  async fn() {
    const program = new URL("../workers/sync_program.ts", import.meta.url).href;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-check", "--no-config", program],
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const reader = child.stdout.getReader();
    await reader.read();
    // Longer than a program needs to end.
    const pause = new Promise((resolve) => setTimeout(resolve, 200, "runs"));
    const ended = child.status.then(() => "ended");
    assertEquals(await Promise.race([pause, ended]), "runs");
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
  },
});
