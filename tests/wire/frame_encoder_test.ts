// Copyright 2026 the Duplex authors. MIT license.

import { assertEquals } from "@std/assert";
import { msgpack } from "@duplex/ipc/codec";
import { encodeControl, KIND } from "../../_wire/frame_layout.ts";
import { Flow } from "../../_session/flow.ts";
import { FrameEncoder } from "../../_wire/frame_encoder.ts";
import { MessageCodec } from "../../_wire/message_codec.ts";

/** The control frames that an encoder would write now. */
function encodedFrames(encoder: FrameEncoder): Uint8Array[] {
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
    "FrameEncoder keeps the latest control frame of each kind while writes wait",
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
    assertEquals(encodedFrames(encoder), [stall(9_999), credit(10_000)]);
    encoder.control(credit(10_001), true, true);
    assertEquals(encodedFrames(encoder), [credit(10_001)]);
  },
});

/** The kinds of the frames in some bytes. */
function kindsOf(bytes: Uint8Array): number[] {
  const kinds = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  for (let at = 0; at < bytes.length; at += 4 + view.getUint32(at)) {
    kinds.push(bytes[at + 4]!);
  }
  return kinds;
}

for (
  const [order, mayOvertake] of [["behind", false], ["before", true]] as const
) {
  Deno.test({
    name:
      `FrameEncoder keeps a control frame ${order} the message that is encoded`,
    permissions: "none",
    fn() {
      const encoder = new FrameEncoder(new Flow(1, 1));
      encoder.agree(new MessageCodec(msgpack), 1000);
      const credit = encodeControl(KIND.credit, { taken: 1 });
      encoder.message("first");
      encoder.message({
        get key() {
          assertEquals(encoder.control(credit, mayOvertake, false), false);
          return 1;
        },
      });
      const frames: number[] = [];
      for (let next; (next = encoder.next(false)) !== undefined;) {
        frames.push(...kindsOf(next));
        encoder.written();
      }
      const [data, control] = [KIND.data, KIND.credit];
      const expected = mayOvertake
        ? [control, data, data]
        : [data, data, control];
      assertEquals(frames, expected);
    },
  });
}
