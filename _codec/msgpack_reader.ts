// Copyright 2026 the Duplex authors. MIT license.

/**
 * Reads the parts of MessagePack that contain no others: numbers, strings, bytes
 * and keys. Every length is checked against the remaining bytes.
 *
 * @module
 */

import { readText } from "../_base/byte_buffer.ts";
import type { Waste } from "./collisions.ts";
import { ProtocolError } from "../_base/errors.ts";
import {
  BIGINT_COST,
  MAX_OBJECT_FIELDS,
  NUMBER_COST,
  STRING_COST,
  TEXT_BYTE_COST,
} from "./message_cost.ts";
import {
  cacheKey,
  following,
  isSame,
  keyCache,
  keyNumbers,
  keySlot,
  MAX_CACHED_KEY,
  NewKeys,
} from "./msgpack_keys.ts";
import { readFloat32, readFloat64 } from "./msgpack_payloads.ts";
import { MAX_SAFE_HIGH, TWO_32, VIEW_KINDS } from "./values.ts";

/**
 * Maximum length of ASCII strings that are read by a loop: a call of the text
 * decoder takes as long as a loop over this many bytes.
 */
const MAX_LOOP_LENGTH = 40;

/**
 * An array of character codes for each length of a short string. Concatenation
 * would take twice the time and leave a string in pieces.
 */
const codesByLength: number[][] = Array.from(
  { length: MAX_LOOP_LENGTH + 1 },
  (_, length) => new Array<number>(length).fill(0),
);

/** The largest integer that V8 stores without an object. */
const MAX_INT32 = 2 ** 31 - 1;

const fromCharCode = String.fromCharCode;

const NO_BYTES: Uint8Array = new Uint8Array();

/** The bytes of a message, and the position in them. */
export class MsgpackReader {
  bytes: Uint8Array = NO_BYTES;
  start = 0;
  position = 0;
  /** The end of the message, or of the extension that is being read. */
  end = 0;
  /** Whether the result may hold views of the bytes. */
  owned = false;
  /** Maximum cost of the rest of the message. */
  budget = 0;
  /** The number of the last key; below 1 if the key needs a closer look. */
  keyNumber = 0;
  /** The slot of the last cached key. */
  slot = 0;
  /** The containers of a message in graph form, by their numbers. */
  graph: object[] | undefined = undefined;
  /** Created for the first key or shape that is not cached. */
  newKeys: NewKeys | undefined = undefined;
  /** The time that colliding keys of the message have wasted. */
  waste: Waste = { time: 0 };

  /** Prepares for a message. */
  begin(
    bytes: Uint8Array,
    start: number,
    end: number,
    owned: boolean,
    budget: number,
  ): void {
    this.bytes = bytes;
    this.start = this.position = start;
    this.end = end;
    this.owned = owned;
    this.budget = budget;
    this.waste.time = 0;
  }

  /** Releases the message. */
  finish(): void {
    this.bytes = NO_BYTES;
    this.newKeys = undefined;
    this.graph = undefined;
  }

  fail(
    what: string,
    options?: ErrorOptions,
    at: number = this.position,
  ): never {
    throw new ProtocolError(
      `Cannot decode a message: ${what} at byte ${at - this.start}`,
      options,
    );
  }

  /** Adds to the cost of the message. Throws if it exceeds the budget. */
  charge(cost: number): void {
    this.budget -= cost;
    if (this.budget < 0) {
      this.fail("the message takes too much memory for its size");
    }
  }

  /** Skips `size` bytes and returns their start. */
  take(size: number): number {
    const position = this.position;
    if (size > this.end - position) {
      const remaining = this.end - position;
      this.fail(`a length of ${size} exceeds the remaining ${remaining}`);
    }
    this.position = position + size;
    return position;
  }

  uint8(): number {
    return this.bytes[this.take(1)]!;
  }

  uint16(): number {
    const position = this.take(2);
    return this.bytes[position]! << 8 | this.bytes[position + 1]!;
  }

  /** Reads 32 bits without a charge. */
  word(): number {
    const position = this.take(4);
    const bytes = this.bytes;
    return (bytes[position]! << 24 | bytes[position + 1]! << 16 |
      bytes[position + 2]! << 8 | bytes[position + 3]!) >>> 0;
  }

  uint32(): number {
    const value = this.word();
    if (value > MAX_INT32) this.charge(NUMBER_COST);
    return value;
  }

  uint64(): number | bigint {
    const high = this.word();
    const low = this.word();
    if (high < MAX_SAFE_HIGH) {
      this.charge(NUMBER_COST);
      return high * TWO_32 + low;
    }
    return this.#bigint(high, low);
  }

