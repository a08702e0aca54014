// Copyright 2026 the Duplex authors. MIT license.

/**
 * The rings in shared memory: copying, waiting, closing and hostile headers, in
 * one thread and between two. `ring_model_test.ts` tests the interleavings.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertFalse,
  assertGreater,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { ProtocolError } from "@duplex/ipc/duplex";
import {
  formatRings,
  HEADER_SIZE,
  INTEREST,
  makeRings,
  openRings,
  RingEnd,
  SpinPolicy,
  WORD,
} from "../../_shm/ring.ts";
import { random, seed } from "../_seed.ts";
import type { EchoOrder } from "../workers/ring_echo.ts";

const CANARY = 0xa5;

/** Rings inside memory that must not change. */
function fencedRings(capacity: number, position = 0) {
  const fence = 256;
  const size = HEADER_SIZE + 2 * capacity;
  const padding = -size & 3;
  const buffer = new SharedArrayBuffer(size + padding + 2 * fence);
  const all = new Uint8Array(buffer).fill(CANARY);
  const memory = formatRings(buffer, fence, capacity, position);
  const end = fence + size;
  return {
    memory,
    words: memory.words,
    opener: new RingEnd(memory, "opener"),
    acceptor: new RingEnd(memory, "acceptor"),
    isFenceWhole: () =>
      all.subarray(0, fence).every((byte) => byte === CANARY) &&
      all.subarray(end).every((byte) => byte === CANARY),
  };
}

/** Bytes that depend on their position in a stream. */
function numbered(start: number, size: number): Uint8Array {
  return Uint8Array.from(
    { length: size },
    (_, index) => Math.imul(start + index, 0x9e3779b1) >>> 24,
  );
}

for (const position of [0, -12_345]) {
  Deno.test(`RingEnd keeps order and bounds over 100 rounds from position ${position}`, () => {
    const draw = random(seed());
    for (const capacity of [1, 64, 1024, 65_536]) {
      const { opener, acceptor, isFenceWhole } = fencedRings(
        capacity,
        position,
      );
      for (const [writer, reader] of [[opener, acceptor], [acceptor, opener]]) {
        let sent = 0;
        let received = 0;
        while (received < capacity * 100) {
          const bytes = numbered(sent, Math.ceil(draw() * capacity * 1.5));
          const size = writer!.write(bytes, 0, bytes.length);
          const room = capacity - sent + received;
          assertEquals(size, Math.min(bytes.length, room));
          sent += size;
          const into = new Uint8Array(Math.ceil(draw() * capacity * 1.5) + 2);
          into.fill(CANARY);
          const count = reader!.read(into, 1, into.length - 1);
          assertEquals(into.subarray(1, 1 + count), numbered(received, count));
          assertEquals(into[0], CANARY);
          assertEquals(into[1 + count], CANARY);
          received += count;
        }
      }
      assert(isFenceWhole());
    }
  });
}

Deno.test("openRings() rejects memory that cannot contain rings", () => {
  const buffer = new SharedArrayBuffer(HEADER_SIZE + 128);
  assertThrows(() => openRings(buffer), ProtocolError, "first word");
  assertThrows(() => openRings(buffer, 128), ProtocolError, "hold none");
  for (const capacity of [0, -1, 3, 128, 2 ** 31]) {
    const error = assertThrows(
      () => formatRings(buffer, 0, capacity, 0),
      ProtocolError,
    );
    assertStringIncludes(error.message, "must be a power of two up to 64");
  }
});

