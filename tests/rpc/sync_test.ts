// Copyright 2026 the Duplex authors. MIT license.

/**
 * Calls that block the thread, between a program and its worker over shared memory.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { ClosedError, DeadlockError, PeerExitError } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import {
  expose,
  remote,
  RemoteError,
  remoteSync,
  type RemoteSyncOptions,
} from "@duplex/ipc/rpc";
import { openShm, type ShmDuplex, type ShmOptions } from "@duplex/ipc/shm";
import { random, seed } from "../_seed.ts";
import { within, workerUrl } from "../workers/_processes.ts";
import type { MainMethods, METHODS } from "../workers/sync_calls.ts";

type Methods = typeof METHODS;

/** Milliseconds after which a call that should not hang fails. */
const timeout = 60_000;

/** A test with the permissions to read a worker's script, and with a time limit. */
function test(name: string, fn: () => Promise<void>): void {
  Deno.test({
    name,
    permissions: { read: [new URL("../..", import.meta.url)], env: true },
    fn: () => within(fn()),
  });
}

function open(options?: ShmOptions): Promise<ShmDuplex> {
  return openShm(workerUrl("sync_calls"), options);
}

function connect(worker: ShmDuplex, options: RemoteSyncOptions = { timeout }) {
  return {
    sync: remoteSync<Methods>(worker, options),
    api: remote<Methods>(worker),
  };
}

/** Exposes methods of this end; those that are not given do nothing. */
function exposeMain(worker: ShmDuplex, methods: Partial<MainMethods>): void {
  expose({ mark() {}, ...methods }, worker).catch(() => {});
}

function nameOf(error: unknown): string {
  return (error as Error).name;
}

test("remoteSync() returns results and throws errors", async () => {
  await using worker = await open();
  const { sync } = connect(worker);
  const sum: number = sync.add(1, 2);
  assertEquals(sum, 3);
  assertEquals(sync.later({ a: [1n] }), { a: [1n] });
  assertEquals(sync.nothing(), undefined);
  const error = assertThrows(() => sync.fail(), RangeError, "Refused");
  assertStringIncludes(error.stack ?? "", "Refused by a test");
  assertEquals(assertThrows(() => sync.throwValue()), { code: 7 });
  const api = remoteSync<{ none(): void }>(worker, { timeout });
  assertThrows(() => api.none(), TypeError, 'Cannot call "none"');
});

test("remoteSync() sends values larger than the rings", async () => {
  await using worker = await open({ ringBytes: 4096 });
  const { sync } = connect(worker);
  const bytes = new Uint8Array(300_000).map((_, index) => index);
  for (let round = 0; round < 3; round++) {
    assertEquals(sync.echo(bytes), bytes);
  }
});

test("remoteSync() blocks a worker while its parent does not block", async () => {
  await using worker = await open();
  const { api } = connect(worker);
  exposeMain(worker, {
    double: async (n) => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      return 2 * n;
    },
  });
  assertEquals(await Promise.all([api.ask(1), api.ask(2)]), [2, 4]);
});

test("remoteSync() makes nested calls in both directions", async () => {
  await using worker = await open();
  const { sync } = connect(worker);
  exposeMain(worker, {
    double: (n) => 2 * n,
    depth: (n) => n === 0 ? 0 : 1 + sync.askDepth(n - 1),
  });
  assertEquals(sync.ask(21), 42);
  assertEquals(sync.askDepth(9), 9);
});

test("remoteSync() throws after its timeout and ignores a late answer", async () => {
  await using worker = await open();
  const { sync, api } = connect(worker);
  const { sync: short } = connect(worker, { timeout: 20 });
  const error = assertThrows(() => short.hang(), DOMException, "within 20 ms");
  assertEquals(error.name, "TimeoutError");
  assertEquals(sync.cancellation(), "TimeoutError");
  assertThrows(() => short.lateAnswer(1), DOMException, '"lateAnswer"');
  // Its answer arrives before those of the next calls.
  assertEquals([sync.open(2), sync.gated(3)], [2, 3]);
  assertEquals(await api.add(2, 2), 4);
});

