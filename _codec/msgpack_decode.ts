// Copyright 2026 the Duplex authors. MIT license.

/**
 * The MessagePack decoder, for bytes that are not trusted. Every length and count
 * is checked against the remaining bytes before memory is allocated for it, depth
 * and cost are bounded, and every fault is a `ProtocolError` with its position.
 *
 * @module
 */

import { CollisionGuard } from "./collisions.ts";
import { createError, restoreParts } from "./error_parts.ts";
import { ProtocolError } from "../_base/errors.ts";
import {
  ARRAY_COST,
  BIGINT_BYTE_COST,
  BIGINT_COST,
  BOXED_COST,
  BUFFER_COST,
  COST_PER_BYTE,
  DATE_COST,
  ENTRY_COST,
  ERROR_COST,
  ERROR_FIELD_COST,
  FIELD_COST,
  GROWN_ARRAY_COST,
  INDEX_FIELD_COST,
  ITEM_COST,
  MAP_COST,
  MAX_COST,
  MAX_FAST_FIELDS,
  MAX_FIELDS,
  MAX_ITEMS,
  MAX_LITERAL_ITEMS,
  MAX_OBJECT_FIELDS,
  MEMBER_COST,
  NUMBERED_COST,
  RECORD_COST,
  REFERENCE_COST,
  regexpCost,
  SLOW_FIELD_COST,
  TABLE_FIELD_COST,
  TEXT_BYTE_COST,
  UTF16_COST,
} from "./message_cost.ts";
import {
  INDEX_NUMBER,
  isKnownShape,
  PROTO_NUMBER,
  shapeWith,
} from "./msgpack_keys.ts";
import {
  bytesToBigint,
  bytesToDate,
  bytesToUtf16,
} from "./msgpack_payloads.ts";
import { EXT, MAX_DEPTH, MIN_OWNED_VIEW } from "./values.ts";
import { readWritten, WRITTEN_KINDS } from "./written.ts";
import { MsgpackReader } from "./msgpack_reader.ts";
import { defineIndex, defineOwn, isIndex, setOwn } from "./properties.ts";

/** Size below which maps and sets are fast even if all keys collide. */
const MIN_GUARDED = 128;

/** Decodes one message. */
class Decoder extends MsgpackReader {
  /** Reads the value and checks that no bytes follow it. */
  readAll(): unknown {
    const value = this.#value(0);
    if (this.position !== this.end) {
      this.fail("bytes follow the message");
    }
    return value;
  }

