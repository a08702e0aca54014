// Copyright 2026 the Duplex authors. MIT license.

/**
 * Bytes of frames, valid or nearly: a peer that follows the protocol for a
 * while and then does not.
 *
 * @module
 */

import { KIND, MAGIC } from "../../_wire/frame_layout.ts";
import { msgpack } from "../../codec.ts";
import { type Bytes, concat, type Draw, repeat, uint32, utf8 } from "./draw.ts";
import { JsonMaker } from "./json_bytes.ts";
import { makeMsgpack, MsgpackMaker, WORDS } from "./msgpack_bytes.ts";
import { ValueMaker } from "./values.ts";

/** A frame with the right length. */
export function frame(kind: number, ...parts: readonly Uint8Array[]): Bytes {
  const body = concat(...parts);
  return concat(uint32(body.length + 1), new Uint8Array([kind]), body);
}

/** The fields of each control frame. */
const FIELDS: Readonly<Record<number, readonly string[]>> = {
  [KIND.hello]: [
    ...["version", "name", "codecs", "window", "messages", "maxMessage"],
  ],
  [KIND.credit]: ["taken"],
  [KIND.stall]: ["taken", "answer"],
  [KIND.ping]: ["received"],
  [KIND.goodbye]: ["sent", "taken"],
  [KIND.abort]: ["text", "fault", "reason", "refusal"],
  [KIND.greeting]: [
    ...["version", "nonce", "secret", "heartbeat", "checksum", "compression"],
    ...["resume", "session"],
  ],
  [KIND.ready]: ["received", "proof"],
};

/** The kinds of control frame. */
export const CONTROL_KINDS: readonly number[] = Object.keys(FIELDS).map(Number);

/** A count in one of its formats, or an invalid one. */
export function makeCount(draw: Draw, right: number): Bytes {
  if (draw.oneIn(300)) return new MsgpackMaker(draw, false).value(5);
  const count = draw.oneIn(150)
    ? draw.pick([right + 1, right - 1, draw.boundary(), -1, 2 ** 53])
    : right;
  switch (draw.below(8)) {
    case 0: {
      const bytes = new Uint8Array(9);
      bytes[0] = 0xcb;
      new DataView(bytes.buffer).setFloat64(1, count);
      return bytes;
    }
    case 1:
      if (count < 0 || count > 2 ** 32 - 1) return msgpack.encode(count);
      return concat(new Uint8Array([0xcf, 0, 0, 0, 0]), uint32(count));
    default:
      return msgpack.encode(count);
  }
}

/** A field that gives a map a total size. */
function makePadding(size: number, count: number): Bytes {
  const name = msgpack.encode("padding");
  const rest = size - (count + 1 < 16 ? 1 : 3) - name.length - 3;
  const header = new Uint8Array([0xc5, rest >> 8, rest]);
  return concat(name, header, new Uint8Array(Math.max(0, rest)));
}

/** The map of a control frame, mostly valid. */
export function makeFields(
  draw: Draw,
  kind: number,
  right: Readonly<Record<string, unknown>>,
): Bytes {
  const maker = new MsgpackMaker(draw, draw.oneIn(100));
  const fields: Uint8Array[] = [];
  for (const name of FIELDS[kind] ?? []) {
    if (!(name in right) || draw.oneIn(500)) continue;
    const value = right[name];
    const written = draw.oneIn(500)
      ? maker.value(4)
      : typeof value === "number"
      ? makeCount(draw, value)
      : msgpack.encode(value);
    fields.push(concat(maker.textOf(utf8(name)), written));
  }
  // A field of a later version.
  while (draw.oneIn(8)) {
    // A value of any kind may contain an extension, which control frames must
    // not.
    const value = draw.oneIn(30)
      ? maker.value(3)
      : msgpack.encode(draw.pick([1, "x", null, [true], { a: 1 }]));
    fields.splice(
      draw.below(fields.length + 1),
      0,
      concat(maker.text(), value),
    );
  }
  if (draw.oneIn(200)) {
    const many = draw.pick([50, 63, 64, 65, 100, 700]);
    fields.push(
      ...Array.from(
        { length: many },
        (_, at) => msgpack.encode({ [`x${at}`]: 0 }).subarray(1),
      ),
    );
  }
  if (draw.oneIn(150)) {
    const before = kind === KIND.hello || kind === KIND.greeting
      ? 1 + MAGIC.length
      : 1;
    const size = draw.pick([4_095, 4_096, 4_097]) - before;
    fields.push(makePadding(size - concat(...fields).length, fields.length));
  }
  const { length } = fields;
  const header = length < 16 ? [0x80 | length] : [0xde, length >> 8, length];
  return concat(new Uint8Array(header), ...fields);
}

