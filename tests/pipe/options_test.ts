// Copyright 2026 the Duplex authors. MIT license.

/**
 * Options of `openPipe` that are wrong: each is refused with an error that names
 * it, before anything is started.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { PeerExitError } from "../../duplex.ts";
import { openPipe, type PipeCommandOptions } from "../../pipe.ts";
import { Processes, RUN, test, workerUrl } from "../workers/_processes.ts";

const ACTS = workerUrl("acts");

/** Values of every kind; each option refuses those that it cannot use. */
const VALUES: readonly unknown[] = [
  null,
  true,
  5,
  0,
  -1,
  1.5,
  NaN,
  Infinity,
  1n,
  "text",
  "",
  "a\0b",
  Symbol("symbol"),
  [],
  ["text"],
  {},
  { text: "text" },
  new URL("http://example.com/"),
  function named() {},
];

/** Which of {@linkcode VALUES} an option takes, for the options of a script. */
const TAKES: Record<string, (value: unknown) => boolean> = {
  args: Array.isArray,
  codec: () => false,
  closeTimeout: isPositive,
  cwd: (value) => value === "text",
  deadlockTimeout: isPositive,
  clearEnv: (value) => value === true,
  // Each flag is tested elsewhere.
  denoFlags: Array.isArray,
  detached: (value) => value === true,
  env: (value) => isPlain(value) || value instanceof URL,
  maxMessageBytes: isWhole,
  memory: (value) => isPositive(value) && value !== Infinity,
  signal: () => false,
  stderr: (value) => typeof value === "function",
  openTimeout: isPositive,
  windowBytes: isWhole,
  windowMessages: isWhole,
};

function isPositive(value: unknown): boolean {
  return typeof value === "number" && value > 0;
}

function isWhole(value: unknown): boolean {
  return isPositive(value) && Number.isInteger(value);
}

function isPlain(value: unknown): boolean {
  return value?.constructor === Object;
}

/** Opens what no type allows; refuses at once, and starts nothing. */
async function refusal(...args: unknown[]): Promise<Error> {
  using processes = new Processes();
  const open = openPipe as unknown as (...args: unknown[]) => Promise<unknown>;
  const error = await assertRejects(() => open(...args), Error);
  assertEquals(processes.started, 0);
  assert(
    error instanceof TypeError || error instanceof RangeError,
    `${error.name}: ${error.message}`,
  );
  assertStringIncludes(error.message, "Cannot open a pipe");
  // On one line, with the value.
  assertMatch(error.message, /^[\x20-\x7e]+$/);
  return error;
}

test("openPipe() refuses every option that is of a wrong kind", async (t) => {
  for (const [name, takes] of Object.entries(TAKES)) {
    await t.step(name, async () => {
      for (const value of VALUES) {
        if (takes(value)) continue;
        const { message } = await refusal(ACTS, { [name]: value });
        assertStringIncludes(message, `"${name}" must be `);
        if (name === "memory" || name === "denoFlags") continue;
        const target = { command: Deno.execPath(), [name]: value };
        assertEquals((await refusal(target)).message, message);
      }
    });
  }
});

test("openPipe() refuses a target that is neither a script nor a command", async () => {
  for (const value of [undefined, ...VALUES]) {
    if (value === "text" || value instanceof URL) continue;
    const { message } = await refusal(value);
    assertMatch(message, /the script must be|there must be a script or/);
    assertStringIncludes(message, "current value is ");
  }
  for (const value of [undefined, ...VALUES]) {
    if (value === "text") continue;
    const { message } = await refusal({ command: value });
    assertStringIncludes(message, 'there must be a script or a "command"');
  }
});

test("openPipe() refuses options that are not an object", async () => {
  for (const value of VALUES) {
    if (isPlain(value) || value instanceof URL) continue;
    const { message } = await refusal(ACTS, value);
    assertStringIncludes(message, '"options" must be an object');
  }
  const { message } = await refusal({ command: "tool" }, { openTimeout: 1 });
  assertStringIncludes(message, 'the command "tool" with a second argument');
});

