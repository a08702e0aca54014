// Copyright 2026 the Duplex authors. MIT license.

/**
 * The cost of a message to its receiver. The cost of a value is the bytes of memory
 * that it takes in Deno, including garbage of decoding it, or the nanoseconds of
 * decoding it, whichever is more. `tests/codec/memory_test.ts` measures every kind of
 * value. PROTOCOL.md has the same table.
 *
 * @module
 */

/**
 * Maximum cost of a message, in addition to {@linkcode COST_PER_BYTE} for each of its
 * bytes. Half a gigabyte is more than a message should take, and less than the heap
 * of Deno, which holds two to four.
 */
export const MAX_COST: number = 2 ** 29;

/**
 * The additional cost that each byte of a message allows: a character of one byte in
 * UTF-8 takes two in a string that also has a Chinese character, and two more while
 * it is decoded.
 */
export const COST_PER_BYTE = 4;

/**
 * An array, and an item of it: its slot, and those of the smaller arrays that were
 * replaced as the array grew. V8 allocates additional slots unless the array is a
 * literal.
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
 * A number that V8 stores as an object: a float, or an integer beyond 32 bits. An
 * array of such numbers is copied when another value is added.
 */
export const NUMBER_COST = 40;

/** An object with a primitive value, without the value. */
export const BOXED_COST = 64;

/**
 * A `URL`, and a byte of it: hosts of many short labels take 34 ns for each. A label in
 * Punycode that is longer than a DNS name allows takes quadratic time, up to a length
 * of some 2500.
 */
export const URL_COST = 2048;
export const URL_BYTE_COST = 64;
const MAX_LABEL_COST = 2 ** 22;

/** An object of `Temporal`, and one with a time zone, whose rules are read. */
export const TEMPORAL_COST = 2048;
export const ZONED_COST = 6144;

/** A string without its characters. */
export const STRING_COST = 32;

/**
 * A byte of a string that is not short ASCII: two bytes, and two more while it is
 * decoded.
 */
export const TEXT_BYTE_COST = 4;

/** A string in UTF-16, a bigint, and a byte of a bigint. */
export const UTF16_COST = 128;
export const BIGINT_COST = 128;
export const BIGINT_BYTE_COST = 9;

/** A `Date`. */
export const DATE_COST = 256;

/** A byte array, an `ArrayBuffer` or a view without its bytes. */
export const BUFFER_COST = 768;

/** An error without its parts, and a field of it. */
export const ERROR_COST = 4096;
export const ERROR_FIELD_COST = 1024;

/** An object, and a field of it. */
export const RECORD_COST = 96;
export const FIELD_COST = 24;

/** Fields above which V8 stores an object as a hash table, and a field of such an object. */
export const MAX_FAST_FIELDS = 16;
export const SLOW_FIELD_COST = 96;

/**
 * Fields above which an object counts as a table, whose keys are not expected in
 * other objects, and a field of a table with its name.
 */
export const MAX_OBJECT_FIELDS = 128;
export const TABLE_FIELD_COST = 160;

/** A field whose name is an index: V8 stores these in a separate table. */
export const INDEX_FIELD_COST = 256;

/** A field's name that is new in the message, in addition to its string. */
export const NAME_COST = 64;

/**
 * A field up to which no earlier object has the same fields in the same order. V8
 * creates a description of the object for each such field, until the object becomes
 * a hash table. A description takes some 300 bytes and 750 ns.
 */
export const SHAPE_COST = 512;
export const MAX_SHAPE_FIELDS = 20;

/**
 * Maximum items of an array, and maximum fields of an object. V8 ends the process if
 * an array grows beyond some 2^27 items.
 */
export const MAX_ITEMS: number = 2 ** 26;
export const MAX_FIELDS: number = 2 ** 24;

/** A container in graph form, in addition to what it costs otherwise: its number. */
export const NUMBERED_COST = 36;

/** A reference to a container. */
export const REFERENCE_COST = 40;

/** A regular expression without its characters. */
const REGEXP_COST = 512;

/** A character of an expression. */
const PATTERN_COST = 256;

/**
 * The factor of the square of an expression's length. V8 parses back references in
 * groups in quadratic time, and with the flags "u" and "v" also classes such as
 * `[\W\W\W]`, which take 14 ns for each pair of characters.
 */
const SQUARE_COST = 1;
const UNICODE_SQUARE_COST = 16;

/** `\p{…}`: up to 1 ms with the flag "u", and 6 ms for `\p{RGI_Emoji}` with "v". */
const PROPERTY_COST = 2 ** 20;
const SET_PROPERTY_COST = 2 ** 23;

/**
 * The cost of a regular expression, which V8 parses when it is created.
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

/**
 * The cost of the labels of a URL that are in Punycode.
 *
 * @param text The URL.
 * @returns The cost, in addition to that of its bytes.
 */
export function urlLabelCost(text: string): number {
  return text.includes("xn--") ? Math.min(text.length ** 2, MAX_LABEL_COST) : 0;
}

/** Counts `\p` and `\P` in an expression. */
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