Deno.test("RingEnd rejects a corrupted header and copies nothing", () => {
  const capacity = 64;
  const draw = random(seed());
  const hostile = [-1, -64, 65, 2 ** 30, -(2 ** 31), 2 ** 31 - 1];
  for (let round = 0; round < 50; round++) {
    hostile.push(Math.floor(draw() * 2 ** 32) | 0);
  }
  for (const value of hostile) {
    const into = new Uint8Array(4 * capacity).fill(CANARY);
    const reading = fencedRings(capacity);
    const reader = reading.acceptor;
    reading.words[WORD.openerWritten] = value;
    if (value < 0 || value > capacity) {
      const error = assertThrows(
        () => reader.read(into, 0, into.length),
        ProtocolError,
      );
      assertStringIncludes(error.message, String(value >>> 0));
      assertThrows(() => reader.waitSync(INTEREST.bytes, 0), ProtocolError);
      assertThrows(() => reader.wait(INTEREST.bytes), ProtocolError);
      assert(into.every((byte) => byte === CANARY));
    }

    const writing = fencedRings(capacity);
    const writer = writing.opener;
    assertEquals(writer.write(into, 0, 8), 8);
    writing.words[WORD.acceptorRead] = value;
    if (value < 0 || value > 8) {
      const error = assertThrows(
        () => writer.write(into, 0, into.length),
        ProtocolError,
      );
      assertStringIncludes(error.message, String(value >>> 0));
      assertThrows(() => writer.waitSync(INTEREST.room, 0), ProtocolError);
    }
    assert(reading.isFenceWhole() && writing.isFenceWhole());
  }
});

Deno.test("RingEnd rejects positions that go back and an unknown end", () => {
  const { opener, acceptor, words } = fencedRings(64);
  const bytes = new Uint8Array(64);
  opener.write(bytes, 0, 20);
  assertEquals(acceptor.read(bytes, 0, 10), 10);
  assertEquals(opener.room(), 54);
  words[WORD.acceptorRead] = 9;
  assertThrows(() => opener.room(), ProtocolError);
  words[WORD.acceptorRead] = 10;
  words[WORD.openerWritten] = 19;
  assertThrows(() => acceptor.available(), ProtocolError);
  words[WORD.openerWritten] = 20;
  words[WORD.closed] = 4;
  assertThrows(() => acceptor.hasEnded(), ProtocolError, "current value is 4");
  assertThrows(() => opener.isClosed(), ProtocolError, "current value is 4");
});

Deno.test("RingEnd does not read its own position from shared memory", () => {
  const { opener, acceptor, words } = fencedRings(64);
  words[WORD.openerWritten] = 999;
  assertEquals(opener.write(numbered(0, 10), 0, 10), 10);
  words[WORD.acceptorRead] = 777;
  const into = new Uint8Array(10);
  assertEquals(acceptor.read(into, 0, 10), 10);
  assertEquals(into, numbered(0, 10));
});

Deno.test("RingEnd.waitSync() returns after its timeout", () => {
  const end = new RingEnd(makeRings(64), "opener", new SpinPolicy());
  const start = performance.now();
  assertFalse(end.waitSync(INTEREST.bytes, 20));
  assertGreater(performance.now() - start, 15);
  assertFalse(end.waitSync(INTEREST.bytes, 0));
  assert(end.waitSync(INTEREST.bytes | INTEREST.room, 0));
});

Deno.test("RingEnd.hasEnded() is true once everything was read", () => {
  const { opener, acceptor } = fencedRings(64);
  opener.write(numbered(0, 10), 0, 10);
  opener.close();
  assertFalse(acceptor.hasEnded());
  assertEquals(acceptor.read(new Uint8Array(64), 0, 64), 10);
  assert(acceptor.hasEnded());
  assert(acceptor.isClosed());
  assert(opener.hasEnded());
});

Deno.test("RingEnd ends the asynchronous waits of both sides when it closes", async () => {
  // A wait does not keep the event loop running.
  const alive = setInterval(() => {}, 1_000);
  for (const method of ["close", "closePeer"] as const) {
    const { opener, acceptor } = fencedRings(64);
    opener.write(new Uint8Array(64), 0, 64);
    const waits = [
      opener.wait(INTEREST.room),
      opener.wait(INTEREST.bytes),
      opener.wait(INTEREST.bytes | INTEREST.room),
    ];
    const other = fencedRings(64);
    waits.push(other.acceptor.wait(INTEREST.bytes));
    assert(waits.every((wait) => wait !== undefined));
    opener[method]();
    other.opener[method]();
    await Promise.all(waits);
    assertEquals(opener.wait(INTEREST.bytes), undefined);
    assertEquals(acceptor.wait(INTEREST.bytes), undefined);
  }
  clearInterval(alive);
});

