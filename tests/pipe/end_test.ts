// Copyright 2026 the Duplex authors. MIT license.

/**
 * How a pipe ends a child that does not end by itself: the error says why it was
 * ended, and no process, file descriptor or timer is left.
 *
 * @module
 */

import {
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { ClosedError, PeerExitError, ProtocolError } from "../../duplex.ts";
import { openPipe, type PipeDuplex, type PipeOptions } from "../../pipe.ts";
import { expose } from "../../rpc.ts";
import {
  allDone,
  childrenOf,
  Lines,
  Processes,
  RUN,
  test,
  workerUrl,
} from "../workers/_processes.ts";
import { concat, control, hello, KIND } from "../workers/_wire.ts";

/** Opens a worker of `ends.ts`. */
function openEnd(end: string, options: PipeOptions = {}): Promise<PipeDuplex> {
  return openPipe(workerUrl("ends"), {
    stderr: "null",
    ...options,
    args: [end],
  });
}

const IS_LINUX = Deno.build.os === "linux";

/** The open file descriptors of this process, where the system shows them. */
function descriptors(): string[] {
  if (!IS_LINUX) return [];
  const found: string[] = [];
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      found.push(`${name} ${Deno.readLinkSync(`/proc/self/fd/${name}`)}`);
    } catch {
      // The descriptor of this look itself is closed by now.
    }
  }
  return found.filter((link) => !link.includes("/proc/")).sort();
}

/** The error of a worker that this side ends, and how it was ended. */
interface Case {
  readonly act: () => Promise<unknown>;
  readonly message: string;
  readonly kind: new (...args: never[]) => Error;
  readonly code?: number | null;
  readonly signal?: string | null;
}

const CASES: Record<string, Case> = {
  "a worker that closes its output and stays": {
    async act() {
      const worker = await openPipe({
        command: "sh",
        args: [
          "-c",
          '"$@"; exec >&-; exec sleep 60',
          "sh",
          ...[Deno.execPath(), "run", "--quiet"],
          ...[workerUrl("ends").pathname, "greets"],
        ],
      });
      return await assertRejects(() => worker.receive());
    },
    message:
      'The worker "sh" closed its standard input or output without a goodbye, did not exit within 1000 ms and was ended by this side with SIGTERM',
    kind: PeerExitError,
    signal: "SIGTERM",
  },
  "a worker that does not send goodbye": {
    async act() {
      const lines = new Lines();
      const worker = await openEnd("computes", { stderr: lines.take });
      await worker.send("compute");
      await lines.until("computing");
      return await assertRejects(() => worker.close({ timeout: 100 }));
    },
    message: '"worker" did not send its goodbye within 100 ms',
    kind: ClosedError,
  },
  "a worker that computes and is aborted": {
    async act() {
      const lines = new Lines();
      const worker = await openEnd("computes", { stderr: lines.take });
      await worker.send("compute");
      await lines.until("computing");
      worker.abort(new RangeError("Enough"));
      return await assertRejects(() => worker.closed);
    },
    message: "Enough",
    kind: RangeError,
  },
  "a worker that says no hello": {
    act: () => assertRejects(() => openEnd("silent", { openTimeout: 200 })),
    message:
      'Cannot open a pipe to "ends.ts": it did not send its hello within 200 ms',
    kind: DOMException,
  },
  "a worker that breaks the protocol and stays": {
    async act() {
      const worker = await openEnd("faults");
      return await assertRejects(() => worker.closed);
    },
    message: "message 7: the next one must be 1",
    kind: ProtocolError,
  },
  "a worker that aborts and stays": {
    async act() {
      const worker = await openEnd("aborts");
      return await assertRejects(() => worker.closed);
    },
    message: "enough",
    kind: Error,
  },
  "a worker whose lines make a function throw": {
    async act() {
      const worker = await openEnd("prints", {
        stderr() {
          throw new SyntaxError("Cannot read it");
        },
      });
      return await assertRejects(() => worker.closed);
    },
    message: "Cannot read it",
    kind: SyntaxError,
  },
};

/** Ends a worker, and looks at the error. */
async function check(name: string, expected: Case): Promise<void> {
  const { act, message, kind, ...how } = expected;
  const error = await act();
  assertInstanceOf(error, kind, name);
  assertStringIncludes(error.message, message, name);
  if (!(error instanceof PeerExitError)) return;
  const { code, signal } = error;
  assertEquals({ code, signal }, { code: null, signal: null, ...how }, name);
}

test(
  "openPipe() says why it ended a worker, and leaves nothing behind",
  async () => {
    // What this process opens once, for all children, is there from here on.
    await (await openEnd("echoes")).close();
    using processes = new Processes();
    const before = descriptors();
    const cases = Object.entries(CASES);
    await Promise.all(cases.map(([name, expected]) => check(name, expected)));
    assertEquals([processes.started, processes.running], [cases.length, 0]);
    if (IS_LINUX) assertEquals(childrenOf(Deno.pid), []);
    assertEquals(descriptors(), before);
  },
  "inherit",
);

