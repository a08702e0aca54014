// Copyright 2026 the Duplex authors. MIT license.

/**
 * Programs that `deno bundle` and `deno compile` make. The compiler needs a file that
 * it downloads unless `DENORT_BIN` names it, so the test of a compiled program runs
 * only with that variable; otherwise what a program includes is checked.
 *
 * @module
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fileURLToPath } from "node:url";
import { within } from "../workers/_processes.ts";

const ROOT = new URL("../../", import.meta.url);
const { name, version } = JSON.parse(
  await Deno.readTextFile(new URL("deno.json", ROOT)),
);

/** A program whose workers are in a file, and the file. */
const MAIN = `
import { openPipe } from "@duplex/ipc/pipe";
import { Pool } from "@duplex/ipc/pool";
import { openQueue } from "@duplex/ipc/queue";
import { openShm } from "@duplex/ipc/shm";

const script = new URL("./worker.js", import.meta.url);
const stderr = (line) => console.log(line);
for (const open of [openPipe, openQueue, openShm]) {
  await using pool = new Pool(() => open(script, open === openPipe ? { stderr } : {}), { workers: 1 });
  console.log(await pool.run("add", [1, 2]));
}
`;
const WORKER = `
import { expose } from "@duplex/ipc/rpc";
console.log("printed");
expose({ add: (a, b) => a + b });
`;
const TASK = `
import { task } from "@duplex/ipc/task";
await using times = task((n, m = 2) => {
  const multiply = (a, b) => a * b;
  return multiply(n, m);
}, { workers: 1 });
console.log(await times(21));
`;

/** The program to compile, which is its own worker process. */
const COMPILED = `
import { openPipe } from "@duplex/ipc/pipe";
import { expose, remote } from "@duplex/ipc/rpc";
import { openShm } from "@duplex/ipc/shm";
import { task } from "@duplex/ipc/task";

if (Deno.args[0] === "worker") {
  console.log("printed");
  await expose({ add: (a, b) => a + b });
} else {
  const script = new URL("./worker.js", import.meta.url);
  const stderr = (line) => console.log(line);
  const own = { command: Deno.execPath(), args: ["worker"] };
  for (const opening of [openShm(script), openPipe(own, { stderr })]) {
    await using worker = await opening;
    console.log(await remote(worker).add(1, 2));
  }
  await using times = task((n, m = 2) => n * m, { workers: 1 });
  console.log(await times(21));
  await openPipe(script).catch((error) => console.log(error.message));
}
`;

/** A folder with programs that import this package. */
class Programs implements AsyncDisposable {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async write(files: Record<string, string>): Promise<Programs> {
    const programs = new Programs(await Deno.makeTempDir());
    const config = {
      links: [fileURLToPath(ROOT)],
      lock: false,
      unstable: ["worker-options"],
      imports: { [name]: `jsr:${name}@${version}` },
    };
    const all = { ...files, "deno.json": JSON.stringify(config) };
    for (const [file, text] of Object.entries(all)) {
      await Deno.writeTextFile(`${programs.folder}/${file}`, text);
    }
    return programs;
  }

  /** Runs a program of the folder; returns what it printed. */
  async run(
    command: string,
    ...args: string[]
  ): Promise<{ success: boolean; stdout: string; stderr: string }> {
    const { success, stdout, stderr } = await within(
      new Deno.Command(command, {
        args,
        cwd: this.folder,
        env: { NO_COLOR: "1" },
        stdin: "null",
      }).output(),
    );
    const decoder = new TextDecoder();
    return {
      success,
      stdout: decoder.decode(stdout),
      stderr: decoder.decode(stderr),
    };
  }

  /** As `run`, for a program that must succeed. */
  async output(command: string, ...args: string[]): Promise<string> {
    const { success, stdout, stderr } = await this.run(command, ...args);
    assert(success, stderr);
    return stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.folder, { recursive: true });
  }
}

const DENO = Deno.execPath();

Deno.test("deno bundle makes programs with pools and worker files", async () => {
  await using programs = await Programs.write({
    "main.ts": MAIN,
    "worker.ts": WORKER,
  });
  for (const flags of [[], ["--minify"]]) {
    const out = ["--outdir", "dist", "main.ts", "worker.ts"];
    await programs.output(DENO, "bundle", "--quiet", ...flags, ...out);
    const printed = await programs.output(DENO, "run", "-A", "dist/main.js");
    // What a process prints is a line of its standard error.
    assertEquals(
      printed.split("\n").toSorted(),
      ["", "3", "3", "3", "printed", "printed", "printed"],
    );
  }
});

Deno.test("deno bundle makes programs with task(), if the package is external", async () => {
  await using programs = await Programs.write({ "main.ts": TASK });
  const bundle = ["bundle", "--quiet", "--output", "main.js", "main.ts"];
  for (const flag of ["--minify", "--keep-names"]) {
    await programs.output(DENO, ...bundle, flag, "--external", "@duplex/ipc*");
    assertEquals(await programs.output(DENO, "run", "-A", "main.js"), "42\n");
  }
  await programs.output(DENO, ...bundle);
  const { success, stderr } = await programs.run(DENO, "run", "-A", "main.js");
  assert(!success);
  assertStringIncludes(stderr, 'bundle with --external "@duplex/ipc*"');
});

Deno.test("deno compile includes the modules that workers of this package load", async () => {
  await using programs = await Programs.write({ "main.ts": TASK });
  const info = await programs.output(DENO, "info", "--json", "main.ts");
  const { modules }: { modules: { specifier: string }[] } = JSON.parse(info);
  const included = new Set(modules.map(({ specifier }) => specifier));
  for (const room of ["_pipe", "_queue", "_shm"]) {
    assert(included.has(`${ROOT}${room}/parent.ts`), room);
  }
  assert(included.has(`${ROOT}_task/worker.ts`));
});

Deno.test({
  name: "deno compile makes programs with task(), threads and a process",
  ignore: !Deno.env.has("DENORT_BIN"),
  async fn() {
    await using programs = await Programs.write({
      "main.ts": COMPILED,
      "worker.js": WORKER,
    });
    const flags = ["--quiet", "-A", "--include", "worker.js"];
    await programs.output(DENO, "compile", ...flags, "-o", "main", "main.ts");
    const suffix = Deno.build.os === "windows" ? ".exe" : "";
    const printed = await programs.output(`${programs.folder}/main${suffix}`);
    assertEquals(printed.split("\n").toSorted(), [
      "",
      "3",
      "3",
      "42",
      'Cannot open a pipe to a script from a compiled program: it does not include Deno; use "command"',
      "printed",
      "printed",
    ]);
  },
});
