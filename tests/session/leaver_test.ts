// Copyright 2026 the Duplex authors. MIT license.

/**
 * Workers that leave early: while sends wait, with messages that they have not
 * received, or because their parent does not close in time.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { ClosedError, type Duplex, PeerExitError } from "@duplex/ipc/duplex";
import { openPipe } from "@duplex/ipc/pipe";
import { openQueue } from "@duplex/ipc/queue";
import { openShm } from "@duplex/ipc/shm";
import { within } from "../workers/_processes.ts";

/** A worker script that runs this body with its end of the duplex as `main`. */
function script(body: string, options = "{}"): string {
  const source = `
    import { parent } from "${import.meta.resolve("../../parent.ts")}";
    const main = await parent(${options});
    ${body}
  `;
  return `data:text/javascript,${encodeURIComponent(source)}`;
}

/** Runs a test for each transport whose worker is started here. */
function overWorkers(
  name: string,
  fn: (
    open: (
      script: string,
      options?: Record<string, number | boolean>,
    ) => Promise<Duplex<unknown, unknown>>,
  ) => Promise<void>,
): void {
  for (const open of [openPipe, openQueue, openShm]) {
    Deno.test({
      name: `${open.name}() ${name}`,
      permissions: {
        read: [new URL("../..", import.meta.url)],
        run: [Deno.execPath()],
      },
      fn: () => within(fn((script, options) => open(script, options))),
    });
  }
}

/** A promise that settles like another one. */
function likeOutcome(outcome: PromiseSettledResult<unknown>): Promise<unknown> {
  return outcome.status === "fulfilled"
    ? Promise.resolve(outcome.value)
    : Promise.reject(outcome.reason);
}

/** The errors that these promises reject with. */
function rejections(promises: readonly Promise<unknown>[]): Promise<unknown[]> {
  return Promise.all(
    promises.map((promise) =>
      promise.then(
        (value) => assert(false, `fulfilled with ${Deno.inspect(value)}`),
        (error) => error,
      )
    ),
  );
}

overWorkers(
  "rejects sends that wait when the worker has left",
  async (open) => {
    const worker = await open(script("await main.close();"), {
      deadlockTimeout: 100,
    });
    await assertRejects(() => worker.receive(), ClosedError);
    const sent: Promise<void>[] = [];
    while (sent.length < 3 * 4096) {
      const promise = worker.send(sent.length);
      promise.catch(() => {});
      sent.push(promise);
    }
    const closing = worker.close();
    const outcomes = await Promise.allSettled([...sent, closing]);
    const rejected = outcomes.slice(0, -1).filter(({ status }) =>
      status === "rejected"
    );
    assert(rejected.length > 0);
    for (const outcome of rejected) {
      assert(outcome.status === "rejected");
      assertInstanceOf(outcome.reason, ClosedError);
    }
    const accepted = sent.length - rejected.length;
    const { unsent } = await assertRejects(() => worker.send(0), ClosedError);
    assertEquals(unsent.length, accepted);
  },
);

overWorkers(
  "notifies a worker that only sends when it closes",
  async (open) => {
    const worker = await open(
      script(
        `
        await main.receive();
        try {
          for (;;) await main.send(new Uint8Array(70_000));
        } catch {
          await main.close();
        }
        `,
        "{ deadlockTimeout: 50 }",
      ),
      { deadlockTimeout: 50 },
    );
    await worker.send("begin");
    // A queue reports answers that were not received.
    await worker.close({ timeout: 1_000 }).catch((error) => {
      assertInstanceOf(error, ClosedError);
      assertStringIncludes(error.message, "1000 ms");
    });
  },
);

Deno.test({
  name: "openQueue() closes while sends wait again after a deadlock",
  permissions: { read: [new URL("../..", import.meta.url)] },
  fn: () =>
    within((async () => {
      const worker = await openQueue<unknown, number>(
        script("await main.close();"),
        { deadlockTimeout: 50, capacity: 8 },
      );
      const waiting = () =>
        Array.from({ length: 5_000 }, (_, index) => worker.send(index));
      const before = await Promise.allSettled(waiting());
      const after = waiting();
      const closing = worker.close();
      for (
        const error of await rejections([
          ...before.slice(8).map(likeOutcome),
          ...after,
        ])
      ) {
        assertInstanceOf(error, ClosedError);
      }
      const error = await assertRejects(() => closing, ClosedError);
      assertEquals(error.unsent, [0, 1, 2, 3, 4, 5, 6, 7]);
    })()),
});

overWorkers("detects a worker whose close times out", async (open) => {
  const worker = await open(
    script("await main.close().catch(() => {});", "{ closeTimeout: 100 }"),
    { retries: 0, deadlockTimeout: Infinity },
  );
  const { unsent } = await assertRejects(async () => {
    for (let number = 1;; number++) await worker.send(number);
  }, PeerExitError);
  assertEquals(unsent.slice(0, 2), [1, 2]);
  await assertRejects(() => worker.close(), PeerExitError);
});

overWorkers(
  "returns messages that a worker did not receive before it failed",
  async (open) => {
    const worker = await open(
      script(`
      await main.receive();
      main.close();
      await main.receive();
      if ("WorkerGlobalScope" in globalThis) throw new Error("Failed");
      Deno.exit(3);
    `),
      { retries: 0, restart: false },
    );
    for (const message of ["one", "two", "three"]) await worker.send(message);
    const error = await assertRejects(() => worker.close(), PeerExitError);
    assertEquals(error.unsent.at(-1), "three");
  },
);

Deno.test({
  name:
    "openQueue() rejects with the error of a worker that fails as it closes",
  permissions: { read: [new URL("../..", import.meta.url)] },
  async fn(t) {
    const ends = {
      throws: 'throw new Error("Failed");',
      rejects:
        'Promise.reject(new Error("Failed")); await new Promise(() => {});',
    };
    for (const [name, end] of Object.entries(ends)) {
      const failing = script(`
        await main.receive();
        main.close();
        await main.receive();
        ${end}
      `);
      await t.step(name, async () => {
        // The goodbye, the error or the end of the stream, whichever arrives
        // first.
        for (let round = 0; round < 20; round++) {
          const worker = await openQueue(failing, {
            retries: 0,
            restart: false,
          });
          for (const message of ["one", "two", "three"]) {
            await worker.send(message);
          }
          const { message, unsent } = await within(
            assertRejects(() => worker.close(), PeerExitError),
          );
          assertStringIncludes(message, "Failed");
          assertEquals(unsent.at(-1), "three");
        }
      });
    }
  },
});

overWorkers(
  "returns messages that a worker did not receive with every later error",
  async (open) => {
    const worker = await open(
      script("await main.receive(); await main.close();"),
    );
    for (const message of ["one", "two", "three"]) await worker.send(message);
    await worker.close().catch(() => {});
    const errors = await rejections([
      worker.receive(),
      worker.send("four"),
    ]);
    for (const error of errors) {
      assertInstanceOf(error, ClosedError);
      assertEquals(error.unsent.slice(-2), ["two", "three"], error.stack);
    }
  },
);
