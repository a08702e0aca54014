// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a pipe promises while all goes well, or ends as it may end. What goes
 * wrong is in `pipe_fault_test.ts`.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertFalse,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { ClosedError, PeerExitError } from "../../duplex.ts";
import { openPipe, type PipeDuplex, type PipeOptions } from "../../pipe.ts";
import {
  Lines,
  Processes,
  RUN,
  test,
  workerUrl,
} from "../workers/_processes.ts";

const ACTS = workerUrl("acts");

/** Opens a worker that plays one act of `acts.ts`. */
function open<T = unknown>(
  act: string,
  options: PipeOptions = {},
): Promise<PipeDuplex<T>> {
  const { args = [], ...rest } = options;
  return openPipe<T>(ACTS, { ...rest, args: [act, ...args] });
}

test("openPipe() sends and receives", async () => {
  using processes = new Processes();
  const worker = await open("echo");
  for (const message of ["text", undefined, 1n, { a: [new Date(0)] }]) {
    await worker.send(message);
    assertEquals(await worker.receive(), message);
  }
  assertNotEquals(worker.pid, Deno.pid);
  assertEquals(processes.running, 1);
  await worker.close();
  await worker.closed;
  assertEquals(processes.running, 0);
});

test("openPipe() accepts a path as well as a URL", async () => {
  const worker = await openPipe(ACTS.pathname, { args: ["echo"] });
  await worker.send("by path");
  assertEquals(await worker.receive(), "by path");
  await worker.close();
});

test("openPipe() closes at the end of an await using block", async () => {
  using processes = new Processes();
  {
    await using worker = await open("echo");
    await worker.send("kept");
    assertEquals(await worker.receive(), "kept");
  }
  assertEquals([processes.started, processes.running], [1, 0]);
});

test("openPipe() opens several workers at once", async () => {
  const workers = await Promise.all(
    ["a", "b", "c"].map(() => open<string>("echo")),
  );
  await Promise.all(
    workers.map((worker, index) => worker.send(`for ${index}`)),
  );
  const answers = await Promise.all(workers.map((worker) => worker.receive()));
  assertEquals(answers, ["for 0", "for 1", "for 2"]);
  assertEquals(new Set(workers.map((worker) => worker.pid)).size, 3);
  await Promise.all(workers.map((worker) => worker.close()));
});

test("openPipe() grants no permission by default", async () => {
  await using worker = await open<Record<string, string>>("probe");
  const results = await worker.receive();
  assertEquals(Object.keys(results).length, 11);
  for (const [name, result] of Object.entries(results)) {
    assertMatch(result, /Requires .* access/, name);
  }
});

test(
  "openPipe() starts a child with given variables only if clearEnv is set",
  async () => {
    Deno.env.set("DUPLEX_INHERITED", "inherited");
    for (const clearEnv of [false, true]) {
      const worker = await open<Record<string, string>>("environment", {
        clearEnv,
        env: { DUPLEX_TEST: "a value" },
        permissions: { env: true },
      });
      const { DUPLEX_TEST, DUPLEX_INHERITED } = await worker.receive();
      assertEquals(DUPLEX_TEST, "a value");
      assertEquals(DUPLEX_INHERITED, clearEnv ? undefined : "inherited");
      await worker.close();
    }
    Deno.env.delete("DUPLEX_INHERITED");
  },
  { ...RUN, env: true },
);

test(
  "openPipe() passes arguments, variables and the folder",
  async () => {
    const args = ["--allow-all", "", "a b", "größe"];
    const cwd = await Deno.realPath(new URL("../workers/", import.meta.url));
    await using worker = await open("context", {
      args,
      cwd,
      env: { DUPLEX_TEST: "a value" },
      permissions: { read: [cwd], env: ["DUPLEX_TEST"] },
    });
    assertEquals(
      await worker.receive(),
      [["context", ...args], cwd, "a value"],
    );
  },
  { ...RUN, read: true, env: ["DUPLEX_TEST"] },
);

