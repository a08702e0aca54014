// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a pipe does when its child dies, lies, or goes on forever. Every child
 * is a real process; most of them speak the wire by hand, in `workers/raw.ts`.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import {
  ClosedError,
  DeadlockError,
  PeerExitError,
  ProtocolError,
} from "../../duplex.ts";
import { openPipe, type PipeDuplex, type PipeOptions } from "../../pipe.ts";
import {
  Lines,
  Processes,
  test,
  within,
  workerUrl,
} from "../workers/_processes.ts";

/** Opens a child that commits the fault of this name. */
function openRaw(
  fault: string,
  options: PipeOptions = {},
): Promise<PipeDuplex> {
  return openPipe(workerUrl("raw"), { ...options, args: [fault] });
}

/** Opens a worker that plays one act of `acts.ts`. */
function openAct(act: string, options: PipeOptions = {}): Promise<PipeDuplex> {
  return openPipe(workerUrl("acts"), { ...options, args: [act] });
}

test("openPipe() rejects an invalid hello", async (t) => {
  const cases: [string, string][] = [
    ["version", "it speaks version 99 of the protocol and this side version 1"],
    ["codecs", 'the peer has "morse", "flags" and this side "msgpack"'],
    ["noCodecs", '"codecs" must be an array: current value is '],
    ["window", '"window" must be positive: current value is 0'],
    ["messages", '"messages" must be an integer: current value is -1'],
    [
      "maxMessage",
      '"maxMessage" must be an integer: current value is "many"',
    ],
    ["magicOnly", "it holds no MessagePack"],
    ["list", "it holds no map"],
  ];
  for (const [fault, text] of cases) {
    await t.step(fault, async () => {
      using processes = new Processes();
      const lines = new Lines();
      const error = await assertRejects(
        () => openRaw(fault, { stderr: lines.take }),
        ProtocolError,
      );
      assertStringIncludes(error.message, text);
      assertEquals([processes.started, processes.running], [1, 0]);
      assertStringIncludes(lines.all.join("\n"), "abort, fault true: Cannot");
    });
  }
});

/** Small limits, so that a child can go beyond them. */
const LIMITS = { maxMessageBytes: 1000, windowBytes: 1000, windowMessages: 4 };

const FAULTS: [string, string][] = [
  ["unknownKind", "frame of kind 127 and 13 bytes"],
  ["emptyFrame", "frame of kind 0 and 0 bytes"],
  ["hugeControl", "frame of kind 5 and 4294967295 bytes"],
  ["longControl", "frame of kind 6 and 4097 bytes"],
  ["shortData", "frame of kind 2 and 3 bytes"],
  ["hugeData", 'message of 4294967286 bytes: "maxMessageBytes" is 1000'],
  ["oversized", 'message of 1004 bytes: "maxMessageBytes" is 1000'],
  ["hugeFirst", 'message of 4294967295 bytes: "maxMessageBytes" is 1000'],
  ["partTooLong", "part of 10 bytes: its message of 15 bytes has 10 already"],
  ["nextFirst", "frame of kind 4 and 11 bytes"],
  ["emptyPart", "frame of kind 3 and 13 bytes"],
  ["dataBetweenParts", "frame of kind 2"],
  ["gap", "message 3: the next one must be 2"],
  ["repeat", "message 1: the next one must be 2"],
  ["zero", "message 0: the next one must be 1"],
  ["manyMessages", "message 5: the peer has sent more than the window"],
  ["manyBytes", "message 3: the peer has sent more than the window"],
  ["creditTooHigh", "acknowledgement of message 5: the last one sent is 0"],
  ["dataTakenTooHigh", "acknowledgement of message 5: the last one sent is 0"],
  ["creditNegative", '"taken" must be an integer: current value is -1'],
  ["creditHuge", '"taken" must be an integer: current value is 11529215'],
  ["creditText", '"taken" must be an integer: current value is "all"'],
  ["creditEmpty", '"taken" must be an integer: current value is undefined'],
  ["goodbyeEarly", "goodbye after 3 messages: 0 have arrived"],
  ["goodbyeTaken", "acknowledgement of message 3: the last one sent is 0"],
  ["goodbyeTwice", "goodbye after 0 messages"],
  ["afterGoodbye", "message 1"],
  ["helloTwice", "second hello"],
  ["noMessagePack", "kind 5: it holds no MessagePack"],
  ["noMap", "kind 5: it holds no map"],
  ["payload", "Cannot decode"],
  ["payloadTooShort", "Cannot decode"],
  ["printedEscapes", 'the bytes are "\\u{9b}2J\\u{202e} and more"'],
  [
    "printed",
    'printed "Listening on http://localhost:8000/\\n" to the standard output',
  ],
];

