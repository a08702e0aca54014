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
import {
  childrenOf,
  Lines,
  Processes,
  test,
  workerUrl,
} from "../workers/_processes.ts";

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

/** The error that `close` rejects with when its time is over. */
async function errorOfClose(
  end: string,
  permissions: PipeOptions["permissions"] = "none",
): Promise<PeerExitError> {
  const worker = await openEnd(end, { permissions });
  // Its goodbye has come, so that the time is for its exit.
  await assertRejects(() => worker.receive(), ClosedError);
  const error = await assertRejects(
    () => worker.close({ timeout: 100 }),
    PeerExitError,
  );
  assertEquals(await assertRejects(() => worker.closed), error);
  return error;
}

/** The error of a worker that this side ends, and how it was ended. */
interface Case {
  readonly act: () => Promise<unknown>;
  readonly message: string;
  readonly kind: new (...args: never[]) => Error;
  readonly code?: number | null;
  readonly signal?: string | null;
}

/** A number of milliseconds up to the timeout, of which the goodbyes took a part. */
const LATE = "did not exit within N ms after the last goodbye";

const CASES: Record<string, Case> = {
  "a worker that stays after its goodbye": {
    act: () => errorOfClose("stays"),
    message:
      `The worker "ends.ts" ${LATE} and was ended by this side with SIGTERM`,
    kind: PeerExitError,
    signal: "SIGTERM",
  },
  "a worker that stays and ignores SIGTERM": {
    act: () => errorOfClose("ignores"),
    message:
      `The worker "ends.ts" ${LATE}, nor within 1000 ms after SIGTERM, and was ended by this side with SIGKILL; stderr: "got SIGTERM"`,
    kind: PeerExitError,
    signal: "SIGKILL",
  },
  "a worker that exits at SIGTERM": {
    act: () => errorOfClose("obeys"),
    message:
      `The worker "ends.ts" ${LATE}, got SIGTERM from this side and exited with code 9`,
    kind: PeerExitError,
    code: 9,
  },
  "a worker that crashes at SIGTERM": {
    act: () => errorOfClose("crashes", { run: true }),
    message:
      `The worker "ends.ts" ${LATE}, got SIGTERM from this side and was ended by SIGQUIT`,
    kind: PeerExitError,
    signal: "SIGQUIT",
  },
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
  const text = error.message.replace(/\b\d+ ms after the/, "N ms after the");
  assertStringIncludes(text, message, name);
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
  const worker = await openEnd("stays", { closeTimeout: Infinity });
  await worker.writable.close();
  await assertRejects(() => worker.receive(), ClosedError);
  const error = await assertRejects(
    () => worker.close({ timeout: 50 }),
    ClosedError,
    "within 50 ms",
  );
  assertStringIncludes(error.message, 'the link to "worker" did not end');
});
