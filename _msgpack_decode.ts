// Copyright 2026 the Duplex authors. MIT license.

/**
 * MessagePack to values, from bytes that nobody vouches for: every length and
 * count is held against the bytes that remain before anything is made from it,
 * depth is bounded, and every fault is a `ProtocolError` that says where.
 *
 * @module
 */

import { CollisionGuard } from "./_collisions.ts";
import {
  defineIndex,
  defineOwn,
  ERROR_COST,
  EXT_ARRAY_BUFFER,
  EXT_BIGINT,
  EXT_ERROR,
  EXT_INVALID_DATE,
  EXT_MAP,
  EXT_REGEXP,
  EXT_SET,
  EXT_TIMESTAMP,
  EXT_UNDEFINED,
  EXT_UTF16,
  EXT_VIEW,
  EXTENSION_COST,
  isIndexLike,
  makeError,
  MAX_COST,
  MAX_DEPTH,
  MAX_SAFE_HIGH,
  MIN_OWNED_VIEW,
  TWO_32,
  VIEW_KINDS,
} from "./_values.ts";
import { ProtocolError } from "./_errors.ts";
import {
  bytesToBigint,
  bytesToDate,
  bytesToUtf16,
  readFloat32,
  readFloat64,
} from "./_msgpack_payloads.ts";
import { readText } from "./_byte_buffer.ts";

/**
 * Strings up to this length are read by a loop as long as they are ASCII:
 * calling the text decoder costs as much as a loop over this many bytes.
 */
const MAX_LOOP_LENGTH = 40;

/**
 * An array for each length of a short string, to hold its character codes.
 * Adding up characters would take twice the time and leave a string in pieces.
 */
const codesByLength: number[][] = Array.from(
  { length: MAX_LOOP_LENGTH + 1 },
  (_, length) => new Array<number>(length).fill(0),
);

/** Keys up to this length are looked up among the ones read before. */
const MAX_CACHED_KEY = 24;

/** How many keys are remembered; a power of two. */
const KEY_CACHE_SIZE = 512;

/**
 * Keys read before, each in the one place that its hash gives it. A key found
 * here is compared with the bytes, so a wrong one is never used, and a new one
 * takes the place of an old one, so there are never more.
 */
const keyCache: string[] = new Array(KEY_CACHE_SIZE).fill("");

const fromCharCode = String.fromCharCode;

/** One message being read. */
class Decoder {
  readonly #bytes: Uint8Array;
  /** Whether the result may hold views of the bytes. */
  readonly #owned: boolean;
  readonly #start: number;
  #position: number;
  #cost = 0;
  /** The end of what may be read: of the message, or of an extension in it. */
  #end: number;
  /** Made for the first map or set; most messages have none. */
  #guard: CollisionGuard | undefined;

  constructor(bytes: Uint8Array, start: number, end: number, owned: boolean) {
    this.#bytes = bytes;
    this.#owned = owned;
    this.#start = this.#position = start;
    this.#end = end;
  }

  /** Reads the one value that the bytes are. */
  readAll(): unknown {
    const value = this.#value(0);
    if (this.#position !== this.#end) {
      this.#fail("bytes follow the message");
    }
    return value;
  }

