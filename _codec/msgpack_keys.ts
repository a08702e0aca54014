// Copyright 2026 the Duplex authors. MIT license.

/**
 * Caches of the keys and the shapes of objects. A short key of an earlier message
 * need not be decoded again. A shape is the ordered list of an object's keys. An
 * object takes V8 several times the memory if no object before had its shape, so
 * new keys and shapes have a cost.
 *
 * @module
 */

import { CollisionGuard, type Waste } from "./collisions.ts";
import {
  MAX_OBJECT_FIELDS,
  MAX_SHAPE_FIELDS,
  NAME_COST,
  SHAPE_COST,
} from "./message_cost.ts";
import { isIndex } from "./properties.ts";

/** Maximum bytes of a cached key. */
export const MAX_CACHED_KEY = 64;

/** Bits of a hash that select a slot. */
const KEY_CACHE_BITS = 10;

/** Number of cached keys. */
const KEY_CACHE_SIZE = 2 ** KEY_CACHE_BITS;

/** The golden ratio times 2^32, made odd: multiplication spreads bits evenly. */
export const MULTIPLIER: number = 0x9e3779b1 | 0;

/**
 * The cached keys. The hash of a key selects two neighboring slots. A cached key is
 * compared with the bytes before it is used. A new key replaces an old one.
 */
export const keyCache: string[] = new Array(KEY_CACHE_SIZE).fill("");

/** The number of the key in the same slot of {@linkcode keyCache}. */
export const keyNumbers: Int32Array = new Int32Array(KEY_CACHE_SIZE);

/** The slot of the key that last followed the key in the same slot. */
export const following: Uint16Array = new Uint16Array(KEY_CACHE_SIZE);

/** The first slot of a key; the other one is `slot ^ 1`. */
export function keySlot(
  bytes: Uint8Array,
  start: number,
  size: number,
): number {
  const last = start + size - 1;
  const word = bytes[start]! | bytes[start + (size >> 1)]! << 8 |
    bytes[size > 1 ? last - 1 : last]! << 16 | bytes[last]! << 24;
  return Math.imul(word ^ size, MULTIPLIER) >>> 32 - KEY_CACHE_BITS;
}

/** Which of its two slots the next new key takes: 0 or 1. */
let turn = 0;

/** Caches a key. */
export function cacheKey(slot: number, key: string, number: number): void {
  turn ^= 1;
  keyCache[slot ^ turn] = key;
  keyNumbers[slot ^ turn] = number;
}

/** Whether bytes are the characters of a string of the same length. */
export function isSame(
  key: string,
  bytes: Uint8Array,
  start: number,
): boolean {
  for (let index = 0; index < key.length; index++) {
    if (key.charCodeAt(index) !== bytes[start + index]) return false;
  }
  return true;
}

/**
 * The number of `__proto__`. It is below 1, as are the numbers of all keys that
 * cannot simply be assigned.
 */
export const PROTO_NUMBER: number = ~0x2545f491;

/** The number of every index: an index is not part of a shape. */
export const INDEX_NUMBER = 0;

/** The number of other keys that are not part of a shape. */
const ANY_NUMBER = 1;

/** A random number for a key, so that a peer cannot choose keys whose shapes collide. */
function randomNumber(): number {
  return 2 + Math.floor(Math.random() * (2 ** 31 - 2));
}

/**
 * The shape of an object with one more key: a hash of the numbers of the keys. A
 * peer does not know these numbers, so it cannot choose shapes that collide.
 *
 * @param shape The shape of the object without the key; 0 for an empty one.
 * @param number The key's number.
 */
export function shapeWith(shape: number, number: number): number {
  return (shape << 5 | shape >>> 27) ^ number;
}

/** Bits of a shape that select a slot. */
const SHAPE_BITS = 12;

/** The cached shapes; 0 is that of the empty object. */
const shapes: Int32Array = new Int32Array(2 ** SHAPE_BITS);