test("openPipe() ends a child that breaks the protocol", async (t) => {
  for (const [fault, text] of FAULTS) {
    await t.step(fault, async () => {
      using processes = new Processes();
      const lines = new Lines();
      const worker = await openRaw(fault, { ...LIMITS, stderr: lines.take });
      const error = await assertRejects(
        () => within(worker.closed),
        ProtocolError,
      );
      assertStringIncludes(error.message, text);
      assertEquals(processes.running, 0);
      const told = "abort, fault true: ";
      assertStringIncludes(lines.all.join("\n"), told + error.message[0]);
      // What had arrived can be received; then comes the fault, every time.
      while (worker.tryReceive().state === "ok");
      const heardGoodbye = ["afterGoodbye", "goodbyeTwice"].includes(fault);
      const next = await assertRejects(() => worker.receive());
      if (heardGoodbye) assertInstanceOf(next, ClosedError);
      else assertEquals(next, error);
      assertEquals(await assertRejects(() => worker.send(1)), error);
      assertEquals(await assertRejects(() => worker.close()), error);
    });
  }
});

test("openPipe() delivers messages that arrived before the fault", async () => {
  const worker = await openRaw("manyMessages", {
    ...LIMITS,
    stderr: "null",
  });
  await assertRejects(() => worker.closed, ProtocolError);
  const messages: unknown[] = [];
  await assertRejects(async () => {
    for await (const message of worker) messages.push(message);
  }, ProtocolError);
  assertEquals(messages, [1, 2, 3, 4]);
});

test("openPipe() settles everything that is pending at a fault", async () => {
  const worker = await openRaw("narrow", { stderr: "null" });
  const iterator = worker[Symbol.asyncIterator]();
  await worker.send("accepted");
  const pending = [
    worker.send("waits"),
    worker.send("waits too"),
    worker.receive(),
    worker.receive({ signal: new AbortController().signal }),
    iterator.next(),
    worker.readable.getReader().read(),
    worker.close(),
    worker.closed,
  ];
  const results = await Promise.allSettled(pending);
  const error = await assertRejects(() => worker.closed, ProtocolError);
  for (const result of results) {
    assert(result.status === "rejected");
    assertEquals(result.reason, error);
  }
});

test("openPipe() ends a child that ignores the end of its input", async () => {
  using processes = new Processes();
  const lines = new Lines();
  const worker = await openRaw("stubborn", { stderr: lines.take });
  await worker.send("begin");
  await assertRejects(() => worker.closed, ProtocolError);
  assertEquals(processes.running, 0);
  assertEquals(lines.all.at(-1), "asked to go");
});

test(
  "openPipe() rejects when the child is killed inside a message",
  async () => {
    const lines = new Lines();
    const worker = await openRaw("half", { stderr: lines.take });
    assertEquals(await worker.receive(), "whole");
    await worker.send("not taken");
    const next = worker.receive();
    await lines.until("half");
    Deno.kill(worker.pid, "SIGKILL");
    const error = await assertRejects(() => next, PeerExitError);
    assertEquals([error.code, error.signal], [null, "SIGKILL"]);
    assertEquals(error.unsent, ["not taken"]);
    assertInstanceOf(error.cause, ProtocolError);
    assertStringIncludes(error.message, "was ended by SIGKILL");
    assertEquals(await assertRejects(() => worker.closed), error);
  },
  { run: true },
);

