// Copyright 2026 the Duplex authors. MIT license.

import { assertEquals } from "@std/assert";
import { encodeControl } from "../../_wire/frame_layout.ts";
import { FrameQueue } from "../../_wire/frame_queue.ts";
import { KIND } from "../../_wire/wire.ts";

/** The control frames that a queue would write. */
function takeAll(queue: FrameQueue): Uint8Array[] {
  const frames = [];
  for (;;) {
    const next = queue.next(true);
    if (next === undefined) return frames;
    frames.push(next);
    queue.written();
  }
}

Deno.test({
  name:
    "FrameQueue keeps the latest control frame of each kind, while writes wait",
  permissions: "none",
  fn() {
    const queue = new FrameQueue();
    const credit = (taken: number) => encodeControl(KIND.credit, { taken });
    const stall = (taken: number) => encodeControl(KIND.stall, { taken });
    for (let taken = 0; taken < 10_000; taken++) {
      queue.control(credit(taken), true);
      queue.control(stall(taken), true);
    }
    queue.control(credit(10_000), true);
    assertEquals(takeAll(queue), [stall(9_999), credit(10_000)]);
    queue.control(credit(10_001), true);
    assertEquals(takeAll(queue), [credit(10_001)]);
  },
});
