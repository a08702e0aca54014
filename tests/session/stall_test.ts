// Copyright 2026 the Duplex authors. MIT license.

/**
 * When a side counts as stalled. Timers with equal delays fire in the order in
 * which they were set, so the tests compare orders and no durations.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { StallWatch } from "../../_session/flow.ts";

const TIMEOUT = 20;

/**
 * A watch, a log of its calls, and a function that logs a mark after a multiple
 * of the timeout.
 */
function watchUnderTest(isBlocked = () => true) {
  const log: string[] = [];
  const watch = new StallWatch(TIMEOUT, {
    isBlocked,
    notify: () => log.push("notify"),
    resume: () => log.push("resume"),
    onDeadlock: () => log.push("deadlock"),
  });
  const mark = (times: number) =>
    new Promise<void>((resolve) =>
      setTimeout(() => {
        log.push(`mark ${times}`);
        resolve();
      }, TIMEOUT * times)
    );
  return { watch, log, mark };
}

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name, permissions: "none", fn });
}

test("StallWatch notifies the peer when nothing moves", async () => {
  const { watch, log, mark } = watchUnderTest();
  watch.block();
  await mark(1.5);
  assertEquals(log, ["notify", "mark 1.5"]);
  watch.onPeer();
  assertEquals(log.at(-1), "deadlock");
  watch.unblock();
});

test("StallWatch waits again when this side has received a message", async () => {
  const { watch, log, mark } = watchUnderTest();
  watch.block();
  watch.onReceive();
  await mark(1.5);
  assertEquals(log, ["mark 1.5"]);
  await mark(1);
  assertEquals(log, ["mark 1.5", "notify", "mark 1"]);
  watch.unblock();
});

test("StallWatch waits again when the peer has received a message", async () => {
  const { watch, log, mark } = watchUnderTest();
  watch.block();
  watch.onPeer();
  watch.onProgress();
  await mark(1);
  assertEquals(log, ["mark 1"]);
  // There is no deadlock either.
  await mark(1);
  assertEquals(log, ["mark 1", "notify", "mark 1"]);
  watch.unblock();
});

test("StallWatch detects no deadlock while this side receives", async () => {
  const { watch, log, mark } = watchUnderTest(() => false);
  watch.block();
  watch.onPeer();
  await mark(2.5);
  assertEquals(log, ["mark 2.5"]);
  watch.unblock();
});

test("StallWatch notifies the peer when it no longer stalls", async () => {
  const { watch, log, mark } = watchUnderTest();
  watch.block();
  await mark(1.5);
  watch.unblock();
  assertEquals(log, ["notify", "mark 1.5", "resume"]);
});

test("StallWatch detects a deadlock when the peer stalled first", async () => {
  const { watch, log, mark } = watchUnderTest();
  watch.onPeer();
  watch.block();
  await mark(1.5);
  assertEquals(log, ["notify", "deadlock", "mark 1.5"]);
  watch.unblock();
});
