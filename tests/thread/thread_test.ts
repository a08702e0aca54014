// Copyright 2026 the Duplex authors. MIT license.

/**
 * Web Workers over every transport that has them: their end, and their
 * permissions.
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
import { type Duplex, PeerExitError } from "@duplex/ipc/duplex";
import { openQueue } from "@duplex/ipc/queue";
import { openShm } from "@duplex/ipc/shm";
import type { ThreadOptions } from "@duplex/ipc/queue";
import { within, workerUrl } from "../workers/_processes.ts";
import type { ACTS } from "../workers/thread_acts.ts";

/** The permissions to read a Web Worker's script and its imports. */
const READ = { read: [new URL("../..", import.meta.url)] };

/** The transports with Web Workers; no worker is replaced. */
const TRANSPORTS = {
  openQueue: <In, Out>(script: string | URL, options: ThreadOptions = {}) =>
    openQueue<In, Out>(script, { ...options, restart: false }),
  openShm: <In, Out>(script: string | URL, options: ThreadOptions = {}) =>
    openShm<In, Out>(script, options),
};

/**
 * Gives a test access to the Web Workers that are started, to terminate them.
 */
class Workers implements Disposable {
  readonly #worker = globalThis.Worker;
  readonly started: Worker[] = [];

  constructor() {
    const { started } = this;
    globalThis.Worker = class extends this.#worker {
      constructor(specifier: string | URL, options?: WorkerOptions) {
        super(specifier, options);
        started.push(this);
      }
    };
  }

  [Symbol.dispose](): void {
    globalThis.Worker = this.#worker;
  }
}

/** Text of the error for a worker that ended in this way. */
const ENDINGS: [keyof typeof ACTS, string][] = [
  ["close", "thread_acts.ts"],
  ["throw", "The worker broke"],
  ["reject", "The worker's promise broke"],
  ["exit", "thread_acts.ts"],
  ["grow", "out of memory"],
];

