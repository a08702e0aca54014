// Copyright 2026 the Duplex authors. MIT license.

import { assertEquals } from "@std/assert";
import { encodeControl, KIND } from "../../_wire/frame_layout.ts";
import { Flow } from "../../_session/flow.ts";
import { FrameEncoder } from "../../_wire/frame_encoder.ts";

/** The control frames that an encoder would write. */
function takeAll(encoder: FrameEncoder): Uint8Array[] {
  const frames = [];
  for (;;) {
    const next = encoder.next(true);
    if (next === undefined) return frames;
    frames.push(next);
    encoder.written();
  }
}

Deno.test({
  name:
    "FrameEncoder keeps the latest control frame of each kind, while writes wait",
  permissions: "none",
  fn() {
    const encoder = new FrameEncoder(new Flow(1, 1));
    const credit = (taken: number) => encodeControl(KIND.credit, { taken });
    const stall = (taken: number) => encodeControl(KIND.stall, { taken });
    for (let taken = 0; taken < 10_000; taken++) {
      encoder.control(credit(taken), true, true);
      encoder.control(stall(taken), true, true);
    }
    encoder.control(credit(10_000), true, true);
    assertEquals(takeAll(encoder), [stall(9_999), credit(10_000)]);
    encoder.control(credit(10_001), true, true);
    assertEquals(takeAll(encoder), [credit(10_001)]);
  },
});