  #fail(what: string, options?: ErrorOptions, at = this.#position): never {
    throw new ProtocolError(
      `Cannot decode a message: ${what} at byte ${at - this.#start}`,
      options,
    );
  }

  /** Refuses a message that takes far more memory than its bytes. */
  #charge(cost: number): void {
    this.#cost += cost;
    if (this.#cost > MAX_COST) this.#fail("too many objects in one message");
  }

  /** Moves past `size` bytes; returns where they begin. */
  #take(size: number): number {
    const position = this.#position;
    if (size > this.#end - position) {
      const remaining = this.#end - position;
      this.#fail(`a length of ${size} exceeds the remaining ${remaining}`);
    }
    this.#position = position + size;
    return position;
  }

  #uint8(): number {
    return this.#bytes[this.#take(1)]!;
  }

  #uint16(): number {
    const position = this.#take(2);
    return this.#bytes[position]! << 8 | this.#bytes[position + 1]!;
  }

  #uint32(): number {
    const position = this.#take(4);
    const bytes = this.#bytes;
    return (bytes[position]! << 24 | bytes[position + 1]! << 16 |
      bytes[position + 2]! << 8 | bytes[position + 3]!) >>> 0;
  }

  #value(depth: number): unknown {
    const byte = this.#uint8();
    if (byte < 0x80) return byte;
    if (byte < 0x90) return this.#map(byte & 0xf, depth);
    if (byte < 0xa0) return this.#array(byte & 0xf, depth);
    if (byte < 0xc0) return this.#string(byte & 0x1f);
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
        return this.#binary(this.#uint8());
      case 0xc5:
        return this.#binary(this.#uint16());
      case 0xc6:
        return this.#binary(this.#uint32());
      case 0xca:
        return readFloat32(this.#bytes, this.#take(4));
      case 0xcb:
        return readFloat64(this.#bytes, this.#take(8));
      case 0xcc:
        return this.#uint8();
      case 0xcd:
        return this.#uint16();
      case 0xce:
        return this.#uint32();
      case 0xcf:
        return this.#uint64();
      case 0xd0:
        return this.#uint8() << 24 >> 24;
      case 0xd1:
        return this.#uint16() << 16 >> 16;
      case 0xd2:
        return this.#uint32() | 0;
      case 0xd3:
        return this.#int64();
      default:
        this.#fail("0xc1 is no format", undefined, this.#position - 1);
    }
  }

  /** Reads strings, containers and extensions that have a size of their own. */
  #compound(byte: number, depth: number): unknown {
    switch (byte) {
      case 0xc7:
        return this.#extension(this.#uint8(), depth);
      case 0xc8:
        return this.#extension(this.#uint16(), depth);
      case 0xc9:
        return this.#extension(this.#uint32(), depth);
      case 0xd9:
        return this.#string(this.#uint8());
      case 0xda:
        return this.#string(this.#uint16());
      case 0xdb:
        return this.#string(this.#uint32());
      case 0xdc:
        return this.#array(this.#uint16(), depth);
      case 0xdd:
        return this.#array(this.#uint32(), depth);
      case 0xde:
        return this.#map(this.#uint16(), depth);
      case 0xdf:
        return this.#map(this.#uint32(), depth);
      default:
        // 0xd4 to 0xd8: extensions of 1, 2, 4, 8 and 16 bytes.
        return this.#extension(1 << (byte - 0xd4), depth);
    }
  }

  #uint64(): number | bigint {
    const high = this.#uint32();
    const low = this.#uint32();
    return high < MAX_SAFE_HIGH
      ? high * TWO_32 + low
      : BigInt(high) << 32n | BigInt(low);
  }

  #int64(): number | bigint {
    const high = this.#uint32() | 0;
    const low = this.#uint32();
    const value = high * TWO_32 + low;
    return high >= -MAX_SAFE_HIGH && high < MAX_SAFE_HIGH &&
        Number.isSafeInteger(value)
      ? value
      : BigInt(high) << 32n | BigInt(low);
  }

  #binary(size: number): Uint8Array {
    const start = this.#take(size);
    return this.#owned && size >= MIN_OWNED_VIEW
      ? this.#bytes.subarray(start, start + size)
      : this.#bytes.slice(start, start + size);
  }

  #string(size: number): string {
    const start = this.#take(size);
    if (size <= MAX_LOOP_LENGTH) {
      const text = this.#ascii(start, size);
      if (text !== undefined) return text;
    }
    try {
      return readText(this.#bytes.subarray(start, start + size));
    } catch (cause) {
      this.#fail("a string is not valid UTF-8", { cause }, start);
    }
  }

  /** Reads a short string, or returns `undefined` if it is not ASCII. */
  #ascii(start: number, size: number): string | undefined {
    const bytes = this.#bytes;
    const codes = codesByLength[size]!;
    for (let index = 0; index < size; index++) {
      const byte = bytes[start + index]!;
      if (byte > 0x7f) return undefined;
      codes[index] = byte;
    }
    return fromCharCode.apply(null, codes);
  }

  /** Reads a map's key; most are short and were read before. */
  #key(depth: number): unknown {
    const bytes = this.#bytes;
    const byte = this.#position < this.#end ? bytes[this.#position]! : 0;
    const size = byte & 0x1f;
    if (byte >> 5 !== 5 || size > MAX_CACHED_KEY || size === 0) {
      return this.#value(depth);
    }
    this.#position++;
    const start = this.#take(size);
    const slot = (bytes[start]! * 7 + bytes[start + size - 1]! * 31 +
      bytes[start + (size >> 1)]! * 3 + size) & (KEY_CACHE_SIZE - 1);
    const known = keyCache[slot]!;
    if (known.length === size) {
      let index = 0;
      while (
        index < size && known.charCodeAt(index) === bytes[start + index]
      ) index++;
      if (index === size) return known;
    }
    this.#position = start;
    const key = this.#string(size);
    // As many characters as bytes: it is ASCII, and can be compared as above.
    if (key.length === size) keyCache[slot] = key;
    return key;
  }

  /** Refuses a container that is too deep, or says it holds what cannot be. */
  #enter(count: number, size: number, depth: number): void {
    if (depth >= MAX_DEPTH) {
      this.#fail(`more than ${MAX_DEPTH} containers are nested`);
    }
    this.#charge(1);
    const remaining = this.#end - this.#position;
    if (count * size > remaining) {
      this.#fail(
        `a count of ${count} exceeds what the remaining ${remaining} can hold`,
      );
    }
  }

  #array(count: number, depth: number): unknown[] {
    this.#enter(count, 1, depth);
    return this.#items(count, depth);
  }

  #items(count: number, depth: number): unknown[] {
    // Grows as items come: memory follows what was received, not the count.
    const items: unknown[] = [];
    for (let index = 0; index < count; index++) {
      items.push(this.#value(depth + 1));
    }
    return items;
  }

  #map(
    count: number,
    depth: number,
  ): Record<string, unknown> | Map<unknown, unknown> {
    this.#enter(count, 2, depth);
    const record: Record<string, unknown> = {};
    for (let index = 0; index < count; index++) {
      const key = this.#key(depth + 1);
      if (typeof key !== "string") {
        return this.#mixedMap(record, key, count - index, depth);
      }
      const value = this.#value(depth + 1);
      if (key === "__proto__") defineOwn(record, key, value);
      else if (isIndexLike(key)) defineIndex(record, key, value);
      else record[key] = value;
    }
    return record;
  }

  /** Goes on with a map after its first key that is not a string. */
  #mixedMap(
    record: Record<string, unknown>,
    firstKey: unknown,
    count: number,
    depth: number,
  ): Map<unknown, unknown> {
    const map = new Map<unknown, unknown>(Object.entries(record));
    const buckets = (this.#guard ??= new CollisionGuard()).start(count);
    for (let index = 0; index < count; index++) {
      const key = index === 0 ? firstKey : this.#key(depth + 1);
      if (buckets) this.#admit(buckets, key);
      map.set(key, this.#value(depth + 1));
    }
    return map;
  }

  #extension(size: number, depth: number): unknown {
    const at = this.#position;
    const type = this.#uint8();
    this.#charge(type === EXT_ERROR ? ERROR_COST : EXTENSION_COST);
    const start = this.#take(size);
    const end = this.#position;
    switch (type) {
      case EXT_MAP:
      case EXT_SET:
      case EXT_REGEXP:
      case EXT_ERROR:
        return this.#structure(type, start, end, depth);
      case EXT_UNDEFINED:
      case EXT_INVALID_DATE:
        if (size !== 0) {
          this.#fail(`extension type ${type} has no payload`, undefined, start);
        }
        return type === EXT_UNDEFINED ? undefined : new Date(NaN);
      case EXT_ARRAY_BUFFER:
        return this.#buffer(start, end);
      case EXT_VIEW:
        return this.#view(start, end);
      case EXT_TIMESTAMP:
        return this.#payload(bytesToDate, "a timestamp", start, end);
      case EXT_BIGINT:
        return this.#payload(bytesToBigint, "a bigint", start, end);
      case EXT_UTF16:
        return this.#payload(bytesToUtf16, "a string", start, end);
      default:
        this.#fail(
          `extension type ${type << 24 >> 24} is not known`,
          undefined,
          at,
        );
    }
  }

  #payload<T>(
    read: (bytes: Uint8Array) => T,
    what: string,
    start: number,
    end: number,
  ): T {
    try {
      return read(this.#bytes.subarray(start, end));
    } catch (cause) {
      this.#fail(`${what} is malformed`, { cause }, start);
    }
  }

  #buffer(start: number, end: number): ArrayBuffer {
    return new Uint8Array(this.#bytes.subarray(start, end)).buffer;
  }

  #view(start: number, end: number): ArrayBufferView {
    const kind = start < end ? VIEW_KINDS.get(this.#bytes[start]!) : undefined;
    if (!kind) this.#fail("a view has no known kind", undefined, start);
    const [constructor, elementSize] = kind;
    if ((end - start - 1) % elementSize) {
      this.#fail("a typed array ends within an element", undefined, start);
    }
    return new constructor(this.#buffer(start + 1, end));
  }

  /** Reads an extension whose payload is MessagePack again. */
  #structure(
    type: number,
    start: number,
    end: number,
    depth: number,
  ): unknown {
    const outerEnd = this.#end;
    this.#position = start;
    this.#end = end;
    let value: unknown;
    if (type === EXT_MAP) value = this.#mapExtension(depth);
    else if (type === EXT_SET) value = this.#setExtension(depth);
    else if (type === EXT_REGEXP) value = this.#regexp(depth);
    else value = this.#error(depth);
    if (this.#position !== end) {
      this.#fail(`extension type ${type} is longer than what it holds`);
    }
    this.#end = outerEnd;
    return value;
  }

  /** Reads the header of an array within an extension. */
  #count(depth: number): number {
    const byte = this.#uint8();
    let count = byte & 0xf;
    if (byte === 0xdc) count = this.#uint16();
    else if (byte === 0xdd) count = this.#uint32();
    else if (byte >> 4 !== 9) {
      this.#fail("an array is missing", undefined, this.#position - 1);
    }
    this.#enter(count, 1, depth);
    return count;
  }

  #mapExtension(depth: number): Map<unknown, unknown> {
    const count = this.#count(depth);
    if (count % 2) this.#fail("a map has a key without a value");
    const map = new Map<unknown, unknown>();
    const buckets = (this.#guard ??= new CollisionGuard()).start(count >> 1);
    for (let index = 0; index < count; index += 2) {
      const key = this.#value(depth + 1);
      if (buckets) this.#admit(buckets, key);
      map.set(key, this.#value(depth + 1));
    }
    return map;
  }

  #setExtension(depth: number): Set<unknown> {
    const count = this.#count(depth);
    const set = new Set<unknown>();
    const buckets = (this.#guard ??= new CollisionGuard()).start(count);
    for (let index = 0; index < count; index++) {
      const value = this.#value(depth + 1);
      if (buckets) this.#admit(buckets, value);
      set.add(value);
    }
    return set;
  }

  /** Refuses keys that were chosen to make a map slow. */
  #admit(buckets: Uint32Array, key: unknown): void {
    if (this.#guard!.admits(buckets, key)) return;
    this.#fail("too many keys of a map or a set collide or repeat");
  }

  /** Reads a string that is part of an extension. */
  #text(depth: number): string {
    const at = this.#position;
    const value = this.#value(depth + 1);
    if (typeof value === "string") return value;
    this.#fail("a string is missing", undefined, at);
  }

  /** Reads a string, or `null` for one that there is not. */
  #optionalText(depth: number): string | undefined {
    if (this.#bytes[this.#position] !== 0xc0) return this.#text(depth);
    this.#take(1);
    return undefined;
  }

  #regexp(depth: number): RegExp {
    const start = this.#position;
    const source = this.#text(depth);
    const flags = this.#text(depth);
    try {
      return new RegExp(source, flags);
    } catch (cause) {
      this.#fail("a regular expression is malformed", { cause }, start);
    }
  }

  #error(depth: number): Error {
    const start = this.#position;
    if (this.#count(depth) !== 7) {
      this.#fail("an error has not seven parts", undefined, start);
    }
    const [className, name] = [this.#text(depth), this.#text(depth)];
    const message = this.#optionalText(depth);
    const stack = this.#optionalText(depth);
    const causes = this.#list(depth);
    if (causes.length > 1) this.#fail("an error has more than one cause");
    const errors = this.#list(depth);
    const at = this.#position;
    const fields = this.#value(depth);
    if (
      typeof fields !== "object" || fields === null ||
      Object.getPrototypeOf(fields) !== Object.prototype
    ) this.#fail("an error has no fields", undefined, at);
    return makeError({
      className,
      name,
      message,
      stack,
      causes,
      errors,
      fields: fields as Record<string, unknown>,
    });
  }

  #list(depth: number): unknown[] {
    return this.#items(this.#count(depth), depth);
  }
}

/**
 * Reads one MessagePack value.
 *
 * @param bytes Where the value lies.
 * @param start Where it begins.
 * @param end Where it ends.
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
  // A subclass may give slices that share memory, as Node's Buffer does.
  const plain = Object.getPrototypeOf(bytes) === Uint8Array.prototype
    ? bytes
    : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    return new Decoder(plain, start, end, owned).readAll();
  } catch (cause) {
    if (cause instanceof ProtocolError) throw cause;
    // A value beyond what the engine can hold, such as a set of 2^24 members.
    throw new ProtocolError(
      "Cannot decode a message: a value in it is too large",
      { cause },
    );
  }
}
