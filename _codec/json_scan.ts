// Copyright 2026 the Duplex authors. MIT license.

/**
 * Checks a JSON text before it is parsed, because `JSON.parse` has no limits: the
 * depth of nesting, the cost of its values, and whether its strings were chosen to
 * collide in V8's table of strings. A text that is not JSON may pass; `JSON.parse`
 * then throws.
 *
 * @module
 */

import { readText } from "../_base/byte_buffer.ts";
import { randomStride } from "./collisions.ts";
import {
  ARRAY_COST,
  COST_PER_BYTE,
  FIELD_COST,
  INDEX_FIELD_COST,
  MAX_COST,
  RECORD_COST,
  SHAPE_COST,
  SLOW_FIELD_COST,
  STRING_COST,
} from "./message_cost.ts";
import { MULTIPLIER } from "./msgpack_keys.ts";
import { MAX_DEPTH } from "./values.ts";

/** Maximum bytes of a text that is too short to be nested too deep. */
const MAX_SHALLOW_SIZE = 2 * MAX_DEPTH;

/**
 * Maximum bytes of a text whose cost is not counted: the costliest texts, of empty
 * objects or of objects with one field of a new name, take some sixty times their
 * size.
 */
export const MAX_UNCOUNTED_SIZE: number = 4 * 1024 * 1024;

/**
 * Bytes of a text below which its strings may collide: parsing such a text takes at
 * most a tenth of a second.
 */
const MIN_SAMPLED_SIZE = 64 * 1024;

/** One string in 32, at random, is in the sample. */
const SAMPLE_STRIDE = 32;

/** Strings in a sample below which collisions take little time. */
const MIN_SAMPLE = 400;

/** Maximum strings in the sample: parsing them takes 0.4 s if all collide. */
const MAX_SAMPLE = 16_384;

/** Maximum milliseconds that collisions may add to the parsing of a text, estimated from the sample. */
const MAX_WASTE = 1000;

/** Milliseconds to parse an ordinary string of a sample. */
const ORDINARY_TIME = 0.0002;

/** Minimum number of times that a slow sample is parsed. The shortest time counts. */
const MIN_ROUNDS = 4;

/**
 * Minimum milliseconds of measuring: on a busy machine, a few rounds in a row may all
 * be interrupted, but not dozens.
 */
const MIN_MEASURING_TIME = 250;

/** Factor by which ordinary strings may take longer than similar ones. */
const TOLERANCE = 1.5;

/** The clock, even if a program replaces it later. */
const now = performance.now.bind(performance);

/** An item of an array, which may be a number that V8 stores as an object. */
const JSON_ITEM_COST = 40;

/** Digits from which on a number may exceed the largest index. */
const MAX_INDEX_LENGTH = 10;

/** Maximum fields for each of which V8 creates a description of the object. */
const JSON_SHAPE_FIELDS = 128;

const SPACE = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const DIGIT_0 = 0x30;
const DIGIT_9 = 0x39;
/** `[` and `]`, and with another bit `{` and `}`. */
const OPEN = 0x5b;
const CLOSE = 0x5d;
const BRACE_BIT = 0x20;

/**
 * The part of {@linkcode COST_PER_BYTE} that remains for an ASCII text: the text and
 * its strings each take one byte per character. For other texts nothing remains,
 * because they take two.
 */
const ASCII_REST = COST_PER_BYTE - 2;

/** A random seed: a peer cannot choose keys with equal hashes. */
const SEED: number = Math.floor(Math.random() * 2 ** 32) | 0;

/** Adds a byte, or an escape of two bytes, to a hash. */
function hashWith(hash: number, value: number): number {
  const product = Math.imul(hash ^ value, MULTIPLIER);
  return product ^ product >>> 15;
}

/**
 * A sample of a text's strings that shows whether they collide. If parsing the
 * sample takes longer than parsing similar strings, they do: the time for colliding
 * strings grows with the square of their number.
 */
