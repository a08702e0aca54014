// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a pipe bears: a slow reader, a huge message, a thousand children.
 *
 * @module
 */

import { assert, assertEquals, assertLess } from "@std/assert";
import { openPipe, type PipeDuplex, type PipeOptions } from "../../pipe.ts";
import { childrenOf, RUN, workerUrl } from "../workers/_processes.ts";
import { readSlowly, type WriterReport } from "../workers/_load.ts";

const MIB = 2 ** 20;

/** Bytes that may be on their way to a reader. */
const WINDOW = 4 * MIB;

function assertBounded({ growth, inFlight }: WriterReport) {
  assertLess(growth, WINDOW + 32 * MIB);
  // The window, and the message that is larger than the rest of it.
  assert(inFlight <= WINDOW / MIB + 1, `${inFlight} in flight`);
}

function openLoad<T>(
  act: string,
  options: PipeOptions,
  ...args: number[]
): Promise<PipeDuplex<T, unknown>> {
  return openPipe<T, unknown>(workerUrl("load"), {
    ...options,
    args: [act, ...args.map(String)],
  });
}

/** Has a worker write to this thread, which reads slowly. */
async function loadWorker(): Promise<void> {
  const count = 512;
  await using worker = await openLoad<unknown>(
    "write",
    { windowBytes: WINDOW },
    count,
    MIB,
  );
  await readSlowly(worker, count);
  assertBounded(await worker.receive() as WriterReport);
}

Deno.test({
  name: "openPipe() limits the memory of both ends if one reads slowly",
  permissions: RUN,
  async fn() {
    // The parent that writes is a process of its own: that of the tests has run
    // others before, and its memory comes and goes for their sake.
    await using program = await openLoad<WriterReport | "warm">(
      "parent",
      { permissions: RUN },
      512,
      MIB,
    );
    // Both sleep most of the time, so they do it together; but not while one
    // finds out what a message costs when nothing is in its way.
    assertEquals(await program.receive(), "warm");
    await loadWorker();
    assertBounded(await program.receive() as WriterReport);
  },
});

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Bytes that look like chance and are always the same. */
function noise(size: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(size / 4);
  let state = 0x9e3779b9;
  for (let index = 0; index < words.length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[index] = state;
  }
  return new Uint8Array(words.buffer);
}

Deno.test({
  name: "openPipe() carries a message of 256 MiB each way",
  permissions: RUN,
  async fn() {
    const maxMessage = 300 * MIB;
    await using worker = await openLoad<Uint8Array<ArrayBuffer>>(
      "echo",
      { maxMessageBytes: maxMessage },
      maxMessage,
    );
    const message = noise(256 * MIB);
    const [expected] = await Promise.all([
      sha256(message),
      worker.send(message),
    ]);
    const there = new Uint8Array(await worker.receive());
    assertEquals(there.toHex(), expected);
    const back = await worker.receive();
    assertEquals(back.length, 256 * MIB);
    assertEquals(await sha256(back), expected);
  },
});

/** Children that run at a time: one alone leaves the machine idle. */
const LANES = 4;

/** The descriptors that this process has open, but for the one that looks. */
function openDescriptors(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}

Deno.test({
  name: "openPipe() leaves nothing behind of hundreds of short children",
  // Looking into /proc takes every permission.
  permissions: "inherit",
  ignore: Deno.build.os !== "linux",
  async fn() {
    async function runOne(number: number): Promise<void> {
      const worker = await openPipe(workerUrl("short"));
      await worker.send(number);
      assertEquals(await worker.receive(), number);
      await worker.close();
    }
    // What is opened once and for all is open after this one.
    await runOne(0);
    const before = openDescriptors();
    let next = 0;
    await Promise.all(Array.from({ length: LANES }, async () => {
      while (next < 250) await runOne(next++);
    }));
    assertEquals(openDescriptors(), before);
    assertEquals(childrenOf(Deno.pid), []);
  },
});
