// Copyright 2026 the Duplex authors. MIT license.

/**
 * The wire format written by hand, for workers that violate the protocol on
 * purpose. It imports nothing from the package, so it cannot share the
 * package's bugs.
 *
 * @module
 */

import { decode, encode, type ValueMap } from "@std/msgpack";

export const KIND = {
  hello: 1,
  data: 2,
  first: 3,
  next: 4,
  credit: 5,
  stall: 6,
  goodbye: 9,
  abort: 10,
} as const;

const MAGIC = new Uint8Array([0x89, ...new TextEncoder().encode("DUPLEX")]);

/** A frame from the parent. */
export interface Frame {
  kind: number;
  /** The bytes after the kind and, in a hello, after the magic bytes. */
  body: Uint8Array;
}

export function concat(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

export function uint32(...numbers: number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(numbers.length * 4));
  numbers.forEach((number, index) => view.setUint32(index * 4, number));
  return new Uint8Array(view.buffer);
}

/** A frame with the right length. */
export function frame(kind: number, ...body: Uint8Array[]): Uint8Array {
  const size = body.reduce((sum, part) => sum + part.length, 1);
  return concat(uint32(size), new Uint8Array([kind]), ...body);
}

/** A frame with the given length field, regardless of its body. */
export function lyingFrame(
  length: number,
  kind: number,
  ...body: Uint8Array[]
): Uint8Array {
  return concat(uint32(length), new Uint8Array([kind]), ...body);
}

export function control(kind: number, fields: ValueMap): Uint8Array {
  return frame(kind, encode(fields));
}

/** A valid hello, except for the given fields. */
export function hello(fields: ValueMap = {}): Uint8Array {
  const map = encode({
    version: 1,
    name: "raw",
    codecs: ["msgpack"],
    window: 1 << 20,
    messages: 100,
    maxMessage: 1 << 20,
    ...fields,
  });
  return frame(KIND.hello, MAGIC, map);
}

/** A message in one frame. */
export function data(
  number: number,
  value: unknown,
  taken = 0,
): Uint8Array {
  const payload = value instanceof RawPayload
    ? value.bytes
    : encode(value as ValueMap);
  return frame(KIND.data, uint32(number, taken), payload);
}

/** A payload that is sent unchanged. */
export class RawPayload {
  constructor(readonly bytes: Uint8Array) {}
}

/** Writes all of `bytes` to standard output. */
export function put(...frames: Uint8Array[]): void {
  for (const bytes of frames) {
    for (let start = 0; start < bytes.length;) {
      start += Deno.stdout.writeSync(bytes.subarray(start));
    }
  }
}

/** Writes a line to standard error. */
export function say(line: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(`${line}\n`));
}

/** The frames from the parent, until the end of the stream. */
export async function* frames(): AsyncGenerator<Frame> {
  let rest: Uint8Array = new Uint8Array();
  for await (const chunk of Deno.stdin.readable) {
    rest = concat(rest, chunk);
    while (rest.length >= 4) {
      const view = new DataView(rest.buffer, rest.byteOffset);
      const end = 4 + view.getUint32(0);
      if (rest.length < end) break;
      const kind = rest[4]!;
      const start = kind === KIND.hello ? 5 + MAGIC.length : 5;
      yield { kind, body: rest.slice(start, end) };
      rest = rest.subarray(end);
    }
  }
}

/** The fields of a control frame. */
export function fieldsOf(frame: Frame): ValueMap {
  return decode(frame.body) as ValueMap;
}

/** Waits for the parent's end and prints its reason. */
export async function listen(parent: AsyncGenerator<Frame>): Promise<void> {
  for await (const frame of parent) {
    if (frame.kind !== KIND.abort) continue;
    const { fault, text } = fieldsOf(frame);
    say(`abort, fault ${fault}: ${text}`);
  }
}
