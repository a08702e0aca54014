// Copyright 2026 the Duplex authors. MIT license.

/**
 * The keys of objects. Short ones are remembered from one message to the next,
 * so that they need not be decoded again. So are shapes, the keys that objects
 * have together and their order: an object costs V8 little memory if there was
 * one of its shape before, and a multiple of it otherwise.
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

/** Bytes of the longest key that is remembered. */
export const MAX_CACHED_KEY = 64;

/** How many bits give a key its place. */
const KEY_CACHE_BITS = 10;

/** How many keys are remembered. */
const KEY_CACHE_SIZE = 2 ** KEY_CACHE_BITS;

/** An odd number that spreads the bits of what it is multiplied with. */
const MULTIPLIER = 0x9e3779b1 | 0;

/**
 * Keys read before. The hash of a key gives it two places, next to each other. A
 * key found there is compared with the bytes, so a wrong one is never used, and
 * a new one takes the place of an old one, so there are never more.
 */
export const keyCache: string[] = new Array(KEY_CACHE_SIZE).fill("");

/** The number of the key in the same place of {@linkcode keyCache}. */
export const keyNumbers: Int32Array = new Int32Array(KEY_CACHE_SIZE);

/** The place of the key that came after the one in the same place, last time. */
export const following: Uint16Array = new Uint16Array(KEY_CACHE_SIZE);

/** The first place of a key; the other one is `slot ^ 1`. */
export function slotOf(bytes: Uint8Array, start: number, size: number): number {
  const last = start + size - 1;
  const word = bytes[start]! | bytes[start + (size >> 1)]! << 8 |
    bytes[size > 1 ? last - 1 : last]! << 16 | bytes[last]! << 24;
  return Math.imul(word ^ size, MULTIPLIER) >>> 32 - KEY_CACHE_BITS;
}

/** Which of its two places the next new key takes: 0 or 1. */
let turn = 0;

/** Remembers a key. */
export function remember(slot: number, key: string, number: number): void {
  turn ^= 1;
  keyCache[slot ^ turn] = key;
  keyNumbers[slot ^ turn] = number;
}

/** Whether a string of as many characters is what the bytes are. */
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
 * The number of `__proto__`. Like those of all keys that are not just set, it is
 * below 1.
 */
export const PROTO_NUMBER = ~0x2545f491;

/** The number of every index, which is no part of a shape. */
export const INDEX_NUMBER = 0;

/** The number of a key that is no part of a shape and not an index. */
const ANY_NUMBER = 1;

/**
 * A number for a key: at random, so that no peer can find keys which have the
 * same shape together.
 */
function randomNumber(): number {
  return 2 + Math.floor(Math.random() * (2 ** 31 - 2));
}

/**
 * The shape of an object with one more key: a hash of the keys' numbers. No peer
 * knows them, and so none can make two shapes that have the same hash.
 *
 * @param shape The shape of the object without the key; 0 for an empty one.
 * @param number The key's number.
 */
export function shapeWith(shape: number, number: number): number {
  return (shape << 5 | shape >>> 27) ^ number;
}

/** Bits of a shape that give it its place. */
const SHAPE_BITS = 12;

/** Shapes met before, each in its place; 0 is the empty object's. */
const shapes: Int32Array = new Int32Array(2 ** SHAPE_BITS);

/** Whether a shape was met before; it is remembered. */
export function isKnownShape(shape: number): boolean {
  const slot = shape >>> 32 - SHAPE_BITS;
  if (shapes[slot] === shape) return true;
  shapes[slot] = shape;
  return false;
}

/**
 * New keys and shapes of a message that cost as much each time that they are not
 * remembered. Tables of the others would cost more than a small message does. So
 * many shapes cost less than a tenth of what a message may.
 */
const MAX_UNRECORDED_KEYS = 64;
const MAX_UNRECORDED_SHAPES = 4096;

/** The keys and the shapes of one message that were not remembered. */
class Recorded {
  readonly numbers = new Map<string, number>();
  readonly shapes = new Set<number>();
  /** The keys that objects begin with: the first one, the first two and so on. */
  readonly #beginnings = new Set<number>();

  /** The number of a key, the same one in the whole message. */
  numberOf(key: string): number {
    let number = this.numbers.get(key);
    if (number === undefined) {
      number = randomNumber();
      this.numbers.set(key, number);
    }
    return number;
  }

  /**
   * Counts the keys of an object that V8 makes a description for: those up to
   * which no object before has the same keys. Most objects that leave out some of
   * many fields differ in few.
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

/** Counts the keys and the shapes of one message that are not remembered. */
export class NewKeys {
  readonly #charge: (cost: number) => void;
  readonly #waste: Waste;
  #keyCount = 0;
  #shapeCount = 0;
  #recorded: Recorded | undefined;
  #guard: CollisionGuard | undefined;

  /**
   * @param charge Adds to what the message costs, which may throw.
   * @param waste Of the message.
   */
  constructor(charge: (cost: number) => void, waste: Waste) {
    this.#charge = charge;
    this.#waste = waste;
  }

  /**
   * Counts a key, which is part of a shape.
   *
   * @param key The key.
   * @param index How many keys come before it in its object.
   * @returns The key's number.
   */
  numberOf(key: string, index: number): number {
    this.#keyCount++;
    if (isIndex(key)) return INDEX_NUMBER;
    if (key === "__proto__") return PROTO_NUMBER;
    // Beyond that a key has a cost with its field, and no part in a shape.
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
   * Counts an object with a shape that is not remembered.
   *
   * @param shape The shape.
   * @param record The object.
   * @param fields How many fields it has.
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

  /** Counts a key that was set; returns whether many of them collide. */
  collides(record: object, key: string): boolean {
    if (this.#keyCount <= MAX_UNRECORDED_KEYS) return false;
    this.#guard ??= new CollisionGuard(this.#waste);
    return this.#guard.collidesIn(record, key);
  }
}
