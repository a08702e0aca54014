// Copyright 2026 the Duplex authors. MIT license.

/**
 * Random choices for the fuzzing campaign, and bytes that are built or changed
 * at random. Equal seeds give equal choices.
 *
 * @module
 */

import { random } from "../_seed.ts";

/** The type of all inputs. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** Numbers at which code often fails: limits of formats and of this package. */
const NUMBERS: readonly number[] = [
  ...[
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    9,
    15,
    16,
    17,
    23,
    31,
    32,
    33,
    40,
    41,
    63,
    64,
    65,
  ],
  ...[99, 100, 101, 127, 128, 129, 255, 256, 257, 499, 500, 501, 511, 512],
  ...[1023, 1024, 1025, 4095, 4096, 4097, 32_767, 32_768, 65_535, 65_536],
  ...[65_537, 2 ** 20, 2 ** 24, 2 ** 26, 2 ** 26 + 1, 2 ** 30, 2 ** 31 - 1],
  ...[2 ** 31, 2 ** 32 - 65, 2 ** 32 - 2, 2 ** 32 - 1],
];

/** Makes random choices. */
export class Draw {
  readonly #next: () => number;

  private constructor(next: () => number) {
    this.#next = next;
  }

  /** Choices that follow from a seed. */
  static seeded(seed: number): Draw {
    return new Draw(random(Math.imul(seed, 0x9e3779b1) ^ seed >>> 15));
  }

  /** Choices that follow from bytes, so that a part of them can be omitted. */
  static from(bytes: Uint8Array): Draw {
    let at = 0;
    const byte = () => bytes[at++] ?? 0;
    return new Draw(() => (byte() * 256 + byte()) / 65_536);
  }

  /** A number from 0 to below 1. */
  fraction(): number {
    return this.#next();
  }

