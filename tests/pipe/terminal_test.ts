// Copyright 2026 the Duplex authors. MIT license.

/**
 * Programs with workers in a terminal: what its keys do, and what is left when it is
 * closed.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { isRunning, within } from "../workers/_processes.ts";
import {
  HAS_PTY,
  inTerminal,
  JOB,
  type Program,
} from "../workers/_programs.ts";

/** A folder for the files that the tasks wait for. */
const FOLDER = Deno.makeTempDirSync({ prefix: "duplex_terminal_" });
addEventListener("unload", () => Deno.removeSync(FOLDER, { recursive: true }));

function test(name: string, fn: (file: string) => Promise<void>): void {
  const file = `${FOLDER}/${name.replaceAll(/\W/g, "_")}`;
  Deno.test({ name, ignore: !HAS_PTY, fn: () => within(fn(file)) });
}

/** Waits until a task of each kind runs; returns the id of the worker process. */
async function begun({ stdout }: Program): Promise<number> {
  await stdout.until(/begun thread-1 /);
  await stdout.until(/begun message-1 /);
  return Number((await stdout.until(/begun process-1 (\d+)\r/))[1]);
}

/** Waits for the end of a process that is not a child of this one. */
async function gone(pid: number): Promise<void> {
  while (isRunning(pid)) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Waits for a file. */
async function exists(file: string): Promise<void> {
  while (!await Deno.stat(file).then(() => true, () => false)) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The lines that match, sorted. */
function lines(text: string, pattern: RegExp): string[] {
  return Array.from(text.matchAll(pattern), ([, line]) => line!).sort();
}

test("pool.close() at Ctrl+C lets the running tasks finish", async (file) => {
  await using terminal = inTerminal("terminal", ["close", file]);
  await begun(terminal);
  await terminal.write("\x03");
  await terminal.stdout.until(/closing\r\n/);
  await Deno.writeTextFile(file, "");
  const { code, out } = await terminal.result();
  assertEquals(code, 0, out);
  const ran = [
    ...["message-1", "message-2", "message-3"],
    ...["process-1", "process-2", "process-3", "thread-1"],
  ];
  assertEquals(lines(out, /begun (\S+)/g), ran);
  assertEquals(lines(out, /(\S+) done/g), ran);
  assertEquals(lines(out, /(\S+ \w*Error)/g), [
    "thread-2 ClosedError",
    "thread-3 ClosedError",
  ]);
});

test("Ctrl+C ends the program, and then its workers", async (file) => {
  await using terminal = inTerminal("terminal", ["none", file]);
  const worker = await begun(terminal);
  await terminal.write("\x03");
  const { code, out } = await terminal.result();
  // Python's number for a program that was ended by SIGINT, as an exit code.
  assertEquals(code, 256 - 2, out);
  await gone(worker);
});

test("the end of the terminal ends the program and its workers", async (file) => {
  await using terminal = inTerminal("terminal", ["none", file]);
  const worker = await begun(terminal);
  terminal.kill();
  await gone(worker);
});

test("Ctrl+Z stops the program, and no time limit ends when it continues", async (file) => {
  await using terminal = inTerminal("terminal", ["stop", file], JOB);
  await begun(terminal);
  await terminal.stdout.until(/(begun close[^]*){2}/);
  await terminal.stdout.until(/(begun open[^]*){2}/);
  await terminal.stdout.until(/(begun open\w+-call[^]*){2}/);
  await terminal.write("\x1a");
  await terminal.stdout.until(/stopped 148\r\n/);
  // A worker process goes on meanwhile. It creates the file after all time limits.
  await exists(`${file}_clock`);
  await terminal.write("\n");
  await terminal.stdout.until(/continued\r\n/);
  await Deno.writeTextFile(file, "");
  const { code, out } = await terminal.result();
  assertEquals(lines(out, /(\S+ \w*Error)/g), []);
  assertEquals(lines(out, /(\S+) done/g), [
    ...["message-1", "message-2", "message-3"],
    ...["openPipe-call", "openPipe-close", "openPipe-open"],
    ...["openShm-call", "openShm-close", "openShm-open"],
    ...["process-1", "process-2", "process-3"],
    ...["thread-1", "thread-2", "thread-3"],
  ], out);
  assertEquals(code, 0, out);
});
