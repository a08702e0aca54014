// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker that uses the wire by hand, with faults: its first argument names
 * the fault.
 *
 * @module
 */

import { encode } from "@std/msgpack";
import {
  concat,
  control,
  data,
  type Frame,
  frame,
  frames,
  hello,
  KIND,
  listen,
  lyingFrame,
  put,
  RawPayload,
  say,
  uint32,
} from "./_wire.ts";

const text = new TextEncoder();
const parent = frames();

/** The next frame of this kind from the parent. */
async function until(kind: number): Promise<Frame> {
  for (;;) {
    const { value, done } = await parent.next();
    if (done) {
      throw new Error(`The parent ended before a frame of kind ${kind}`);
    }
    if (value.kind === kind) return value;
  }
}

/** Sends its hello, and waits for the parent's. */
async function greet(): Promise<void> {
  put(hello());
  await until(KIND.hello);
}

/** Half of a message of 1 MiB; settles when the parent has read most of it. */
function putHalf(number: number): void {
  const half = new Uint8Array(512 * 1024);
  put(frame(KIND.first, uint32(number, 0, 2 * half.length), half));
}

/** Continues as if nothing had happened, but not after a failed test. */
function goOn(): void {
  setTimeout(() => Deno.exit(1), 60_000);
}

/** Bytes instead of a hello. */
const HELLOS: Record<string, () => void> = {
  version: () => put(hello({ version: 99 })),
  codecs: () => put(hello({ codecs: ["morse", "flags"] })),
  noCodecs: () => put(hello({ codecs: "msgpack" })),
  window: () => put(hello({ window: 0 })),
  messages: () => put(hello({ messages: -1 })),
  maxMessage: () => put(hello({ maxMessage: "many" })),
  magicOnly: () => put(concat(hello().subarray(0, 12), new Uint8Array(400))),
  list: () => {
    const magic = hello().subarray(5, 12);
    put(frame(KIND.hello, magic, encode(["version", 1])));
  },
};

/** Bytes after a valid hello. */
const FAULTS: Record<string, () => void> = {
  unknownKind: () => put(frame(0x7f, text.encode("what is this"))),
  emptyFrame: () => put(uint32(0, 0)),
  hugeControl: () => put(lyingFrame(0xffffffff, KIND.credit)),
  longControl: () => put(lyingFrame(4097, KIND.stall)),
  shortData: () => put(lyingFrame(3, KIND.data, uint32(1, 0))),
  hugeData: () => put(lyingFrame(0xffffffff, KIND.data, uint32(1, 0))),
  oversized: () => put(data(1, "x".repeat(1001))),
  hugeFirst: () =>
    put(
      frame(KIND.first, uint32(1, 0, 0xffffffff), new Uint8Array(10)),
    ),
  partTooLong: () =>
    put(
      frame(KIND.first, uint32(1, 0, 15), new Uint8Array(10)),
      frame(KIND.next, new Uint8Array(10)),
    ),
  nextFirst: () => put(frame(KIND.next, new Uint8Array(10))),
  emptyPart: () => put(frame(KIND.first, uint32(1, 0, 10))),
  dataBetweenParts: () =>
    put(
      frame(KIND.first, uint32(1, 0, 15), new Uint8Array(10)),
      data(2, "in between"),
    ),
  gap: () => put(data(1, "one"), data(3, "three")),
  repeat: () => put(data(1, "one"), data(1, "one")),
  zero: () => put(data(0, "none")),
  manyMessages: () => {
    for (let number = 1; number <= 5; number++) put(data(number, number));
  },
  manyBytes: () => {
    for (let number = 1; number <= 3; number++) {
      put(data(number, "x".repeat(600)));
    }
  },
  creditTooHigh: () => put(control(KIND.credit, { taken: 5 })),
  dataTakenTooHigh: () => put(data(1, "one", 5)),
  creditNegative: () => put(control(KIND.credit, { taken: -1 })),
  creditHuge: () => put(control(KIND.credit, { taken: 2n ** 60n })),
  creditText: () => put(control(KIND.credit, { taken: "all" })),
  creditEmpty: () => put(control(KIND.credit, {})),
  goodbyeEarly: () => put(control(KIND.goodbye, { sent: 3, taken: 0 })),
  goodbyeTaken: () => put(control(KIND.goodbye, { sent: 0, taken: 3 })),
  goodbyeTwice: () => {
    put(control(KIND.goodbye, { sent: 0, taken: 0 }));
    put(control(KIND.goodbye, { sent: 0, taken: 0 }));
  },
  afterGoodbye: () => {
    put(control(KIND.goodbye, { sent: 0, taken: 0 }), data(1, "one"));
  },
  helloTwice: () => put(hello()),
  noMessagePack: () => put(frame(KIND.credit, new Uint8Array([0xc1]))),
  noMap: () => put(frame(KIND.credit, encode([1, 2]))),
  payload: () => put(data(1, new RawPayload(new Uint8Array([0xc1])))),
  payloadTooShort: () => {
    // A text of 4 GiB, of which only three bytes exist.
    const bytes = [0xdb, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
    put(data(1, new RawPayload(new Uint8Array(bytes))));
  },
  printedEscapes: () => put(text.encode("\u009b2J\u202e and more")),
  printed: () => put(text.encode("Listening on http://localhost:8000/\n")),
};

/** Faulty behaviours of a child. */
const ACTS: Record<string, () => Promise<void>> = {
  /** Sends one message and half of another, and then waits. */
  async half() {
    await greet();
    put(data(1, "whole"));
    putHalf(2);
    say("half");
    await listen(parent);
  },

  /** The same, and then ends in a regular way. */
  async halfAndExit() {
    await greet();
    putHalf(1);
    Deno.exit(0);
  },

  async halfAFrameAndExit() {
    await greet();
    put(data(1, "a message").subarray(0, 9));
    Deno.exit(0);
  },

  async garbageAndExit() {
    await greet();
    put(text.encode("Segmentation fault"));
    Deno.exit(9);
  },

  async halfAHelloAndExit() {
    put(text.encode("starting "), hello().subarray(0, 20));
    await until(KIND.hello);
    Deno.exit(0);
  },

  async silent() {
    say("I have nothing to say to you");
    await listen(parent);
  },

  /** Violates the protocol after a message, and cannot be closed. */
  async stubborn() {
    Deno.addSignalListener("SIGTERM", () => say("asked to go"));
    await greet();
    await until(KIND.data);
    goOn();
    put(frame(0x7f));
    await listen(parent);
  },

  /** Receives one message at a time, and only that. */
  async narrow() {
    put(hello({ messages: 1 }));
    await until(KIND.data);
    put(frame(0x7f));
    await listen(parent);
  },
};

const name = Deno.args[0]!;
if (name in ACTS) {
  await ACTS[name]!();
} else if (name in HELLOS) {
  HELLOS[name]!();
  await listen(parent);
} else {
  await greet();
  FAULTS[name]!();
  await listen(parent);
}
