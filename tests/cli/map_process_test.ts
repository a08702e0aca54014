// Copyright 2026 the Duplex authors. MIT license.

/**
 * `cli.ts map` as a process of its own, with the permissions that are documented,
 * and with the signals of a terminal.
 *
 * @module
 */

import {
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { openPipe } from "@duplex/ipc/pipe";
import { openSocket } from "@duplex/ipc/socket";
import { CliServer, ROOT } from "./_server.ts";
import { socketPath } from "../socket/_sockets.ts";
import { isRunning, within, workerUrl } from "../workers/_processes.ts";
import { HAS_PTY, Program, PTY } from "../workers/_programs.ts";

const CLI = `${ROOT}cli.ts`;
const ACTS = workerUrl("cli_map_acts").pathname;
const METHODS = `${ROOT}examples/hello/methods.ts`;
const LICENSE = `${ROOT}LICENSE`;
const EXEC = Deno.execPath();

/** A folder of this run's own. */
const FOLDER = Deno.makeTempDirSync({ prefix: "duplex_map_" });
addEventListener("unload", () => Deno.removeSync(FOLDER, { recursive: true }));

/** A test that fails by name when it would wait forever. */
function test(
  name: string,
  fn: () => Promise<void>,
  ignore = Deno.build.os === "windows",
): void {
  Deno.test({ name, ignore, fn: () => within(fn()) });
}

/** The arguments of Deno that run the command line with these permissions. */
function cliArgs(permissions: string[], args: string[]): string[] {
  return ["run", "--quiet", "--no-prompt", "--no-check", ...permissions, CLI]
    .concat(args);
}

/** Runs `map` with a permission each, and gives it lines. */
async function runMap(
  lines: string,
  permissions: string[],
  args: string[],
  env: Record<string, string> = {},
): Promise<{ code: number; out: string; err: string }> {
  const all = cliArgs(permissions, ["map", ...args]);
  await using program = new Program(EXEC, all, env);
  try {
    await program.write(lines);
  } catch (error) {
    // One that ends before it reads anything says why.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
  return await program.ended();
}

const RUN = `--allow-run=${EXEC}`;
const READ = `--allow-read=${ROOT}`;

test(
  "map requires what is documented, over pipe, queue and shm",
  async () => {
    const license = `${JSON.stringify(LICENSE)}\n`;
    const allow = `--allow-read=${LICENSE}`;
    const { size } = await Deno.stat(LICENSE);
    const cases: [string, string[], string[], string][] = [
      ["1\n2\n3\n", [RUN], [METHODS], "1\n4\n9\n"],
      ["1\n", [READ], [METHODS, "--over", "shm"], "1\n"],
      [license, [READ], [ACTS, "size", "--over", "queue", allow], `${size}\n`],
      [
        license,
        [RUN, allow],
        [ACTS, "args", "--workers=2", "--", "-a"],
        '["-a"]\n',
      ],
    ];
    await Promise.all(cases.map(async ([lines, permissions, args, out]) => {
      const ran = await runMap(lines, permissions, args);
      assertEquals(ran, { code: 0, out, err: "" }, args.join(" "));
    }));
  },
);

test(
  "map tells why no worker starts, and what there is to call",
  async () => {
    const cases: [string[], string[], number, string][] = [
      [[], [METHODS], 1, "no worker will start: Deno may not be run"],
      [[RUN], [METHODS, "-A", "--errors=/no"], 1, "with --allow-write=/no"],
      [[RUN], [METHODS, "--allow-read"], 1, "run it again with --allow-read"],
      [[RUN], ["missing.ts"], 1, 'error: The worker "missing.ts" exited'],
      [
        [RUN],
        [`${ROOT}examples/hello/worker.ts`],
        1,
        "does not list its methods",
      ],
      [
        [RUN],
        [METHODS, "cube"],
        2,
        'no method "cube", but "square"; see cli.ts',
      ],
      [["-A"], [METHODS, "--over=unix:/no.sock"], 1, "Cannot open a socket to"],
    ];
    await Promise.all(cases.map(async ([permissions, args, code, text]) => {
      const ran = await runMap("1\n", permissions, args);
      assertStringIncludes(ran.err, text);
      assertEquals([ran.code, ran.out], [code, ""], ran.err);
    }));
  },
);

test("map tells where a worker fails to load before it reads a line", async () => {
  const scripts: [name: string, text: string, message: string][] = [
    ["broken", "export const x = ;", "broken.ts:1:18"],
    ["throws", '\n\nthrow new Error("No config");', "throws.ts:3:7"],
    ["imports", 'import "./gone.ts";', "imports.ts:1:8"],
    ["missing", "", "Module not found"],
    ["silent", "console.error(1);", "does it call parent() or expose()?"],
  ];
  await Promise.all(scripts.map(async ([name, text, message]) => {
    const script = `${FOLDER}/${name}.ts`;
    if (name !== "missing") await Deno.writeTextFile(script, text);
    // A Web Worker without a hello is waited for.
    for (const over of name === "silent" ? ["pipe"] : ["pipe", "shm"]) {
      const args = ["map", script, "-A", "--over", over];
      await using program = new Program(EXEC, cliArgs(["-A"], args));
      // Nothing was written to its input, which is open.
      const { code, out, err } = await program.result();
      assertEquals([code, out], [1, ""], err);
      assertMatch(err.trimEnd().split("\n").at(-1)!, /^error: The worker /);
      assertStringIncludes(err.trimEnd().split("\n").at(-1)!, message);
    }
  }));
});

test("map refuses to write failures to the file that it reads", async () => {
  const file = `${FOLDER}/both.jsonl`;
  await Deno.writeTextFile(file, "1\n");
  const map = cliArgs([RUN, `--allow-write=${file}`], ["map", METHODS]);
  const script = `exec "$0" "$@" --errors ${file} < ${file}`;
  await using program = new Program("sh", ["-c", script, EXEC, ...map]);
  const { code, out, err } = await program.ended();
  assertEquals([code, out], [2, ""], err);
  assertStringIncludes(err, "is standard input as well");
  assertEquals(await Deno.readTextFile(file), "1\n");
});

test("map gives lines to the workers of a server", async () => {
  const secret = `${FOLDER}/secret`;
  await Deno.writeTextFile(secret, "correct horse\n");
  const certs = `${ROOT}tests/certs/`;
  await using server = new CliServer([
    ...[
      ACTS,
      "--listen",
      `unix:${socketPath()}`,
      "--listen",
      "tls://localhost:0",
    ],
    ...["--cert", `${certs}localhost.pem`, "--key", `${certs}localhost.key`],
    ...["--secret-file", secret],
  ]);
  const [unix, tls] = await Promise.all([
    server.address("unix:"),
    server.address("tls:"),
  ]);
  const path = unix.slice("unix:".length);
  const files = `--allow-read=${path}`;
  const over = [
    runMap(
      "1\n2\n3\n",
      [
        `--allow-net=${unix}`,
        files,
        `--allow-write=${path}`,
        "--allow-env=DUPLEX_SECRET",
      ],
      ["die", "--over", unix, "--workers=2"],
      { DUPLEX_SECRET: "correct horse" },
    ),
    runMap(
      "2\n",
      [
        `--allow-net=${tls.slice("tls://".length)}`,
        `--allow-read=${secret},${certs}`,
      ],
      [
        ACTS,
        "square",
        "--over",
        tls,
        "--secret-file",
        secret,
        "--ca-cert",
        `${certs}ca.pem`,
      ],
    ),
    runMap("2\n", ["-A"], ["square", "--over", unix]),
  ];
  const [first, second, third] = await Promise.all(over);
  assertEquals([first!.code, first!.out], [1, "1\n3\n"], first!.err);
  assertMatch(first!.err, /^line 2: .*exited with code 3 \(run 3 times\)$/m);
  assertEquals(second, { code: 0, out: "4\n", err: "" });
  assertEquals([third!.code, third!.out], [1, ""]);
  assertStringIncludes(third!.err, "secret");
});

test(
  "map finishes what runs at Ctrl+C, of which workers hear nothing",
  async () => {
    const file = `${FOLDER}/finish`;
    const args = ["map", ACTS, "wait", "--workers=2", `--allow-read=${file}`];
    await using program = new Program(
      EXEC,
      cliArgs([RUN, `--allow-read=${file}`], args),
    );
    await program.write(`${JSON.stringify(file)}\n`.repeat(5));
    await program.stderr.until(/at work \d+\n(.|\n)*at work \d+\n/);
    program.interrupt();
    await program.stderr.until(/stopping at SIGINT/);
    await Deno.writeTextFile(file, "1234");
    const { code, out, err } = await program.result();
    assertEquals([code, out], [130, "4\n4\n"], err);
    assertMatch(
      err,
      /stopped by SIGINT: 2 done, 0 failed; left: the lines from 3 on\n$/,
    );
  },
);

test(
  "map ends at once at a second Ctrl+C, with workers that compute",
  async () => {
    await using program = new Program(
      EXEC,
      cliArgs([RUN], ["map", ACTS, "spin"]),
    );
    await program.write("1\n");
    const [, pid] = await program.stderr.until(/at work (\d+)\n/);
    program.interrupt();
    await program.stderr.until(/stopping at SIGINT/);
    program.interrupt();
    assertEquals((await program.result()).code, 130);
    while (isRunning(Number(pid))) await new Promise((go) => setTimeout(go, 5));
  },
);

test("no worker of map outlives it, although no terminal reaches them", async () => {
  await using program = new Program(
    EXEC,
    cliArgs([RUN, READ], ["map", ACTS, "wait", READ]),
  );
  await program.write(`"${ROOT}missing"\n`);
  const [, pid] = await program.stderr.until(/at work (\d+)\n/);
  program.kill();
  await program.result();
  while (isRunning(Number(pid))) await new Promise((go) => setTimeout(go, 5));
  const detached = "yes" as unknown as boolean;
  await assertRejects(
    () => openPipe(METHODS, { detached }),
    TypeError,
    'as "detached" must be a boolean: current value is "yes"',
  );
});

test(
  "map ends quietly when nobody reads its results any more",
  async () => {
    const script = `yes 3 | { "$0" "$@"; echo "code $?" >&2; } | head -n 2`;
    const map = cliArgs([RUN], ["map", METHODS]);
    await using program = new Program("sh", ["-c", script, EXEC, ...map]);
    assertEquals(await program.ended(), {
      code: 0,
      out: "9\n9\n",
      err: "code 141\n",
    });
  },
);

test(
  "serve keeps its workers at Ctrl+C, until their peers are gone",
  async () => {
    const path = socketPath();
    const args = ["serve", `${ROOT}tests/workers/cli_acts.ts`, "--grace=60"];
    const deno = cliArgs(["-A"], [...args, `--listen=unix:${path}`]);
    await using program = new Program(EXEC, deno);
    await program.stdout.until(/listening on .*\n/);
    const peer = await openSocket(`unix:${path}`);
    await peer.send(["echo", 1]);
    assertEquals(await peer.receive(), 1);
    program.interrupt();
    await program.stderr.until(/ending; peers: 1\n/);
    await peer.send(["echo", 2]);
    assertEquals(await peer.receive(), 2);
    await peer.close();
    assertEquals((await program.result()).code, 0);
  },
);

/** What removes the line that was drawn, as a pattern. */
const CLEARED = "\r\u001b\\[K";

test(
  "map draws how far it is in a terminal, whose Ctrl+C it hears",
  async () => {
    const [input, output, file] = ["in", "out", "go"].map((name) =>
      `${FOLDER}/terminal_${name}`
    );
    const bad = `no${" ".repeat(100)}\n`;
    const lines = `${bad}"${file}"\n${"1\n".repeat(50)}`;
    await Deno.writeTextFile(input!, lines);
    const deno = cliArgs(["-A"], ["map", ACTS, "wait", "--workers=1", "-A"]);
    const script = `exec "$0" "$@" < ${input} > ${output}`;
    await using terminal = new Program("python3", [
      ...["-c", PTY, "sh", "-c", script, EXEC, ...deno],
    ]);
    const share = Math.floor(100 * bad.length / lines.length);
    await terminal.stdout.until(
      new RegExp(
        `\\r\\[=+ +\\] +${share} % 0 done, 1 failed, .* left\u001b\\[K$`,
      ),
    );
    await terminal.write("\x03");
    await terminal.stdout.until(
      new RegExp(`${CLEARED}stopping at SIGINT.*\\r\\n`),
    );
    await Deno.writeTextFile(file!, "1234");
    const { code, out } = await terminal.result();
    assertEquals(code, 130, out);
    assertMatch(out, /^line 1: SyntaxError: .*\r\n/m);
    assertMatch(
      out,
      new RegExp(
        `${CLEARED}stopped by SIGINT: 1 done, 1 failed; left: the lines from 3 on\\r\\n$`,
      ),
    );
    assertEquals(await Deno.readTextFile(output!), "4\n");
  },
  !HAS_PTY,
);

test(
  "map writes results to a terminal without what it would act on",
  async () => {
    const input = `${FOLDER}/escapes`;
    const value = "\u009b2J\u202e\u2028\u{e0001}\x7f é 😀";
    const lines = `${JSON.stringify(value)}\n1\n`;
    await Deno.writeTextFile(input, lines);
    const deno = cliArgs(["-A"], ["map", ACTS, "echo"]);
    const script = `exec "$0" "$@" < ${input}`;
    await using terminal = new Program("python3", [
      ...["-c", PTY, "sh", "-c", script, EXEC, ...deno],
    ]);
    const { code, out } = await terminal.result();
    assertEquals(code, 0, out);
    const [, line] = /^("[^"]*")\r\n1\r\n/m.exec(out) ?? [];
    assertEquals(
      line,
      String.raw`"\u009b2J\u202e\u2028\udb40\udc01\u007f é 😀"`,
    );
    assertEquals(JSON.parse(line!), value);
  },
  !HAS_PTY,
);

test(
  "map removes the line that it draws before it writes results to the same terminal",
  async () => {
    const [input, file] = [`${FOLDER}/same_in`, `${FOLDER}/same_go`];
    await Deno.writeTextFile(input, `"${file}"\n`);
    const deno = cliArgs(["-A"], ["map", ACTS, "wait", "-A"]);
    const script = `exec "$0" "$@" < ${input}`;
    await using terminal = new Program("python3", [
      ...["-c", PTY, "sh", "-c", script, EXEC, ...deno],
    ]);
    await terminal.stdout.until(
      new RegExp("0 % 0 done, 0 failed[^\n]*\u001b\\[K$"),
    );
    await Deno.writeTextFile(file, "1234");
    const { code, out } = await terminal.result();
    assertEquals(code, 0, out);
    // Nothing of the line that is drawn is before the result or behind it.
    assertMatch(
      out,
      new RegExp(`${CLEARED}4\r\n(?:\r[^\n]*${CLEARED})?lines: 1`),
    );
  },
  !HAS_PTY,
);

test(
  "map draws nothing on the line that is typed in a terminal",
  async () => {
    const file = `${FOLDER}/typed_go`;
    const deno = cliArgs(["-A"], ["map", ACTS, "wait", "--workers=2", "-A"]);
    await using terminal = new Program("python3", ["-c", PTY, EXEC, ...deno]);
    await terminal.stdout.until(
      /^"wait" is called with each line of JSON; Ctrl\+D on an empty line ends\r\n$/,
    );
    await terminal.write(`"${LICENSE}"\n`);
    const { size } = await Deno.stat(LICENSE);
    await terminal.stdout.until(new RegExp(`\r\n${size}\r\n`));
    await terminal.write(`"${file}"`);
    await terminal.stdout.until(/typed_go"/);
    // The first one passes on the line, the second one ends it and the input.
    await terminal.write("\x04\x04");
    await terminal.stdout.until(/at work[^]*at work/);
    await Deno.writeTextFile(file, "1234");
    const { code, out } = await terminal.result();
    assertEquals(code, 0, out);
    assertMatch(out, /^4\r\nlines: 2 done, 0 failed, in .*\r\n$/m);
    assertEquals(out.includes("\x1b"), false, out);
  },
  !HAS_PTY,
);

test(
  "map finishes the lines that were typed before Ctrl+C",
  async () => {
    const file = `${FOLDER}/interrupted_go`;
    const deno = cliArgs(["-A"], ["map", ACTS, "wait", "--workers=2", "-A"]);
    await using terminal = new Program("python3", ["-c", PTY, EXEC, ...deno]);
    await terminal.stdout.until(/Ctrl\+D/);
    await terminal.write(`"${file}"\n`);
    await terminal.stdout.until(/at work/);
    await terminal.write(`"not finished\x03`);
    await terminal.stdout.until(/stopping at SIGINT: .*\r\n/);
    await Deno.writeTextFile(file, "1234");
    const { code, out } = await terminal.result();
    assertEquals(code, 130, out);
    assertMatch(
      out,
      /\r\n4\r\nstopped by SIGINT: 1 done, 0 failed; left: the lines from 2 on\r\n$/,
    );
  },
  !HAS_PTY,
);
