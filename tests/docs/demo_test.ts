// Copyright 2026 the Duplex authors. MIT license.

/**
 * The demonstration as a user runs it, and that it notices what is wrong.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import type { Duplex } from "../../duplex.ts";
import { duplexPair } from "../../pair.ts";
import { demo } from "../../examples/demo.ts";
import { describeFile, listFiles } from "../../examples/_demo_files.ts";
import {
  type Answer,
  checkAnswers,
  type Transport,
} from "../../examples/_demo_run.ts";
import { SocketTransport } from "../../examples/_demo_socket.ts";

const DEMO = new URL("../../examples/demo.ts", import.meta.url);

const EMPTY_SHA256 =
  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ABC_SHA256 =
  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/** Runs `fn` with a folder of five files, 1038 bytes together. */
async function withFolder(
  fn: (folder: string) => Promise<void>,
): Promise<void> {
  const made = await Deno.makeTempDir({ prefix: "duplex_demo_" });
  const folder = await Deno.realPath(made);
  try {
    await Deno.mkdir(`${folder}/inner`);
    await Deno.mkdir(`${folder}/.git`);
    await Deno.writeTextFile(`${folder}/.git/config`, "left out");
    await Deno.writeTextFile(`${folder}/empty`, "");
    await Deno.writeTextFile(`${folder}/abc.txt`, "abc");
    await Deno.writeTextFile(`${folder}/inner/grüße 世界.txt`, "1\n2\n");
    await Deno.writeTextFile(`${folder}/inner/lines.txt`, "one\ntwo");
    await Deno.writeFile(
      `${folder}/binary`,
      Uint8Array.from({ length: 1024 }, (_, index) => index),
    );
    await fn(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Runs the demonstration in a process of its own. */
async function runDemo(
  ...args: string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", DEMO.href, ...args],
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return {
    code,
    stdout: decoder.decode(stdout),
    stderr: decoder.decode(stderr),
  };
}

/** Runs the demonstration here; returns its exit code and all it printed. */
async function demoHere(
  args: string[],
  transports: Transport[],
): Promise<{ code: number; printed: string }> {
  const { log, error } = console;
  const lines: string[] = [];
  const print = (line: string) => lines.push(line);
  Object.assign(console, { log: print, error: print });
  try {
    const code = await demo(args, transports);
    return { code, printed: lines.join("\n") };
  } finally {
    Object.assign(console, { log, error });
  }
}

/** A transport whose worker answers what it likes. */
function fakeTransport(
  answer: (path: string) => Promise<Answer>,
): Transport {
  async function work(main: Duplex<string, Answer>) {
    for await (const path of main) await main.send(await answer(path));
    await main.close();
  }
  return {
    name: "fake",
    open() {
      const [main, worker] = duplexPair<Answer, string>();
      work(worker).catch(() => {});
      return Promise.resolve(main);
    },
  };
}

async function answerHonestly(path: string): Promise<Answer> {
  if (path === Deno.execPath()) {
    return { path, error: new Deno.errors.NotCapable("Not allowed") };
  }
  return await describeFile(path);
}

Deno.test("demo sends every file of a folder over every transport", async () => {
  await withFolder(async (folder) => {
    const { code, stdout, stderr } = await runDemo(folder, "--workers", "2");
    assertEquals(stderr, "");
    assertEquals(code, 0);
    assertStringIncludes(stdout, `5 files in ${folder}`);
    for (const name of ["pipe", "queue", "shm", "socket"]) {
      const lines = stdout.split("\n");
      const row = lines.find((line) => line.startsWith(`${name} `));
      const cells = row?.split(/ {2,}/) ?? [];
      assertEquals(cells.slice(0, 2), [name, "2"]);
      assertEquals(cells.slice(3, 5), ["5", "0.00"]);
      assertEquals(cells.at(-1), `read: ${folder}`);
      assertStringIncludes(
        stdout,
        `${name}: a worker was denied a file outside the folder`,
      );
    }
    assertStringIncludes(stdout, "NotCapable");
    assertStringIncludes(
      stdout,
      "OK: every size, line count and SHA-256 matches that of the main process",
    );
  });
});

Deno.test("demo skips symbolic links", {
  ignore: Deno.build.os === "windows",
}, async () => {
  await withFolder(async (folder) => {
    await Deno.symlink("/etc/passwd", `${folder}/outside`);
    await Deno.symlink("/", `${folder}/root`);
    const { code, stdout } = await runDemo(folder, "--workers=1");
    assertEquals(code, 0);
    assertStringIncludes(
      stdout,
      `5 files in ${folder}, 2 links and devices skipped`,
    );
  });
});

Deno.test("demo says what is wrong with its arguments", async (t) => {
  const empty = await Deno.makeTempDir({ prefix: "duplex_demo_" });
  const comma = await Deno.makeTempDir({ prefix: "duplex_demo_a,b_" });
  const cases: [args: string[], code: number, text: string][] = [
    [[`${empty}/nothing`], 1, "does not exist"],
    [[import.meta.filename!], 1, "is not a folder"],
    [[empty], 1, "contains no file to send"],
    [[comma], 1, "has a comma in its path"],
    [["--workers", "0"], 2, "--workers must be an integer"],
    [["--workers"], 2, "--workers must be an integer"],
    [["--fast"], 2, 'Unknown argument "--fast"'],
    [["one", "two"], 2, 'Unknown argument "two"'],
    [["--help"], 0, "Usage: deno task demo"],
  ];
  try {
    for (const [args, expectedCode, text] of cases) {
      await t.step(text, async () => {
        const { code, printed } = await demoHere(args, []);
        assertEquals(code, expectedCode);
        assertStringIncludes(printed, text);
      });
    }
  } finally {
    await Deno.remove(empty);
    await Deno.remove(comma);
  }
});

Deno.test("demo() returns 0 when a worker answers as it should", async () => {
  await withFolder(async (folder) => {
    const { code } = await demoHere([folder, "--workers", "3"], [
      fakeTransport(answerHonestly),
    ]);
    assertEquals(code, 0);
  });
});

Deno.test("demo() returns 1 when a worker answers a wrong digest", async () => {
  await withFolder(async (folder) => {
    const { code, printed } = await demoHere([folder], [
      fakeTransport(async (path) => {
        const answer = await answerHonestly(path);
        return path.endsWith("abc.txt")
          ? { ...answer, sha256: EMPTY_SHA256 }
          : answer;
      }),
    ]);
    assertEquals(code, 1);
    assertStringIncludes(printed, `fake: wrong: ${folder}/abc.txt: the worker`);
    assertStringIncludes(printed, "1 wrong");
  });
});

Deno.test("demo() returns 1 when a worker cannot read a file", async () => {
  await withFolder(async (folder) => {
    const { code, printed } = await demoHere([folder], [
      fakeTransport((path) =>
        path.endsWith("binary")
          ? Promise.resolve({ path, error: new RangeError("Too binary") })
          : answerHonestly(path)
      ),
    ]);
    assertEquals(code, 1);
    assertStringIncludes(printed, `${folder}/binary: RangeError: Too binary`);
  });
});

Deno.test("demo() returns 1 when a worker may read outside", async () => {
  await withFolder(async (folder) => {
    const { code, printed } = await demoHere([folder], [
      fakeTransport((path) =>
        Promise.resolve(
          path === Deno.execPath()
            ? { path, size: 0, lines: 0, sha256: EMPTY_SHA256 }
            : describeFile(path),
        )
      ),
    ]);
    assertEquals(code, 1);
    assertStringIncludes(
      printed,
      "a worker could read it although it must not",
    );
  });
});

Deno.test("demo() tears down what it has set up, also after a failure", async () => {
  const calls: string[] = [];
  const transport = (failing: string): Transport => ({
    name: "fake",
    setUp() {
      calls.push("setUp");
      return failing === "setUp"
        ? Promise.reject(new Error("Not set up"))
        : Promise.resolve();
    },
    open() {
      calls.push("open");
      return Promise.reject(new Error("Not opened"));
    },
    tearDown() {
      calls.push("tearDown");
      return Promise.resolve();
    },
  });
  await withFolder(async (folder) => {
    await assertRejects(
      () => demoHere([folder], [transport("setUp")]),
      Error,
      "Not set up",
    );
    assertEquals(calls.splice(0), ["setUp", "tearDown"]);
    await assertRejects(
      () => demoHere([folder, "--workers=1"], [transport("open")]),
      Error,
      "Not opened",
    );
    assertEquals(calls, ["setUp", "open", "tearDown"]);
  });
});

Deno.test("SocketTransport ends its server with the workers in it", async () => {
  await withFolder(async (folder) => {
    const transport = new SocketTransport("null");
    try {
      await transport.setUp(folder, 1);
      const worker = await transport.open();
      await transport.tearDown();
      await assertRejects(() => worker.closed);
    } finally {
      await transport.tearDown();
    }
  });
});

Deno.test("describeFile() counts bytes and lines and makes the digest", async () => {
  await withFolder(async (folder) => {
    const facts = async (name: string) => {
      const { size, lines, sha256 } = await describeFile(`${folder}/${name}`);
      return [size, lines, sha256];
    };
    assertEquals(await facts("empty"), [0, 0, EMPTY_SHA256]);
    assertEquals(await facts("abc.txt"), [3, 1, ABC_SHA256]);
    assertEquals((await facts("inner/lines.txt")).slice(0, 2), [7, 2]);
    assertEquals((await facts("inner/grüße 世界.txt")).slice(0, 2), [4, 2]);
    assertEquals((await facts("binary")).slice(0, 2), [1024, 5]);
  });
});

Deno.test("listFiles() reports a folder that cannot be read", async () => {
  const { files, unreadable } = await listFiles("/this/folder/is/not/there");
  assertEquals(files, []);
  assertEquals(unreadable.length, 1);
  assert(unreadable[0]!.error instanceof Deno.errors.NotFound);
});

Deno.test("checkAnswers() notices answers that are missing or too many", async () => {
  const facts = { path: "a", size: 0, lines: 0, sha256: EMPTY_SHA256 };
  const expected = new Map([["a", facts], ["b", { ...facts, path: "b" }]]);
  assertEquals(await checkAnswers([facts, facts], expected), [
    "a: answered but not requested",
    "b: no answer",
  ]);
});
