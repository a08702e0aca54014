// Copyright 2026 the Duplex authors. MIT license.

/**
 * What keeps a program running that does not close what it has opened.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { allDone, test, workerUrl } from "../workers/_processes.ts";

const EXEC = Deno.execPath();

/** What a program forgets to close, and whether that keeps it running. */
const FORGOTTEN: Record<string, boolean> = {
  nothing: false,
  pipe: true,
  queue: true,
  shm: true,
  calls: true,
  "a pool of processes": true,
  "a pool of threads": true,
  "a closed pool": false,
  "a task": true,
  "a listener": true,
  "a socket": true,
  "a pair": false,
  "a pipe without reference": false,
  "a pipe with reference again": true,
  "a closed pipe without reference": false,
  "a pool of processes without reference": false,
  "a pool of threads without reference": false,
  "a pool without reference, with a task": true,
  "a pool with reference again": true,
  "a closed pool without reference": false,
  "a task without reference": false,
  "a pool whose server is away": false,
  "a listener without reference": false,
  "a socket without reference": false,
  "a socket with reference again": true,
};

async function forget(name: string): Promise<string[]> {
  const { stdout, stderr } = await new Deno.Command(EXEC, {
    args: [
      ...["run", "--quiet", "--no-prompt", "--unstable-worker-options"],
      ...["--allow-read", "--allow-net=127.0.0.1", `--allow-run=${EXEC}`],
      ...[workerUrl("forgets").href, name],
    ],
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return [name, decoder.decode(stderr), decoder.decode(stdout)];
}

test("Duplex keeps a program running unless it is closed or not referenced", async () => {
  const found = await allDone(Object.keys(FORGOTTEN).map(forget));
  assertEquals(
    found,
    Object.entries(FORGOTTEN).map(([name, isKept]) => [
      name,
      "",
      isKept ? "kept\n" : "ends\n",
    ]),
  );
});
