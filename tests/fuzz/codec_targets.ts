// Copyright 2026 the Duplex authors. MIT license.

/**
 * The codecs: decoding of bytes, and encoding of values.
 *
 * @module
 */

import { makeCloneable, receiveClone } from "../../_thread/clone.ts";
import { costOfJson } from "../../_codec/json_scan.ts";
import { COST_PER_BYTE } from "../../_codec/message_cost.ts";
import { costOfMsgpack } from "../../_codec/msgpack_decode.ts";
import { show as showValue } from "../../_base/text.ts";
import { ByteBuffer } from "../../_base/byte_buffer.ts";
import { json, msgpack } from "../codec/_fast.ts";
import type { FastCodec } from "../../_codec/fast_codec.ts";
import { type Bytes, concat, Draw, mutate, smallerBytes } from "./draw.ts";
import { difference, equalBytes } from "./equal.ts";
import {
  BASE_TIME,
  checkMessage,
  checkRefusal,
  show,
  type Target,
  timeFor,
  Violation,
} from "./harness.ts";
import { makeJson } from "./json_bytes.ts";
import { makeMsgpack } from "./msgpack_bytes.ts";
import { readReference } from "./reference.ts";
import { ValueMaker } from "./values.ts";

/**
 * Bytes that V8 counts only occasionally, and memory of the code around the
 * decoder.
 */
const SLACK = 1.5 * 2 ** 20;

/** Bytes of an input above which it is not decoded by the reference. */
const MAX_COMPARED = 20_000;

/** The result of decoding. */
type Decoded = { readonly value: unknown } | { readonly error: unknown };

function tryDecode(decode: () => unknown): Decoded {
  try {
    return { value: decode() };
  } catch (error) {
    return { error };
  }
}

/** Whether a value is or contains a given one. */
function contains(
  value: unknown,
  isSearched: (value: unknown) => boolean,
): boolean {
  return isSearched(value) ||
    typeof value === "object" && value !== null &&
      Object.values(value).some((part) => contains(part, isSearched));
}

function isInfinite(value: unknown): boolean {
  return value === Infinity || value === -Infinity;
}

function isNegativeZero(value: unknown): boolean {
  return Object.is(value, -0);
}

/**
 * Checks that a decoded value can be encoded, and decodes to an equal value.
 */
function checkAgain(codec: Required<FastCodec>, value: unknown): void {
  // A number in JSON that is too large.
  if (codec === json && contains(value, isInfinite)) return;
  let first: Uint8Array;
  try {
    first = codec.encode(value);
  } catch (error) {
    throw new Violation(
      `A decoded value cannot be encoded: ${show(error)}\n${show(value)}`,
    );
  }
  let again: unknown;
  try {
    again = codec.decode(first);
  } catch (error) {
    checkRefusal(error);
    // Collisions of keys are measured, so the result can differ between two
    // runs.
    if (isCostly(error)) return;
    throw new Violation(`Refused bytes that it has encoded: ${show(error)}`);
  }
  const second = codec.encode(again);
  const found = difference(value, again);
  const isLost = codec === json && contains(value, isNegativeZero);
  if (found !== undefined && !isLost) {
    throw new Violation(
      `A decoded value changes when it is encoded again at ${found}: ${
        show(value)
      }`,
    );
  }
  if (!equalBytes(first, second)) {
    throw new Violation(
      `A decoded value has two encodings: ${show(value)}\n${first}\n${second}`,
    );
  }
}

/** Reasons for a refusal that depend on the cost of a message. */
const IS_COSTLY =
  /takes too much memory for its size|too many keys collide|too many of its strings collide|has more than \d+ (items|keys)|a value in it is too large/;

function isCostly(error: Error): boolean {
  return IS_COSTLY.test(error.message);
}

/** Compares a decoded value with that of the reference. */
function compare(decoded: Decoded, expected: Decoded): void {
  if ("error" in decoded) {
    if ("value" in expected && !isCostly(decoded.error as Error)) {
      throw new Violation(
        `Refused an input that the reference accepts: ${show(decoded.error)}`,
      );
    }
    return;
  }
  if ("error" in expected) {
    throw new Violation(
      `Accepted an input that the reference refuses: ${show(decoded.value)}`,
    );
  }
  const found = difference(decoded.value, expected.value);
  if (found === undefined) return;
  throw new Violation(
    `Decoded another value than the reference, at ${found}: ${
      show(decoded.value)
    } instead of ${show(expected.value)}`,
  );
}

