// Copyright 2026 the Duplex authors. MIT license.

/**
 * Looks at a JSON text before it is parsed, since `JSON.parse` has no limits: how
 * deep the text nests, what its values cost, and whether
 * its strings were chosen to collide in V8's table of strings. A text that is not
 * JSON may pass; `JSON.parse` then throws.
 *
 * @module
 */

import { readText } from "./byte_buffer.ts";
import { randomStride } from "./collisions.ts";
import {
  ARRAY_COST,
  COST_PER_BYTE,
  FIELD_COST,
  INDEX_FIELD_COST,
  MAX_COST,
  RECORD_COST,
  SHAPE_COST,
  STRING_COST,
} from "./message_cost.ts";
import { MAX_DEPTH } from "./values.ts";

/** Bytes of a text up to which it is too short to nest too deep. */
const MAX_SHALLOW_SIZE = 2 * MAX_DEPTH;

/**
 * Bytes of a text up to which what it costs need not be counted: the costliest,
 * of objects that are empty or have one field that no other has, takes some sixty
 * times its size.
 */
export const MAX_UNCOUNTED_SIZE: number = 4 * 1024 * 1024;

/**
 * Bytes of a text below which its strings may collide: to parse one that holds
 * nothing else takes a tenth of a second.
 */
const MIN_SAMPLED_SIZE = 64 * 1024;

/** One string in as many is in the sample, at random. */
const SAMPLE_STRIDE = 32;

/** Strings in the sample below which too few can collide to take long. */
const MIN_SAMPLE = 400;

/** Strings in the sample at most: if they collide, to parse them takes 0.4 s. */
const MAX_SAMPLE = 16_384;

/**
 * Milliseconds that the strings of a text may take in addition, since they
 * collide. It is estimated from the sample.
 */
const MAX_WASTE = 1000;

/** Milliseconds that it takes to parse an ordinary string of a sample. */
const ORDINARY_TIME = 0.0002;

/** How often a sample that takes longer is parsed, at least. The shortest time counts. */
const MIN_ROUNDS = 4;

/**
 * Milliseconds for which it is parsed, at least: on a busy machine a few rounds in
 * a row may all be interrupted, and dozens are not.
 */
const MIN_MEASURING_TIME = 250;

/** How much longer than similar strings ordinary ones may take. */
const TOLERANCE = 1.5;

/** The clock, as it was before a program could replace it. */
const now = performance.now.bind(performance);

/** An item of an array, which may be a number that V8 keeps outside of its place. */
const JSON_ITEM_COST = 40;

/** Digits from which on a number may be too large for an index. */
const MAX_INDEX_LENGTH = 10;

/** Fields up to which V8 makes a description of an object for each. */
const JSON_SHAPE_FIELDS = 128;

/** A field of an object that has more. */
const JSON_SLOW_FIELD_COST = 96;

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
 * What is left of {@linkcode COST_PER_BYTE} if a text is ASCII: the text and its
 * strings then take a byte each for each of its bytes, and otherwise two.
 */
const ASCII_REST = COST_PER_BYTE - 2;

/** Spreads the bits of what it is multiplied with. */
const MULTIPLIER = 0x9e3779b1 | 0;

/** No peer knows it, so none can find keys whose hashes are equal. */
const SEED: number = Math.floor(Math.random() * 2 ** 32) | 0;

/**
 * A sample of a text's strings, to find out whether they collide: it is parsed by
 * itself, and takes longer than similar strings if they do. The time for strings
 * that collide grows as the square of their number.
 */