/** Valid fields of a control frame. */
function rightFields(draw: Draw, kind: number): Record<string, unknown> {
  switch (kind) {
    case KIND.hello:
      return {
        ...{ version: 1, name: draw.pick(WORDS), codecs: ["msgpack", "json"] },
        ...{ window: 100, messages: 10, maxMessage: 1_000 },
      };
    case KIND.abort:
      return {
        ...{ text: draw.pick(WORDS), fault: draw.oneIn(3), refusal: "full" },
        ...draw.oneIn(2) && { reason: makeMsgpack(draw).slice(0, 3_000) },
      };
    case KIND.greeting:
      return {
        ...{ version: 1, nonce: draw.bytes(32), secret: false, heartbeat: 0 },
        ...{ checksum: false, compression: true, resume: true },
        ...draw.oneIn(2) && { session: draw.bytes(16) },
      };
    case KIND.ready:
      return { received: 0, proof: draw.bytes(32) };
    default:
      return { taken: 0, sent: 0, answer: true, received: 0 };
  }
}

/** The body of a control frame: its kind, and the bytes after it. */
export function makeControl(draw: Draw): Bytes {
  const kind = draw.pick(CONTROL_KINDS);
  const hasMagic = kind === KIND.hello || kind === KIND.greeting;
  const fields = draw.oneIn(10)
    ? makeMsgpack(draw)
    : makeFields(draw, kind, rightFields(draw, kind));
  return concat(
    new Uint8Array([kind]),
    hasMagic ? MAGIC : new Uint8Array(),
    fields,
  );
}

/**
 * The session to which frames are sent, as encoded in the first bytes of an
 * input.
 */
export interface SessionShape {
  readonly role: "opener" | "acceptor";
  /** Whether it receives all messages immediately, or none. */
  readonly takesAll: boolean;
  readonly takesPings: boolean;
  readonly onlyJson: boolean;
  /** Whether it closes immediately. */
  readonly closes: boolean;
  /** The number of messages that it sends. */
  readonly sends: number;
  readonly window: number;
  readonly windowMessages: number;
  readonly maxMessage: number;
  /** Seed of the places at which the bytes are split. */
  readonly cuts: number;
}

/** Bytes of an input before the stream. */
export const SHAPE_SIZE = 4;

const LIMITS = [
  { window: 2 ** 16, windowMessages: 100, maxMessage: 2 ** 20 },
  { window: 1_000, windowMessages: 3, maxMessage: 5_000 },
  { window: 1, windowMessages: 1, maxMessage: 2 ** 32 - 65 },
  { window: 2 ** 18, windowMessages: 2 ** 20, maxMessage: 2 ** 26 },
] as const;

/** Reads the session of an input. */
export function readShape(input: Bytes): SessionShape {
  const [flags = 0, limits = 0, cuts = 0, sends = 0] = input;
  const takesAll = (flags & 2) !== 0;
  return {
    role: (flags & 1) === 0 ? "acceptor" : "opener",
    takesAll,
    takesPings: (flags & 4) !== 0,
    onlyJson: (flags & 24) === 24 && (limits & 4) !== 0,
    closes: (flags & 0xe0) === 0xe0,
    sends: sends % 8,
    ...LIMITS[takesAll ? 3 : limits % LIMITS.length]!,
    cuts,
  };
}

/** Generates frames like a peer. */
export class PeerMaker {
  readonly #draw: Draw;
  readonly #shape: SessionShape;
  readonly #parts: Uint8Array[] = [];
  #number = 0;
  #isJson = false;

  constructor(draw: Draw, shape: SessionShape) {
    this.#draw = draw;
    this.#shape = shape;
    this.#isJson = shape.onlyJson;
  }

  /** The whole stream. */
  make(): Bytes {
    const draw = this.#draw;
    if (!draw.oneIn(80)) this.#hello();
    const count = draw.size(24) + 1;
    for (let left = count; left > 0; left--) this.#next();
    if (draw.oneIn(3)) this.#goodbye();
    return concat(...this.#parts);
  }

  #add(...parts: Uint8Array[]): void {
    const draw = this.#draw;
    const bytes = concat(...parts);
    if (draw.oneIn(300) && bytes.length >= 4) {
      bytes.set(uint32(draw.boundary()));
    }
    this.#parts.push(bytes);
  }