/**
 * Decodes bytes inside a larger buffer, and bytes that may be overwritten
 * later.
 */
function checkOtherWays(
  codec: Required<FastCodec>,
  input: Bytes,
  decoded: Decoded,
): void {
  const among = concat(new Uint8Array([0x91]), input, new Uint8Array([0x91]));
  const ways = [
    tryDecode(() => codec.decodeRange(among, 1, 1 + input.length)),
    tryDecode(() => codec.decodeOwned(input.slice())),
  ];
  for (const way of ways) {
    if ("error" in way) {
      checkRefusal(way.error);
      if ("error" in decoded || isCostly(way.error)) continue;
      throw new Violation(
        `Another method refused the input: ${show(way.error)}`,
      );
    }
    if ("error" in decoded) {
      if (isCostly(decoded.error as Error)) continue;
      throw new Violation(
        `Another method accepted the input: ${show(way.value)}`,
      );
    }
    const found = difference(way.value, decoded.value);
    if (found !== undefined) {
      throw new Violation(`Another method decoded another value, at ${found}`);
    }
  }
  among.fill(0xc1);
  if ("value" in decoded && "value" in ways[0]!) {
    const found = difference(ways[0].value, decoded.value);
    if (found === undefined) return;
    throw new Violation(
      `A decoded value changes with the bytes it came from, at ${found}`,
    );
  }
}

interface DecodeOptions {
  /** Inputs that take two to four seconds. */
  readonly batch: number;
  readonly make: (draw: Draw) => Bytes;
  readonly read: (input: Bytes) => Decoded;
  readonly cost: (input: Bytes) => number;
  readonly budget: Target["budget"];
}

/** A target that decodes bytes. */
function decodeTarget(
  codec: Required<FastCodec>,
  { batch, make, read, cost, budget }: DecodeOptions,
): Target {
  return {
    batch,
    group: 500,
    make(draw) {
      const bytes = draw.oneIn(20) ? draw.bytes(draw.size(60)) : make(draw);
      return draw.oneIn(3) ? mutate(bytes, draw) : bytes;
    },
    run: (input) => tryDecode(() => codec.decode(input)),
    check(input, result) {
      const decoded = result as Decoded;
      if ("error" in decoded) checkRefusal(decoded.error);
      if (input.length <= MAX_COMPARED) {
        compare(decoded, read(input));
        checkOtherWays(codec, input, decoded);
      }
      if ("value" in decoded) checkAgain(codec, decoded.value);
    },
    budget,
    exactBudget(input) {
      const simple = budget(input.length);
      const total = cost(input) + COST_PER_BYTE * input.length;
      return {
        ms: simple.ms + timeFor(total),
        bytes: total + SLACK,
      };
    },
    smaller: smallerBytes,
  };
}

const STRICT_TEXT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The depth of a value. */
function depthOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  let most = 0;
  for (const part of Object.values(value)) most = Math.max(most, depthOf(part));
  return 1 + most;
}

/** Containers that may be nested. */
const MAX_NESTED = 500;

/** Decodes JSON with the runtime. */
function readJson(input: Bytes): Decoded {
  const decoded = tryDecode(() => JSON.parse(STRICT_TEXT.decode(input)));
  if ("value" in decoded && depthOf(decoded.value) > MAX_NESTED) {
    return { error: "It is nested too deep" };
  }
  return decoded;
}