export class StringSample {
  readonly #bytes: Uint8Array;
  /** The start and the end of each string in the sample. */
  readonly #places: [start: number, end: number][] = [];
  /** Hashes of the strings, so that equal ones are sampled once. */
  readonly #hashes = new Set<number>();
  #left = randomStride(SAMPLE_STRIDE);

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Adds a string of the text. */
  add(start: number, end: number): void {
    if (--this.#left > 0) return;
    this.#left = randomStride(SAMPLE_STRIDE);
    let hash = SEED;
    for (let index = start; index < end; index++) {
      hash = hashWith(hash, this.#bytes[index]!);
    }
    const taken = this.#hashes.size;
    this.#hashes.add(hash);
    if (this.#hashes.size === taken) return;
    // In a full sample, each string is included with the same probability.
    const slot = taken < MAX_SAMPLE ? taken : Math.floor(Math.random() * taken);
    if (slot < MAX_SAMPLE) this.#places[slot] = [start, end];
  }

  /**
   * Whether the strings of the text collide.
   *
   * @param parseTime Milliseconds to parse a text.
   */
  collide(parseTime: (text: string) => number = measureParse): boolean {
    const count = this.#places.length;
    if (count < MIN_SAMPLE) return false;
    let text: string;
    let time: number;
    try {
      text = this.#text((string) => string);
      time = parseTime(text);
    } catch {
      // The text is not JSON: parsing all of it throws.
      return false;
    }
    if (!this.#isSlow(time, count * ORDINARY_TIME)) return false;
    // Similar strings show the speed of this machine at this moment.
    const similar = this.#text(similarString);
    let similarTime = parseTime(similar);
    let measured = time + similarTime;
    for (let round = 1;; round++) {
      if (!this.#isSlow(time, similarTime * TOLERANCE)) return false;
      if (round >= MIN_ROUNDS && measured >= MIN_MEASURING_TIME) return true;
      const times = [parseTime(similar), parseTime(text)] as const;
      similarTime = Math.min(similarTime, times[0]);
      time = Math.min(time, times[1]);
      measured += times[0] + times[1];
    }
  }

  /** Whether the whole text would take too long, judging by the sample. */
  #isSlow(time: number, ordinaryTime: number): boolean {
    const ratio = SAMPLE_STRIDE * this.#hashes.size / this.#places.length;
    return (time - ordinaryTime) * ratio ** 2 > MAX_WASTE;
  }

  /** A JSON text with the strings of the sample: keys as keys, others as items. */
  #text(change: (string: string) => string): string {
    const parts = this.#places.map(([start, end]) => {
      const string = readText(this.#bytes.subarray(start, end));
      const quoted = `"${change(string)}"`;
      return this.#isKey(end) ? `{${quoted}:0}` : quoted;
    });
    return `[${parts.join()}]`;
  }

  /** Whether the string that ends at an index is a key. */
  #isKey(end: number): boolean {
    let index = end + 1;
    while (this.#bytes[index]! <= SPACE) index++;
    return this.#bytes[index] === COLON;
  }
}

/** Measures the milliseconds to parse a text. */
function measureParse(text: string): number {
  const start = now();
  JSON.parse(text);
  return now() - start;
}

/** A string with random digits and letters instead, which takes as long to parse. */
function similarString(string: string): string {
  if (string.includes("\\")) return string;
  return string.replace(
    /[0-9]|[a-z]/gi,
    (char) =>
      char <= "9"
        ? String(1 + Math.floor(Math.random() * 9))
        : String.fromCharCode(97 + Math.floor(Math.random() * 26)),
  );
}

/**
 * Checks a text.
 *
 * @param bytes The text in UTF-8.
 * @param isAscii Whether it is ASCII.
 * @returns Why the text must not be parsed, or `undefined`.
 */
export function scanJson(
  bytes: Uint8Array,
  isAscii: boolean,
): string | undefined {
  const { length } = bytes;
  if (length <= MAX_SHALLOW_SIZE) return undefined;
  const sample = length < MIN_SAMPLED_SIZE
    ? undefined
    : new StringSample(bytes);
  const meter = length <= MAX_UNCOUNTED_SIZE
    ? undefined
    : new Meter(bytes, MAX_COST + (isAscii ? ASCII_REST * length : 0));
  const reason = meter === undefined
    ? scanDepth(bytes, sample)
    : meter.scan(sample);
  if (reason !== undefined) return reason;
  return sample?.collide() ? COLLISION : undefined;
}

/**
 * The cost of the values of a text, in addition to that of their bytes.
 *
 * @param bytes A JSON text.
 * @returns The cost.
 */
export function costOfJson(bytes: Uint8Array): number {
  const meter = new Meter(bytes, Number.MAX_SAFE_INTEGER);
  meter.scan(undefined);
  return Number.MAX_SAFE_INTEGER - meter.budget;
}

const COLLISION = "too many of its strings collide";
const TOO_DEEP = `more than ${MAX_DEPTH} containers are nested`;
const TOO_COSTLY = "it takes too much memory for its size";

function scanDepth(
  bytes: Uint8Array,
  sample: StringSample | undefined,
): string | undefined {
  const { length } = bytes;
  let depth = 0;
  for (let index = 0; index < length; index++) {
    const byte = bytes[index]!;
    if (byte === QUOTE) {
      const start = index + 1;
      index = stringEnd(bytes, start);
      sample?.add(start, index);
    } else {
      const bracket = byte & ~BRACE_BIT;
      if (bracket === OPEN) {
        if (++depth > MAX_DEPTH) return TOO_DEEP;
      } else if (bracket === CLOSE) depth--;
    }
  }
  return undefined;
}

/** The index of the quotation mark that ends the string at `start`. */
function stringEnd(bytes: Uint8Array, start: number): number {
  let index = start;
  while (index < bytes.length) {
    const byte = bytes[index]!;
    if (byte === QUOTE) break;
    index += byte === BACKSLASH ? 2 : 1;
  }
  return index;
}

/** Counts the cost of the values of a text. */
class Meter {
  readonly #bytes: Uint8Array;
  /** Maximum cost of the rest of the text. */
  budget: number;
  /** The number of fields of each open container, or -1 for an array. */
  readonly #fields = new Int32Array(MAX_DEPTH + 1);
  /** Hashes of the beginnings of each open object: its first key, its first two keys … */
  readonly #beginnings = new Int32Array((MAX_DEPTH + 1) * JSON_SHAPE_FIELDS);
  readonly #known = new Set<number>();

  constructor(bytes: Uint8Array, budget: number) {
    this.#bytes = bytes;
    this.budget = budget;
  }

  scan(sample: StringSample | undefined): string | undefined {
    const bytes = this.#bytes;
    const { length } = bytes;
    let depth = 0;
    let isKey = false;
    this.#fields[0] = -1;
    for (let index = 0; index < length && this.budget >= 0; index++) {
      const byte = bytes[index]!;
      if (byte === QUOTE) {
        const start = index + 1;
        index = isKey ? this.#scanKey(start, depth) : stringEnd(bytes, start);
        sample?.add(start, index);
        if (!isKey) this.budget -= STRING_COST;
        isKey = false;
      } else if (byte === COMMA) {
        isKey = this.#fields[depth]! >= 0;
        if (!isKey) this.budget -= JSON_ITEM_COST;
      } else if ((byte & ~BRACE_BIT) === OPEN) {
        if (++depth > MAX_DEPTH) return TOO_DEEP;
        isKey = byte !== OPEN;
        this.#fields[depth] = isKey ? 0 : -1;
        this.budget -= isKey
          ? RECORD_COST + FIELD_COST
          : ARRAY_COST + JSON_ITEM_COST;
      } else if ((byte & ~BRACE_BIT) === CLOSE) {
        if (bytes[index - 1] === byte - 2) this.#closeEmpty(byte === CLOSE);
        else if (this.#fields[depth]! > 0) this.#closeObject(depth);
        if (depth > 0) depth--;
        isKey = false;
      }
    }
    return this.budget < 0 ? TOO_COSTLY : undefined;
  }

  /** Charges for a key; returns its end. */
  #scanKey(start: number, depth: number): number {
    const bytes = this.#bytes;
    let hash = SEED;
    let index = start;
    let isNumber = true;
    while (index < bytes.length) {
      let byte = bytes[index++]!;
      if (byte === QUOTE) break;
      if (byte < DIGIT_0 || byte > DIGIT_9) isNumber = false;
      // An escaped byte does not end the key.
      if (byte === BACKSLASH) byte |= bytes[index++]! << 8;
      hash = hashWith(hash, byte);
    }
    const end = index - 1;
    this.budget -= FIELD_COST;
    if (isNumber) {
      this.budget -= INDEX_FIELD_COST;
      // An index is not part of a shape. Some other numbers are.
      if (end - start < MAX_INDEX_LENGTH && bytes[start] !== DIGIT_0) {
        return end;
      }
    }
    const place = this.#fields[depth]!++;
    if (place < JSON_SHAPE_FIELDS) {
      const at = depth * JSON_SHAPE_FIELDS + place;
      const before = place === 0 ? SEED : this.#beginnings[at - 1]!;
      this.#beginnings[at] = Math.imul(before ^ hash, MULTIPLIER);
    }
    return end;
  }

  /** Refunds the first item or field of an empty container. */
  #closeEmpty(isArray: boolean): void {
    this.budget += isArray ? JSON_ITEM_COST : FIELD_COST;
  }

  #closeObject(depth: number): void {
    const fields = this.#fields[depth]!;
    if (fields > JSON_SHAPE_FIELDS) {
      this.budget -= SLOW_FIELD_COST * fields;
    }
    const start = depth * JSON_SHAPE_FIELDS;
    const end = start + Math.min(fields, JSON_SHAPE_FIELDS);
    if (this.#known.has(this.#beginnings[end - 1]!)) return;
    for (let at = start; at < end; at++) {
      const beginning = this.#beginnings[at]!;
      if (this.#known.has(beginning)) continue;
      this.#known.add(beginning);
      this.budget -= SHAPE_COST;
    }
  }
}