test("openPipe() names the argument or the variable that is wrong", async (t) => {
  const cases: [string, object, string][] = [
    ["a number", { args: ["a", 5] }, '"args[1]" must be a string'],
    ["a hole", { args: [, "a"] }, '"args[0]" must be a string'],
    ["a NUL", { args: ["a\0b"] }, 'current value is "a\\u0000b"'],
    ["a list of variables", { env: ["A=1"] }, "current value is an array"],
    ["a map", { env: new Map() }, "current value is an instance of Map"],
    ["no name", { env: { "": "x" } }, 'must not be empty nor contain "="'],
    ["a sign", { env: { "A=B": "x" } }, 'current value is "A=B"'],
    ["a NUL in a name", { env: { "A\0": "x" } }, 'value is "A\\u0000"'],
    ["a value", { env: { A: 5 } }, 'the variable "A" in "env" must be a'],
    ["no value", { env: { A: undefined } }, "current value is undefined"],
    ["a NUL in a value", { env: { A: "\0" } }, 'value is "\\u0000"'],
    ["a URL", { cwd: new URL("data:,x") }, 'current value is "data:,x"'],
  ];
  for (const [name, options, text] of cases) {
    await t.step(name, async () => {
      assertStringIncludes((await refusal(ACTS, options)).message, text);
      const target = { command: Deno.execPath(), ...options };
      assertStringIncludes((await refusal(target)).message, text);
    });
  }
});

test("openPipe() treats undefined options as omitted", async () => {
  const names = Object.keys(TAKES).filter((name) => name !== "args");
  const options = Object.fromEntries(names.map((name) => [name, undefined]));
  const worker = await openPipe(ACTS, { ...options, args: ["echo"] });
  await worker.send("taken");
  assertEquals(await worker.receive(), "taken");
  await worker.close();
});

/** The error of a program that the system does not start. */
async function startError(
  options: PipeCommandOptions,
  Kind: new (message: string) => Error,
): Promise<string> {
  using processes = new Processes();
  const error = await assertRejects(() => openPipe(options), Kind);
  assertEquals(processes.started, 0);
  assertInstanceOf(error.cause, Kind);
  return error.message;
}

test(
  "openPipe() names a program or a folder that does not exist",
  async () => {
    const folder = await Deno.makeTempDir();
    const file = `${folder}/file`;
    await Deno.writeTextFile(file, "#!/bin/sh\n", { mode: 0o644 });
    const { NotFound, PermissionDenied } = Deno.errors;
    try {
      assertEquals(
        await startError({ command: "no-such-program" }, NotFound),
        'Cannot open a pipe to "no-such-program": it cannot be started: entity not found; "command" must be the name of a program in PATH, or a path',
      );
      for (const command of [file, folder]) {
        assertStringIncludes(
          await startError({ command }, PermissionDenied),
          `Cannot open a pipe to "${command}": it cannot be started: Permission denied`,
        );
      }
      for (const cwd of [`${folder}/none`, file]) {
        const command = Deno.execPath();
        const message = await startError({ command, cwd }, NotFound);
        assertStringIncludes(message, `Cannot open a pipe to "${command}"`);
        assertStringIncludes(message, cwd);
        assertMatch(message, /: (No such cwd|cwd is not a directory) '[^']+'$/);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
  { run: true, read: true, write: true },
);

test("openPipe() names a program that it may not run", async () => {
  const error = await assertRejects(
    () => openPipe({ command: "sh" }),
    Deno.errors.NotCapable,
  );
  assertStringIncludes(
    error.message,
    'Cannot open a pipe to "sh": it cannot be started: Requires run access to "sh"',
  );
}, RUN);

test("openPipe() escapes the output of a worker", async () => {
  // Escape sequences of one byte, line breaks, and a change of direction.
  const text = "Error: a\u009b2Jb\u202ec\u2028d\x1b[2Je";
  const source = `console.log(${JSON.stringify(text)})`;
  const script = `data:text/javascript,${encodeURIComponent(source)}`;
  const error = await assertRejects(
    () => openPipe(script, { stderr: "null" }),
    PeerExitError,
  );
  assertEquals(error.stderr, text);
  assertEquals(
    error.message,
    'The worker "data:" exited with code 0; does it call parent() or expose()?; stderr: "Error: a\\u{9b}2Jb\\u{202e}c\\u{2028}d\\u001b[2Je"',
  );
});

test("openPipe() asks whether a script that just ends calls parent()", async () => {
  const message = async (source: string) => {
    const script = `data:text/javascript,${encodeURIComponent(source)}`;
    const error = await assertRejects(() => openPipe(script), PeerExitError);
    return error.message;
  };
  const end = 'The worker "data:" exited with code';
  assertEquals(
    await message("export const x = 1;"),
    `${end} 0; does it call parent() or expose()?`,
  );
  assertEquals(await message("Deno.exit(3)"), `${end} 3`);
  const { command, args } = {
    command: Deno.execPath(),
    args: ["eval", "Deno.exit(0)"],
  };
  const error = await assertRejects(
    () => openPipe({ command, args }),
    PeerExitError,
  );
  assertStringIncludes(error.message, "exited with code 0");
  assert(!error.message.includes("parent()"));
});
