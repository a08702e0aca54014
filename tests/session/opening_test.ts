// Copyright 2026 the Duplex authors. MIT license.

/**
 * The option `signal` of the functions that start a worker: it cancels an
 * opening at any moment, and the worker that was started ends.
 *
 * @module
 */

import { assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { openPipe } from "@duplex/ipc/pipe";
import { openQueue } from "@duplex/ipc/queue";
import { openShm } from "@duplex/ipc/shm";
import { openSocket } from "@duplex/ipc/socket";
import { within } from "../workers/_processes.ts";

function script(source: string): string {
  return `data:text/javascript,${encodeURIComponent(source)}`;
}

/** A script that loads, and never calls `parent`. */
const SILENT = script("setInterval(() => {}, 1_000);");

const ECHO = `
  import { parent } from "${import.meta.resolve("../../parent.ts")}";
  await using main = await parent();
  for await (const message of main) await main.send(message);
`;

for (const open of [openPipe, openQueue, openShm]) {
  const permissions = { run: [Deno.execPath()], read: true };
  Deno.test({
    name: `${open.name}() rejects with the reason of a signal while it opens`,
    permissions,
    fn: () =>
      within((async () => {
        const stop = new AbortController();
        const reason = new Error("No longer needed");
        const opening = open(SILENT, { signal: stop.signal });
        setTimeout(() => stop.abort(reason));
        assertStrictEquals(await assertRejects(() => opening), reason);
      })()),
  });

  Deno.test({
    name: `${open.name}() starts nothing if its signal has aborted`,
    permissions: "none",
    fn: async () => {
      const reason = new Error("No longer needed");
      const signal = AbortSignal.abort(reason);
      const error = await assertRejects(() => open(SILENT, { signal }));
      assertStrictEquals(error, reason);
    },
  });

  Deno.test({
    name: `${open.name}() rejects a signal of the wrong type`,
    permissions: "none",
    fn: async () => {
      const signal = "stop" as unknown as AbortSignal;
      await assertRejects(
        () => open(SILENT, { signal }),
        TypeError,
        '"signal" must be an AbortSignal',
      );
    },
  });

  Deno.test({
    name: `${open.name}() ignores a signal that aborts after it has opened`,
    permissions,
    fn: () =>
      within((async () => {
        const stop = new AbortController();
        const { signal } = stop;
        const worker = await open<string>(script(ECHO), {
          signal,
          permissions: { read: true },
        });
        stop.abort();
        await worker.send("still here");
        assertEquals(await worker.receive(), "still here");
        await worker.close();
      })()),
  });
}

Deno.test({
  name: "openSocket() rejects a signal of the wrong type",
  permissions: "none",
  fn: async () => {
    const signal = {} as unknown as AbortSignal;
    await assertRejects(
      () => openSocket("tcp://127.0.0.1:1", { signal }),
      TypeError,
      '"signal" must be an AbortSignal',
    );
  },
});
