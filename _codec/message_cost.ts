// Copyright 2026 the Duplex authors. MIT license.

/**
 * What a message may cost its receiver. Each value counts the bytes of memory
 * that it takes on Deno, with what is set aside around it and what decoding it
 * leaves behind for the garbage collector, or the nanoseconds that decoding it
 * takes, whichever is more. `tests/codec/memory_test.ts` measures every kind of
 * value against its cost. PROTOCOL.md has the same as a table.
 *
 * @module
 */

/**
 * The most that a message may cost, beyond {@linkcode COST_PER_BYTE} for each of
 * its bytes. Half a gigabyte is more than a message should take, and less than
 * what ends a process: Deno's heap holds two to four.
 */
export const MAX_COST = 2 ** 29;

/**
 * What each byte of a message may cost on top: a character that takes one byte
 * in UTF-8 takes two in a string that also has a Chinese one, and as many while
 * it is decoded.
 */
export const COST_PER_BYTE = 4;

/**
 * An array, and an item of it: its place, and those of the smaller arrays that
 * it grew out of. V8 sets aside room for items that are still to come, unless the
 * array is made with all that it has.
 */
export const ARRAY_COST = 64;
export const ITEM_COST = 36;
export const MAX_LITERAL_ITEMS = 4;
export const GROWN_ARRAY_COST = 192;

/** A map or a set, and an entry of it. */
export const MAP_COST = 256;
export const ENTRY_COST = 80;
export const MEMBER_COST = 48;

/**
 * A number that V8 keeps outside of its place in an array or an object: a float,
 * or one beyond 32 bits. An array that holds nothing else is copied when another
 * value comes.
 */
export const NUMBER_COST = 40;

/** A string, beside its characters. */
export const STRING_COST = 32;

/**
 * What a byte of a string costs: those that are not short ASCII may take two
 * bytes for each, and as many while they are decoded.
 */
export const TEXT_BYTE_COST = 4;

/** A string in UTF-16, and a bigint, beside what their bytes cost. */
export const UTF16_COST = 128;
export const BIGINT_COST = 128;
export const BIGINT_BYTE_COST = 9;

/** A `Date`. */
export const DATE_COST = 256;

/** A byte array, an `ArrayBuffer` or a view, beside its bytes. */
export const BUFFER_COST = 768;

/** An error, beside its parts, and a field of one. */
export const ERROR_COST = 4096;
export const ERROR_FIELD_COST = 1024;

/** An object, and a field of it. */
export const RECORD_COST = 96;
export const FIELD_COST = 24;

/** Fields above which V8 keeps an object as a hash table, and one of those. */
export const MAX_FAST_FIELDS = 16;
export const SLOW_FIELD_COST = 96;

/**
 * Fields above which an object is rather a table, whose keys are not those of
 * other objects, and a field of such a table with its name.
 */
export const MAX_OBJECT_FIELDS = 128;
export const TABLE_FIELD_COST = 160;

/** A field whose name is an index: V8 keeps those in a table of their own. */
export const INDEX_FIELD_COST = 256;

/** A field's name that the message did not have before, beside the string. */
export const NAME_COST = 64;

/**
 * A field of an object up to which no object before has the same fields in the
 * same order: V8 makes a description of the object for each of these, up to where
 * it becomes a hash table. One takes some 300 bytes and 750 ns.
 */
export const SHAPE_COST = 512;
export const MAX_SHAPE_FIELDS = 20;

/**
 * The most items of an array, and the most fields of an object. V8 ends the
 * process when an array grows beyond some 2^27 items.
 */
export const MAX_ITEMS = 2 ** 26;
export const MAX_FIELDS = 2 ** 24;

/** A regular expression, beside what {@linkcode regexpCost} counts. */
const REGEXP_COST = 512;

/** A character of an expression. */
const PATTERN_COST = 256;

/**
 * What the square of an expression's length is multiplied with. V8 parses back
 * references within groups in quadratic time, and with the flags "u" and "v"
 * classes such as `[\W\W\W]`, which take 14 ns for each pair of characters.
 */
const SQUARE_COST = 1;
const UNICODE_SQUARE_COST = 16;

/** `\p{…}`: up to 1 ms with the flag "u", and 6 ms for `\p{RGI_Emoji}` with "v". */
const PROPERTY_COST = 2 ** 20;
const SET_PROPERTY_COST = 2 ** 23;

/**
 * What it costs to read a regular expression, which V8 parses when it is made.
 *
 * @param source The expression.
 * @param flags Its flags.
 * @returns The cost.
 */
export function regexpCost(source: string, flags: string): number {
  const { length } = source;
  const hasSets = flags.includes("v");
  const isUnicode = hasSets || flags.includes("u");
  const square = isUnicode ? UNICODE_SQUARE_COST : SQUARE_COST;
  const base = REGEXP_COST + PATTERN_COST * length + square * length * length;
  if (!isUnicode || base > MAX_COST) return base;
  const property = hasSets ? SET_PROPERTY_COST : PROPERTY_COST;
  return base + property * countProperties(source);
}

/** How many `\p` and `\P` an expression has. */
function countProperties(source: string): number {
  let count = 0;
  let at = source.indexOf("\\");
  while (at >= 0) {
    const next = source[at + 1];
    if (next === "p" || next === "P") count++;
    at = source.indexOf("\\", at + 2);
  }
  return count;
}
