// Copyright 2026 the Duplex authors. MIT license.

/**
 * Messages of a plan: what each holds follows from the plan's seed, the end that
 * sends it and its number, so that the receiver can tell whether it arrived
 * equal.
 *
 * @module
 */

import { equal } from "@std/assert/equal";
import { random } from "../_seed.ts";

/** A message: who sends it, its number there, its size, and what it holds. */
export type Message = [
  sender: string,
  number: number,
  size: number,
  payload: unknown,
];

/** Payloads that every codec carries. */
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

/** Payloads that MessagePack carries. */
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
 * @param sender The end that sends it.
 * @param number Its number there.
 * @param size About how many bytes its payload has.
 * @param isPlain Whether it holds only what JSON carries.
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

/** The message that arrived, or why it is not one of the plan's. */
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
