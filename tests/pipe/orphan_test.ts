// Copyright 2026 the Duplex authors. MIT license.

/**
 * What happens to a worker whose parent ends: what README.md and PROTOCOL.md say about
 * it, a test for each sentence. Most parents are programs that get a signal, and cannot
 * end anything themselves.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { isRunning, test, workerUrl } from "../workers/_processes.ts";

const EXEC = Deno.execPath();
const RUN_ALL = ["run", "-A", "--quiet", "--unstable-worker-options"];
const PYTHON = new URL("../../examples/hello/", import.meta.url).pathname;

/** Whether a program is there to be started. */
function has(command: string): boolean {
  try {
    return new Deno.Command(command, { args: ["--version"] }).outputSync()
      .success;
  } catch {
    return false;
  }
}

const HAS_PYTHON = has("python3");
const HAS_SETPRIV = Deno.build.os === "linux" && has("setpriv");

/** Waits for the end of a process that is not a child of this one. */
async function untilGone(pid: number): Promise<void> {
  while (isRunning(pid)) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/**
 * Starts a program and ends it with a signal once its worker is ready; returns the
 * worker's id. Without a signal the program ends by itself.
 */
async function leave(
  signal: Deno.Signal | undefined,
  script: string,
  ...args: string[]
): Promise<number> {
  const program = new Deno.Command(EXEC, {
    args: [...RUN_ALL, workerUrl(script).pathname, ...args],
    env: { PYTHONPATH: PYTHON, PYTHONDONTWRITEBYTECODE: "1" },
    stdout: "piped",
    stderr: signal === undefined ? "null" : "inherit",
  }).spawn();
  const reader = program.stdout.getReader();
  const { value } = await reader.read();
  const pid = Number(new TextDecoder().decode(value));
  assert(pid > 0, `${args}: there is no worker ${pid}`);
  if (signal !== undefined) {
    assert(isRunning(pid), `${args}: the worker ${pid} has ended`);
    program.kill(signal);
  }
  const status = await program.status;
  assertEquals(status.signal, signal ?? null);
  await reader.cancel();
  return pid;
}

/** Kills a program once its worker is ready; returns the worker's id. */
async function orphanOf(script: string, ...args: string[]): Promise<number> {
  return await leave("SIGKILL", script, ...args);
}

/** Makes orphans and waits for the end of all of them. */
async function allEnd(orphans: Promise<number>[]): Promise<void> {
  const pids = await Promise.all(orphans);
  try {
    await Promise.all(pids.map(untilGone));
  } finally {
    pids.forEach(kill);
  }
}

function kill(pid: number): void {
  if (isRunning(pid)) Deno.kill(pid, "SIGKILL");
}

/** The states in which `workers/orphan.ts` leaves its child behind. */
const STATES = [
  "starting",
  "idle",
  "busy",
  "printing",
  "sending",
  "heardGoodbye",
  "saidGoodbye",
  "bothGoodbyes",
  "aborted",
  "heardAbort",
];

test("parent() ends a worker whose parent was killed", async () => {
  await allEnd([
    ...STATES.map((state) => orphanOf("orphan", state)),
    orphanOf("leaver", "wait", ...endOf("late")),
  ]);
}, "inherit");

// `terminal_test.ts` has the signals of a terminal: SIGINT and SIGHUP.
test("parent() ends a worker whose parent got SIGTERM", async () => {
  await allEnd(
    ["starting", "idle", "busy"].map((state) =>
      leave("SIGTERM", "orphan", state)
    ),
  );
}, "inherit");

test("openPipe() kills a worker when its program exits", async () => {
  await allEnd(
    ["starting", "idle", "spinning"].map((state) =>
      leave(undefined, "orphan", state, "exit")
    ),
  );
}, "inherit");

test("parent() ends a worker whose program fails", async () => {
  await allEnd([
    ...["starting", "idle", "busy"].map((state) =>
      leave(undefined, "orphan", state, "throw")
    ),
    // Deno kills a child that is not detached.
    leave(undefined, "orphan", "spinning", "throwAttached"),
  ]);
}, "inherit");

/** The command that runs an end of `workers/ends.ts`. */
function endOf(name: string): string[] {
  return [EXEC, ...RUN_ALL, workerUrl("ends").pathname, name];
}

test(
  "openPipe() does not end a command with its parent",
  async () => {
    const stays = await orphanOf("leaver", "wait", ...endOf("neverReads"));
    try {
      // This one reads the end of its standard input.
      await allEnd([orphanOf("leaver", "wait", ...endOf("reads"))]);
      assertEquals(isRunning(stays), true);
    } finally {
      kill(stays);
    }
  },
  "inherit",
);

test(
  "openShm() ends a busy worker with its process",
  async () => {
    await allEnd([orphanOf("leaver", "thread")]);
  },
  "inherit",
);

if (HAS_SETPRIV) {
  test(
    "openPipe() of setpriv ends a program that does not read",
    async () => {
      const command = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        ...endOf("neverReads"),
      ];
      await allEnd([orphanOf("leaver", "wait", ...command)]);
    },
    "inherit",
  );
}

/** A worker in Python that is ready where a comment says so, and then stays. */
function python(program: string): string[] {
  const ready = 'sys.stderr.write("ready %d\\n" % os.getpid())';
  const head = "import os, sys, time\nfrom duplex import Duplex\n";
  return ["python3", "-c", head + program.replace("# ready", ready)];
}

const PYTHONS: [string, string][] = [
  ["wait", "main = Duplex()\n# ready\nmain.receive()\ntime.sleep(60)"],
  ["wait", "main = Duplex()\n# ready\nwhile True: pass"],
  ["wait", "main = Duplex()\n# ready\ntime.sleep(60)"],
  ["close", "main = Duplex()\nfor _ in main: pass\n# ready\ntime.sleep(60)"],
  ["close", "main = Duplex()\nmain.close()\n# ready\ntime.sleep(60)"],
];

if (HAS_PYTHON) {
  test("duplex.py ends a worker whose parent was killed", async () => {
    await allEnd(
      PYTHONS.map(([then, program]) =>
        orphanOf("leaver", then, ...python(program))
      ),
    );
  }, "inherit");
}
