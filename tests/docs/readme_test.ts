// Copyright 2026 the Duplex authors. MIT license.

/**
 * The README's examples for a shell work when pasted.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { within } from "../workers/_processes.ts";

const ROOT = new URL("../../", import.meta.url);

/** The folders that the examples need of a clone, in addition to the files at its root. */
const FOLDERS = [
  ...["tools/", "tools/jsr/", "examples/", "examples/hello/"],
  // The package's private files.
  ...[...Deno.readDirSync(ROOT)]
    .filter(({ name, isDirectory }) => isDirectory && name.startsWith("_"))
    .map(({ name }) => `${name}/`),
];

/** Copies what the examples need of a clone. */
async function copyProject(to: string): Promise<void> {
  for (const folder of ["", ...FOLDERS]) {
    await Deno.mkdir(`${to}/${folder}`, { recursive: true });
    for await (const { name, isFile } of Deno.readDir(new URL(folder, ROOT))) {
      if (!isFile) continue;
      const source = new URL(folder + name, ROOT);
      await Deno.copyFile(source, `${to}/${folder}${name}`);
    }
  }
}

/** The first example for a shell behind some text of the README. */
async function exampleBehind(text: string): Promise<string> {
  const readme = await Deno.readTextFile(new URL("README.md", ROOT));
  const start = readme.indexOf(text);
  assert(start >= 0, `README.md has no "${text}"`);
  const example = /```sh\n(.*?)```/s.exec(readme.slice(start))?.[1];
  assert(example !== undefined, `README.md has no example behind "${text}"`);
  return example;
}

/** The processes that work in a folder. Those of other systems are not found. */
function processesIn(folder: string): number[] {
  if (Deno.build.os !== "linux") return [];
  return [...Deno.readDirSync("/proc")].map(({ name }) => Number(name))
    .filter((pid) => {
      try {
        const path = Deno.readLinkSync(`/proc/${pid}/cwd`);
        return path === folder || path.startsWith(`${folder}/`);
      } catch {
        // It is no process, or has ended.
        return false;
      }
    });
}

/** Waits until no process works in a folder. */
async function untilNoneIn(folder: string): Promise<void> {
  while (processesIn(folder).length > 0) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Ends what still works in a folder. */
function endAllIn(folder: string): void {
  for (const pid of processesIn(folder)) {
    try {
      Deno.kill(pid, "SIGKILL");
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** Pastes an example into a shell in a copy; returns the lines that it prints. */
async function paste(example: string): Promise<string[]> {
  const folder = await Deno.realPath(await Deno.makeTempDir());
  try {
    await copyProject(folder);
    // As in a shell that somebody types in, each job is a group of processes.
    const { code, stdout, stderr } = await within(
      new Deno.Command("bash", {
        args: ["-m", "-c", example],
        cwd: folder,
        // The examples say `deno`: the one that runs this test.
        env: { PATH: await pathWithDeno(folder) },
      }).output(),
    );
    const decoder = new TextDecoder();
    assertEquals(code, 0, decoder.decode(stderr));
    await within(untilNoneIn(folder));
    return decoder.decode(stdout).trimEnd().split("\n");
  } finally {
    endAllIn(folder);
    await Deno.remove(folder, { recursive: true });
  }
}

async function pathWithDeno(folder: string): Promise<string> {
  await Deno.mkdir(`${folder}/bin`);
  await Deno.symlink(Deno.execPath(), `${folder}/bin/deno`);
  return `${folder}/bin:${Deno.env.get("PATH")}`;
}

Deno.test("README.md has an example of a task that works when pasted", async () => {
  const lines = await paste(await exampleBehind("## A quick job"));
  assertEquals(lines, ["832040", "1346269", "2178309", "3524578"]);
});

Deno.test("README.md has an example of a pool that works when pasted", async () => {
  const text = "### A job in a file of its own";
  const lines = await paste(await exampleBehind(text));
  const counts = ["LICENSE", "CHANGELOG.md"].map((name) => {
    const content = Deno.readTextFileSync(new URL(name, ROOT));
    return `${content.split("\n").length - 1}`;
  });
  // From the program, and from the command line.
  assertEquals(lines, [...counts, ...counts]);
});

Deno.test("README.md has an example of three transports that works when pasted", async () => {
  const text = "## Four transports, one worker script";
  const lines = await paste(await exampleBehind(text));
  assertEquals(
    lines,
    ["openPipe", "openQueue", "openShm"]
      .flatMap((name) => [1, 4, 9].map((square) => `${name} ${square}`)),
  );
});

Deno.test({
  name: "README.md has an example of a server that works when pasted",
  ignore: Deno.build.os === "windows",
  async fn() {
    const text = "The fourth transport reaches";
    const lines = await paste(await exampleBehind(text));
    assertEquals(lines, [
      "listening on unix:hello/worker.sock",
      "Hello from worker!",
    ]);
  },
});