/** Whether a shape is cached; caches it otherwise. */
export function isKnownShape(shape: number): boolean {
  const slot = shape >>> 32 - SHAPE_BITS;
  if (shapes[slot] === shape) return true;
  shapes[slot] = shape;
  return false;
}

/**
 * New keys and shapes of a message that are charged each time they occur. Only above
 * these numbers they are recorded and charged once: the tables would cost more than a
 * small message. This many shapes have less than a tenth of the maximum cost.
 */
const MAX_UNRECORDED_KEYS = 64;
const MAX_UNRECORDED_SHAPES = 4096;

/** The keys and shapes of one message that were not cached. */
class Recorded {
  readonly numbers = new Map<string, number>();
  readonly shapes = new Set<number>();
  /** The beginnings of objects: the first key, the first two keys and so on. */
  readonly #beginnings = new Set<number>();

  /** The number of a key, the same in the whole message. */
  numberOf(key: string): number {
    let number = this.numbers.get(key);
    if (number === undefined) {
      number = randomNumber();
      this.numbers.set(key, number);
    }
    return number;
  }

  /**
   * Counts the keys for which V8 creates a description of the object: those up to
   * which no object before has the same keys.
   */
  countNew(record: object): number {
    let beginning = 0;
    let fields = 0;
    let count = 0;
    for (const key of Object.keys(record)) {
      if (isIndex(key)) continue;
      if (++fields > MAX_SHAPE_FIELDS) break;
      beginning = shapeWith(beginning, this.numberOf(key));
      if (this.#beginnings.has(beginning)) continue;
      this.#beginnings.add(beginning);
      count++;
    }
    return count;
  }
}

/** Charges for the keys and shapes of one message that are not cached. */
export class NewKeys {
  readonly #charge: (cost: number) => void;
  readonly #waste: Waste;
  #keyCount = 0;
  #shapeCount = 0;
  #recorded: Recorded | undefined;
  #guard: CollisionGuard | undefined;

  /**
   * @param charge Adds to the cost of the message; may throw.
   * @param waste The wasted time of the message.
   */
  constructor(charge: (cost: number) => void, waste: Waste) {
    this.#charge = charge;
    this.#waste = waste;
  }

  /**
   * Charges for a key.
   *
   * @param key The key.
   * @param index The index of the key in its object.
   * @returns The key's number.
   */
  numberOf(key: string, index: number): number {
    this.#keyCount++;
    if (isIndex(key)) return INDEX_NUMBER;
    if (key === "__proto__") return PROTO_NUMBER;
    // The field of a key beyond that is charged instead.
    if (index >= MAX_OBJECT_FIELDS) return ANY_NUMBER;
    if (this.#keyCount <= MAX_UNRECORDED_KEYS) {
      this.#charge(NAME_COST);
      return randomNumber();
    }
    const recorded = this.#recorded ??= new Recorded();
    if (!recorded.numbers.has(key)) this.#charge(NAME_COST);
    return recorded.numberOf(key);
  }

  /**
   * Charges for an object with a shape that is not cached.
   *
   * @param shape The shape.
   * @param record The object.
   * @param fields The number of its fields.
   */
  countShape(shape: number, record: object, fields: number): void {
    if (
      ++this.#shapeCount <= MAX_UNRECORDED_SHAPES || fields > MAX_OBJECT_FIELDS
    ) {
      this.#charge(SHAPE_COST * Math.min(fields, MAX_SHAPE_FIELDS));
      return;
    }
    const recorded = this.#recorded ??= new Recorded();
    if (recorded.shapes.has(shape)) return;
    recorded.shapes.add(shape);
    this.#charge(SHAPE_COST * recorded.countNew(record));
  }

  /** Counts a key that was set; returns whether many keys collide. */
  collides(record: object, key: string): boolean {
    if (this.#keyCount <= MAX_UNRECORDED_KEYS) return false;
    this.#guard ??= new CollisionGuard(this.#waste);
    return this.#guard.collidesIn(record, key);
  }
}