test(
  "openPipe() finds a relative script wherever the child works",
  async () => {
    const cwd = new URL("../workers/", import.meta.url);
    const here = `${Deno.cwd()}/`;
    assert(ACTS.pathname.startsWith(here));
    await using worker = await openPipe(ACTS.pathname.slice(here.length), {
      args: ["echo"],
      cwd,
    });
    await worker.send("found");
    assertEquals(await worker.receive(), "found");
  },
  { ...RUN, read: true },
);

test("openPipe() gives the lines of stderr to a function", async () => {
  const lines: string[] = [];
  const worker = await open("stderr", { stderr: (line) => lines.push(line) });
  for await (const message of worker) await worker.send(message);
  await worker.close();
  const cut = "x".repeat(65_536);
  assertEquals(
    lines,
    [
      "one",
      "two",
      "",
      "snow ☃ man",
      cut,
      cut,
      "x".repeat(150_000 - 2 * 65_536),
      "last",
    ],
  );
});

test("openPipe() ends the worker when the function for stderr throws", async () => {
  const thrown = new TypeError("I cannot read");
  using processes = new Processes();
  const worker = await open("console", {
    stderr() {
      throw thrown;
    },
  });
  assertEquals(await assertRejects(() => worker.closed, TypeError), thrown);
  assertEquals(processes.running, 0);
});

test("PipeDuplex.close() rejects with what the function for stderr threw", async (t) => {
  // Before the hello, between, and after both goodbyes; by a promise as well.
  const cases: [act: string, line: string, isAsync: boolean][] = [
    ["prints", "before, and 1/2 of a line", false],
    ["console", "a log", false],
    ["console", "a log", true],
    ["partsWithALine", "the last line", false],
  ];
  for (const [act, line, isAsync] of cases) {
    await t.step(`${act}${isAsync ? " later" : ""}`, async () => {
      using processes = new Processes();
      const thrown = new TypeError("I cannot read");
      const fail = (text: string) => {
        if (text === line) throw thrown;
      };
      const error = await assertRejects(async () => {
        await using _worker = await open(act, {
          stderr: isAsync ? async (text) => await fail(text) : fail,
        });
      }, TypeError);
      assertEquals(error, thrown);
      assertEquals([processes.started, processes.running], [1, 0]);
    });
  }
});

/** Runs a program that opens a pipe, and gives what it printed. */
async function runOpener(...args: string[]): Promise<[string, string]> {
  const script = workerUrl("opener").pathname;
  const run = `--allow-run=${Deno.execPath()}`;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", run, script, ...args],
  }).output();
  const decoder = new TextDecoder();
  return [decoder.decode(stdout), decoder.decode(stderr)];
}

test("openPipe() does not wait for a function for stderr that never ends", async () => {
  const worker = await open("leaves", {
    stderr: () => new Promise<void>(() => {}),
  });
  await worker.close();
});

test("openPipe() passes stderr on to its own by default", async () => {
  const [stdout, stderr] = await runOpener("inherit", "prints");
  assertMatch(stdout, /^child \d+\nsound\n$/);
  assertEquals(stderr, "before, and 1/2 of a line\n\0\0\0\x05\x01DUP\n");
});

test("openPipe() drops stderr if it is null", async () => {
  const [stdout, stderr] = await runOpener("null", "prints");
  assertMatch(stdout, /^child \d+\nsound\n$/);
  assertEquals(stderr, "");
});

test("openPipe() gives text before the hello to the function for stderr", async () => {
  const lines: string[] = [];
  const worker = await open("prints", { stderr: (line) => lines.push(line) });
  await worker.send("sound");
  assertEquals(await worker.receive(), "sound");
  await worker.close();
  assertEquals(lines, ["before, and 1/2 of a line", "\0\0\0\x05\x01DUP"]);
});

test("openPipe() keeps what console prints away from the messages", async () => {
  const lines: string[] = [];
  const worker = await open("console", { stderr: (line) => lines.push(line) });
  assertEquals(await worker.receive(), "sound");
  await worker.close();
  const text = lines.join("\n");
  for (
    const part of [
      ..."log info debug warn error".split(" "),
      ...['{ a: "dir" }', "a dirxml", "table", "a count: 1", "an assert"],
      ...["a trace", "a group", "inside", "a collapsed group", "and more"],
    ]
  ) {
    assertStringIncludes(text, part);
  }
  assertEquals(lines.filter((line) => line === "a count: 1").length, 2);
  assertEquals(text.match(/a time: .*ms/g)?.length, 2);
});

