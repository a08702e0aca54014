// Copyright 2026 the Duplex authors. MIT license.

/**
 * `cli.ts compare` as a process of its own: what it does without flags of Deno,
 * and at a signal.
 *
 * @module
 */

import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { within } from "../workers/_processes.ts";

const EXEC = Deno.execPath();
const ROOT = new URL("../..", import.meta.url).pathname;

/** A folder of this run's own. */
const FOLDER = Deno.makeTempDirSync({ prefix: "duplex_compare_" });
addEventListener("unload", () => Deno.removeSync(FOLDER, { recursive: true }));

/** A test that fails by name when it would wait forever. */
function test(
  name: string,
  permissions: Deno.PermissionOptions,
  fn: () => Promise<void>,
): void {
  Deno.test({
    name,
    permissions,
    ignore: Deno.build.os === "windows",
    fn: () => within(fn()),
  });
}

/** The imports of `deno.json` alone, without what it switches on. */
async function importMap(): Promise<string> {
  const config = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`));
  const imports: Record<string, string> = { ...config.imports };
  for (const [name, path] of Object.entries<string>(config.imports)) {
    if (path.startsWith("jsr:")) {
      imports[`${name}/`] = `${path.replace(":", ":/")}/`;
    }
  }
  return `data:application/json,${
    encodeURIComponent(JSON.stringify({ imports }))
  }`;
}

/** Starts Deno with what stands in the test's own configuration, or without. */
async function spawn(
  args: readonly string[],
  { config = true } = {},
): Promise<Deno.ChildProcess> {
  const flags = config
    ? []
    : ["--no-config", `--import-map=${await importMap()}`];
  return new Deno.Command(EXEC, {
    args: ["run", "--quiet", "--no-prompt", ...flags, ...args],
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** A program as a module of its own. */
function scriptOf(source: string): string {
  return `data:text/javascript,${encodeURIComponent(source)}`;
}

test("measureAll() leaves threads out where Deno gives them no permissions", {
  run: [EXEC],
  read: [ROOT],
}, async () => {
  const source = `
    import { measureAll } from "file://${ROOT}_cli/compare_measure.ts";
    const outcomes = await measureAll({ size: 1 });
    console.log(JSON.stringify(Array.from(outcomes.values())));
  `;
  const read = `--allow-read=${ROOT}`;
  const flag = "--unstable-worker-options";
  for (const [given, missing] of [[[read], flag], [[], `${read} ${flag}`]]) {
    const child = await spawn([...given!, scriptOf(source)], { config: false });
    const { stdout, stderr } = await child.output();
    const decoder = new TextDecoder();
    const text = decoder.decode(stdout);
    const all = text.split(`"needs ${missing}"`).length - 1;
    assertEquals(all, 2, text + decoder.decode(stderr));
  }
});

test("a worker that compare stops is no error", {
  run: [EXEC],
  read: [ROOT],
}, async () => {
  const source = `
    import { openQueue } from "file://${ROOT}queue.ts";
    import { openShm } from "file://${ROOT}shm.ts";
    for (const open of [openQueue, openShm]) {
      for (const name of ["AbortError", "TimeoutError"]) {
        const peer = await open("file://${ROOT}_cli/compare_worker.ts");
        await peer.send(["echo", 2, "1"]);
        await peer.send(new Uint8Array(1));
        await peer.receive();
        peer.abort(new DOMException("Enough", name));
        await peer.closed.catch(() => {});
      }
    }
  `;
  const child = await spawn([
    ...["-A", "--unstable-worker-options", scriptOf(source)],
  ]);
  const { success, stderr } = await child.output();
  const text = new TextDecoder().decode(stderr);
  assertEquals({ success, text }, { success: true, text: "" });
});

test(
  "compare ends at a signal, and leaves no file behind",
  "inherit",
  async () => {
    const svg = `${FOLDER}/interrupted.svg`;
    const cli = `${ROOT}cli.ts`;
    const child = await spawn(["-A", cli, "compare", "--svg", svg]);
    const reader = child.stderr.getReader();
    const { value } = await reader.read();
    assertMatch(new TextDecoder().decode(value), /^measuring/);
    child.kill("SIGINT");
    reader.releaseLock();
    const { code, stderr } = await child.output();
    assertEquals(code, 130);
    assertEquals(new TextDecoder().decode(stderr), "stopped by SIGINT\n");
    await assertRejects(() => Deno.stat(svg), Deno.errors.NotFound);
  },
);