export class StringSample {
  readonly #bytes: Uint8Array;
  /** Where each string of the sample begins and ends. */
  readonly #places: [start: number, end: number][] = [];
  /** Of the strings that were taken, so that each is taken once. */
  readonly #hashes = new Set<number>();
  #left = randomStride(SAMPLE_STRIDE);

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Counts a string. */
  add(start: number, end: number): void {
    if (--this.#left > 0) return;
    this.#left = randomStride(SAMPLE_STRIDE);
    let hash = SEED;
    for (let index = start; index < end; index++) {
      hash = Math.imul(hash ^ this.#bytes[index]!, MULTIPLIER);
      hash ^= hash >>> 15;
    }
    const taken = this.#hashes.size;
    this.#hashes.add(hash);
    if (this.#hashes.size === taken) return;
    // Each string is equally likely to be in a full sample.
    const slot = taken < MAX_SAMPLE ? taken : Math.floor(Math.random() * taken);
    if (slot < MAX_SAMPLE) this.#places[slot] = [start, end];
  }

  /**
   * Whether the strings of the text collide.
   *
   * @param timeOf How many milliseconds it takes to parse a text.
   */
  collide(timeOf: (text: string) => number = timeOfParse): boolean {
    const count = this.#places.length;
    if (count < MIN_SAMPLE) return false;
    let text: string;
    let time: number;
    try {
      text = this.#text((string) => string);
      time = timeOf(text);
    } catch {
      // Parsing the whole text says what is wrong with it.
      return false;
    }
    if (!this.#isSlow(time, count * ORDINARY_TIME)) return false;
    // Similar strings tell what is slow on this machine, at this moment.
    const similar = this.#text(similarTo);
    let similarTime = timeOf(similar);
    let measured = time + similarTime;
    for (let round = 1;; round++) {
      if (!this.#isSlow(time, similarTime * TOLERANCE)) return false;
      if (round >= MIN_ROUNDS && measured >= MIN_MEASURING_TIME) return true;
      const times = [timeOf(similar), timeOf(text)] as const;
      similarTime = Math.min(similarTime, times[0]);
      time = Math.min(time, times[1]);
      measured += times[0] + times[1];
    }
  }

  /** Whether the whole text would take too long, if the sample takes so long. */
  #isSlow(time: number, ordinaryTime: number): boolean {
    const ratio = SAMPLE_STRIDE * this.#hashes.size / this.#places.length;
    return (time - ordinaryTime) * ratio ** 2 > MAX_WASTE;
  }

  /** A JSON text with each string of the sample, as a key if it is one. */
  #text(change: (string: string) => string): string {
    const parts = this.#places.map(([start, end]) => {
      const string = readText(this.#bytes.subarray(start, end));
      const quoted = `"${change(string)}"`;
      return this.#isKey(end) ? `{${quoted}:0}` : quoted;
    });
    return `[${parts.join()}]`;
  }

  /** Whether the string that ends at a place is the key of an object. */
  #isKey(end: number): boolean {
    let index = end + 1;
    while (this.#bytes[index]! <= SPACE) index++;
    return this.#bytes[index] === COLON;
  }
}

/** Milliseconds that it takes to parse a text. */
function timeOfParse(text: string): number {
  const start = now();
  JSON.parse(text);
  return now() - start;
}

/** A string with other digits and letters at random, which takes as long to parse. */
function similarTo(string: string): string {
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
 * Looks at a text.
 *
 * @param bytes The text in UTF-8.
 * @param isAscii Whether each byte is a character.
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
 * What the values of a text cost, beside what their bytes do.
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
      index = endOfString(bytes, start);
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

/** Where the string ends that begins at `start`: at its quotation mark. */
function endOfString(bytes: Uint8Array, start: number): number {
  let index = start;
  while (index < bytes.length) {
    const byte = bytes[index]!;
    if (byte === QUOTE) break;
    index += byte === BACKSLASH ? 2 : 1;
  }
  return index;
}

/** Counts what the values of a text cost. */
class Meter {
  readonly #bytes: Uint8Array;
  /** What the rest of the text may cost. */
  budget: number;
  /** Of each container around the place at hand: fields, or -1 for an array. */
  readonly #fields = new Int32Array(MAX_DEPTH + 1);
  /**
   * And a hash of the keys that it begins with: the first one, the first two and
   * so on.
   */
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
        index = isKey ? this.#scanKey(start, depth) : endOfString(bytes, start);
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

  /** Counts a key; returns where it ends. */
  #scanKey(start: number, depth: number): number {
    const bytes = this.#bytes;
    let hash = SEED;
    let index = start;
    let isNumber = true;
    while (index < bytes.length) {
      let byte = bytes[index++]!;
      if (byte === QUOTE) break;
      if (byte < DIGIT_0 || byte > DIGIT_9) isNumber = false;
      // What is escaped does not end the key, and is another key for each byte.
      if (byte === BACKSLASH) byte |= bytes[index++]! << 8;
      hash = Math.imul(hash ^ byte, MULTIPLIER);
      hash ^= hash >>> 15;
    }
    const end = index - 1;
    this.budget -= FIELD_COST;
    if (isNumber) {
      this.budget -= INDEX_FIELD_COST;
      // An index is no part of a shape; some other numbers are.
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

  /** An empty container has no first item or field. */
  #closeEmpty(isArray: boolean): void {
    this.budget += isArray ? JSON_ITEM_COST : FIELD_COST;
  }

  #closeObject(depth: number): void {
    const fields = this.#fields[depth]!;
    if (fields > JSON_SHAPE_FIELDS) {
      this.budget -= JSON_SLOW_FIELD_COST * fields;
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
