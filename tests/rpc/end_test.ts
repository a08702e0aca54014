// Copyright 2026 the Duplex authors. MIT license.

/**
 * Notifications that meet the end of their duplex.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import { ClosedError } from "@duplex/ipc/duplex";
import { duplexPair } from "@duplex/ipc/pair";
import { openPipe } from "@duplex/ipc/pipe";
import { openQueue } from "@duplex/ipc/queue";
import { expose, notifier, remote } from "@duplex/ipc/rpc";
import { openShm } from "@duplex/ipc/shm";
import { within } from "../workers/_processes.ts";

/** A worker that sends events as long as its duplex is open, and handles no error. */
const WORKER = `
  import { parent } from "${import.meta.resolve("../../parent.ts")}";
  import { expose, notifier } from "${import.meta.resolve("../../rpc.ts")}";

  const main = await parent();
  const events = notifier(main);
  let isOpen = true;
  main.closed.finally(() => isOpen = false).catch(() => {});
  function tick() {
    events.tick();
    // Some more, at the moment that the duplex closes, and after that.
    if (isOpen) setTimeout(tick);
    else setTimeout(() => events.tick());
  }
  tick();
  expose({ add: (a, b) => a + b }, main);
`;
const SCRIPT = `data:text/javascript,${encodeURIComponent(WORKER)}`;

interface Methods {
  add(a: number, b: number): number;
}

for (const open of [openPipe, openQueue, openShm]) {
  Deno.test({
    name: `notifier() needs no handler when ${open.name}() is closed`,
    permissions: {
      read: [new URL("../..", import.meta.url)],
      run: [Deno.execPath()],
    },
    fn: () =>
      within((async () => {
        for (let round = 0; round < 3; round++) {
          const enough = Promise.withResolvers<void>();
          let ticks = 0;
          const worker = await open(SCRIPT);
          const served = expose({
            tick() {
              if (++ticks === 20) enough.resolve();
            },
          }, worker);
          assertEquals(await remote<Methods>(worker).add(1, 2), 3);
          await enough.promise;
          // Neither side has an error.
          await worker.close();
          await served;
        }
      })()),
  });
}

Deno.test({
  name: "notifier() rejects handled and unhandled promises alike at the end",
  permissions: "none",
  fn: () =>
    within((async () => {
      const [main, worker] = duplexPair();
      const events = notifier<{ log(value: unknown): void }>(main);
      await Promise.all([main.close(), worker.close()]);
      events.log("ignored");
      await assertRejects(() => events.log("awaited"), ClosedError);
      const value = Symbol("not sent");
      const [left, right] = duplexPair();
      const others = notifier<{ log(value: unknown): void }>(left);
      await assertRejects(() => others.log(value), TypeError, "notify");
      left.abort(new Error("Enough"));
      others.log("ignored");
      await assertRejects(() => others.log("awaited"), Error, "Enough");
      right.abort();
    })()),
});