/** Encodes values. */
const values: Target = {
  batch: 10_000,
  group: 250,
  make: (draw) =>
    draw.bytes(draw.oneIn(3) ? draw.size(3_000) : draw.between(2, 200)),
  run(input) {
    const draw = Draw.from(input);
    const kinds = {
      changed: draw.oneIn(2),
      unsendable: draw.oneIn(2),
      json: draw.oneIn(3),
      deep: true,
    };
    const value = new ValueMaker(draw, kinds).value();
    const isPlain = !kinds.changed && !kinds.unsendable;
    return { value, isPlain, isJson: kinds.json };
  },
  check(_input, result) {
    const { value, isPlain, isJson } = result as {
      value: unknown;
      isPlain: boolean;
      isJson: boolean;
    };
    const shown = showValue(value);
    if (/[\p{C}\p{Zl}\p{Zp}]/u.test(shown) || shown.length > 2_000) {
      throw new Violation(`A value is shown as ${JSON.stringify(shown)}`);
    }
    checkEncoding(msgpack, value, isPlain);
    checkEncoding(json, value, isPlain && isJson);
    checkClone(value, isPlain);
  },
  // A value of few bytes may contain an array of 3000 items and texts of 64
  // KiB.
  budget: (size) => ({ ms: 100, bytes: 40 * 2 ** 20 + 1_000 * size }),
  smaller: smallerBytes,
};

/** Whether a value cannot be sent because it is nested too deep. */
function isDeep(error: Error): boolean {
  return error.message.includes("nested too deep");
}

function checkEncodingError(error: unknown, isPlain: boolean): void {
  if (!(error instanceof TypeError)) {
    throw new Violation(`Encoding threw an unexpected error: ${show(error)}`);
  }
  checkMessage(error);
  if (!/^Cannot (encode|send) a message: /.test(error.message)) {
    throw new Violation(`Encoding has a bug: ${show(error)}`);
  }
  if (isPlain && !isDeep(error)) {
    throw new Violation(`Encoding refuses a plain value: ${show(error)}`);
  }
}

function checkEncoding(
  codec: Required<FastCodec>,
  value: unknown,
  isPlain: boolean,
): void {
  const target = new ByteBuffer(16);
  target.length = 3;
  let bytes: Uint8Array;
  try {
    bytes = codec.encode(value);
  } catch (error) {
    checkEncodingError(error, isPlain);
    try {
      codec.encodeInto(value, target);
    } catch {
      if (target.length === 3) return;
    }
    throw new Violation("Encoding into a buffer writes outside of its result");
  }
  codec.encodeInto(value, target);
  if (!equalBytes(target.toBytes().subarray(3), bytes)) {
    throw new Violation(`Encoding into a buffer differs: ${show(value)}`);
  }
  let decoded: unknown;
  try {
    decoded = codec.decode(bytes);
  } catch (error) {
    throw new Violation(
      `An encoded value cannot be decoded: ${show(error)}\n${show(value)}`,
    );
  }
  if (isPlain) {
    const found = difference(value, decoded);
    if (found !== undefined) {
      throw new Violation(
        `A value arrives changed at ${found}: ${show(value)}`,
      );
    }
  }
  checkAgain(codec, decoded);
}

/** Sends a value like a post to a thread. */
function checkClone(value: unknown, isPlain: boolean): void {
  let cloneable: unknown;
  try {
    ({ cloneable } = makeCloneable(value));
  } catch (error) {
    return checkEncodingError(error, isPlain);
  }
  let clone: unknown;
  try {
    clone = structuredClone(cloneable);
  } catch (error) {
    // A proxy, which cannot be distinguished from its object. Only the clone
    // reports it.
    if (error instanceof DOMException && !isPlain) return;
    throw error;
  }
  const received = receiveClone(clone);
  if (!isPlain) return;
  const found = difference(value, received);
  if (found === undefined || /stack$/.test(found)) return;
  throw new Violation(`A clone arrives changed at ${found}: ${show(value)}`);
}

/** The targets of this file. */
export const CODEC_TARGETS: Readonly<Record<string, Target>> = {
  msgpack: decodeTarget(msgpack, {
    batch: 6_000,
    make: makeMsgpack,
    read: (input) => readReference(input) ?? { error: "It is malformed" },
    cost: costOfMsgpack,
    budget: (size) => ({
      ms: BASE_TIME + size * 300e-6,
      bytes: SLACK + 20 * size,
    }),
  }),
  json: decodeTarget(json, {
    batch: 20_000,
    make: makeJson,
    read: readJson,
    cost: costOfJson,
    // Up to 64 KiB, keys may collide, which takes a tenth of a second on an
    // idle machine.
    budget: (size) => ({
      ms: BASE_TIME + Math.min(size, 0x1_0000) * 6_000e-6 + size * 200e-6,
      bytes: SLACK + 20 * size,
    }),
  }),
  values,
};
