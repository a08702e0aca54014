// Copyright 2026 the Duplex authors. MIT license.

/**
 * The examples of `--help` work in a folder outside of the package, which has a
 * `deno.json` of its own.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { isBefore, within } from "../workers/_processes.ts";

const ROOT = new URL("../../", import.meta.url);
const EXEC = Deno.execPath();

/** The environment of an example, in which "deno" is this Deno. */
const ENV = {
  NO_COLOR: "1",
  DENO_NO_UPDATE_CHECK: "1",
  PATH: `${dirname(EXEC)}:${Deno.env.get("PATH")}`,
};

/** Makes the folder in which the examples run. */
async function makeFolder(): Promise<string> {
  const folder = await Deno.realPath(await Deno.makeTempDir());
  // The package in place of that of JSR.
  const config = { links: [fileURLToPath(ROOT)], lock: false };
  await Deno.writeTextFile(`${folder}/deno.json`, JSON.stringify(config));
  await Deno.mkdir(`${folder}/data`);
  await Deno.writeTextFile(`${folder}/data/a.txt`, "four");
  await Deno.writeTextFile(`${folder}/in.jsonl`, '"data/a.txt"\n');
  await Deno.writeTextFile(`${folder}/key`, "correct horse");
  return folder;
}

/** Starts a command in a shell. */
function spawn(folder: string, script: string): Deno.ChildProcess {
  return new Deno.Command("sh", {
    args: ["-c", script],
    cwd: folder,
    env: ENV,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** The examples in the help of a command, as they run in the folder. */
async function examplesOf(folder: string, command: string): Promise<string[]> {
  const help = `deno run -A jsr:@duplex/ipc/cli ${command} --help`;
  const { stdout } = await spawn(folder, help).output();
  const text = new TextDecoder().decode(stdout);
  const [, examples] = text.split("\nExamples:\n\n");
  assert(examples !== undefined, text);
  return examples.trimEnd().split("\n\n").map((example) =>
    example
      .replaceAll("/tmp/worker.sock", `${folder}/worker.sock`)
      .replace("0.0.0.0:9000", "127.0.0.1:0")
  );
}

/** The script that the comment of an example has. */
function scriptIn(example: string): string {
  return example.split("\n").filter((line) => line.startsWith("  #"))
    .map((line) => line.replace(/^ {2}# (worker\.ts:)? */, "")).join("\n");
}

/** Runs an example, and returns what it printed and wrote. */
async function run(
  folder: string,
  example: string,
): Promise<{ out: string; err: string }> {
  const { code, stdout, stderr } = await spawn(folder, example).output();
  const [out, err] = [stdout, stderr].map((bytes) =>
    new TextDecoder().decode(bytes)
  );
  assertEquals(code, 0, `${example}\n${err}`);
  return { out: out!, err: err! };
}

/** Runs an example of `serve` while it listens. */
async function whileServing(
  folder: string,
  example: string,
  act: (address: string) => Promise<void>,
): Promise<void> {
  const child = spawn(folder, example.replace("deno run", "exec deno run"));
  const errors = new Response(child.stderr).text();
  const lines = child.stdout.pipeThrough(new TextDecoderStream());
  let address: string | undefined;
  for await (const text of lines) {
    address = /^listening on (.*)\n/.exec(text)?.[1];
    assert(address !== undefined, text);
    await act(address);
    child.kill("SIGTERM");
  }
  assertEquals((await child.status).code, 0, await errors);
  assert(address !== undefined, await errors);
}

Deno.test({
  name: "the examples of --help work outside of the package",
  // Before 2.9.4 Deno does not find a linked package that it is to run.
  ignore: Deno.build.os === "windows" || isBefore(4),
  fn: () => within(runAll()),
});

async function runAll(): Promise<void> {
  const folder = await makeFolder();
  try {
    const [map, serve, compare] = await Promise.all(
      ["map", "serve", "compare"].map((name) => examplesOf(folder, name)),
    );
    await Deno.writeTextFile(`${folder}/worker.ts`, scriptIn(map![0]!));
    const client = map!.pop()!;
    assertStringIncludes(client, "tcp://127.0.0.1:9000");
    for (const [index, example] of map!.entries()) {
      const { out } = await run(folder, example);
      const file = `${folder}/out.jsonl`;
      assertEquals(index === 0 ? await Deno.readTextFile(file) : out, "4\n");
    }
    assertEquals(await Deno.readTextFile(`${folder}/failed.jsonl`), "");
    const [unix, tcp] = serve!;
    await whileServing(folder, unix!, async (address) => {
      await Deno.stat(address.slice("unix:".length));
    });
    await whileServing(folder, tcp!, async (address) => {
      const own = client.replace("tcp://127.0.0.1:9000", address);
      assertEquals((await run(folder, own)).out, "4\n");
    });
    // Those of compare take long: it tests that its arguments are right.
    for (const example of compare!) {
      const { stderr } = await spawn(folder, `${example} --size 0`).output();
      assertMatch(
        new TextDecoder().decode(stderr),
        /--size (takes an integer|is given more than once)/,
      );
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