for (const [name, open] of Object.entries(TRANSPORTS)) {
  for (const [act, says] of ENDINGS) {
    Deno.test({
      name: `${name}() reports a worker that ends by "${act}"`,
      permissions: READ,
      fn: () =>
        within((async () => {
          const worker = await open<string, unknown>(workerUrl("thread_acts"), {
            memory: 256 * 2 ** 20,
          });
          await worker.send(act);
          assertEquals(await worker.receive(), "about to");
          await assertDeath(worker, says);
        })()),
    });
  }

  Deno.test({
    name: `${name}() keeps no memory of rejections that a worker handles`,
    permissions: READ,
    fn: () =>
      within((async () => {
        const worker = await open<string, unknown>(workerUrl("thread_acts"), {
          // The reasons together use 400 MB.
          memory: 256 * 2 ** 20,
        });
        await worker.send("handle");
        assertEquals(await worker.receive(), "about to");
        assertEquals(await worker.receive(), "handled");
        worker.abort();
        await worker.closed.catch(() => {});
      })()),
  });

  Deno.test({
    name: `${name}() reports a worker that is terminated`,
    permissions: READ,
    fn: () =>
      within((async () => {
        using workers = new Workers();
        const worker = await open<string, unknown>(workerUrl("thread_acts"));
        await worker.send("wait");
        assertEquals(await worker.receive(), "about to");
        workers.started[0]!.terminate();
        await assertDeath(worker, "thread_acts.ts");
      })()),
  });

  Deno.test({
    name:
      `${name}() rejects with the error of a script that throws before its hello`,
    permissions: READ,
    fn: () =>
      within((async () => {
        const script = "data:text/javascript,throw new Error('Not today')";
        await assertRejects(() => open(script), PeerExitError, "Not today");
      })()),
  });

  Deno.test({
    name: `${name}() rejects if the script does not exist`,
    permissions: READ,
    fn: () =>
      within((async () => {
        const script = workerUrl("there_is_none");
        await assertRejects(() => open(script), PeerExitError, "there_is_none");
      })()),
  });

  Deno.test({
    name: `${name}() rejects if the script does not open its parent`,
    permissions: READ,
    fn: () =>
      within((async () => {
        const script = "data:text/javascript,";
        const error = await assertRejects(
          () => open(script, { openTimeout: 20 }),
          DOMException,
          "20 ms",
        );
        assertEquals(error.name, "TimeoutError");
      })()),
  });

  Deno.test({
    name: `${name}() accepts a path`,
    permissions: { ...READ, read: true },
    fn: () =>
      within((async () => {
        await using worker = await open<string, string>(
          "tests/workers/thread_facts.ts",
        );
        await worker.send("read");
        assertEquals(await worker.receive(), "prompt");
      })()),
  });

  Deno.test({
    name: `${name}() grants a worker no permission by default`,
    permissions: { ...READ, env: ["HOME"] },
    fn: () =>
      within((async () => {
        await using worker = await open<string, string>(
          workerUrl("thread_facts"),
        );
        for (const kind of ["read", "write", "net", "env", "run", "ffi"]) {
          await worker.send(kind);
          assertEquals(await worker.receive(), "prompt", kind);
        }
      })()),
  });

  Deno.test({
    name: `${name}() grants a worker exactly the given permissions`,
    permissions: { ...READ, env: true, net: true },
    fn: () =>
      within((async () => {
        await using worker = await open<string, string>(
          workerUrl("thread_facts"),
          { permissions: { env: ["HOME"] } },
        );
        const answers = [];
        for (const kind of ["env HOME", "env", "net", "read"]) {
          await worker.send(kind);
          answers.push(await worker.receive());
        }
        assertEquals(answers, ["granted", "prompt", "prompt", "prompt"]);
      })()),
  });

  Deno.test({
    name: `${name}() grants the permissions of the caller`,
    permissions: { ...READ, env: ["HOME"] },
    fn: () =>
      within((async () => {
        await using worker = await open<string, string>(
          workerUrl("thread_facts"),
          { permissions: "inherit" },
        );
        const answers = [];
        for (const kind of ["env HOME", "env", "net"]) {
          await worker.send(kind);
          answers.push(await worker.receive());
        }
        assertEquals(answers, ["granted", "prompt", "prompt"]);
      })()),
  });

  Deno.test({
    name: `${name}() rejects permissions that the caller does not have`,
    permissions: { ...READ, env: ["HOME"] },
    fn: async () => {
      using workers = new Workers();
      await assertRejects(
        () =>
          open(workerUrl("thread_facts"), { permissions: { env: ["USER"] } }),
        Deno.errors.NotCapable,
        '"env" of "USER"',
      );
      assertEquals(workers.started.length, 0);
    },
  });

  for (
    const [what, options] of [
      ["memory", { memory: 0 }],
      ["openTimeout", { openTimeout: -1 }],
    ] as const
  ) {
    Deno.test({
      name: `${name}() rejects an invalid "${what}"`,
      permissions: "none",
      fn: async () => {
        await assertRejects(() => open("data:,", options), RangeError, what);
      },
    });
  }
}

/**
 * Everything pending rejects with the same error, which contains the reason.
 */
async function assertDeath(
  worker: Duplex<unknown, unknown>,
  says: string,
): Promise<void> {
  const pending = worker.receive();
  const reason = await assertRejects(() => pending, PeerExitError);
  assertStringIncludes(reason.message, says);
  const error = await assertRejects(() => worker.send("late"));
  assert(error === reason);
  const closed = await assertRejects(() => worker.closed);
  assertInstanceOf(closed, PeerExitError);
}

/** Runs `thread_flag.ts`; returns its exit code and what it printed. */
async function runWithout(
  flags: string[],
  args: string[],
): Promise<{ code: number; text: string }> {
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-config",
      "--no-prompt",
      "--allow-read",
      ...flags,
      workerUrl("thread_flag").href,
      ...args,
    ],
    stdin: "null",
    stderr: "null",
  }).output();
  return { code, text: new TextDecoder().decode(stdout).trim() };
}

for (const transport of ["queue", "shm"]) {
  Deno.test({
    name: `openQueue() and openShm() never end the process: ${transport}`,
    permissions: { ...READ, run: [Deno.execPath()] },
    fn: async () => {
      const refused = await runWithout([], [transport, "none"]);
      assertEquals(refused.code, 0);
      assertStringIncludes(refused.text, "--unstable-worker-options");
      const flags = ["--unstable-worker-options"];
      const given = await runWithout(flags, [transport, "none"]);
      assertEquals(given, { code: 0, text: "opened" });
      const inherited = await runWithout([], [transport, "inherit"]);
      assertEquals(inherited, { code: 0, text: "opened" });
    },
  });
}