test("openPipe() rejects when the child ends inside a message", async (t) => {
  const cases: [string, number][] = [
    ["halfAndExit", 0],
    ["halfAFrameAndExit", 0],
  ];
  for (const [fault, code] of cases) {
    await t.step(fault, async () => {
      const worker = await openRaw(fault);
      const error = await assertRejects(() => worker.receive(), PeerExitError);
      assertEquals([error.code, error.signal], [code, null]);
      assertInstanceOf(error.cause, ProtocolError);
      assertStringIncludes(error.cause.message, "in the middle of a message");
      assertEquals(await assertRejects(() => worker.closed), error);
    });
  }
});

test("openPipe() names garbage as the fault although the child has gone", async () => {
  const worker = await openRaw("garbageAndExit");
  const error = await assertRejects(() => worker.receive(), ProtocolError);
  assertStringIncludes(error.message, "Segmentation fault");
  assertEquals(await assertRejects(() => worker.closed), error);
});

test("openPipe() rejects when the child ends inside its hello", async () => {
  const error = await assertRejects(
    () => openRaw("halfAHelloAndExit", { stderr: "null" }),
    PeerExitError,
  );
  assertEquals([error.code, error.stderr], [0, "starting"]);
  assertInstanceOf(error.cause, ProtocolError);
});

test("openPipe() rejects when a child sends no hello in time", async () => {
  using processes = new Processes();
  const error = await assertRejects(
    () => openRaw("silent", { openTimeout: 400, stderr: "null" }),
    DOMException,
  );
  assertEquals(error.name, "TimeoutError");
  assertStringIncludes(
    error.message,
    '"raw.ts": it did not send its hello within',
  );
  assertEquals([processes.started, processes.running], [1, 0]);
});

test("openPipe() reports the code, the stderr and the unsent messages", async () => {
  const lines = new Lines();
  const worker = await openAct("lastWord", { stderr: lines.take });
  for (const message of ["one", "two", "three", "four"]) {
    await worker.send(message);
  }
  assertEquals(await worker.receive(), "two");
  const error = await assertRejects(() => worker.receive(), PeerExitError);
  assertEquals([error.code, error.signal], [3, null]);
  assertEquals(error.unsent, ["three", "four"]);
  assertEquals(error.stderr, "the disk is full\nand so am I");
  assertEquals(lines.all, ["the disk is full", "and so am I"]);
  assertStringIncludes(
    error.message,
    '"acts.ts" exited with code 3; stderr: "and so am I"',
  );
  assertEquals(await assertRejects(() => worker.closed), error);
  assertEquals(await assertRejects(() => worker.send("five")), error);
  assertInstanceOf(error, PeerExitError);
});

test("openPipe() keeps the order when both sides flood each other", async () => {
  const count = 20_000;
  await using worker = await openAct("flood");
  const sending = (async () => {
    for (let index = 0; index < count; index++) await worker.send(index);
    await worker.send("end");
  })();
  for (let index = 0; index < count; index++) {
    const message = await worker.receive();
    if (message !== index) throw new Error(`got ${message} for ${index}`);
  }
  await sending;
  assertEquals(await worker.receive(), `${count} in order`);
});

test("openPipe() notices that both sides only send", async () => {
  const lines = new Lines();
  const limits = { windowMessages: 8, deadlockTimeout: 200 };
  const worker = await openAct("insists", { ...limits, stderr: lines.take });
  let sent = 0;
  const error = await assertRejects(async () => {
    for (;; sent++) await worker.send(sent);
  }, DeadlockError);
  assertStringIncludes(error.message, '"main" and "worker" both wait');
  // Both sides say so, before either has received.
  await lines.until("DeadlockError");
  assertEquals([sent, worker.stats.queued], [8, 8]);
  assertStringIncludes(lines.all.join("\n"), '"worker" and "main" both wait');
  // What was accepted is there, and the duplex goes on.
  for (let index = 0; index < 8; index++) {
    assertEquals(await worker.receive(), index);
  }
  await worker.send("receive");
  assertEquals(await worker.receive(), "8 in order");
  await worker.close();
});
