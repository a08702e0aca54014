// Copyright 2026 the Duplex authors. MIT license.

/**
 * Looks at a JSON text before it is parsed, since `JSON.parse` has no limits: how
 * deep the text nests, what its values cost, and whether
 * its strings were chosen to collide in V8's table of strings. A text that is not
 * JSON may pass; `JSON.parse` then throws.
 *
 * @module
 */

import { readText } from "./_byte_buffer.ts";
import { CollisionGuard, randomStride } from "./_collisions.ts";
import {
  ARRAY_COST,
  COST_PER_BYTE,
  FIELD_COST,
  INDEX_FIELD_COST,
  MAX_COST,
  RECORD_COST,
  SHAPE_COST,
  STRING_COST,
} from "./_message_cost.ts";
import { isIndex, MAX_DEPTH } from "./_values.ts";

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

/** One string in as many is looked at, at random. */
const SAMPLE_STRIDE = 32;

/** Bytes of a value that V8 may look up among all strings: it does up to 10 characters. */
const MAX_SHORT_VALUE = 64;

/** Strings in the sample below which none of them can be slow. */
const MIN_SAMPLE = 400;

/** Strings of the sample that are told apart without decoding them. */
const RECENT_SIZE = 64;

/** An item of an array, which may be a number that V8 keeps outside of its place. */
const JSON_ITEM_COST = 40;

/** Fields up to which V8 makes a description of an object for each. */
const JSON_SHAPE_FIELDS = 128;

/** A field of an object that has more. */
const JSON_SLOW_FIELD_COST = 96;

const SPACE = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
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

/** A sample of a text's strings. */
class StringSample {
  readonly #bytes: Uint8Array;
  readonly #strings = new Set<unknown>();
  readonly #guard = new CollisionGuard({ time: 0 }, 1);
  /** Where strings of the sample begin and end. */
  readonly #recent = new Uint32Array(2 * RECENT_SIZE);
  #left = randomStride(SAMPLE_STRIDE);

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Counts a string; returns whether strings collide. */
  collides(start: number, end: number): boolean {
    if (--this.#left > 0) return false;
    this.#left = randomStride(SAMPLE_STRIDE);
    const isValue = this.#afterSpace(end + 1) !== COLON;
    if (isValue && end - start > MAX_SHORT_VALUE) return false;
    return !this.#isRecent(start, end) && this.#add(start, end, isValue);
  }

  /** The first byte from a place on that is not white space. */
  #afterSpace(start: number): number | undefined {
    let index = start;
    while (this.#bytes[index]! <= SPACE) index++;
    return this.#bytes[index];
  }

  /** Whether the strings in the sample collide. */
  collidesNow(): boolean {
    return this.#strings.size >= MIN_SAMPLE &&
      this.#guard.measure(this.#strings);
  }

  #isRecent(start: number, end: number): boolean {
    const bytes = this.#bytes;
    const word = bytes[start]! * 31 + bytes[end - 1]! * 7 + end - start;
    const slot = 2 * (word % RECENT_SIZE);
    const [from, to] = [this.#recent[slot]!, this.#recent[slot + 1]!];
    this.#recent[slot] = start;
    this.#recent[slot + 1] = end;
    if (to - from !== end - start) return false;
    for (let index = 0; index < end - start; index++) {
      if (bytes[from + index] !== bytes[start + index]) return false;
    }
    return true;
  }

  #add(start: number, end: number, isValue: boolean): boolean {
    let text: string;
    try {
      const written = readText(this.#bytes.subarray(start, end));
      // The same string can be written in many ways.
      text = written.includes("\\") ? JSON.parse(`"${written}"`) : written;
    } catch {
      // Parsing the whole text says what is wrong with it.
      return false;
    }
    // V8 keeps fields apart whose names are indexes, and hashes them otherwise.
    if (!isValue && isIndex(text)) return false;
    this.#strings.add(text);
    return this.#guard.collides(this.#strings, text);
  }
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
  return sample?.collidesNow() ? COLLISION : undefined;
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
      if (sample?.collides(start, index)) return COLLISION;
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
  /** And the hash of its keys, in their order. */
  readonly #shapes = new Int32Array(MAX_DEPTH + 1);
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
        if (sample?.collides(start, index)) return COLLISION;
        if (!isKey) this.budget -= STRING_COST;
        isKey = false;
      } else if (byte === COMMA) {
        isKey = this.#fields[depth]! >= 0;
        if (!isKey) this.budget -= JSON_ITEM_COST;
      } else if ((byte & ~BRACE_BIT) === OPEN) {
        if (++depth > MAX_DEPTH) return TOO_DEEP;
        isKey = byte !== OPEN;
        this.#fields[depth] = isKey ? 0 : -1;
        this.#shapes[depth] = SEED;
        this.budget -= isKey
          ? RECORD_COST + FIELD_COST
          : ARRAY_COST + JSON_ITEM_COST;
      } else if ((byte & ~BRACE_BIT) === CLOSE) {
        if (this.#fields[depth]! > 0) this.#closeObject(depth);
        if (depth > 0) depth--;
        isKey = false;
      }
    }
    return this.budget < 0 ? TOO_COSTLY : undefined;
  }

  /** Counts a key; returns where it ends. */
  #scanKey(start: number, depth: number): number {
    const bytes = this.#bytes;
    const first = bytes[start]!;
    if (first >= 0x30 && first <= 0x39) this.budget -= INDEX_FIELD_COST;
    let hash = SEED;
    let index = start;
    while (index < bytes.length) {
      let byte = bytes[index++]!;
      if (byte === QUOTE) break;
      // What is escaped does not end the key, and is another key for each byte.
      if (byte === BACKSLASH) byte |= bytes[index++]! << 8;
      hash = Math.imul(hash ^ byte, MULTIPLIER);
      hash ^= hash >>> 15;
    }
    this.#fields[depth]!++;
    this.#shapes[depth] = Math.imul(this.#shapes[depth]! ^ hash, MULTIPLIER);
    this.budget -= FIELD_COST;
    return index - 1;
  }

  #closeObject(depth: number): void {
    const fields = this.#fields[depth]!;
    const shape = this.#shapes[depth]!;
    if (fields > JSON_SHAPE_FIELDS) {
      this.budget -= JSON_SLOW_FIELD_COST * fields;
    }
    if (this.#known.has(shape)) return;
    this.#known.add(shape);
    this.budget -= SHAPE_COST * Math.min(fields, JSON_SHAPE_FIELDS);
  }
}
