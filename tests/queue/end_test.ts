// Copyright 2026 the Duplex authors. MIT license.

/**
 * Queues that close while a worker dies.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import { type Duplex, openQueue } from "@duplex/ipc/queue";
import { within, workerUrl } from "../workers/_processes.ts";

const READ = { read: [new URL("../..", import.meta.url)] };

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, permissions: READ, fn: () => within(fn()) });
}

test("openQueue() may be closed by the callback for a failed message", async () => {
  const queue: Duplex<number> = await openQueue(
    workerUrl("queue_throws"),
    {
      retries: 0,
      onFailed: () => void queue.close().catch(() => {}),
    },
  );
  await queue.send(5);
  await queue.send(7);
  assertEquals(await Array.fromAsync(queue), [7]);
  await queue.closed;
});

test("openQueue() may be read by the callback for a failed message", async () => {
  const failed: unknown[] = [];
  const queue: Duplex<number> = await openQueue(
    workerUrl("queue_throws"),
    {
      retries: 0,
      windowMessages: 1,
      onFailed: ({ message }) => void failed.push(message, queue.tryReceive()),
    },
  );
  for (const number of [1, 5, 7]) await queue.send(number);
  const answers = [];
  while (answers.length < 1) answers.push(await queue.receive());
  const closing = queue.close();
  for await (const number of queue) answers.push(number);
  await closing;
  assertEquals(failed[0], 5);
  const { value } = failed[1] as { value?: number };
  if (value !== undefined) answers.push(value);
  assertEquals(answers.sort(), [1, 7]);
});

test("openQueue() redelivers to a running worker what another one drops at the end", async () => {
  const queue = await openQueue<number>(workerUrl("queue_once"), {
    workers: 2,
    restart: false,
  });
  for (const number of [1, 5, 2]) await queue.send(number);
  const closing = queue.close();
  assertEquals((await Array.fromAsync(queue)).sort(), [1, 2, 5]);
  await closing;
});

test("openQueue() closes in time while a worker is busy forever", async () => {
  const script = `import { parent } from "${
    import.meta.resolve("../../parent.ts")
  }";
    const main = await parent();
    await main.receive();
    await main.send("busy");
    setImmediate(() => { const end = Date.now() + 3_000; while (Date.now() < end); });`;
  const url = `data:text/javascript,${encodeURIComponent(script)}`;
  const queue = await openQueue<string>(url);
  await queue.send("go");
  assertEquals(await queue.receive(), "busy");
  await assertRejects(() => queue.close({ timeout: 50 }), Error, "50 ms");
});
