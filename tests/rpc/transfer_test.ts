// Copyright 2026 the Duplex authors. MIT license.

/**
 * Buffers that are moved with calls and tasks, over every transport.
 *
 * @module
 */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type Duplex, PeerExitError } from "@duplex/ipc/duplex";
import { openPipe } from "@duplex/ipc/pipe";
import { Pool } from "@duplex/ipc/pool";
import { openQueue } from "@duplex/ipc/queue";
import { callStats, notifier, remote, transfer } from "@duplex/ipc/rpc";
import { openShm } from "@duplex/ipc/shm";
import { connect, test } from "./_ends.ts";
import { RUN, workerUrl } from "../workers/_processes.ts";
import type { TransferMethods } from "../workers/transfer.ts";

const READ = { read: [new URL("../..", import.meta.url)] };
const SCRIPT = workerUrl("transfer");
const LENGTH = 100_000;

const OPENERS: [string, Deno.PermissionOptions, () => Promise<Duplex>][] = [
  ["openPipe", RUN, () => openPipe(SCRIPT)],
  ["openQueue", READ, () => openQueue(SCRIPT)],
  ["openShm", READ, () => openShm(SCRIPT)],
];

function ones(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(LENGTH).fill(1);
}

for (const [name, permissions, open] of OPENERS) {
  test(`transfer() moves buffers of calls over ${name}()`, async () => {
    await using worker = await open();
    const api = remote<TransferMethods>(worker);
    const bytes = ones();
    assertEquals(await api.sum(transfer(bytes, [bytes.buffer])), LENGTH);
    assertEquals(bytes.buffer.detached, true);
    const [one, two] = [ones(), ones()];
    const deep = {
      list: [{ bytes: transfer(one, [one.buffer]) }, { bytes: two }],
    };
    assertEquals(await api.deepSum(deep), 2 * LENGTH);
    assertEquals([one.length, two.length], [0, LENGTH]);
    assertEquals(new Uint8Array(await api.make(3)), new Uint8Array(3).fill(7));
    const [made] = await api.makeDeep(LENGTH, () => {});
    assertEquals(made!.deep.byteLength, LENGTH);
    assertEquals(await api.detached(), 2);
  }, permissions);

  test(`transfer() moves buffers of tasks over ${name}()`, async () => {
    await using pool = new Pool<TransferMethods>(open, { workers: 2 });
    const bytes = ones();
    assertEquals(
      await pool.run("sum", [transfer(bytes, [bytes.buffer])]),
      LENGTH,
    );
    assertEquals(bytes.length, 0);
    const all = Array.from({ length: 8 }, ones);
    const moved = all.map((bytes) => transfer(bytes, [bytes.buffer]));
    assertEquals(
      await Array.fromAsync(pool.map(moved, "sum")),
      all.map(() => LENGTH),
    );
    const deep = all.map((_, index) => {
      const bytes = all[index] = ones();
      return { list: [{ bytes: transfer(bytes, [bytes.buffer]) }] };
    });
    const sums = deep.map((value) => pool.run("deepSum", [value]));
    assertEquals(await Promise.all(sums), all.map(() => LENGTH));
    assertEquals(all.map(({ length }) => length), all.map(() => 0));
    const results = await Array.fromAsync(pool.map([1, 2, 3, 4], "make"));
    assertEquals(results.map(({ byteLength }) => byteLength), [1, 2, 3, 4]);
  }, permissions);
}

test("transfer() of a task whose worker ends is not run again", async () => {
  let begun = 0;
  await using pool = new Pool<TransferMethods>(() => openPipe(SCRIPT), {
    workers: 1,
  });
  const { buffer } = ones();
  const moved = transfer(buffer, [buffer]);
  const run = pool.run("exits", [moved, () => ++begun]);
  await assertRejects(() => run, PeerExitError, "its worker ended");
  assertEquals(begun, 1);
  const deep = ones().buffer;
  const exits = pool.run as (name: string, args: unknown[]) => Promise<void>;
  const deepRun = exits.call(pool, "exits", [
    [{ deep: transfer(deep, [deep]) }],
    () => ++begun,
  ]);
  await assertRejects(() => deepRun, PeerExitError, "its worker ended");
  assertEquals(begun, 2);
  // With nothing but a buffer deep in its arguments.
  const last = ones().buffer;
  const lastRun = exits.call(pool, "exits", [[[transfer(last, [last])]]]);
  await assertRejects(() => lastRun, PeerExitError, "its worker ended");
}, RUN);

test("transfer() leaves the buffers of a call that cannot be sent", async () => {
  const { api, main } = connect({ take: (..._args: unknown[]) => {} });
  const { buffer } = ones();
  for (const value of [{ buffer, no: Symbol("x") }, [buffer, Symbol("x")]]) {
    await assertRejects(() => api.take(transfer(value, [buffer])), TypeError);
    await assertRejects(
      () => api.take(() => 1, [[transfer(value, [buffer])]]),
      TypeError,
    );
  }
  const tell = notifier<typeof api>(main);
  await assertRejects(
    () => tell.take(transfer([Symbol("x")], [buffer])),
    TypeError,
  );
  const twice = () => api.take(transfer(buffer, [buffer, buffer]));
  await assertRejects(twice, TypeError, "only once");
  assertEquals(buffer.byteLength, LENGTH);
  assertEquals(callStats(main).sent, 0);
  await tell.take([transfer(buffer, [buffer])]);
  assertEquals(buffer.detached, true);
  const other = ones().buffer;
  await api.take(transfer(other, [other]), [() => 1]);
  assertEquals(other.detached, true);
  const gone = () => api.take(transfer(buffer, [buffer]));
  await assertRejects(gone, TypeError);
  assertThrows(() => transfer(1, buffer as never), TypeError, '"buffers"');
  await main.close();
});

test("transfer() moves a buffer of two arguments once", async () => {
  const { api, main, worker } = connect({
    count: (...parts: { length: number }[]) => parts.length,
  });
  const { buffer } = ones();
  const one = new Uint8Array(buffer, 0, 1);
  const two = new Uint8Array(buffer, 1);
  const count = await api.count(
    transfer(one, [buffer]),
    transfer(two, [buffer]),
  );
  assertEquals([count, one.length, two.length], [2, 0, 0]);
  await Promise.all([main.close(), worker.closed]);
});
