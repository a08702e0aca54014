// Copyright 2026 the Duplex authors. MIT license.

/**
 * The examples over real processes, a peer in Python, and the bytes that
 * PROTOCOL.md shows.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { json } from "../../codec.ts";
import { DeadlockError, ProtocolError } from "../../duplex.ts";
import { FrameWire } from "../../_wire/frame_wire.ts";
import type { ByteStream } from "../../_wire/byte_stream.ts";
import {
  DEFAULT_OPTIONS,
  type SessionOptions,
} from "../../_session/options.ts";
import { memoryStreams } from "../../_session/memory_stream.ts";
import { Session } from "../../_session/session.ts";
import { openPipe, type PipeDuplex, type PipeOptions } from "../../pipe.ts";

const HELLO = new URL("../../examples/hello/", import.meta.url);

const HAS_PYTHON = hasPython();

function hasPython(): boolean {
  try {
    return new Deno.Command("python3", { args: ["--version"] }).outputSync()
      .success;
  } catch {
    return false;
  }
}

/** A test that needs Python. */
function pythonTest(name: string, fn: () => Promise<void>) {
  Deno.test({ name, ignore: !HAS_PYTHON, fn });
}

/** A worker in Python and what it has printed. */
interface Python {
  worker: PipeDuplex;
  printed: string[];
}

/** The environment in which Python finds `duplex.py`, and leaves no files. */
function pythonEnv(): Record<string, string> {
  const path = decodeURIComponent(HELLO.pathname);
  return {
    PYTHONPATH: Deno.build.os === "windows" ? path.slice(1) : path,
    PYTHONDONTWRITEBYTECODE: "1",
  };
}

/** Opens a duplex to a program in Python. */
async function openPython(
  program: string,
  options: PipeOptions = {},
): Promise<Python> {
  const printed: string[] = [];
  const worker = await openPipe({
    command: "python3",
    args: ["-c", program],
    env: pythonEnv(),
    stderr: (line) => {
      printed.push(line);
    },
    ...options,
  });
  return { worker, printed };
}

/** Runs an example to its end. */
async function runExample(name: string): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", new URL(name, HELLO).href],
    env: pythonEnv(),
  }).output();
  const decoder = new TextDecoder();
  return {
    code,
    stdout: decoder.decode(stdout).trim(),
    stderr: decoder.decode(stderr).trim(),
  };
}

const BOTH_GREETED = {
  code: 0,
  stdout: "Hello from worker!",
  stderr: "Hello from main!",
};

Deno.test("hello/main.ts greets a worker and is greeted", async () => {
  assertEquals(await runExample("main.ts"), BOTH_GREETED);
});

pythonTest("hello/main_python.ts greets a worker and is greeted", async () => {
  assertEquals(await runExample("main_python.ts"), BOTH_GREETED);
});

const ECHO = `
from duplex import Duplex
with Duplex(window=65536, messages=16) as main:
    for message in main:
        main.send(message)
`;

const VALUES: unknown[] = [
  null,
  true,
  false,
  ...[0, 127, 128, 255, 256, 65_535, 65_536, 2 ** 32, 2 ** 53 - 1],
  ...[-1, -32, -33, -128, -129, -32_768, -32_769, -(2 ** 31) - 1],
  ...[2n ** 63n, -(2n ** 63n), 1.5, -0.25, Infinity],
  ...["", "grüße", "x".repeat(31), "x".repeat(32), "x".repeat(70_000)],
  ...[0, 255, 256, 65_536].map((size) => new Uint8Array(size).fill(7)),
  ...[[], [1, [2, [3]]], new Array(16).fill(1), new Array(70_000).fill(1)],
  ...[{}, { a: { b: [null] } }],
  Object.fromEntries(new Array(20).fill(0).map((_, index) => [index, index])),
];

pythonTest(
  "duplex.py gives every value back that it has a type for",
  async () => {
    const { worker, printed } = await openPython(ECHO);
    const sending = (async () => {
      for (const value of VALUES) await worker.send(value);
    })();
    for (const value of VALUES) assertEquals(await worker.receive(), value);
    await sending;
    await worker.close();
    assertEquals(printed, []);
  },
);

pythonTest("duplex.py takes and sends messages in parts", async () => {
  const { worker } = await openPython(ECHO);
  const message = new Uint8Array(3_000_001);
  for (let index = 0; index < message.length; index++) message[index] = index;
  await worker.send(message);
  assertEquals(await worker.receive(), message);
  await worker.close();
});

pythonTest("duplex.py keeps to both windows and gives credit", async () => {
  const { worker } = await openPython(ECHO, {
    windowBytes: 1000,
    windowMessages: 3,
  });
  const sending = (async () => {
    for (let number = 0; number < 2000; number++) {
      await worker.send(["x".repeat(number), number]);
    }
  })();
  for (let number = 0; number < 2000; number++) {
    assertEquals(await worker.receive(), ["x".repeat(number), number]);
  }
  await sending;
  await worker.close();
  assertEquals(worker.stats.inFlight, 0);
});

pythonTest("duplex.py keeps prints away from the messages", async () => {
  const { worker, printed } = await openPython(`
import os
print("early", flush=True)
from duplex import Duplex
with Duplex() as main:
    os.system("echo from a child; cat")
    print("late")
    main.send("done")
`);
  assertEquals(await worker.receive(), "done");
  await worker.close();
  assertEquals(printed.map((line) => line.trim()), [
    "early",
    "from a child",
    "late",
  ]);
});

