// Copyright 2026 the Duplex authors. MIT license.

/**
 * What is left of a duplex that was closed or could not be opened: no process, no
 * listener of a signal or of the program. Deno's own checks find timers, operations and
 * Web Workers.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import type { Duplex } from "../../duplex.ts";
import { openPipe } from "../../pipe.ts";
import { Pool } from "../../pool.ts";
import { openQueue } from "../../queue.ts";
import { openShm } from "../../shm.ts";
import { listenSocket, openSocket } from "../../socket.ts";
import { CountedSignal } from "../rpc/_ends.ts";
import { Processes, test, workerUrl } from "../workers/_processes.ts";

/** Counts the listeners of the program that were added and not removed. */
class GlobalListeners implements Disposable {
  readonly #add = globalThis.addEventListener;
  readonly #remove = globalThis.removeEventListener;
  readonly types: string[] = [];

  constructor() {
    globalThis.addEventListener = (
      ...args: Parameters<typeof addEventListener>
    ) => {
      this.types.push(args[0]);
      this.#add.apply(globalThis, args);
    };
    globalThis.removeEventListener = (
      ...args: Parameters<typeof removeEventListener>
    ) => {
      this.types.splice(this.types.indexOf(args[0]), 1);
      this.#remove.apply(globalThis, args);
    };
  }

  [Symbol.dispose](): void {
    globalThis.addEventListener = this.#add;
    globalThis.removeEventListener = this.#remove;
  }
}

interface Opening {
  signal: AbortSignal;
  openTimeout: number;
}

const OPENERS: Record<
  string,
  (script: string | URL, options: Opening) => Promise<Duplex>
> = {
  pipe: (script, options) =>
    openPipe(script, { ...options, stderr: "null", args: ["echo"] }),
  detached: (script, options) =>
    openPipe(script, {
      ...options,
      stderr: "null",
      detached: true,
      args: ["echo"],
    }),
  queue: (script, options) => openQueue(script, { ...options, workers: 2 }),
  shm: openShm,
};

/** A script that stays and never opens its parent. */
const SILENT = "data:text/javascript,setTimeout(() => {}, 1e6)";
const FAILING = "data:text/javascript,null.x";
const ECHO = `data:text/javascript,${
  encodeURIComponent(
    `import { parent } from "${import.meta.resolve("../../parent.ts")}";
    await using main = await parent();
    for await (const message of main) await main.send(message);`,
  )
}`;

const WAYS: Record<
  string,
  (open: typeof OPENERS[string], counted: CountedSignal) => Promise<unknown>
> = {
  close: async (open, { signal }) => {
    await using worker = await open(ECHO, { signal, openTimeout: 60_000 });
    await worker.send(1);
    assertEquals(await worker.receive({ signal }), 1);
  },
  abort: async (open, { signal }) => {
    const worker = await open(ECHO, { signal, openTimeout: 60_000 });
    const receiving = worker.receive({ signal });
    worker.abort(new Error("Enough"));
    await assertRejects(() => receiving, Error, "Enough");
    await assertRejects(() => worker.closed, Error, "Enough");
  },
  "a failing script": (open, { signal }) =>
    assertRejects(() => open(FAILING, { signal, openTimeout: 60_000 })),
  "a missing script": (open, { signal }) =>
    assertRejects(() =>
      open(workerUrl("missing"), { signal, openTimeout: 60_000 })
    ),
  "a timeout": (open, { signal }) =>
    assertRejects(() => open(SILENT, { signal, openTimeout: 50 })),
  "a signal": (open, { signal, abort }) => {
    const opening = open(SILENT, { signal, openTimeout: 60_000 });
    setTimeout(abort, 50);
    return assertRejects(() => opening, RangeError, "Enough");
  },
};

for (const [transport, open] of Object.entries(OPENERS)) {
  test(
    `Duplex leaves nothing behind when it is closed or cannot be opened: ${transport}`,
    async (t) => {
      for (const [way, act] of Object.entries(WAYS)) {
        await t.step(way, async () => {
          using listeners = new GlobalListeners();
          using processes = new Processes();
          const counted = new CountedSignal();
          await act(open, counted);
          assertEquals([counted.count, processes.running], [0, 0]);
          assertEquals(listeners.types, []);
        });
      }
    },
    "inherit",
  );
}

test("openSocket() and listenSocket() leave nothing behind", async () => {
  using listeners = new GlobalListeners();
  const counted = new CountedSignal();
  const { signal } = counted;
  const folder = await Deno.makeTempDir();
  for (const address of ["tcp://127.0.0.1:0", `unix:${folder}/socket`]) {
    const listener = listenSocket(address);
    const accepting = listener.accept({ signal });
    const main = await openSocket(listener.address, { signal });
    await Promise.all([main.close(), (await accepting).close()]);
    const waiting = listener.accept({ signal });
    await Promise.all([listener.close(), assertRejects(() => waiting)]);
    await assertRejects(() => openSocket(listener.address, { signal }));
  }
  await Deno.remove(folder, { recursive: true });
  assertEquals([counted.count, listeners.types], [0, []]);
}, "inherit");

test(
  "Pool leaves nothing behind when its workers cannot be started",
  async () => {
    using processes = new Processes();
    const { signal } = new CountedSignal();
    const pool = new Pool(
      () => openPipe(FAILING, { stderr: "null", signal }),
      { workers: 1, startTimeout: 200 },
    );
    await assertRejects(() => pool.run("none", []));
    await pool.close().catch(() => {});
    assertEquals(processes.running, 0);
  },
  "inherit",
);
