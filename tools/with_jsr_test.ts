// Copyright 2026 the Duplex authors. MIT license.

import { assertEquals } from "@std/assert";

const WITH_JSR = new URL("./with_jsr.ts", import.meta.url).pathname;

/** Signals and file modes are those of POSIX. */
const ignore = Deno.build.os === "windows";

function start(...args: string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", WITH_JSR, ...args],
    // Otherwise the tool would try JSR first.
    env: { JSR_URL: "https://jsr.io/", NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function run(...args: string[]): Promise<Ended> {
  const { code, stdout, stderr } = await start(...args).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

Deno.test({
  name: "with_jsr.ts has the exit code of its command",
  ignore,
  async fn() {
    assertEquals(await run("sh", "-c", "echo out; echo err >&2; exit 7"), {
      code: 7,
      out: "out\n",
      err: "err\n",
    });
    // As in a shell: 128 plus the number of the signal.
    assertEquals((await run("sh", "-c", "kill -KILL $$")).code, 137);
  },
});

Deno.test({
  name: "with_jsr.ts says in a line which command it cannot run",
  ignore,
  async fn() {
    const folder = await Deno.makeTempDir();
    const file = `${folder}/file`;
    await Deno.writeTextFile(file, "#!/bin/sh\n", { mode: 0o644 });
    const isNone = "there is no such program";
    const isNot = "it is not a program that may be executed";
    const cases: [command: string, code: number, reason: string][] = [
      ["no-such-command", 127, isNone],
      [`${folder}/none`, 127, isNone],
      [folder, 126, isNot],
      [file, 126, isNot],
    ];
    try {
      for (const [command, code, reason] of cases) {
        const err = `Cannot run ${JSON.stringify(command)}: ${reason}\n`;
        assertEquals(await run(command, "arg"), { code, out: "", err });
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
    const { code, err } = await run();
    assertEquals([code, err.split("\n").length], [2, 2], err);
  },
});

Deno.test({
  name: "with_jsr.ts passes signals on to its command",
  ignore,
  async fn() {
    for (const signal of ["INT", "TERM", "HUP", "QUIT"]) {
      const script =
        `sleep 60 & trap "kill $!; echo got ${signal}; exit 7" ${signal}; echo ready; wait`;
      const child = start("sh", "-c", script);
      const reader = child.stdout.pipeThrough(new TextDecoderStream())
        .getReader();
      assertEquals((await reader.read()).value, "ready\n");
      child.kill(`SIG${signal}` as Deno.Signal);
      assertEquals((await reader.read()).value, `got ${signal}\n`);
      await reader.cancel();
      await child.stderr.cancel();
      assertEquals((await child.status).code, 7);
    }
  },
});