  /** An integer from 0 to below a limit. */
  below(limit: number): number {
    return Math.floor(this.#next() * limit);
  }

  /** An integer between two others, both inclusive. */
  between(least: number, most: number): number {
    return least + this.below(most - least + 1);
  }

  /** `true` once in `count` times on average. */
  oneIn(count: number): boolean {
    return this.below(count) === 0;
  }

  /** One of the values. */
  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  /** A size; small ones are more likely. */
  size(most: number): number {
    return Math.floor(this.#next() ** 4 * (most + 1));
  }

  /** A number at which code often fails, or one next to it. */
  boundary(): number {
    return Math.max(
      0,
      this.pick(NUMBERS) + (this.oneIn(4) ? this.between(-1, 1) : 0),
    );
  }

  /** Random bytes. */
  bytes(size: number): Bytes {
    const bytes = new Uint8Array(size);
    let state = 0;
    for (let at = 0; at < size; at++) {
      if ((at & 3) === 0) state = this.#next() * 2 ** 32 | 0;
      bytes[at] = state >>> (at & 3) * 8;
    }
    return bytes;
  }
}

/** Joins bytes. */
export function concat(...parts: readonly Uint8Array[]): Bytes {
  const bytes = new Uint8Array(
    parts.reduce((sum, part) => sum + part.length, 0),
  );
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** The same bytes repeated. */
export function repeat(part: Uint8Array, count: number): Bytes {
  const bytes = new Uint8Array(part.length * count);
  if (count > 0) bytes.set(part);
  for (let filled = part.length; filled < bytes.length; filled *= 2) {
    bytes.copyWithin(filled, 0, filled);
  }
  return bytes;
}

/** A number in 4 bytes, big-endian. */
export function uint32(number: number): Bytes {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, number);
  return bytes;
}

const TEXT_ENCODER = new TextEncoder();

/** A text as UTF-8. */
export function utf8(text: string): Bytes {
  return TEXT_ENCODER.encode(text);
}

/** Bytes with a meaning in MessagePack, JSON or a frame. */
const INTERESTING: readonly number[] = [
  ...[0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0a, 0x0b, 0x0c],
  ...[0x22, 0x2c, 0x3a, 0x5b, 0x5c, 0x5d, 0x7b, 0x7d, 0x7f, 0x80, 0x89, 0x90],
  ...[0xa0, 0xbf, 0xc0, 0xc1, 0xc4, 0xc7, 0xc9, 0xca, 0xcb, 0xcf, 0xd3, 0xd4],
  ...[0xd9, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xff],
];

/** Changes bytes at one place. */
function mutateOnce(bytes: Bytes, draw: Draw): Bytes {
  const { length } = bytes;
  if (length === 0) return draw.bytes(1);
  const at = draw.below(length);
  switch (draw.below(11)) {
    case 0:
      bytes[at] = bytes[at]! ^ 1 << draw.below(8);
      return bytes;
    case 1:
      bytes[at] = draw.pick(INTERESTING);
      return bytes;
    case 2:
      bytes[at] = bytes[at]! + draw.pick([-1, 1]);
      return bytes;
    case 3: {
      const end = at + 1 + draw.size(16);
      return concat(bytes.subarray(0, at), bytes.subarray(end));
    }
    case 4: {
      const more = draw.bytes(1 + draw.size(8));
      return concat(bytes.subarray(0, at), more, bytes.subarray(at));
    }
    case 5:
      return bytes.slice(0, at);
    case 6: {
      // Duplicates a part.
      const end = at + 1 + draw.size(32);
      return concat(bytes.subarray(0, end), bytes.subarray(at));
    }
    case 7: {
      // Moves a part.
      const from = draw.below(length);
      const size = Math.min(1 + draw.size(32), length - from, length - at);
      bytes.copyWithin(at, from, from + size);
      return bytes;
    }
    case 8:
      if (at + 4 <= length) bytes.set(uint32(draw.boundary()), at);
      return bytes;
    case 9:
      if (at + 2 <= length) {
        bytes.set(uint32(draw.boundary()).subarray(2), at);
      }
      return bytes;
    default:
      bytes[at] = draw.below(256);
      return bytes;
  }
}

/** Changes bytes at a few places. */
export function mutate(bytes: Bytes, draw: Draw): Bytes {
  let changed = bytes.slice();
  for (let left = 1 + draw.size(6); left > 0; left--) {
    changed = mutateOnce(changed, draw);
  }
  return changed;
}

/** Bytes with a part omitted or simplified; the smallest first. */
export function* smallerBytes(bytes: Bytes): Generator<Bytes> {
  const { length } = bytes;
  if (length === 0) return;
  yield new Uint8Array();
  let size = length >> 1;
  for (; size > 0; size >>= 1) {
    for (let at = 0; at < length; at += size) {
      yield concat(bytes.subarray(0, at), bytes.subarray(at + size));
      // Many small parts would take too long.
      if (length / size > 512 && at > 512 * size) break;
    }
  }
  for (let at = 0; at < Math.min(length, 128); at++) {
    if (bytes[at] === 0) continue;
    const simpler = bytes.slice();
    simpler[at] = 0;
    yield simpler;
  }
}

/** A step of an input that consists of steps: its kind, and its data. */
export interface Step {
  readonly kind: number;
  readonly bytes: Bytes;
}

/** Bytes before the data of a step: its kind, and its length. */
const STEP_HEADER = 4;

/** Joins steps to one input. */
export function joinSteps(steps: readonly Step[]): Bytes {
  return concat(...steps.flatMap(({ kind, bytes }) => {
    const header = uint32(Math.min(bytes.length, 0xff_ffff));
    header[0] = kind;
    return [header, bytes];
  }));
}

/** Splits any input into steps. */
export function splitSteps(input: Bytes): Step[] {
  const steps: Step[] = [];
  const view = new DataView(input.buffer, input.byteOffset, input.length);
  for (let at = 0; at + STEP_HEADER <= input.length;) {
    const header = view.getUint32(at);
    const start = at + STEP_HEADER;
    const end = Math.min(start + (header & 0xff_ffff), input.length);
    steps.push({ kind: header >>> 24, bytes: input.slice(start, end) });
    at = end;
  }
  return steps;
}

/** Inputs with fewer or shorter steps. */
export function* smallerSteps(input: Bytes): Generator<Bytes> {
  const steps = splitSteps(input);
  const { length } = steps;
  for (let size = length >> 1; size > 0; size >>= 1) {
    for (let at = 0; at < length; at += size) {
      yield joinSteps(steps.toSpliced(at, size));
    }
  }
  if (length === 1) yield new Uint8Array();
  for (const [index, step] of steps.entries()) {
    for (const bytes of smallerBytes(step.bytes)) {
      yield joinSteps(steps.with(index, { ...step, bytes }));
    }
  }
}

/** Changes the order, the number or the bytes of an input's steps. */
export function mutateSteps(steps: readonly Step[], draw: Draw): Step[] {
  let changed = [...steps];
  for (let left = 1 + draw.size(3); left > 0 && changed.length > 0; left--) {
    const at = draw.below(changed.length);
    const step = changed[at]!;
    switch (draw.below(5)) {
      case 0:
        changed.splice(at, 1);
        break;
      case 1:
        changed.splice(draw.below(changed.length), 0, step);
        break;
      case 2:
        changed = changed.toSpliced(at, 1);
        changed.splice(draw.below(changed.length + 1), 0, step);
        break;
      default:
        changed[at] = { ...step, bytes: mutate(step.bytes, draw) };
    }
  }
  return changed;
}
