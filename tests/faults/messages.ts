// Copyright 2026 the Duplex authors. MIT license.

/**
 * Messages of a plan. The content of each follows from the plan's seed, its
 * sender and its number, so that the receiver can check it.
 *
 * @module
 */

import { equal } from "@std/assert/equal";
import { random } from "../_seed.ts";

/** A message: its sender, its number, its size and its content. */
export type Message = [
  sender: string,
  number: number,
  size: number,
  payload: unknown,
];

/** Payloads that every codec supports. */
const PLAIN: ((draw: () => number, size: number) => unknown)[] = [
  (_, size) => "x".repeat(size),
  (draw, size) => `${draw()}é☃😀`.repeat(Math.ceil(size / 24)).slice(0, size),
  (draw, size) => Array.from({ length: size >> 3 }, () => draw()),
  (draw, size) => ({
    level: "info",
    at: Math.floor(draw() * 1e12),
    text: "y".repeat(size),
    nested: { list: [1, "two", null, [true, {}]], "": draw() },
  }),
  (draw) => Math.floor(draw() * 2 ** 40) - 2 ** 39,
];

/** Payloads that MessagePack supports. */
const RICH: typeof PLAIN = [
  ...PLAIN,
  (draw, size) => {
    const bytes = new Uint8Array(size);
    const factor = Math.floor(draw() * 256);
    for (let at = 0; at < size; at++) bytes[at] = at * factor;
    return bytes;
  },
  (draw, size) => ({
    map: new Map<unknown, unknown>([[1, "one"], ["k", new Set([draw()])]]),
    when: new Date(Math.floor(draw() * 1e12)),
    big: BigInt(Math.floor(draw() * 2 ** 50)) ** 3n,
    nothing: undefined,
    floats: new Float64Array(size >> 3).fill(draw()),
  }),
];

/**
 * A message of a plan.
 *
 * @param seed The plan's seed.
 * @param sender The name of the sending end.
 * @param number The number of the message at its sender.
 * @param size Approximate bytes of the payload.
 * @param isPlain Whether the payload is limited to JSON values.
 */
export function makeMessage(
  seed: number,
  sender: string,
  number: number,
  size: number,
  isPlain: boolean,
): Message {
  const kinds = isPlain ? PLAIN : RICH;
  let hash = seed;
  for (const char of sender) hash = Math.imul(hash, 31) + char.charCodeAt(0);
  const draw = random(hash + number * 7919);
  const kind = kinds[Math.floor(draw() * kinds.length)]!;
  return [sender, number, size, kind(draw, size)];
}

/**
 * The sender and number of a message, or an error text if it is not a message
 * of the plan.
 */
export function readMessage(
  seed: number,
  value: unknown,
  isPlain: boolean,
): { sender: string; number: number } | string {
  if (!Array.isArray(value) || value.length !== 4) {
    return `not a message of the plan: ${Deno.inspect(value).slice(0, 200)}`;
  }
  const [sender, number, size, payload] = value as Message;
  const expected = makeMessage(seed, sender, number, size, isPlain);
  return isSame(payload, expected[3])
    ? { sender, number }
    : `message ${number} of "${sender}" arrived changed`;
}

function isSame(one: unknown, other: unknown): boolean {
  if (one instanceof Uint8Array && other instanceof Uint8Array) {
    return one.length === other.length &&
      one.every((byte, index) => byte === other[index]);
  }
  return equal(one, other);
}