test("remoteSync() keeps the answers to other calls in order", async () => {
  await using worker = await open();
  const { sync, api } = connect(worker);
  const order: unknown[] = [];
  const calls = Array.from(
    { length: 40 },
    (_, n) => api.gated(n).then((answer) => order.push(answer)),
  );
  assertEquals(sync.open(-1), -1);
  assertEquals(sync.echo(-2), -2);
  assertEquals(order, []);
  const last = api.echo("last").then((answer) => order.push(answer));
  assertEquals(sync.echo(-3), -3);
  await Promise.all([...calls, last]);
  const { length } = calls;
  const numbers = order.filter((answer) => answer !== "last");
  assertEquals(numbers, Array.from({ length }, (_, n) => n));
});

test("remoteSync() runs calls of the peer in their order meanwhile", async () => {
  await using worker = await open();
  const { sync } = connect(worker);
  const marks: number[] = [];
  exposeMain(worker, { mark: (n) => void marks.push(n) });
  const count = 50;
  assertEquals(sync.marks(count), count);
  assertEquals(sync.marks(count), count);
  const half = Array.from({ length: count }, (_, n) => n);
  assertEquals(marks, [...half, ...half]);
});

test("remoteSync() runs functions among the arguments", async () => {
  await using worker = await open();
  const { sync, api } = connect(worker);
  const double = (n: number) => 2 * n;
  assertEquals(sync.each([1, 2, 3], double), [2, 4, 6]);
  // It can block the thread again.
  const add = (n: number) => sync.add(n, 1);
  assertEquals(sync.each([1, 2, 3], add), [2, 3, 4]);
  assertThrows(
    () => sync.each([1], () => Promise.reject(new Error("Not awaited"))),
    TypeError,
    "Cannot answer a callback with a promise",
  );
  // The function of a call that does not block is answered afterwards.
  const each = api.each([5], (n) => Promise.resolve(n + 1));
  assertEquals(sync.later(1), 1);
  assertEquals(await each, [6]);
});

test("remoteSync() throws a DeadlockError in the call that began last", async () => {
  await using worker = await open();
  const sync = remoteSync<Methods>(worker);
  const { promise, resolve } = Promise.withResolvers<void>();
  exposeMain(worker, { never: () => promise });
  // The worker blocks for this program, which blocks for the worker.
  const error = assertThrows(() => sync.askNever());
  assertEquals(nameOf(error), "DeadlockError");
  assertStringIncludes((error as Error).message, "both block their threads");
  assertEquals(sync.add(1, 1), 2);
  resolve();
});

test("remoteSync() refuses a stream, and another transport", async () => {
  await using worker = await open();
  const { sync } = connect(worker);
  assertThrows(() => sync.stream(), TypeError, "its result is a stream");
  const [main, other] = duplexPair();
  assertThrows(
    () => remoteSync(main as ShmDuplex),
    TypeError,
    "open the worker with openShm",
  );
  await Promise.all([main.close(), other.close()]);
  for (const value of [undefined, null, {}, Promise.resolve(worker)]) {
    assertThrows(
      () => remoteSync(value as ShmDuplex),
      TypeError,
      "must be a duplex through shared memory",
    );
  }
  for (const value of [0, -1, NaN, "1", null, 1n]) {
    assertThrows(() =>
      remoteSync(worker, { timeout: value } as RemoteSyncOptions)
    );
  }
});

test("remoteSync() notices that the worker has ended", async () => {
  for (const how of ["throw", "close"] as const) {
    const worker = await open();
    const sync = remoteSync<Methods>(worker);
    assertThrows(() => sync.end(how), PeerExitError, "without a goodbye");
    assertThrows(() => sync.add(1, 1), PeerExitError);
    const error = await assertRejects(() => worker.closed, PeerExitError);
    // The event loop has found out why.
    assertEquals(error.cause instanceof RangeError, how === "throw");
    assertThrows(() => sync.add(1, 1), PeerExitError);
  }
});

