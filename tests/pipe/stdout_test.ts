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

/**
 * Compares lines in any order: those from before the hello arrive over standard output,
 * the others over standard error.
 */
function assertSameLines(lines: unknown[], expected: unknown[]): void {
  assertEquals(lines.toSorted(), expected.toSorted());
}

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
  assertSameLines(printed.filter((line) => line !== ""), ["early", ...names]);
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
      assertSameLines(lines.all, ["early log", "early writer", ...names]);
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
  script: string,
  { input, shell }: { input?: string; shell?: string },
): Promise<[number, string]> {
  const args = ["run", "--quiet", "--no-prompt", script];
  const options = {
    env: { NO_COLOR: "1" },
    stdin: input === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  } as const;
  const child = shell === undefined
    ? new Deno.Command(EXEC, { args, ...options }).spawn()
    : new Deno.Command("sh", {
      args: ["-c", shell, "sh", EXEC, ...args],
      ...options,
    }).spawn();
  if (input !== undefined) {
    const writer = child.stdin.getWriter();
    // The end of the program may come first.
    await writer.write(new TextEncoder().encode(input)).catch(() => {});
    await writer.close().catch(() => {});
  }
  const { code, stdout, stderr } = await child.output();
  // A terminal has both in one stream.
  const output = isTerminal(shell) ? stdout : stderr;
  return [code, new TextDecoder().decode(output)];
}

/** Runs the program in a terminal, where the system has a command for that. */
const TERMINAL =
  `EXEC="$1" SCRIPT="$5" exec script -qec 'exec "$EXEC" run --quiet --no-prompt "$SCRIPT"' /dev/null`;

/** The same with an input that is not the terminal. */
const TERMINAL_OUTPUT = TERMINAL.replace(`"$SCRIPT"'`, `"$SCRIPT" </dev/null'`);

const ENDED = "PeerExitError: Cannot open the parent: standard input ended ";
const NOT_WORKER =
  "TypeError: Cannot open the parent: this program was not started as a worker; open it with openPipe";

function isTerminal(shell: string | undefined): boolean {
  return shell === TERMINAL || shell === TERMINAL_OUTPUT;
}

/** What standard input is, and the beginning of the error. */
const INPUTS: Record<string, [Parameters<typeof runScript>[1], string]> = {
  "/dev/null": [{}, ENDED],
  "an empty pipe": [{ input: "" }, ENDED],
  "a pipe with lines": [
    { input: "one\ntwo\n" },
    `${NOT_WORKER}: standard input begins with "one\\ntwo\\n"`,
  ],
  "a file": [
    {
      shell: `exec "$@" <${new URL("../../LICENSE", import.meta.url).pathname}`,
    },
    `${NOT_WORKER}: standard input begins with "MIT License\\n`,
  ],
  "closed": [{ shell: 'exec "$@" <&-' }, ENDED],
  "a folder": [{ shell: 'exec "$@" </' }, ENDED],
  "a terminal": [{ shell: TERMINAL }, NOT_WORKER],
  "/dev/null, and standard output is a terminal": [
    { shell: TERMINAL_OUTPUT },
    NOT_WORKER,
  ],
};

/** Worker scripts; their modules are replaced by URLs. */
const SCRIPTS: Record<string, string> = {
  "awaits its parent": `
    import { parent } from "parent";
    await using link = await parent();
    for await (const message of link) await link.send(message);`,
  "exposes methods": `
    import { expose } from "rpc";
    expose({ add: (a, b) => a + b });`,
  "exposes methods to a duplex": `
    import { parent } from "parent";
    import { expose } from "rpc";
    await using link = await parent();
    await expose({ add: (a, b) => a + b }, link);`,
  "exposes methods to a promise": `
    import { parent } from "parent";
    import { expose } from "rpc";
    expose({ add: (a, b) => a + b }, parent());
    setInterval(() => {}, 1_000);`,
  "notifies": `
    import { parent } from "parent";
    import { notifier } from "rpc";
    notifier(parent()).begun();
    setInterval(() => {}, 1_000);`,
  "is imported by another module": `import "${
    scriptOf('import { expose } from "rpc"; expose({ none() {} });')
  }";`,
};

function scriptOf(source: string): string {
  const code = source.replaceAll(
    /from "(parent|rpc)"/g,
    (_, name) => `from "${import.meta.resolve(`../../${name}.ts`)}"`,
  );
  return `data:text/javascript,${encodeURIComponent(code)}`;
}

test("parent() says how to start a program that is not a worker", async (t) => {
  for (const [name, source] of Object.entries(SCRIPTS)) {
    for (const [kind, [input, text]] of Object.entries(INPUTS)) {
      const needsShell = input.shell !== undefined;
      if (needsShell && Deno.build.os === "windows") continue;
      if (isTerminal(input.shell) && Deno.build.os !== "linux") continue;
      await t.step(`${name}, standard input is ${kind}`, async () => {
        const [code, stderr] = await runScript(scriptOf(source), input);
        assertEquals(code, 1);
        assertStringIncludes(stderr, text);
        assertStringIncludes(stderr, "open it with openPipe");
        assertEquals(stderr.match(/^error: /gm)?.length, 1);
      });
    }
  }
}, { run: [EXEC, "sh"] });

test(
  "parent() says how to start a Web Worker that is not one of this package",
  async (t) => {
    for (const name of Object.keys(SCRIPTS)) {
      await t.step(name, async () => {
        const worker = new Worker(scriptOf(SCRIPTS[name]!), { type: "module" });
        const failed = Promise.withResolvers<string>();
        worker.onerror = (event) => {
          event.preventDefault();
          failed.resolve(event.message);
        };
        assertStringIncludes(
          await failed.promise,
          "TypeError: Cannot open the parent: this Web Worker was not started by this package; start it with openQueue or openShm",
        );
        worker.terminate();
      });
    }
  },
  { run: [EXEC], read: [new URL("../..", import.meta.url)] },
);

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
      for (
        const act of [
          "iterates",
          "streams",
          "pipes",
          "receives",
          "sends",
          "forgets",
          "exposes",
        ]
      ) {
        assertEquals(await runAborts(transport, act), [`${act}\n${ended}`, ""]);
      }
      const [stdout, stderr] = await runAborts(transport, "throws");
      assertEquals(stdout, `throws\n${ended}`);
      assertStringIncludes(stderr, "Error: an error of its own");
      assert(!stderr.includes("AbortError"));
    });
  }
});
