// Copyright 2026 the Duplex authors. MIT license.

/**
 * Flags for the Deno of a worker: those that are accepted have their effect, and no
 * flag and no configuration file gives the worker a permission.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { readDenoFlags, waitsForDebugger } from "../../_pipe/deno_flags.ts";
import { openPipe } from "../../pipe.ts";
import { Processes, test, workerUrl } from "../workers/_processes.ts";
import { PACKAGE, Registry } from "./_registry.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

/** What a test needs that makes a worker script and files beside it. */
const FILES = { run: [Deno.execPath()], read: true, write: true };

/** A folder with files. */
class Folder implements AsyncDisposable {
  readonly path = Deno.makeTempDirSync({ dir: Deno.cwd() });

  constructor(files: Record<string, string>) {
    for (const [name, text] of Object.entries(files)) {
      Deno.writeTextFileSync(`${this.path}/${name}`, text);
    }
  }

  /** The path of a file, relative to the folder of this process. */
  at(name: string): string {
    return `./${this.path.slice(Deno.cwd().length + 1)}/${name}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}

/** A script that sends the values of expressions to its parent. */
function scriptOf(expression: string, before = ""): string {
  return `${before}
    import { parent } from "${new URL("../../parent.ts", import.meta.url)}";
    await using main = await parent();
    await main.send(${expression});`;
}

/** What a worker with flags sends. */
async function resultOf(
  expression: string,
  denoFlags: string[],
): Promise<unknown> {
  await using folder = new Folder({ "worker.ts": scriptOf(expression) });
  await using worker = await openPipe(`${folder.path}/worker.ts`, {
    denoFlags: [`--config=${ROOT}deno.json`, ...denoFlags],
  });
  return await worker.receive();
}

const FEATURES: [flag: string, expression: string, value: unknown][] = [
  ["--location=http://example.com/a", "location.href", "http://example.com/a"],
  ["--unstable-kv", "typeof Deno.openKv", "function"],
  ["--v8-flags=--expose-gc,--stack-size=900", "typeof gc", "function"],
];

test("denoFlags of openPipe() have their effect", async (t) => {
  for (const [flag, expression, value] of FEATURES) {
    await t.step(flag, async () => {
      assertEquals(await resultOf(expression, [flag]), value);
    });
  }
  const [first, second] = [
    await resultOf("Math.random()", ["--seed=5"]),
    await resultOf("Math.random()", ["--seed=5"]),
  ];
  assertEquals(first, second);
}, FILES);

test(
  "denoFlags of openPipe() name files in the folder of the caller",
  async (t) => {
    const map = JSON.stringify({ imports: { value: "./value.ts" } });
    await using folder = new Folder({
      "map.json": map,
      "value.ts": "export const value = 42;",
      "before.ts": "globalThis.value = 42;",
      "mapped.ts": scriptOf("value", 'import { value } from "value";'),
      "plain.ts": scriptOf("globalThis.value"),
    });
    const cases: [script: string, flags: string[]][] = [
      ["mapped.ts", [`--config=${folder.at("map.json")}`]],
      ["mapped.ts", [`--import-map=${folder.at("map.json")}`]],
      ["mapped.ts", [
        `--config=${new URL(`file://${folder.path}/map.json`)}`,
        "--no-lock",
      ]],
      ["plain.ts", [`--preload=${folder.at("before.ts")}`]],
      ["plain.ts", [`--import=file://${folder.path}/before.ts`]],
    ];
    for (const [script, denoFlags] of cases) {
      await t.step(denoFlags.join(" "), async () => {
        await using worker = await openPipe(folder.at(script), {
          denoFlags,
          cwd: "/",
        });
        assertEquals(await worker.receive(), 42);
      });
    }
  },
  FILES,
);

test("readDenoFlags() makes paths absolute", async () => {
  const flags = ["--config=a", "--lock=./b", "--preload=c", "--require=/d"];
  const cwd = Deno.cwd();
  await Promise.resolve();
  assertEquals(readDenoFlags("Cannot", flags, false), [
    ...[`--config=${cwd}/a`, `--lock=${cwd}/./b`, `--preload=${cwd}/c`],
    "--require=/d",
  ]);
}, { read: true });

/** Flags that are refused, and what the error says. */
const REFUSED: [flag: string, why: string][] = [
  ["-A", '"permissions" determines'],
  ["-R=/etc", '"permissions" determines'],
  ["-P", '"permissions" determines'],
  ["--allow-read", '"permissions" determines'],
  ["--allow-all", '"permissions" determines'],
  ["--deny-read=/a", '"permissions" determines'],
  ["--ignore-env=A", '"permissions" determines'],
  ["--permission-set=a", '"permissions" determines'],
  ["--allow-scripts=npm:a", "outside of the sandbox"],
  ["--env-file=.env", "DENO_PERMISSION_BROKER_PATH"],
  ["--nonsense", "not known to leave the permissions"],
  ["--unstable", "not known to leave the permissions"],
  ["--constructor", "not known to leave the permissions"],
  ["--watch", "not known to leave the permissions"],
  ["-c=deno.json", "not known to leave the permissions"],
  ["-RW", "not known to leave the permissions"],
  ["--", "not known to leave the permissions"],
  ["main.ts", "not a flag"],
  ["", "not a flag"],
  ["--config", "a path must follow"],
  ["--config=", "a path must follow"],
  ["--lock", "a path must follow"],
  ["--import-map=https://example.com/a.json", "must be a file"],
  ["--config=data:,{}", "must be a file"],
  ["--inspect=0.0.0.0:9229", "use a loopback address"],
  ["--inspect-brk=example.com", "use a loopback address"],
  ["--inspect-wait=127.0.0.1.example.com:1", "use a loopback address"],
  ["--v8-flags", "leave the sandbox intact"],
  ["--v8-flags=--expose-gc,--logfile=/tmp/a", '"--logfile=/tmp/a" is not one'],
  ["--v8-flags=--no-wasm-bounds-checks", "leave the sandbox intact"],
  ["--v8-flags=--stack-size=9 --prof", "leave the sandbox intact"],
];

