// Copyright 2026 the Duplex authors. MIT license.

/**
 * The function of a task, called by blocking the thread.
 *
 * @module
 */

import {
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { ClosedError, PeerExitError } from "@duplex/ipc/duplex";
import { task } from "@duplex/ipc/task";
import { test as anyTest } from "../workers/_processes.ts";

const ROOT = new URL("../..", import.meta.url);

/** A test with the permissions to read the worker's files. */
function test(name: string, fn: () => Promise<void>): void {
  anyTest(name, fn, { read: [ROOT] });
}

test("WorkerTask.sync() starts a worker of its own while the thread is blocked", async () => {
  await using counted = task(async (n: number) => {
    await new Promise((resolve) => setTimeout(resolve, 1));
    const scope = globalThis as unknown as { calls?: number };
    scope.calls = (scope.calls ?? 0) + 1;
    return [n, scope.calls];
  }, { workers: 1 });
  const [first, calls]: number[] = counted.sync(7);
  assertEquals([first, calls], [7, 1]);
  assertEquals(counted.sync(8), [8, 2]);
  assertEquals(counted.stats.workers, 0);
  assertEquals(await counted(9), [9, 1]);
  assertEquals(counted.sync(10), [10, 3]);
});

test("WorkerTask.sync() has the permissions of the task", async () => {
  const state = () => Deno.permissions.query({ name: "read" });
  await using none = task(async () =>
    (await Deno.permissions.query({ name: "read" })).state
  );
  assertEquals(none.sync(), "prompt");
  await using inherited = task(
    async (path: string) =>
      (await Deno.permissions.query({ name: "read", path })).state,
    { permissions: "inherit" },
  );
  assertEquals(inherited.sync(ROOT.pathname), "granted");
  assertEquals((await state()).state, "prompt");
});

test("WorkerTask.sync() throws the error of the function", async () => {
  const around = 1;
  await using fails = task((kind: string) => {
    if (kind === "around") return around;
    throw new RangeError("Refused by a test");
  });
  assertThrows(() => fails.sync("throw"), RangeError, "Refused by a test");
  const error = assertThrows(() => fails.sync("around"), ReferenceError);
  assertStringIncludes(error.message, "pass what it needs");
  await using echo = task((value: unknown) => value);
  assertThrows(() => echo.sync(Symbol("s")), TypeError, '"$[0]"');
  assertEquals(echo.sync([1n, undefined]), [1n, undefined]);
  await using stream = task(function* () {
    yield 1;
  });
  assertThrows(() => stream.sync(), TypeError, "its result is a stream");
});

test("WorkerTask.sync() replaces the worker after a timeout", async () => {
  await using hangs = task((isHanging: boolean) => {
    const scope = globalThis as unknown as { calls?: number };
    scope.calls = (scope.calls ?? 0) + 1;
    return isHanging ? new Promise<number>(() => {}) : scope.calls;
  }, { isolate: "thread", timeout: 2_000 });
  assertEquals(hangs.sync(false), 1);
  const error = assertThrows(() => hangs.sync(true), DOMException, "2000 ms");
  assertEquals(error.name, "TimeoutError");
  assertEquals(hangs.sync(false), 1);
  assertEquals(hangs.sync(false), 2);
});

test("WorkerTask.sync() replaces a worker that has ended", async () => {
  await using ends = task((isEnding: boolean) => {
    if (!isEnding) return 1;
    self.close();
    return new Promise<number>(() => {});
  });
  assertThrows(() => ends.sync(true), PeerExitError, "without a goodbye");
  assertEquals(ends.sync(false), 1);
});

test("WorkerTask.sync() refuses processes, and a task that is closed", async () => {
  const closed = task(() => 1);
  assertEquals(closed.sync(), 1);
  await closed.close();
  assertThrows(() => closed.sync(), ClosedError, "the task is closed");
  const aborted = task(() => 1);
  assertEquals(aborted.sync(), 1);
  await aborted.abort(new Error("Enough"));
  assertThrows(() => aborted.sync(), ClosedError);
});

anyTest("WorkerTask.sync() names the option for threads", async () => {
  await using isolated = task(() => 1, { timeout: 1_000 });
  assertThrows(() => isolated.sync(), TypeError, 'isolate: "thread"');
}, { read: true, run: true });

anyTest("WorkerTask.sync() works in a worker", async () => {
  await using outer = task(async (module: string, n: unknown) => {
    const { task: inner } = await import(module);
    await using square = inner((n: number) => n * n, {
      permissions: "inherit",
    });
    return square.sync(n as number);
  }, { permissions: "inherit" });
  const module = import.meta.resolve("../../task.ts");
  assertEquals(outer.sync(module, 5), 25);
  assertEquals(await outer(module, 6), 36);
  await assertRejects(() => outer(module, Symbol("s")));
}, { read: true });