  #value(depth: number): unknown {
    const byte = this.uint8();
    if (byte < 0x80) return byte;
    if (byte < 0x90) return this.#map(byte & 0xf, depth);
    if (byte < 0xa0) return this.#array(byte & 0xf, depth);
    if (byte < 0xc0) return this.string(byte & 0x1f);
    if (byte >= 0xe0) return byte - 0x100;
    return byte >= 0xc7 && byte <= 0xc9 || byte >= 0xd4
      ? this.#compound(byte, depth)
      : this.#scalar(byte);
  }

  #scalar(byte: number): unknown {
    switch (byte) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return this.#binary(this.uint8());
      case 0xc5:
        return this.#binary(this.uint16());
      case 0xc6:
        return this.#binary(this.word());
      case 0xca:
        return this.float32();
      case 0xcb:
        return this.float64();
      case 0xcc:
        return this.uint8();
      case 0xcd:
        return this.uint16();
      case 0xce:
        return this.uint32();
      case 0xcf:
        return this.uint64();
      case 0xd0:
        return this.uint8() << 24 >> 24;
      case 0xd1:
        return this.uint16() << 16 >> 16;
      case 0xd2:
        return this.word() | 0;
      case 0xd3:
        return this.int64();
      default:
        this.fail("0xc1 is not a format", undefined, this.position - 1);
    }
  }

  /** Reads strings, containers and extensions that begin with a size. */
  #compound(byte: number, depth: number): unknown {
    switch (byte) {
      case 0xc7:
        return this.#extension(this.uint8(), depth);
      case 0xc8:
        return this.#extension(this.uint16(), depth);
      case 0xc9:
        return this.#extension(this.word(), depth);
      case 0xd9:
        return this.string(this.uint8());
      case 0xda:
        return this.string(this.uint16());
      case 0xdb:
        return this.string(this.word());
      case 0xdc:
        return this.#array(this.uint16(), depth);
      case 0xdd:
        return this.#array(this.word(), depth);
      case 0xde:
        return this.#map(this.uint16(), depth);
      case 0xdf:
        return this.#map(this.word(), depth);
      default:
        // 0xd4 to 0xd8: extensions of 1, 2, 4, 8 and 16 bytes.
        return this.#extension(1 << (byte - 0xd4), depth);
    }
  }

  #binary(size: number): Uint8Array {
    const start = this.take(size);
    this.charge(BUFFER_COST + size);
    return this.owned && size >= MIN_OWNED_VIEW
      ? this.bytes.subarray(start, start + size)
      : this.bytes.slice(start, start + size);
  }

  /** Reads a key of a map, and sets `keyNumber` if it is a string. */
  #key(depth: number, index: number): unknown {
    const short = this.shortKey(index);
    if (short !== undefined) return short;
    const key = this.#value(depth);
    if (typeof key === "string") this.numberNew(key, index);
    return key;
  }

  /** Throws if a container is too deep, or has more parts than bytes remain for. */
  #enter(count: number, size: number, depth: number): void {
    if (depth >= MAX_DEPTH) {
      this.fail(`more than ${MAX_DEPTH} containers are nested`);
    }
    const remaining = this.end - this.position;
    if (count * size > remaining) {
      this.fail(
        `a count of ${count} exceeds what the remaining ${remaining} can hold`,
      );
    }
  }

  /** Gives the next number to a container that starts, if the message is in graph form. */
  #number<T extends object>(container: T): T {
    if (this.graph === undefined) return container;
    this.charge(NUMBERED_COST);
    this.graph.push(container);
    return container;
  }

  #array(count: number, depth: number): unknown[] {
    this.#enter(count, 1, depth);
    if (this.graph === undefined) return this.#items(count, depth + 1);
    return this.#fill(this.#number([]), count, depth + 1);
  }

  /** Charges for an array. */
  #payItems(count: number): void {
    if (count > MAX_ITEMS) {
      this.fail(`an array has more than ${MAX_ITEMS} items`);
    }
    this.charge(
      (count > MAX_LITERAL_ITEMS ? GROWN_ARRAY_COST : ARRAY_COST) +
        ITEM_COST * count,
    );
  }

  /** Reads the items of an array that was created before them. */
  #fill(items: unknown[], count: number, depth: number): unknown[] {
    if (count <= MAX_LITERAL_ITEMS) this.charge(GROWN_ARRAY_COST - ARRAY_COST);
    this.#payItems(count);
    for (let index = 0; index < count; index++) items.push(this.#value(depth));
    return items;
  }

  /** Reads the items of an array, which are `depth` deep. */
  #items(count: number, depth: number): unknown[] {
    this.#payItems(count);
    switch (count) {
      // V8 allocates the exact size for a literal, and 17 items otherwise.
      case 1:
        return [this.#value(depth)];
      case 2:
        return [this.#value(depth), this.#value(depth)];
      case 3:
        return [this.#value(depth), this.#value(depth), this.#value(depth)];
      case 4:
        return [
          this.#value(depth),
          this.#value(depth),
          this.#value(depth),
          this.#value(depth),
        ];
    }
    // The array grows with the items, so a false count allocates nothing.
    const items: unknown[] = [];
    for (let index = 0; index < count; index++) items.push(this.#value(depth));
    return items;
  }

  #map(
    count: number,
    depth: number,
  ): Record<string, unknown> | Map<unknown, unknown> {
    const record: Record<string, unknown> = {};
    if (this.graph !== undefined) this.#number(record);
    return this.#entries(record, count, depth);
  }

  /** Reads the fields of an object, or a `Map` if a key is not a string. */
  #entries(
    record: Record<string, unknown>,
    count: number,
    depth: number,
  ): Record<string, unknown> | Map<unknown, unknown> {
    this.#enter(count, 2, depth);
    if (count > MAX_FAST_FIELDS) this.#enterLarge(count);
    else this.charge(RECORD_COST + FIELD_COST * count);
    let shape = 0;
    for (let index = 0; index < count; index++) {
      const key = this.#key(depth + 1, index);
      if (typeof key !== "string") {
        return this.#mixedMap(record, key, count - index, depth);
      }
      const number = this.keyNumber;
      const value = this.#value(depth + 1);
      if (number > 0) {
        record[key] = value;
        shape = shapeWith(shape, number);
      } else {
        this.#define(record, key, number, value);
        // An index is not part of a shape, and the number of a new key is inverted.
        if (number !== INDEX_NUMBER) shape = shapeWith(shape, ~number);
      }
    }
    if (!isKnownShape(shape)) this.countNew().countShape(shape, record, count);
    return record;
  }

  /** Charges for a map that V8 stores as a hash table. */
  #enterLarge(count: number): void {
    if (count > MAX_FIELDS) {
      this.fail(`a map has more than ${MAX_FIELDS} keys`);
    }
    const isTable = count > MAX_OBJECT_FIELDS;
    const fieldCost = isTable ? TABLE_FIELD_COST : SLOW_FIELD_COST;
    this.charge(RECORD_COST + fieldCost * count);
  }

  /** Sets a field whose key is new, an index, or `__proto__`. */
  #define(
    record: Record<string, unknown>,
    key: string,
    number: number,
    value: unknown,
  ): void {
    if (number === INDEX_NUMBER) {
      this.charge(INDEX_FIELD_COST);
      defineIndex(record, key, value);
    } else if (number === PROTO_NUMBER) defineOwn(record, key, value);
    else record[key] = value;
    if (this.newKeys?.collides(record, key)) this.#failOnCollisions();
  }

  /** Reads the rest of a map from its first key that is not a string. */
  #mixedMap(
    record: Record<string, unknown>,
    firstKey: unknown,
    count: number,
    depth: number,
  ): Map<unknown, unknown> {
    // The object may have been referred to already.
    if (this.graph !== undefined) {
      this.fail("a map in graph form has a key that is not a string");
    }
    const fields = Object.entries(record);
    this.charge(MAP_COST + ENTRY_COST * (2 * fields.length + count));
    const map = new Map<unknown, unknown>(fields);
    const guard = count < MIN_GUARDED
      ? undefined
      : new CollisionGuard(this.waste);
    for (let index = 0; index < count; index++) {
      const key = index === 0 ? firstKey : this.#value(depth + 1);
      map.set(key, this.#value(depth + 1));
      if (guard?.collides(map, key)) this.#failOnCollisions();
    }
    return map;
  }

  #failOnCollisions(): never {
    this.fail("too many keys collide");
  }

  #extension(size: number, depth: number): unknown {
    const at = this.position;
    const type = this.uint8();
    const start = this.take(size);
    const end = this.position;
    switch (type) {
      case EXT.map:
      case EXT.set:
      case EXT.regexp:
      case EXT.error:
      case EXT.array:
      case EXT.graph:
      case EXT.boxed:
        return this.#structure(type, start, end, depth);
      case EXT.reference:
        return this.#reference(size, start);
      case EXT.written:
        return this.#written(start, size - 1);
      case EXT.undefined:
      case EXT.invalidDate:
        if (size !== 0) {
          this.fail(`extension type ${type} has no payload`, undefined, start);
        }
        if (type === EXT.undefined) return undefined;
        this.charge(DATE_COST);
        return new Date(NaN);
      case EXT.arrayBuffer:
        this.charge(BUFFER_COST + size);
        return this.buffer(start, end);
      case EXT.view:
        this.charge(BUFFER_COST + size);
        return this.view(start, end);
      case EXT.timestamp:
        this.charge(DATE_COST);
        return this.#payload(bytesToDate, "a timestamp", start, end);
      case EXT.bigint:
        this.charge(BIGINT_COST + BIGINT_BYTE_COST * size);
        return this.#payload(bytesToBigint, "a bigint", start, end);
      case EXT.utf16:
        this.charge(UTF16_COST + TEXT_BYTE_COST * size);
        return this.#payload(bytesToUtf16, "a string", start, end);
      default:
        this.fail(
          `extension type ${type << 24 >> 24} is not known`,
          undefined,
          at,
        );
    }
  }

  #payload<T>(
    read: (bytes: Uint8Array, start: number, end: number) => T,
    what: string,
    start: number,
    end: number,
  ): T {
    try {
      return read(this.bytes, start, end);
    } catch (cause) {
      this.fail(`${what} is malformed`, { cause }, start);
    }
  }

  /** Reads an extension whose payload is MessagePack again. */
  #structure(
    type: number,
    start: number,
    end: number,
    depth: number,
  ): unknown {
    const outerEnd = this.end;
    this.position = start;
    this.end = end;
    let value: unknown;
    if (type === EXT.map) value = this.#mapExtension(depth);
    else if (type === EXT.set) value = this.#setExtension(depth);
    else if (type === EXT.regexp) value = this.#regexp(depth);
    else if (type === EXT.array) value = this.#arrayExtension(depth);
    else if (type === EXT.graph) value = this.#graphForm(depth);
    else if (type === EXT.boxed) value = this.#boxed(depth);
    else value = this.#error(depth);
    if (this.position !== end) {
      this.fail(`extension type ${type} is longer than what it holds`);
    }
    this.end = outerEnd;
    return value;
  }

  /** Reads a message in graph form. */
  #graphForm(depth: number): unknown {
    if (depth !== 0 || this.graph !== undefined) {
      this.fail("graph form does not begin the message");
    }
    this.graph = [];
    return this.#value(0);
  }

  /** Reads a reference to a container that has started. */
  #reference(size: number, start: number): object {
    this.charge(REFERENCE_COST);
    if (this.graph === undefined) {
      this.fail("a reference is in a message without graph form");
    }
    if (size !== 1 && size !== 2 && size !== 4) {
      this.fail("a reference must have 1, 2 or 4 bytes", undefined, start);
    }
    let number = 0;
    for (let at = start; at < start + size; at++) {
      number = number * 256 + this.bytes[at]!;
    }
    const container = this.graph[number];
    if (container === undefined) {
      this.fail(`container ${number} has not started`, undefined, start);
    }
    return container;
  }

  /** Reads the header of an array within an extension. */
  #count(depth: number): number {
    const byte = this.uint8();
    let count = byte & 0xf;
    if (byte === 0xdc) count = this.uint16();
    else if (byte === 0xdd) count = this.word();
    else if (byte >> 4 !== 9) {
      this.fail("an array is missing", undefined, this.position - 1);
    }
    this.#enter(count, 1, depth);
    return count;
  }

  #mapExtension(depth: number): Map<unknown, unknown> {
    const count = this.#count(depth);
    if (count % 2) this.fail("a map has a key without a value");
    this.charge(MAP_COST + ENTRY_COST * (count / 2));
    const map = this.#number(new Map<unknown, unknown>());
    const guard = count < 2 * MIN_GUARDED
      ? undefined
      : new CollisionGuard(this.waste);
    for (let index = 0; index < count; index += 2) {
      const key = this.#value(depth + 1);
      map.set(key, this.#value(depth + 1));
      if (guard?.collides(map, key)) this.#failOnCollisions();
    }
    return map;
  }

  #setExtension(depth: number): Set<unknown> {
    const count = this.#count(depth);
    this.charge(MAP_COST + MEMBER_COST * count);
    const set = this.#number(new Set<unknown>());
    const guard = count < MIN_GUARDED
      ? undefined
      : new CollisionGuard(this.waste);
    for (let index = 0; index < count; index++) {
      const value = this.#value(depth + 1);
      set.add(value);
      if (guard?.collides(set, value)) this.#failOnCollisions();
    }
    return set;
  }

  /** Reads an array with fields or missing items. */
  #arrayExtension(depth: number): unknown[] {
    const count = this.#count(depth);
    const items = this.graph === undefined
      ? this.#items(count, depth + 1)
      : this.#fill(this.#number([]), count, depth + 1);
    const fields = this.#fields(depth, "an array");
    const keys = Object.keys(fields);
    this.charge(SLOW_FIELD_COST * keys.length);
    for (const key of keys) {
      // An index and the length belong to the array itself.
      if (isIndex(key) || key === "length") {
        this.fail("an array has an index or its length as a field");
      }
      setOwn(items, key, fields[key]);
    }
    if (this.position < this.end) this.#removeMissing(items, depth);
    return items;
  }

  /** Reads the ranges of an array's missing items, and removes these. */
  #removeMissing(items: unknown[], depth: number): void {
    const count = this.#count(depth);
    let next = 0;
    for (let read = 0; read < count; read += 2) {
      const start = this.#value(depth + 1);
      const length = read + 1 < count ? this.#value(depth + 1) : undefined;
      if (
        typeof start !== "number" || typeof length !== "number" ||
        !Number.isInteger(start) || !Number.isInteger(length) ||
        start < next || length < 1 || start + length > items.length
      ) this.fail("the missing items of an array are not ranges of it");
      next = start + length;
      this.charge(ITEM_COST * length);
      for (let index = start; index < next; index++) delete items[index];
    }
  }

  /** Reads a primitive value into an object. */
  #boxed(depth: number): object {
    const at = this.position;
    const value = this.#value(depth + 1);
    this.charge(BOXED_COST);
    if (typeof value === "object" || value === undefined) {
      this.fail("an object has no primitive value", undefined, at);
    }
    return Object(value);
  }

  /** Reads an object that is sent as a text of `length` bytes. */
  #written(start: number, length: number): object {
    const written = length < 0
      ? undefined
      : WRITTEN_KINDS.get(this.bytes[start]!);
    if (written === undefined) {
      this.fail("a text has no class that is known here", undefined, start);
    }
    const { name, maxLength } = written;
    if (length > maxLength) {
      this.fail(`a ${name} is longer than ${maxLength}`, undefined, start);
    }
    this.position = start + 1;
    const text = this.string(length);
    this.charge(written.cost(text));
    try {
      return readWritten(written, text);
    } catch (cause) {
      this.fail(`a ${name} is malformed`, { cause }, start);
    }
  }

  /** Reads a string that is part of an extension. */
  #text(depth: number): string {
    const at = this.position;
    const value = this.#value(depth + 1);
    if (typeof value === "string") return value;
    this.fail("a string is missing", undefined, at);
  }

  /** Reads a string or `null`. */
  #optionalText(depth: number): string | undefined {
    if (this.bytes[this.position] !== 0xc0) return this.#text(depth);
    this.take(1);
    return undefined;
  }

  #regexp(depth: number): RegExp {
    const start = this.position;
    const source = this.#text(depth);
    const flags = this.#text(depth);
    this.charge(regexpCost(source, flags));
    try {
      return new RegExp(source, flags);
    } catch (cause) {
      this.fail("a regular expression is malformed", { cause }, start);
    }
  }

  #error(depth: number): Error {
    const start = this.position;
    if (this.#count(depth) !== 7) {
      this.fail("an error must have seven parts", undefined, start);
    }
    this.charge(ERROR_COST);
    const [className, name] = [this.#text(depth), this.#text(depth)];
    const message = this.#optionalText(depth);
    const stack = this.#optionalText(depth);
    const error = this.#number(createError({ className, name, message }));
    const causes = this.#list(depth);
    if (causes.length > 1) this.fail("an error has more than one cause");
    const errors = this.#list(depth);
    const fields = this.#fields(depth, "an error");
    this.charge(ERROR_FIELD_COST * Object.keys(fields).length);
    return restoreParts(error, {
      className,
      name,
      message,
      stack,
      causes,
      errors,
      fields,
    });
  }

  #list(depth: number): unknown[] {
    return this.#items(this.#count(depth), depth + 1);
  }

  /** Reads the map of an error's or an array's fields. */
  #fields(depth: number, what: string): Record<string, unknown> {
    const at = this.position;
    const byte = this.uint8();
    let count = byte & 0xf;
    if (byte === 0xde) count = this.uint16();
    else if (byte === 0xdf) count = this.word();
    else if (byte >> 4 !== 8) this.fail(`${what} has no fields`, undefined, at);
    const fields = this.#entries({}, count, depth);
    if (fields instanceof Map) {
      this.fail(`${what} has no fields`, undefined, at);
    }
    return fields;
  }
}