  int64(): number | bigint {
    const high = this.word() | 0;
    const low = this.word();
    const value = high * TWO_32 + low;
    if (
      high >= -MAX_SAFE_HIGH && high < MAX_SAFE_HIGH &&
      Number.isSafeInteger(value)
    ) {
      this.charge(NUMBER_COST);
      return value;
    }
    return this.#bigint(high, low);
  }

  #bigint(high: number, low: number): bigint {
    this.charge(BIGINT_COST);
    return BigInt(high) << 32n | BigInt(low);
  }

  float32(): number {
    this.charge(NUMBER_COST);
    return readFloat32(this.bytes, this.take(4));
  }

  float64(): number {
    this.charge(NUMBER_COST);
    return readFloat64(this.bytes, this.take(8));
  }

  string(size: number): string {
    const start = this.take(size);
    if (size <= MAX_LOOP_LENGTH) {
      this.charge(STRING_COST + size);
      const text = this.ascii(start, size);
      if (text !== undefined) return text;
    }
    this.charge(STRING_COST + TEXT_BYTE_COST * size);
    try {
      return readText(this.bytes.subarray(start, start + size));
    } catch (cause) {
      this.fail("a string is not valid UTF-8", { cause }, start);
    }
  }

  /** Reads a short string, or returns `undefined` if it is not ASCII. */
  ascii(start: number, size: number): string | undefined {
    const bytes = this.bytes;
    const codes = codesByLength[size]!;
    for (let index = 0; index < size; index++) {
      const byte = bytes[start + index]!;
      if (byte > 0x7f) return undefined;
      codes[index] = byte;
    }
    return fromCharCode.apply(null, codes);
  }

  /**
   * Reads a key that is a short string, and sets `keyNumber`. Most keys are short
   * and cached.
   *
   * @param index The index of the key in its map.
   * @returns The key, or `undefined` if the next value is not a short string.
   */
  shortKey(index: number): string | undefined {
    const { bytes, position } = this;
    const byte = position < this.end ? bytes[position]! : 0;
    let start = position + 1;
    let size = byte & 0x1f;
    if (byte === 0xd9) size = bytes[start++]!;
    else if (byte >> 5 !== 5) size = 0;
    if (size === 0 || size > MAX_CACHED_KEY || size > this.end - start) {
      return undefined;
    }
    if (index >= MAX_OBJECT_FIELDS) {
      this.position = start;
      const key = this.string(size);
      this.numberNew(key, index);
      return key;
    }
    this.position = start + size;
    let slot = following[this.slot]!;
    let known = keyCache[slot]!;
    if (known.length !== size || !isSame(known, bytes, start)) {
      slot = keySlot(bytes, start, size);
      known = keyCache[slot]!;
      if (known.length !== size || !isSame(known, bytes, start)) {
        slot ^= 1;
        known = keyCache[slot]!;
        if (known.length !== size || !isSame(known, bytes, start)) {
          return this.newKey(slot ^ 1, start, size, index);
        }
      }
      following[this.slot] = slot;
    }
    this.slot = slot;
    this.keyNumber = keyNumbers[slot]!;
    return known;
  }

  /** Reads a short key and caches it. */
  newKey(slot: number, start: number, size: number, index: number): string {
    this.position = start;
    const key = this.string(size);
    const number = this.numberNew(key, index);
    // A key with as many characters as bytes is ASCII, and can be compared as above.
    if (key.length === size) cacheKey(slot, key, number);
    return key;
  }

  /** The number of a key that is not cached; `keyNumber` is set to it, inverted. */
  numberNew(key: string, index: number): number {
    const number = this.countNew().numberOf(key, index);
    this.keyNumber = number > 0 ? ~number : number;
    return number;
  }

  countNew(): NewKeys {
    return this.newKeys ??= new NewKeys(
      (cost) => this.charge(cost),
      this.waste,
    );
  }

  buffer(start: number, end: number): ArrayBuffer {
    return new Uint8Array(this.bytes.subarray(start, end)).buffer;
  }

  view(start: number, end: number): ArrayBufferView {
    const kind = start < end ? VIEW_KINDS.get(this.bytes[start]!) : undefined;
    if (!kind) this.fail("a view has no known kind", undefined, start);
    const [constructor, elementSize] = kind;
    if ((end - start - 1) % elementSize) {
      this.fail("a typed array ends within an element", undefined, start);
    }
    return new constructor(this.buffer(start + 1, end));
  }
}