test("PipeDuplex.abort() ends a worker that is being closed after its goodbye", async () => {
  using processes = new Processes();
  const worker = await openEnd("stays");
  const closing = worker.close({ timeout: Infinity });
  await assertRejects(() => worker.receive(), ClosedError);
  worker.abort(new Error("Enough"));
  await closing;
  await assertRejects(() => worker.closed, Error, "Enough");
  assertEquals(processes.running, 0);
});

test("PipeDuplex.close() keeps to its timeout when the goodbyes were sent before", async () => {
  using processes = new Processes();
  const worker = await openEnd("stays", { closeTimeout: Infinity });
  await worker.writable.close();
  await assertRejects(() => worker.receive(), ClosedError);
  await worker.close({ timeout: 50 });
  await worker.closed;
  assertEquals(processes.running, 0);
});

/** Workers that stay after both goodbyes, and what they print at SIGTERM. */
const STAYING: Record<string, string[]> = {
  stays: [],
  ignores: ["got SIGTERM"],
  obeys: ["got SIGTERM"],
  computesAfter: [],
};

async function closeStaying(end: string, printed: string[]): Promise<void> {
  const lines = new Lines();
  const worker = await openEnd(end, { stderr: lines.take });
  await worker.send("message");
  await assertRejects(() => worker.receive(), ClosedError);
  await worker.close({ timeout: 100 });
  await worker.closed;
  assertEquals(lines.all, printed, end);
}

test("PipeDuplex.close() resolves when it ends a worker that stays after its goodbye", async () => {
  using processes = new Processes();
  const cases = Object.entries(STAYING);
  await allDone(cases.map(([end, printed]) => closeStaying(end, printed)));
  assertEquals([processes.started, processes.running], [cases.length, 0]);
});

test("PipeDuplex.close() rejects when it ends a worker that has not received everything", async () => {
  const worker = await openEnd("leaves");
  await worker.send("not received");
  await assertRejects(() => worker.receive(), ClosedError);
  const error = await assertRejects(
    () => worker.close({ timeout: 100 }),
    PeerExitError,
    "ms after the last goodbye and was ended by this side with SIGTERM",
  );
  assertEquals([error.signal, error.code], ["SIGTERM", null]);
  assertEquals(error.unsent, ["not received"]);
  assertEquals(await assertRejects(() => worker.closed), error);
});

const FOLDER = new URL("../workers", import.meta.url).pathname;
const NET = { net: ["127.0.0.1:0"] };

/** Workers that would run forever after both goodbyes; their scripts have ended. */
const ALIVE: Record<string, PipeOptions["permissions"]> = {
  aTimer: "none",
  aTimerAlone: "none",
  aListener: NET,
  aWatcher: { read: [FOLDER] },
  notifies: "none",
  notifiesAlone: "none",
};

async function closeAlive(
  end: string,
  permissions: PipeOptions["permissions"],
): Promise<void> {
  const worker = await openEnd(end, {
    permissions: permissions!,
    closeTimeout: Infinity,
  });
  await using _closed = worker;
  if (end.startsWith("notifies")) {
    const { promise, resolve } = Promise.withResolvers<void>();
    expose({ tick: resolve }, worker);
    await promise;
  }
}

test(
  "parent() ends a process after both goodbyes although its event loop runs",
  async () => {
    using processes = new Processes();
    await allDone(
      Object.entries(ALIVE).map(([end, permissions]) =>
        closeAlive(end, permissions)
      ),
    );
    assertEquals([processes.started, processes.running], [6, 0]);
  },
  { ...RUN, ...NET, read: [FOLDER] },
);

test("parent() ends a process whose parent says hello and goodbye at once", async () => {
  const args = ["run", "-A", "--quiet", workerUrl("ends").pathname];
  const child = new Deno.Command(Deno.execPath(), {
    args: [...args, "aTimerAlone"],
    stdin: "piped",
    stdout: "null",
  }).spawn();
  // Standard input stays open: its end would end the process as well.
  const writer = child.stdin.getWriter();
  await writer.write(
    concat(hello(), control(KIND.goodbye, { sent: 0, taken: 0 })),
  );
  assertEquals((await child.status).code, 0);
  await writer.close().catch(() => {});
});

test("PipeDuplex.close() rejects with the exit code that a worker sets for itself", async () => {
  const worker = await openEnd("fails", { closeTimeout: Infinity });
  const error = await assertRejects(() => worker.close(), PeerExitError);
  assertEquals([error.code, error.signal], [7, null]);
});

test("parent() lets a script complete what it awaits after both goodbyes", async () => {
  const lines = new Lines();
  const worker = await openEnd("cleansUp", { stderr: lines.take });
  await worker.close();
  assertEquals(lines.all, ["cleaned up", "unload"]);
});
