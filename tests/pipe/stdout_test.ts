// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a program prints to the standard output that carries its messages: before its
 * hello, after it, and without a parent that reads it.
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
import { PeerExitError, ProtocolError } from "../../duplex.ts";
import { openPipe, type PipeDuplex, type PipeOptions } from "../../pipe.ts";
import { remote } from "../../rpc.ts";
import type { Methods } from "../workers/prints_later.ts";
import { Lines, RUN, test, workerUrl } from "../workers/_processes.ts";

const EXEC = Deno.execPath();

test("openPipe() keeps apart what a worker prints and what it sends", async () => {
  const lines = new Lines();
  const worker = await openPipe(workerUrl("prints"), { stderr: lines.take });
  const names = await Array.fromAsync(worker);
  await worker.close();
  assert(names.includes("process.stdout.end"));
  const printed = lines.all.map((line) =>
    line.replace(/^│ +0 │ "(.*)" │$/, "$1").replace(/^[│┌├└] ?[─(].*$/, "")
      .replace(/: [\d.]+ms$/, "").trimEnd()
  );
  // The first line is longer than a line that is passed on.
  assertEquals(printed.filter((line) => line !== ""), ["early", ...names]);
});

test("openPipe() keeps apart what a worker prints by functions that it stored", async (t) => {
  const cases: PipeOptions[] = [
    {},
    // Starts the part of Deno that `node:fs` needs before the script.
    {
      args: ["names"],
      denoFlags: ["--preload=data:text/javascript,process.pid"],
    },
  ];
  for (const options of cases) {
    await t.step(`${options.args ?? "no arguments"}`, async () => {
      const lines = new Lines();
      const worker = await openPipe(workerUrl("prints_stored"), {
        ...options,
        stderr: lines.take,
      });
      const names = await Array.fromAsync(worker);
      await worker.close();
      assert(
        names.includes(options.args === undefined ? "fs" : "fs.writeSync"),
      );
      assertEquals(lines.all, ["early log", "early writer", ...names]);
    });
  }
});

test(
  "openPipe() keeps apart what the Web Workers of a worker print",
  async () => {
    const lines = new Lines();
    const worker = await openPipe(workerUrl("prints_threads"), {
      denoFlags: ["--unstable-worker-options"],
      permissions: { read: true },
      stderr: lines.take,
    });
    assertEquals(await Array.fromAsync(worker), ["queue", "shm"]);
    await worker.close();
    const printed = ["console", "Deno", "fs"];
    assertEquals(lines.all, [...printed, ...printed]);
  },
  { ...RUN, read: true },
);

test("openPipe() prints tables, counts and groups as Deno does", async () => {
  const print = `console.group("group"); console.table([{ a: 1 }]);
    console.dir({ a: { b: {} } }, { depth: 0 });
    console.groupEnd(); console.count("%s"); console.count("%s"); console.log("%d", 1, [2]);`;
  const command = (args: string[]) =>
    new Deno.Command(EXEC, { args, env: { NO_COLOR: "1" } }).output();
  const { stdout } = await command(["eval", print]);
  const lines = new Lines();
  const worker = await openPipe(workerUrl("prints_code"), {
    args: [print],
    stderr: lines.take,
  });
  await worker.close();
  assertEquals(
    `${lines.all.join("\n")}\n`,
    new TextDecoder().decode(stdout),
  );
});

test("openPipe() keeps apart what methods print, also by modules loaded later", async () => {
  const lines = new Lines();
  const worker = await openPipe(workerUrl("prints_later"), {
    stderr: lines.take,
  });
  const api = remote<Methods>(worker);
  await api.log();
  assertEquals(
    await api.hasNode(),
    false,
    "modules of Node are not loaded yet",
  );
  await api.load();
  assertEquals(await api.hasNode(), true);
  await api.load();
  await worker.close();
  assertEquals(lines.all, ["by console", "by Deno", "by Node", "by Node"]);
});

test("openPipe() shows what a process of the worker prints", async (t) => {
  // The second is shorter than the header of a frame, which completes it.
  for (const text of ["Listening on http://localhost:8000/\n", "hi\n"]) {
    await t.step(JSON.stringify(text), async () => {
      const worker = await openPipe(workerUrl("prints_later"), {
        permissions: RUN,
        stderr: "null",
      });
      const error = await assertRejects(
        () => remote<Methods>(worker).native(text),
        ProtocolError,
      );
      assertEquals(
        error.message,
        `Cannot read a message: the worker, or a process that it started, printed ${
          JSON.stringify(text)
        } to the standard output that carries its messages; print to standard error, and start processes with stdout "piped" or "null"`,
      );
      assertEquals(await assertRejects(() => worker.closed), error);
    });
  }
});

/** Opens a program that runs this code with `print`. */
function openProgram(
  code: string,
  stderr: PipeOptions["stderr"],
): Promise<PipeDuplex> {
  const print =
    `const print = (text) => { let bytes = Uint8Array.from(text, (char) => char.charCodeAt(0));
    while (bytes.length > 0) bytes = bytes.subarray(Deno.stdout.writeSync(bytes)); };`;
  return openPipe({
    command: EXEC,
    args: ["eval", print + code],
    stderr: stderr!,
  });
}

const HALF_HELLO = String.raw`\0\0\0\x40\x01\x89DUPLEX`;
const MEBIBYTES = 3 * 2 ** 20;

/** What a program prints and how it exits; the code, and the text or its length. */
const PROGRAMS: Record<string, [string, number, string | number]> = {
  "a word": [`print("hi");`, 0, "hi"],
  "a line and an exit code": [`print("hi\\n"); Deno.exit(3);`, 3, "hi"],
  "the end of a long line": [
    `print("a line without an end");`,
    0,
    "a line without an end",
  ],
  "a part of a hello": [
    `print("abc\\0\\0\\0\\x40\\x01");`,
    0,
    "abc\0\0\0@\x01",
  ],
  "megabytes": [`print("x".repeat(${MEBIBYTES}));`, 0, MEBIBYTES],
  "nothing": ["", 0, ""],
  "nothing and an exit code": ["Deno.exit(4);", 4, ""],
};

test("openPipe() passes on all that a program prints before it ends", async (t) => {
  for (const [name, [program, code, text]] of Object.entries(PROGRAMS)) {
    await t.step(name, async () => {
      const lines = new Lines();
      const error = await assertRejects(
        () => openProgram(program, lines.take),
        PeerExitError,
      );
      const printed = lines.all.join("");
      assertEquals(typeof text === "number" ? printed.length : printed, text);
      assert(printed.endsWith(error.stderr));
      if (text !== "") {
        assert(error.stderr !== "" && /stderr/.test(error.message));
      }
      assertEquals([error.code, error.cause], [code, undefined]);
    });
  }
});

test("openPipe() shows what a program prints into its hello", async () => {
  const ended = await assertRejects(
    () => openProgram(`print("${HALF_HELLO}usage: tool");`, "null"),
    PeerExitError,
  );
  assertInstanceOf(ended.cause, ProtocolError);
  assertStringIncludes(ended.cause.message, 'printed "usage: tool" to the');
  const invalid = await assertRejects(
    () => openProgram(`print("${HALF_HELLO}usage: ".padEnd(99, "-"));`, "null"),
    ProtocolError,
  );
  assertStringIncludes(invalid.message, "Cannot read a hello: the worker, or");
  assertStringIncludes(invalid.message, 'printed "usage: ---');
});

/** Runs a worker script as a program; returns its code and its standard error. */
async function runScript(
  script: URL,
  args: string[],
  input: "null" | string,
): Promise<[number, string]> {
  const child = new Deno.Command(EXEC, {
    args: ["run", "--quiet", "--no-prompt", script.href, ...args],
    env: { NO_COLOR: "1" },
    stdin: input === "null" ? "null" : "piped",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  if (input !== "null") {
    const writer = child.stdin.getWriter();
    // The end of the program may come first.
    await writer.write(new TextEncoder().encode(input)).catch(() => {});
    await writer.close().catch(() => {});
  }
  const { code, stderr } = await child.output();
  return [code, new TextDecoder().decode(stderr)];
}

test("parent() says how to start a program that is not a worker", async (t) => {
  const scripts: [URL, string[]][] = [
    [workerUrl("acts"), ["echo"]],
    // Exposes methods, and does not wait for the parent.
    [workerUrl("prints_later"), []],
  ];
  const cases: ["null" | string, string][] = [
    ["null", "PeerExitError: Cannot open the parent: standard input ended "],
    [
      "one\ntwo\n",
      'TypeError: Cannot open the parent: this program was not started as a worker; open it with openPipe: standard input begins with "one\\ntwo\\n"',
    ],
  ];
  for (const [script, args] of scripts) {
    for (const [input, text] of cases) {
      await t.step(
        `${script.pathname.split("/").at(-1)} ${input}`,
        async () => {
          const [code, stderr] = await runScript(script, args, input);
          assertEquals(code, 1);
          assertStringIncludes(stderr, text);
          assertStringIncludes(stderr, "open it with openPipe");
          assertEquals(stderr.match(/^error: /gm)?.length, 1);
        },
      );
    }
  }
});

/** Runs `aborts.ts`; returns what it printed. */
async function runAborts(...args: string[]): Promise<[string, string]> {
  const { stdout, stderr } = await new Deno.Command(EXEC, {
    args: [
      ...["run", "--quiet", "--no-prompt", "--unstable-worker-options"],
      ...[
        "--allow-read",
        `--allow-run=${EXEC}`,
        workerUrl("aborts").href,
        ...args,
      ],
    ],
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return [decoder.decode(stdout), decoder.decode(stderr)];
}

test("Duplex.abort() ends a worker that prints no error but its own", async (t) => {
  const ended = "AbortError: The duplex was aborted\n";
  for (const transport of ["pipe", "queue", "shm"]) {
    await t.step(transport, async () => {
      assertEquals(await runAborts(transport, "ends"), [`ends\n${ended}`, ""]);
      const [stdout, stderr] = await runAborts(transport, "throws");
      assertEquals(stdout, `throws\n${ended}`);
      assertStringIncludes(stderr, "Error: an error of its own");
      assert(!stderr.includes("AbortError"));
    });
  }
});