test("openPipe() ends a worker that needs more memory than it may", async () => {
  const worker = await open("hog", { memory: 32 * 2 ** 20, stderr: "null" });
  await worker.send("begin");
  const error = await assertRejects(() => worker.receive(), PeerExitError);
  assert(error.signal !== null || error.code !== 0, error.message);
  assertStringIncludes(error.stderr, "out of memory");
  assertStringIncludes(
    error.message,
    'The worker "acts.ts" ended: it used more than its memory of 32 MiB; it ',
  );
  await assertRejects(() => worker.closed, PeerExitError);
});

test("openPipe() counts buffers as memory of a worker", async () => {
  const worker = await open("buffers", {
    memory: 200 * 2 ** 20,
    stderr: "null",
  });
  await worker.send("begin");
  const error = await assertRejects(() => worker.receive(), PeerExitError);
  assertMatch(
    error.message,
    /^The worker "acts.ts" ended: it used more than its memory of 200 MiB; it exited with code 1; stderr: "error: The worker is out of memory: its heap and its buffers hold 10\d\d(?:\.\d)? MiB of 200 MiB/,
  );
  await assertRejects(() => worker.closed, PeerExitError);
});

test("openPipe() does not count buffers that a worker no longer uses", async () => {
  await using worker = await open("discards", { memory: 200 * 2 ** 20 });
  assertEquals(await worker.receive(), "discarded");
});

test("openPipe() refuses options that are out of range and starts nothing", async (t) => {
  const cases: [PipeOptions, string][] = [
    [
      { openTimeout: 0 },
      '"openTimeout" must be a positive number: current value is 0',
    ],
    [{ openTimeout: -1 }, '"openTimeout" must be a positive number'],
    [{ openTimeout: NaN }, "current value is NaN"],
    [{ memory: 0 }, '"memory" must be a positive number'],
    [{ memory: -5 }, "current value is -5"],
    [{ memory: Infinity }, "current value is Infinity"],
    [{ windowBytes: 0 }, '"windowBytes" must be a positive integer'],
    [{ windowBytes: 1.5 }, "current value is 1.5"],
    [{ windowMessages: 2 ** 31 }, "current value is 2147483648"],
    [{ maxMessageBytes: 2 ** 32 }, "current value is 4294967296"],
    [{ deadlockTimeout: -1 }, '"deadlockTimeout" must be a positive number'],
    [{ closeTimeout: 0 }, '"closeTimeout" must be a positive number'],
  ];
  for (const [options, text] of cases) {
    await t.step(text, async () => {
      using processes = new Processes();
      const error = await assertRejects(
        () => openPipe(ACTS, options),
        RangeError,
      );
      assertStringIncludes(error.message, text);
      assertStringIncludes(error.message, "Cannot open a pipe");
      assertEquals(processes.started, 0);
    });
  }
  await t.step("a target for stderr that is none", async () => {
    using processes = new Processes();
    const options = JSON.parse('{ "stderr": "nowhere" }');
    const error = await assertRejects(() => openPipe(ACTS, options), TypeError);
    assertStringIncludes(error.message, '"nowhere"');
    assertEquals(processes.started, 0);
  });
  await t.step("a broker of permissions", async () => {
    using processes = new Processes();
    const env = { DENO_PERMISSION_BROKER_PATH: "/tmp/broker" };
    const error = await assertRejects(() => openPipe(ACTS, { env }), TypeError);
    assertStringIncludes(error.message, "DENO_PERMISSION_BROKER_PATH");
    assertEquals(processes.started, 0);
  });
  await t.step("permissions for a program that has none", async () => {
    using processes = new Processes();
    const target = { command: Deno.execPath(), permissions: "none" };
    const error = await assertRejects(() => openPipe(target), TypeError);
    assertStringIncludes(error.message, '"permissions"');
    assertEquals(processes.started, 0);
  });
  await t.step("a command that another PATH would change", async () => {
    using processes = new Processes();
    const permissions = { run: ["tool"] };
    for (const changes of [{ env: { PATH: "/tmp" } }, { clearEnv: true }]) {
      const options = { ...changes, permissions };
      const error = await assertRejects(
        () => openPipe(ACTS, options),
        TypeError,
      );
      assertStringIncludes(error.message, '"tool"');
      assertStringIncludes(error.message, Object.keys(changes)[0]!);
      assertEquals(processes.started, 0);
    }
  });
});