pythonTest("duplex.py raises for an extension and goes on", async () => {
  const { worker, printed } = await openPython(`
from duplex import Duplex, UnsupportedValue
with Duplex() as main:
    try:
        main.receive()
    except UnsupportedValue as error:
        print(error)
    main.send(main.receive())
`);
  await worker.send({ at: new Date(0) });
  await worker.send("next");
  assertEquals(await worker.receive(), "next");
  await worker.close();
  assertEquals(printed, ["Cannot unpack extension type -1 (Date)"]);
});

pythonTest("duplex.py raises the reason of an abort", async () => {
  const { worker, printed } = await openPython(`
from duplex import Aborted, Duplex
main = Duplex()
main.send("ready")
try:
    main.receive()
except Aborted as error:
    print("aborted:", error)
`);
  assertEquals(await worker.receive(), "ready");
  worker.abort(new RangeError("Enough"));
  await assertRejects(() => worker.closed, RangeError, "Enough");
  assertEquals(printed, ["aborted: Enough"]);
});

pythonTest("duplex.py aborts with the exception that ended it", async () => {
  const { worker } = await openPython(`
from duplex import Duplex
with Duplex() as main:
    raise KeyError("no such thing")
`);
  const error = await assertRejects(() => worker.receive(), Error);
  assertStringIncludes(error.message, "KeyError: 'no such thing'");
  await assertRejects(() => worker.closed);
});

pythonTest(
  "duplex.py detects a deadlock together with its peer",
  async () => {
    const { worker, printed } = await openPython(
      `
import duplex
duplex.STALL_TIMEOUT = 0.05
main = duplex.Duplex(messages=4)
try:
    while True:
        main.send(1)
except duplex.DeadlockError as error:
    print(type(error).__name__)
print(len([message for message in main]))
main.close()
`,
      { windowMessages: 4, deadlockTimeout: 50 },
    );
    let sent = 0;
    const error = await assertRejects(async () => {
      for (;; sent++) await worker.send(sent);
    }, DeadlockError);
    assertStringIncludes(error.message, '"python"');
    assertEquals(sent, 4);
    const received: unknown[] = [];
    const closing = worker.close();
    for await (const message of worker) received.push(message);
    await closing;
    assertEquals(received, [1, 1, 1, 1]);
    assertEquals(printed, ["DeadlockError", "4"]);
  },
);

pythonTest("duplex.py refuses another version and names both", async () => {
  await assertRejects(
    () => openPython("import duplex; duplex.VERSION = 2; duplex.Duplex()"),
    ProtocolError,
    "it speaks version 2 of the protocol and this side version 1",
  );
});

pythonTest("duplex.py rejects a peer without its codec", async () => {
  await assertRejects(
    () => openPython(ECHO, { codec: json }),
    ProtocolError,
    "Cannot agree on a codec",
  );
});

pythonTest("duplex.py ends with its standard input", async () => {
  const [opener] = await exampleBytes();
  const child = new Deno.Command("python3", {
    args: ["-c", ECHO],
    env: pythonEnv(),
    stdin: "piped",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const input = child.stdin.getWriter();
  // A hello and no more.
  await input.write(opener!.subarray(0, 100));
  await input.close();
  const { code, stderr } = await child.output();
  assertEquals(code, 1);
  assertStringIncludes(
    new TextDecoder().decode(stderr),
    "PeerEnded: Cannot read from the parent: it ended without a goodbye",
  );
});

/** The bytes of the two blocks of PROTOCOL.md, the opener's first. */
async function exampleBytes(): Promise<Uint8Array<ArrayBuffer>[]> {
  const text = await Deno.readTextFile(
    new URL("../../PROTOCOL.md", import.meta.url),
  );
  return ["opener", "acceptor"].map((role) => {
    const block = text.match(new RegExp(`\`\`\`text ${role}\\n([^\`]*)\`\`\``));
    assert(block !== null, `PROTOCOL.md shows no bytes of the ${role}`);
    return Uint8Array.fromHex(block[1]!.replace(/;.*|\s/g, ""));
  });
}

/** A session over a stream whose writes are kept. */
function recorded(
  stream: ByteStream,
  written: number[],
  options: Partial<SessionOptions>,
): Session {
  const { write } = stream;
  stream.write = (bytes) => {
    written.push(...bytes);
    return write.call(stream, bytes);
  };
  const own = { ...DEFAULT_OPTIONS, ...options };
  return new Session(new FrameWire(stream), own);
}

Deno.test("PROTOCOL.md shows the bytes that a session writes", async () => {
  const [near, far] = memoryStreams();
  const written: [number[], number[]] = [[], []];
  const main = recorded(near, written[0], {});
  const worker = recorded(far, written[1], {
    role: "acceptor",
    name: "worker",
  });
  await Promise.all([main.open(), worker.open()]);
  const answering = (async () => {
    assertEquals(await worker.receive(), "Hello from main!");
    await worker.send("Hello from worker!");
    await worker.close();
  })();
  await main.send("Hello from main!");
  assertEquals(await main.receive(), "Hello from worker!");
  await main.close();
  await answering;
  assertEquals(
    written.map((bytes) => Uint8Array.from(bytes)),
    await exampleBytes(),
  );
});
