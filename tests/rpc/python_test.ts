// Copyright 2026 the Duplex authors. MIT license.

/**
 * Methods in another language, called as PROTOCOL.md says, alone and in a pool.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import { openPipe } from "@duplex/ipc/pipe";
import { Pool } from "@duplex/ipc/pool";
import { callStats, remote, RemoteError } from "@duplex/ipc/rpc";
import { test } from "../workers/_processes.ts";

interface Methods {
  square(n: number): number;
  divide(a: number, b: number): number;
  thing(): unknown;
}

const PYTHON = "python3";
const script = new URL("../../examples/hello/methods.py", import.meta.url);

function open() {
  return openPipe({ command: PYTHON, args: [script.pathname] });
}

test("remote() calls methods in Python", async () => {
  await using worker = await open();
  const api = remote<Methods>(worker);
  assertEquals(await api.square(7), 49);
  const error = await assertRejects(
    () => api.divide(1, 0),
    RemoteError,
    "division by zero",
  );
  assertEquals(error.name, "ZeroDivisionError");
  await assertRejects(() => api.thing(), RemoteError, "object");
  assertEquals(await api.square(8), 64);
  const other = remote<{ cube(n: number): number }>(worker);
  await assertRejects(() => other.cube(1), TypeError, "Cannot call 'cube'");
  // A function that cannot be used there is released.
  const square = api.square as unknown as (f: () => void) => Promise<void>;
  await assertRejects(() => square(() => {}), TypeError, "functions");
  const { readable, writable } = new TransformStream();
  const streams = api.square as unknown as (s: unknown) => Promise<void>;
  await assertRejects(
    () => streams([readable, writable]),
    TypeError,
    "streams",
  );
  assertEquals(await api.square(9), 81);
  assertEquals(callStats(worker).sent, 0);
}, { run: [PYTHON] });

test("Pool maps over workers in Python", async () => {
  await using pool = new Pool<Methods>(open, { workers: 2 });
  const items = Array.from({ length: 500 }, (_, index) => index);
  assertEquals(
    await Array.fromAsync(pool.map(items, "square")),
    items.map((n) => n * n),
  );
}, { run: [PYTHON] });