test("remoteSync() throws when the peer aborts or closes", async () => {
  const first = await open();
  const { sync } = connect(first);
  assertThrows(() => sync.abort(), RangeError, "Aborted by a test");
  await assertRejects(() => first.closed, RangeError);
  assertThrows(() => sync.add(1, 1), RangeError, "Aborted by a test");
  await using second = await open();
  const { sync: other } = connect(second);
  assertThrows(() => other.leave(), ClosedError, 'call of "leave"');
});

test("remoteSync() throws when this end aborts or closes meanwhile", async () => {
  const first = await open();
  const { sync } = connect(first);
  const reason = new Error("Enough");
  const abort = (n: number) => {
    first.abort(reason);
    return n;
  };
  assertEquals(assertThrows(() => sync.each([1], abort)), reason);
  await assertRejects(() => first.closed, Error, "Enough");
  const second = await open();
  const { sync: other } = connect(second);
  let closed: Promise<void> | undefined;
  const close = (n: number) => {
    closed ??= second.close();
    return n;
  };
  // The answer of the callback cannot follow the goodbye.
  assertThrows(() => other.each([1], close), RemoteError, "goodbye");
  await closed;
  assertThrows(() => other.add(1, 1), ClosedError);
});

test("remoteSync() refuses arguments that cannot be sent, also if they wait", async () => {
  await using worker = await open();
  const { sync, api } = connect(worker);
  const refused = () =>
    assertThrows(() => sync.echo(Symbol("s")), TypeError, '"$[0]"');
  refused();
  // The peer has room for 8 messages.
  const notes = Array.from({ length: 30 }, (_, n) => api.note(n));
  refused();
  sync.note("sync");
  assertEquals(sync.notes(), [...Array(30).keys(), "sync"]);
  await Promise.all(notes);
  const argument = {
    get value(): number {
      return sync.add(1, 1);
    },
  };
  assertThrows(() => sync.echo(argument), TypeError);
  assertEquals(sync.add(2, 3), 5);
});

test("remoteSync() cannot return memory that is posted", async () => {
  await using worker = await open();
  const { sync, api } = connect(worker);
  const error = assertThrows(() => sync.shared(), DOMException);
  assertEquals(error.name, "InvalidStateError");
  assertInstanceOf(await api.shared(), Int32Array);
  assertEquals(sync.add(1, 1), 2);
  const shared = new Int32Array(new SharedArrayBuffer(4));
  assertEquals(sync.each([1], (n) => n), [1]);
  sync.note(shared);
});

test("remoteSync() never mixes answers of interleaved users", async () => {
  const next = random(seed());
  await using worker = await open();
  const { sync, api } = connect(worker);
  const { sync: hasty } = connect(worker, { timeout: 0.1 });
  let doubled = 0;
  exposeMain(worker, {
    double: (n) => {
      doubled++;
      return next() < 0.5 ? 2 * n : sync.add(n, n);
    },
  });
  const pending = new Set<Promise<void>>();
  let checked = 0;
  for (let step = 0; step < 1_500; step++) {
    const value = [step, "x".repeat(next() * 2_000)];
    const pick = next();
    if (pick < 0.4) {
      assertEquals(
        pick < 0.2 ? sync.echo(value) : sync.later(step),
        pick < 0.2 ? value : step,
      );
      checked++;
    } else if (pick < 0.7) {
      const call = api.echo(value).then((answer) => {
        assertEquals(answer, value);
        checked++;
        pending.delete(call);
      });
      pending.add(call);
    } else if (pick < 0.85) {
      assertEquals(sync.ask(step), 2 * step);
      checked++;
    } else {
      try {
        assertEquals(hasty.later(step), step);
      } catch (error) {
        assertEquals(nameOf(error), "TimeoutError");
      }
      checked++;
    }
    if (next() < 0.05) await Promise.all(pending);
  }
  await Promise.all(pending);
  assertEquals(checked, 1_500);
  assert(doubled > 0);
});

test("remoteSync() rebuilds errors as remote() does", async () => {
  await using worker = await open();
  const { sync } = connect(worker);
  exposeMain(worker, {
    double: () => {
      throw new DeadlockError("From a test");
    },
  });
  const error = assertThrows(() => sync.ask(1), RemoteError, "From a test");
  assertEquals(error.name, "DeadlockError");
});
