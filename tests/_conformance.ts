// Copyright 2026 the Duplex authors. MIT license.

/**
 * The contract of {@linkcode Duplex} as tests. Every transport passes the same
 * tests, including the in-memory pair; only the way in which the peer starts
 * {@linkcode behave} differs.
 *
 * @module
 */

import {
  assert,
  assertEquals,
  assertFalse,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { json } from "@duplex/ipc/codec";
import {
  ClosedError,
  DeadlockError,
  type Duplex,
  type DuplexOptions,
  PeerExitError,
} from "@duplex/ipc/duplex";
import type { Command } from "./_behaviours.ts";
import { assertRepeats, REPEATS } from "./_repeats.ts";
import { SAMPLE_VALUES } from "./_sample_values.ts";

/** A transport under test. */
export interface Subject {
  /** Prefix of the names of the tests. */
  name: string;
  /**
   * Permissions of the tests: those that the transport's documentation lists.
   */
  permissions: Deno.PermissionOptions;
  /**
   * Rounds of credit that must pass a message of 96 MiB. Fewer if the system
   * buffers megabytes of that message, since credit cannot pass these.
   *
   * @default {50}
   */
  rounds?: number;
  /** Opens a duplex whose peer runs `behave` with its own limits. */
  open(options: DuplexOptions, peer: DuplexOptions): Promise<Duplex>;
}

/** The worker script whose end has these limits. */
export function conformanceWorker(peer: DuplexOptions): URL {
  const script = new URL("./_conformance_worker.ts", import.meta.url);
  script.searchParams.set("limits", JSON.stringify(peer));
  return script;
}

/** Registers the tests of one transport. */
export function conformance(subject: Subject): void {
  const { name, permissions, rounds = 50 } = subject;
  async function open(
    command: Command,
    options: DuplexOptions = {},
    peer: DuplexOptions = {},
  ): Promise<Duplex> {
    const duplex = await subject.open(
      { ...NO_TIMEOUT, ...options },
      { ...NO_TIMEOUT, ...peer },
    );
    await duplex.send(command);
    return duplex;
  }
  for (const [clause, check] of Object.entries(CLAUSES)) {
    Deno.test({
      name: `${name} ${clause}`,
      permissions,
      fn: () => check(open, rounds),
    });
  }
}

/** Long enough that no close times out on a busy machine. */
const NO_TIMEOUT: DuplexOptions = { closeTimeout: 60_000 };

/** Opens the duplex of one test. */
type Open = (
  command: Command,
  options?: DuplexOptions,
  peer?: DuplexOptions,
) => Promise<Duplex>;

/** Waits for a condition that has no event. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

const KIB = 1024;

const CLAUSES: Record<
  string,
  (open: Open, rounds: number) => Promise<void>
> = {
  async "keeps the order of messages small and large"(open) {
    await using duplex = await open({ do: "echo" });
    const sizes = Array.from(
      { length: 400 },
      (_, index) =>
        index % 100 === 99 ? 700_000 : index % 10 === 9 ? 70_000 : index,
    );
    const sending = (async () => {
      for (const [number, size] of sizes.entries()) {
        await duplex.send([number, new Uint8Array(size).fill(number)]);
      }
    })();
    for (const [number, size] of sizes.entries()) {
      const expected = [number, new Uint8Array(size).fill(number)];
      assertEquals(await duplex.receive(), expected);
    }
    await sending;
  },

  async "keeps messages that arrive before they are received"(open) {
    const duplex = await open({ do: "flood", count: 500 });
    await until(() => duplex.stats.arrived === 500);
    assertEquals(duplex.stats.queued, 500);
    const numbers = await Array.fromAsync(duplex);
    assertEquals(numbers, Array.from({ length: 500 }, (_, index) => index + 1));
    await duplex.close();
  },

  async "carries undefined as a message"(open) {
    await using duplex = await open({ do: "echo" });
    await duplex.send(undefined);
    await duplex.send(null);
    assertStrictEquals(await duplex.receive(), undefined);
    await until(() => duplex.stats.queued === 1);
    assertEquals(duplex.tryReceive(), { state: "ok", value: null });
    assertEquals(duplex.tryReceive(), { state: "empty" });
  },

  async "carries every value unchanged"(open) {
    await using duplex = await open({ do: "echo" });
    for (const [what, value] of SAMPLE_VALUES) {
      await duplex.send(value);
      assertEquals(await duplex.receive(), value, what);
    }
  },

  async "keeps the identity of objects that occur again, and cycles"(open) {
    await using duplex = await open({ do: "echo" });
    for (const [what, make] of REPEATS) {
      const value = make();
      await duplex.send(value);
      assertRepeats(value, await duplex.receive(), what);
    }
  },

  async "carries objects that occur again as JSON"(open) {
    await using duplex = await open({ do: "echo" }, { codec: json });
    const shared = { n: [1] };
    const value = { a: shared, b: [shared, shared.n] };
    await duplex.send(value);
    assertEquals(await duplex.receive(), value);
  },

  async "rejects a value that cannot be sent and continues"(open) {
    await using duplex = await open({ do: "echo" });
    const bad = { jobs: [{ run: () => 1 }] };
    const error = await assertRejects(() => duplex.send(bad), TypeError);
    assertStringIncludes(error.message, "$.jobs[0].run");
    assertThrows(() => duplex.trySend(Symbol("no")), TypeError);
    await duplex.send("good");
    assertEquals(await duplex.receive(), "good");
  },

  async "rejects a message larger than the peer accepts"(open) {
    await using duplex = await open({ do: "echo" }, {}, {
      maxMessageBytes: KIB,
    });
    const message = new Uint8Array(KIB);
    const error = await assertRejects(() => duplex.send(message), RangeError);
    assertStringIncludes(error.message, String(KIB));
    await duplex.send(message.subarray(0, KIB / 2));
    assertEquals(await duplex.receive(), message.subarray(0, KIB / 2));
  },

  async "detaches transferred buffers"(open) {
    await using duplex = await open({ do: "echo" });
    const bytes = new Uint8Array([1, 2, 3]);
    await duplex.send(bytes, { transfer: [bytes.buffer] });
    assertEquals(bytes.length, 0);
    assertEquals(await duplex.receive(), new Uint8Array([1, 2, 3]));
    const { buffer } = new Uint8Array([4]);
    const twice = { transfer: [buffer, buffer] };
    await assertRejects(() => duplex.send(buffer, twice), TypeError);
    await duplex.send("still in order");
    assertEquals(await duplex.receive(), "still in order");
  },

  async "cancels a waiting send and no other"(open) {
    const peer = { windowMessages: 4 };
    const duplex = await open({ do: "receive", count: 1 }, {}, peer);
    await duplex.send("received");
    assertEquals(await duplex.receive(), "received");
    while (duplex.trySend("accepted"));
    const controller = new AbortController();
    const { signal } = controller;
    const first = duplex.send("first", { signal });
    const second = duplex.send("second");
    const reason = new Error("Cancelled");
    controller.abort(reason);
    assertStrictEquals(await assertRejects(() => first), reason);
    await assertRejects(() => duplex.send("third", { signal }), Error);
    duplex.abort(new Error("Enough"));
    await assertRejects(() => second, Error, "Enough");
    await assertRejects(() => duplex.closed, Error, "Enough");
  },

  async "cancels a waiting receive"(open) {
    await using duplex = await open({ do: "echo" });
    const controller = new AbortController();
    const first = duplex.receive({ signal: controller.signal });
    const second = duplex.receive();
    controller.abort(new Error("Cancelled"));
    await assertRejects(() => first, Error, "Cancelled");
    await duplex.send("for the second");
    assertEquals(await second, "for the second");
  },

  async "delivers messages sent before a goodbye and then rejects"(open) {
    const duplex = await open({ do: "flood", count: 3 });
    await until(() => duplex.stats.arrived === 3);
    await duplex.close();
    assertEquals(await duplex.receive(), 1);
    assertEquals(duplex.tryReceive(), { state: "ok", value: 2 });
    assertEquals(await duplex.receive(), 3);
    await assertRejects(() => duplex.receive(), ClosedError);
    assertEquals(duplex.tryReceive(), { state: "closed" });
    await duplex.closed;
  },

  async "ends an iteration cleanly after a goodbye"(open) {
    const duplex = await open({ do: "close" });
    assertEquals(await Array.fromAsync(duplex), []);
    await assertRejects(() => duplex.receive(), ClosedError);
    await duplex.close();
  },

  async "receives messages that the peer sends after the goodbye"(open) {
    const duplex = await open({ do: "collect" });
    for (const number of [1, 2, 3]) await duplex.send(number);
    const closing = duplex.close();
    assertEquals(await duplex.receive(), [1, 2, 3]);
    await closing;
    await assertRejects(() => duplex.send(4), ClosedError);
    assertFalse(duplex.trySend(4));
  },

  async "rejects everything pending when the peer dies"(open) {
    const peer = { windowMessages: 4 };
    const duplex = await open({ do: "die", count: 2 }, {}, peer);
    await duplex.send(1);
    await duplex.send(2);
    assertEquals(await duplex.receive(), "dying");
    const accepted: unknown[] = [];
    for (let number = 3; duplex.trySend(number); number++) {
      accepted.push(number);
    }
    const waiting = duplex.send("waiting");
    const [receive, send] = await Promise.allSettled([
      duplex.receive(),
      waiting,
    ]);
    assert(receive.status === "rejected" && send.status === "rejected");
    const { reason } = receive;
    assertInstanceOf(reason, PeerExitError);
    assertStrictEquals(send.reason, reason);
    assertEquals(reason.unsent.slice(-accepted.length), accepted);
    assertFalse(reason.unsent.includes("waiting"));
    await assertRejects(() => Array.fromAsync(duplex), PeerExitError);
    assertStrictEquals(await assertRejects(() => duplex.closed), reason);
    await assertRejects(() => duplex.close(), PeerExitError);
  },

  async "settles a receive when the peer dies after the goodbye"(open) {
    const duplex = await open({ do: "leave" });
    const pending = assertRejects(() => duplex.receive());
    const closing = duplex.close().catch(() => {});
    await pending;
    await closing;
    assertEquals(duplex.tryReceive(), { state: "closed" });
  },

  async "rejects a send from a getter of a message"(open) {
    await using duplex = await open({ do: "echo" });
    const nested: Promise<unknown>[] = [];
    await duplex.send({
      get value() {
        nested.push(assertRejects(() => duplex.send("nested"), TypeError));
        assertThrows(() => duplex.trySend("nested"), TypeError);
        return 1;
      },
    });
    await duplex.send("after");
    await Promise.all(nested);
    assertEquals(await duplex.receive(), { value: 1 });
    assertEquals(await duplex.receive(), "after");
  },

  async "sends a message whose getter closes the duplex"(open) {
    const duplex = await open({ do: "echo" });
    let closing: Promise<void> | undefined;
    await duplex.send({
      get value() {
        closing ??= duplex.close();
        return 1;
      },
    });
    assertEquals(await Array.fromAsync(duplex), [{ value: 1 }]);
    await closing;
  },

  async "serves receivers in order"(open) {
    await using duplex = await open({ do: "echo" });
    const readers = [duplex.receive(), duplex.receive(), duplex.receive()];
    for (const message of ["a", "b", "c"]) await duplex.send(message);
    assertEquals(await Promise.all(readers), ["a", "b", "c"]);
  },

  async "buffers no more than the window for a slow peer"(open) {
    const peer = { windowBytes: 32 * KIB, windowMessages: 1000 };
    const duplex = await open({ do: "receive", count: 0 }, {}, peer);
    assertEquals(await duplex.receive(), "received");
    let sent = 0;
    while (duplex.trySend(new Uint8Array(10 * KIB))) sent++;
    // A message may start while at least one byte of the window is free.
    assertEquals(sent, 4);
    assertEquals(duplex.stats.inFlight, 4);
    const waiting = duplex.send("one more");
    duplex.abort(new Error("Enough"));
    await assertRejects(() => waiting, Error, "Enough");
    await assertRejects(() => duplex.closed, Error, "Enough");
  },

  async "sends control frames between the parts of a large message"(
    open,
    rounds,
  ) {
    const command: Command = { do: "floodAndReport", count: 2 * rounds };
    const duplex = await open(command, { windowMessages: 4 });
    const huge = duplex.send(new Uint8Array(96 * KIB * KIB));
    for (let number = 1; number <= 2 * rounds; number++) {
      assertEquals(await duplex.receive(), number);
    }
    // The numbers needed that many rounds of credit, and arrived before the
    // huge message.
    assertEquals(await duplex.receive(), { received: 1 });
    await huge;
    await duplex.close();
  },

  async "detects that both sides only send"(open) {
    const limits = { windowMessages: 8, deadlockTimeout: 100 };
    const duplex = await open({ do: "onlySend" }, limits, limits);
    const error = await assertRejects(async () => {
      for (;;) await duplex.send("more");
    }, DeadlockError);
    await duplex.send("go on");
    let answer = await duplex.receive();
    while (answer === "more") answer = await duplex.receive();
    const { deadlock } = answer as { deadlock: string };
    assertStringIncludes(deadlock, '"worker"');
    assertStringIncludes(error.message, '"main"');
    assertStringIncludes(error.message, '"worker"');
    await duplex.close();
  },

  async "keeps the first reason of an abort"(open) {
    const duplex = await open({ do: "echo" });
    const pending = duplex.receive();
    const reason = new Error("First");
    duplex.abort(reason);
    duplex.abort(new Error("Second"));
    assertStrictEquals(await assertRejects(() => pending), reason);
    assertStrictEquals(await assertRejects(() => duplex.receive()), reason);
    assertStrictEquals(await assertRejects(() => duplex.send(1)), reason);
    assertStrictEquals(await assertRejects(() => duplex.closed), reason);
    await duplex.close();
  },

  async "receives the reason of the peer's abort"(open) {
    const duplex = await open({ do: "abort" });
    assertEquals(await duplex.receive(), "aborting");
    await duplex.send("now");
    await assertRejects(
      () => Array.fromAsync(duplex),
      RangeError,
      "The worker aborts",
    );
    await assertRejects(() => duplex.closed, RangeError);
  },

  async "ends an iteration with an abort that follows a goodbye"(open) {
    const duplex = await open({ do: "abortAfterGoodbye", count: 3 });
    await until(() => duplex.stats.arrived === 3);
    await duplex.send("now");
    await assertRejects(() => duplex.closed, RangeError);
    await assertRejects(
      () => Array.fromAsync(duplex),
      RangeError,
      "Aborted after the goodbye",
    );
  },

  async "cancels many sends at once"(open) {
    const peer = { windowMessages: 4 };
    const duplex = await open({ do: "receive", count: 0 }, {}, peer);
    const controller = new AbortController();
    const { signal } = controller;
    while (duplex.trySend("accepted"));
    const sends = Array.from(
      { length: 20_000 },
      (_, number) => duplex.send(number, { signal }),
    );
    const settled = Promise.allSettled(sends);
    controller.abort(new Error("Cancelled"));
    const reasons = await settled;
    assert(reasons.every(({ status }) => status === "rejected"));
    duplex.abort(new Error("Enough"));
    await assertRejects(() => duplex.closed, Error, "Enough");
  },

  async "closes once for any number of calls on both sides"(open) {
    const duplex = await open({ do: "close" });
    const closing = duplex.close();
    assertStrictEquals(duplex.close(), closing);
    await Promise.all([closing, duplex.close(), duplex.closed]);
    duplex.abort(new Error("Too late"));
    await duplex.closed;
    await duplex.close();
  },

  async "ends a peer that does not send its goodbye"(open) {
    const duplex = await open({ do: "receive", count: 0 });
    assertEquals(await duplex.receive(), "received");
    await duplex.send("not received");
    const error = await assertRejects(
      () => duplex.close({ timeout: 50 }),
      ClosedError,
      "50 ms",
    );
    assertEquals(error.unsent.at(-1), "not received");
    await assertRejects(() => duplex.closed, ClosedError);
  },

  async "pipes as a transform stream"(open) {
    const duplex = await open({ do: "echo" });
    const words = ReadableStream.from(["one", "two", "three"]);
    const echoed = await Array.fromAsync(words.pipeThrough(duplex));
    assertEquals(echoed, ["one", "two", "three"]);
    await duplex.close();
  },

  async "counts messages and bytes"(open) {
    await using duplex = await open({ do: "echo" });
    const before = duplex.stats;
    await duplex.send(new Uint8Array(KIB));
    await duplex.receive();
    const after = duplex.stats;
    assertEquals(after.sent - before.sent, 1);
    assertEquals(after.arrived - before.arrived, 1);
    assert(after.bytesSent - before.bytesSent >= KIB);
    assert(after.bytesArrived - before.bytesArrived >= KIB);
    assertEquals(after.queued, 0);
  },

  async "reports a failure once at the end of a block"(open) {
    const error = await assertRejects(async () => {
      await using duplex = await open({ do: "die", count: 0 });
      assertEquals(await duplex.receive(), "dying");
      await duplex.send("die");
      await duplex.receive();
    });
    assertInstanceOf(error, PeerExitError);
    const silent = await assertRejects(async () => {
      await using duplex = await open({ do: "die", count: 0 });
      assertEquals(await duplex.receive(), "dying");
      await duplex.send("die");
      await duplex.closed.catch(() => {});
    });
    assertInstanceOf(silent, PeerExitError);
  },
};