Deno.test("SpinPolicy spins less often if spinning does not help", () => {
  const policy = new SpinPolicy();
  const count = (waits: number, paid: boolean) => {
    let spins = 0;
    for (let wait = 0; wait < waits; wait++) {
      if (policy.begin() === 0) continue;
      spins++;
      policy.end(paid);
    }
    return spins;
  };
  assert(count(640, false) < 40);
  count(32 * 8, true);
  assertEquals(count(100, true), 100);
});

/** A thread, once its script runs. */
async function thread(name: string): Promise<Worker> {
  const url = new URL(`../workers/${name}.ts`, import.meta.url);
  const worker = new Worker(url, { type: "module" });
  await message(worker);
  return worker;
}

function message(worker: Worker): Promise<unknown> {
  return new Promise((resolve) => {
    worker.onmessage = ({ data }) => resolve(data);
  });
}

/** Sends numbered bytes through a thread and back. */
async function echo(
  capacity: number,
  blocking: boolean,
  total: number,
  draw: () => number,
): Promise<void> {
  const worker = await thread("ring_echo");
  const memory = makeRings(capacity, -77);
  const end = new RingEnd(memory, "opener");
  const drawSize = () => 1 + Math.floor(draw() * 2 * capacity);
  const { buffer } = memory.words;
  const order: EchoOrder = { buffer, blocking, chunk: drawSize() };
  worker.postMessage(order);
  const writing = (async () => {
    for (let sent = 0; sent < total;) {
      const wanted = Math.min(drawSize(), total - sent);
      const bytes = numbered(sent, wanted);
      for (let at = 0; at < wanted;) {
        at += end.write(bytes, at, wanted);
        if (at < wanted) await end.wait(INTEREST.room);
      }
      sent += wanted;
    }
  })();
  const into = new Uint8Array(drawSize());
  let received = 0;
  while (received < total) {
    const size = end.read(into, 0, into.length);
    if (size === 0) await end.wait(INTEREST.bytes);
    else assertEquals(into.subarray(0, size), numbered(received, size));
    received += size;
  }
  await writing;
  end.close();
  worker.terminate();
}

for (const blocking of [false, true]) {
  const how = blocking ? "blocks" : "does not block";
  Deno.test(`RingEnd loses nothing to a thread that ${how}`, async () => {
    const draw = random(seed());
    for (const capacity of [1, 16, 4096]) {
      const total = capacity === 1 ? 2_000 : capacity * 200;
      await echo(capacity, blocking, total, draw);
    }
  });

  Deno.test(`RingEnd wakes a thread that ${how} when it closes`, async () => {
    for (const method of ["close", "closePeer"] as const) {
      const worker = await thread("ring_wait");
      const memory = makeRings(64);
      const end = new RingEnd(memory, "opener");
      worker.postMessage({ buffer: memory.words.buffer, blocking });
      assertEquals(await message(worker), "waiting");
      // It waits once its bell is set.
      while (Atomics.load(memory.words, WORD.acceptorBell) === 0) {
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      const answer = message(worker);
      end[method]();
      assertEquals(await answer, { available: 0, ended: true });
      worker.terminate();
    }
  });
}

Deno.test("RingEnd can be read to its end after its writer was terminated", async () => {
  const alive = setInterval(() => {}, 1_000);
  const draw = random(seed());
  const capacity = 256;
  for (let round = 0; round < 20; round++) {
    const worker = await thread("ring_echo");
    const memory = makeRings(capacity);
    const end = new RingEnd(memory, "opener");
    const blocking = round % 2 === 0;
    const { buffer } = memory.words;
    const order: EchoOrder = { buffer, blocking, chunk: 100 };
    worker.postMessage(order);
    const last = Math.floor(draw() * 5_000);
    const into = new Uint8Array(capacity);
    let sent = 0;
    let received = 0;
    let isOver = false;
    while (!end.hasEnded()) {
      const bytes = numbered(sent, 50);
      if (!isOver) sent += end.write(bytes, 0, bytes.length);
      const size = end.read(into, 0, into.length);
      assertEquals(into.subarray(0, size), numbered(received, size));
      received += size;
      if (!isOver && received >= last) {
        isOver = true;
        worker.terminate();
        end.closePeer();
      }
      if (size === 0) await end.wait(INTEREST.bytes);
    }
    assert(isOver);
  }
  clearInterval(alive);
});