test("openPipe() does not take a script for a flag of Deno", async () => {
  const worker = openPipe("--allow-all", {
    args: [ACTS.pathname, "echo"],
    stderr: "null",
  });
  const error = await assertRejects(() => worker, PeerExitError);
  assertStringIncludes(error.stderr, "--allow-all");
  assertMatch(error.stderr, /not found/i);
});

test("openPipe() quotes the output of a worker that cannot start", async () => {
  const script = workerUrl("there_is_none");
  const error = await assertRejects(
    () => openPipe(script, { stderr: "null" }),
    PeerExitError,
  );
  assertEquals([error.code, error.signal], [1, null]);
  assertStringIncludes(error.stderr, "Module not found");
  assertStringIncludes(error.message, '"there_is_none.ts" exited with code 1');
});

test("openPipe() reports the output of a program that is not a worker", async (t) => {
  // As long as the beginning of a hello, which text may turn out to be, and more.
  for (const text of ["x", "eleven char", "a text of more than that"]) {
    await t.step(text, async () => {
      const script = `data:text/javascript,console.log("${text}")`;
      const error = await assertRejects(
        () => openPipe(script, { stderr: "null" }),
        PeerExitError,
      );
      assertEquals([error.stderr, error.cause], [text, undefined]);
    });
  }
});

test("openPipe() opens a program other than Deno", async () => {
  await using worker = await openPipe({
    command: Deno.execPath(),
    args: ["run", "--quiet", ACTS.pathname, "echo"],
  });
  await worker.send("spoken");
  assertEquals(await worker.receive(), "spoken");
});

test(
  "openPipe() rejects when the program does not exist",
  async () => {
    await assertRejects(
      () => openPipe({ command: "there-is-no-such-program" }),
      Deno.errors.NotFound,
    );
  },
  { run: true },
);

test("openPipe() receives the goodbye of a script that ends", async () => {
  const worker = await open("leaves");
  const closed = worker.close();
  const messages: unknown[] = [];
  for await (const message of worker) messages.push(message);
  assertEquals(messages, ["first", "last"]);
  await closed;
  await worker.closed;
});

test("openPipe() lets a worker run after both goodbyes", async () => {
  const worker = await open("lingers");
  const closed = worker.close();
  assertEquals((await Array.fromAsync(worker)).length, 10);
  await closed;
});

test("PipeDuplex.close() ends a worker that does not read what was sent", async () => {
  const worker = await open("deaf");
  await assertRejects(() => worker.receive(), ClosedError);
  await worker.send(new Uint8Array(3 << 20));
  await assertRejects(() => worker.close({ timeout: 200 }), PeerExitError);
  await assertRejects(() => worker.closed, PeerExitError);
});

test("PipeDuplex.abort() ends a worker that is being closed", async () => {
  const worker = await open("deaf");
  await assertRejects(() => worker.receive(), ClosedError);
  await worker.send(new Uint8Array(3 << 20));
  const closing = worker.close({ timeout: Infinity });
  worker.abort(new Error("Enough"));
  await closing;
  await assertRejects(() => worker.closed, Error, "Enough");
});

test("PipeDuplex.send() rejects when the worker has closed and receives nothing", async () => {
  const worker = await open("done", { deadlockTimeout: 100 });
  const error = await assertRejects(async () => {
    for (let count = 0;; count++) await worker.send(count);
  }, ClosedError);
  assertEquals(error.unsent, [0, 1, 2, 3]);
  await worker.close();
});

test(
  "openPipe() notices a worker's end while another process holds its output",
  async () => {
    const worker = await open("bequeaths", {
      permissions: { run: true },
      stderr: "null",
    });
    assertEquals(await worker.receive(), "gone");
    await worker.send("now");
    const error = await assertRejects(() => worker.receive(), PeerExitError);
    assertEquals(error.code, 3);
  },
  { run: true },
);