  #hello(): void {
    const draw = this.#draw;
    const codecs = draw.pick([
      ...[["msgpack", "json"], ["json", "msgpack"], ["msgpack"], ["json"]],
      ...[["other", "json"], ["msgpack", "json"], ["msgpack", "json"]],
    ]);
    const isFound = !this.#shape.onlyJson || codecs.includes("json");
    if (isFound && !this.#shape.onlyJson) {
      const first = codecs.find((name) => name !== "other");
      this.#isJson = this.#shape.role === "opener"
        ? !codecs.includes("msgpack")
        : first === "json";
    }
    const fields = makeFields(draw, KIND.hello, {
      version: 1,
      name: draw.pick(WORDS),
      codecs,
      ...draw.oneIn(6)
        ? {
          window: draw.pick([1, 10, 1_000, 2 ** 53 - 1]),
          messages: draw.pick([1, 2, 100, 2 ** 31 - 1]),
          maxMessage: draw.pick([5, 6, 7, 100]),
        }
        : { window: 2 ** 22, messages: 4_096, maxMessage: 2 ** 28 },
    });
    this.#add(frame(KIND.hello, MAGIC, fields));
  }

  #next(): void {
    const draw = this.#draw;
    switch (draw.below(16)) {
      case 0:
      case 1: {
        const taken = draw.below(this.#shape.sends + 1);
        return this.#add(
          frame(KIND.credit, makeFields(draw, KIND.credit, { taken })),
        );
      }
      case 2: {
        const right = { taken: 0, answer: draw.oneIn(2) };
        return this.#add(
          frame(KIND.stall, makeFields(draw, KIND.stall, right)),
        );
      }
      case 3:
        if (!this.#shape.takesPings && !draw.oneIn(10)) return this.#data();
        return this.#add(
          frame(
            KIND.ping,
            makeFields(draw, KIND.ping, { received: draw.boundary() }),
          ),
        );
      case 4:
        if (draw.oneIn(6)) return this.#goodbye();
        if (draw.oneIn(6)) return this.#abort();
        if (draw.oneIn(20)) return this.#hello();
        if (!draw.oneIn(8)) return this.#data();
        return this.#add(frame(draw.below(16), makeControl(draw).subarray(1)));
      case 5:
      case 6:
        return this.#parted();
      default:
        return this.#data();
    }
  }

  #payload(): Bytes {
    const draw = this.#draw;
    if (draw.oneIn(150)) {
      // Larger than one read.
      const text = repeat(
        utf8("a"),
        draw.pick([65_522, 65_524, 70_000, 150_000]),
      );
      const json = concat(utf8('"'), text, utf8('"'));
      return this.#isJson
        ? json
        : concat(new Uint8Array([0xdb]), uint32(text.length), text);
    }
    if (this.#isJson) return utf8(new JsonMaker(draw, draw.oneIn(50)).value(7));
    if (draw.oneIn(30)) return makeMsgpack(draw);
    const kinds = {
      changed: false,
      unsendable: false,
      json: false,
      deep: false,
    };
    return msgpack.encode(new ValueMaker(draw, kinds).value(7));
  }

  /** The number and the acknowledgement before a message. */
  #head(): Bytes {
    const draw = this.#draw;
    const number = draw.oneIn(200)
      ? draw.pick([this.#number, this.#number + 2, draw.boundary()])
      : this.#number + 1;
    this.#number++;
    const taken = draw.oneIn(200)
      ? draw.boundary()
      : draw.below(this.#shape.sends + 1);
    return concat(uint32(number), uint32(taken));
  }

  #data(): void {
    this.#add(frame(KIND.data, this.#head(), this.#payload()));
  }

  #parted(): void {
    const draw = this.#draw;
    const payload = this.#payload();
    const total = draw.oneIn(50)
      ? draw.pick([payload.length - 1, payload.length + 1, draw.boundary()])
      : payload.length;
    const first = draw.between(1, Math.max(1, payload.length));
    const begin = payload.subarray(0, first);
    this.#add(
      frame(KIND.first, this.#head(), uint32(Math.max(0, total)), begin),
    );
    for (let at = first; at < payload.length;) {
      if (draw.oneIn(10)) this.#next();
      const end = Math.min(payload.length, at + 1 + draw.size(payload.length));
      this.#add(frame(KIND.next, payload.subarray(at, end)));
      at = end;
    }
  }

  #goodbye(): void {
    const draw = this.#draw;
    const right = {
      sent: this.#number,
      taken: draw.below(this.#shape.sends + 1),
    };
    this.#add(frame(KIND.goodbye, makeFields(draw, KIND.goodbye, right)));
  }

  #abort(): void {
    const draw = this.#draw;
    const right = {
      text: draw.pick(WORDS),
      fault: draw.oneIn(3),
      ...draw.oneIn(2) && { reason: makeMsgpack(draw) },
    };
    this.#add(frame(KIND.abort, makeFields(draw, KIND.abort, right)));
  }
}