/** An unused decoder: creating one takes as long as decoding an empty message. */
let spare: Decoder | undefined;

/** Reads one value with a budget; the rest of the budget stays in the decoder. */
function decode(
  bytes: Uint8Array,
  start: number,
  end: number,
  owned: boolean,
  budget: number,
): unknown {
  // Slices of a subclass may share memory, as those of Node's `Buffer` do.
  const plain = Object.getPrototypeOf(bytes) === Uint8Array.prototype
    ? bytes
    : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const decoder = spare ?? new Decoder();
  // A setter of `Object.prototype` may decode a message as well.
  spare = undefined;
  try {
    decoder.begin(plain, start, end, owned, budget);
    return decoder.readAll();
  } catch (cause) {
    if (cause instanceof ProtocolError) throw cause;
    // The engine cannot hold a value, such as a set of 2^24 members.
    throw new ProtocolError(
      "Cannot decode a message: a value in it is too large",
      { cause },
    );
  } finally {
    decoder.finish();
    spare = decoder;
  }
}

/**
 * Reads one MessagePack value.
 *
 * @param bytes The bytes with the value.
 * @param start The start of the value.
 * @param end The end of the value.
 * @param owned Whether large byte arrays in the result may be views of `bytes`.
 * @returns The value.
 * @throws {ProtocolError} If the bytes are not exactly one value.
 */
export function decodeMsgpack(
  bytes: Uint8Array,
  start: number,
  end: number,
  owned: boolean,
): unknown {
  const budget = MAX_COST + COST_PER_BYTE * (end - start);
  return decode(bytes, start, end, owned, budget);
}

/**
 * Reads one MessagePack value of any cost.
 *
 * @param bytes The value.
 * @returns The value and its cost.
 */
export function measureMsgpack(
  bytes: Uint8Array,
): { value: unknown; cost: number } {
  const budget = Number.MAX_SAFE_INTEGER;
  const value = decode(bytes, 0, bytes.length, false, budget);
  return { value, cost: budget - spare!.budget };
}

/**
 * The cost of reading bytes until they end or are refused, up to the maximum.
 *
 * @param bytes The bytes.
 * @returns The cost.
 */
export function costOfMsgpack(bytes: Uint8Array): number {
  const budget = MAX_COST + COST_PER_BYTE * bytes.length;
  try {
    decode(bytes, 0, bytes.length, false, budget);
  } catch {
    // The cost so far is that of refusing the bytes.
  }
  return budget - Math.max(0, spare!.budget);
}