test("denoFlags of openPipe() cannot give a permission", async (t) => {
  for (const [flag, why] of REFUSED) {
    await t.step(flag, async () => {
      using processes = new Processes();
      const error = await assertRejects(
        () => openPipe(workerUrl("acts"), { denoFlags: [flag] }),
        TypeError,
      );
      const start = `Cannot open a pipe as "denoFlags" must not contain ${
        JSON.stringify(flag)
      }: `;
      assertEquals(error.message.slice(0, start.length), start);
      assertStringIncludes(error.message, why);
      assertEquals(processes.started, 0);
    });
  }
});

test("readDenoFlags() refuses flags that the option memory sets", async () => {
  await Promise.resolve();
  for (const flag of ["max-old-space-size=5", "max_heap_size=5"]) {
    const flags = [`--v8-flags=--${flag}`];
    assertEquals(readDenoFlags("Cannot", flags, false), flags);
    const error = assertThrows(() => readDenoFlags("Cannot", flags, true));
    assertStringIncludes((error as Error).message, 'option "memory" sets');
  }
});

test("a configuration file gives a worker no permission", async () => {
  const permissions = { read: true, env: true, net: true, import: true };
  await using folder = new Folder({
    "deno.json": JSON.stringify({ permissions: { default: permissions } }),
    "worker.ts": scriptOf(
      `["read", "env", "net", "import"].map((name) =>
        Deno.permissions.querySync({ name }).state)`,
    ),
  });
  for (
    const denoFlags of [[], [`--config=${folder.at("deno.json")}`]]
  ) {
    await using worker = await openPipe(folder.at("worker.ts"), { denoFlags });
    assertEquals(await worker.receive(), Array(4).fill("prompt"));
  }
}, FILES);

test(
  "a configuration file cannot have scripts of npm packages run",
  async () => {
    await using folder = new Folder({
      "deno.json": JSON.stringify({
        nodeModulesDir: "auto",
        allowScripts: [`npm:${PACKAGE}`],
        lock: false,
      }),
      "worker.ts": scriptOf(
        "value",
        `import value from "npm:${PACKAGE}@1.0.0";`,
      ),
    });
    const made = `${folder.path}/made`;
    await using registry = await Registry.start(made);
    await using worker = await openPipe(folder.at("worker.ts"), {
      env: {
        NPM_CONFIG_REGISTRY: registry.url,
        DENO_DIR: `${folder.path}/cache`,
      },
    });
    // The package is installed.
    assertEquals(await worker.receive(), 1);
    await Deno.stat(`${folder.path}/node_modules/${PACKAGE}`);
    await assertRejects(() => Deno.stat(made), Deno.errors.NotFound);
  },
  { ...FILES, net: ["127.0.0.1"] },
);

test("a debugger can attach before a worker runs", async () => {
  const address = Promise.withResolvers<string>();
  const opening = openPipe<string>(workerUrl("acts"), {
    args: ["echo"],
    denoFlags: ["--inspect-wait=127.0.0.1:0"],
    stderr: (line) => {
      const [url] = /ws:\/\/\S+/.exec(line) ?? [];
      if (url !== undefined) address.resolve(url);
    },
  });
  const debug = new WebSocket(await address.promise);
  assertMatch(debug.url, /^ws:\/\/127\.0\.0\.1:/);
  await new Promise((resolve) => debug.onopen = resolve);
  debug.send(JSON.stringify({ id: 1, method: "Runtime.enable" }));
  debug.send(
    JSON.stringify({ id: 2, method: "Runtime.runIfWaitingForDebugger" }),
  );
  const worker = await opening;
  await worker.send("text");
  assertEquals(await worker.receive(), "text");
  const closed = new Promise((resolve) => debug.onclose = resolve);
  debug.close();
  await closed;
  await worker.close();
}, { run: [Deno.execPath()], net: ["127.0.0.1"] });

test("waitsForDebugger() finds the flags with which Deno waits", async () => {
  await Promise.resolve();
  assert(waitsForDebugger(["--no-lock", "--inspect-brk"]));
  assert(waitsForDebugger(["--inspect-wait=127.0.0.1:0"]));
  for (const other of [undefined, [], ["--inspect"], "--inspect-brk", [5]]) {
    assert(!waitsForDebugger(other));
  }
});