test("openPipe() receives what a worker sends after the goodbye", async () => {
  const worker = await open("polls", { windowMessages: 8 });
  const closing = worker.close();
  assertEquals((await Array.fromAsync(worker)).length, 100);
  await closing;
});

test("openPipe() receives the goodbye of a worker whose last sends waited", async () => {
  const worker = await open("pours");
  const closing = worker.close();
  assertEquals((await Array.fromAsync(worker)).length, 10);
  await closing;
});

test("openPipe() does not take a script for a task of Deno", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const task = { tasks: { worker: "echo THE TASK RAN" } };
    await Deno.writeTextFile(`${folder}/deno.json`, JSON.stringify(task));
    const error = await assertRejects(
      () => openPipe("worker", { cwd: folder, stderr: "null" }),
      PeerExitError,
    );
    assertFalse(error.stderr.includes("THE TASK RAN"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}, { run: [Deno.execPath()], read: true, write: true });

test("openPipe() rejects when the worker exits without a goodbye", async () => {
  for (const code of [0, 7]) {
    const worker = await open("exits", { args: [String(code)] });
    assertEquals(await worker.receive(), "before the exit");
    const next = assertRejects(() => worker.receive(), PeerExitError);
    await worker.send("go on");
    const error = await next;
    assertEquals([error.code, error.signal], [code, null]);
    assertEquals(
      await assertRejects(() => worker.closed, PeerExitError),
      error,
    );
  }
});

test("openPipe() rejects when the worker throws", async () => {
  const worker = await open("throws", { stderr: "null" });
  await worker.send("go on");
  const error = await assertRejects(() => worker.receive(), PeerExitError);
  assertEquals(error.code, 1);
  assertStringIncludes(error.stderr, "RangeError: out of cheese");
});

test("PipeDuplex.close() waits for what the worker still sends", async () => {
  const worker = await open("late");
  await worker.send("one");
  const closed = worker.close();
  const messages: unknown[] = [];
  for await (const message of worker) messages.push(message);
  await closed;
  assertEquals(messages, [0, 1, 2]);
  await assertRejects(() => worker.send("too late"), ClosedError);
});

test("PipeDuplex.close() ends a worker that does not finish in time", async () => {
  using processes = new Processes();
  const worker = await open("stubborn");
  await worker.send("one");
  await worker.send("two");
  const error = await assertRejects(
    () => worker.close({ timeout: 100 }),
    ClosedError,
  );
  assertEquals(error.unsent, ["one", "two"]);
  assertStringIncludes(error.message, "100 ms");
  assertEquals(processes.running, 0);
});

test("PipeDuplex.abort() sends its reason to the worker", async () => {
  using processes = new Processes();
  const lines = new Lines();
  const worker = await open("hears", { stderr: lines.take });
  const reason = Object.assign(new RangeError("too much"), { limit: 5 });
  await worker.send("once");
  assertEquals(await worker.receive(), "once");
  worker.abort(reason);
  assertEquals(await assertRejects(() => worker.receive(), RangeError), reason);
  assertEquals(await assertRejects(() => worker.closed, RangeError), reason);
  assertEquals(lines.all, ["RangeError: too much, limit 5"]);
  assertEquals(processes.running, 0);
  await worker.close();
});

test("PipeDuplex.abort() sends its reason after a write in progress", async () => {
  const lines = new Lines();
  const worker = await open("hears", { stderr: lines.take });
  const reason = Object.assign(new RangeError("too much"), { limit: 5 });
  await worker.send("x".repeat(1 << 20));
  worker.abort(reason);
  assertEquals(await assertRejects(() => worker.closed, RangeError), reason);
  assertEquals(lines.all, ["RangeError: too much, limit 5"]);
});

test("PipeDuplex.receive() rejects with the reason of a worker's abort", async () => {
  using processes = new Processes();
  const worker = await open("aborts");
  await worker.send("go on");
  const error = await assertRejects(() => worker.receive(), RangeError);
  assertEquals(error.message, "too much");
  assertEquals((error as RangeError & { limit: number }).limit, 5);
  assertEquals(await assertRejects(() => worker.closed, RangeError), error);
  assertEquals(processes.running, 0);
});
