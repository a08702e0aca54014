// Copyright 2026 the Duplex authors. MIT license.

/**
 * A second decoder of MessagePack, written from PROTOCOL.md in the simplest
 * way. The codec must accept and reject the same bytes. It counts no cost.
 *
 * @module
 */

import { createError, restoreParts } from "../../_codec/error_parts.ts";
import { VIEW_KINDS } from "../../_codec/values.ts";

/** The bytes are invalid. */
export class Malformed extends Error {
  override name = "Malformed";
}

/** The limits of PROTOCOL.md. */
const MAX_NESTED = 500;

const TEXT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function refuse(what: string): never {
  throw new Malformed(what);
}

/** A class of `Temporal`, for which TypeScript may have no types. */
interface TemporalClass {
  new (...parts: readonly unknown[]): object;
  from(text: unknown): object;
}

const { Temporal } = globalThis as unknown as {
  Temporal: Record<string, TemporalClass>;
};

const TIMES = [
  ...["Instant", "ZonedDateTime", "PlainDate", "PlainTime", "PlainDateTime"],
  ...["PlainYearMonth", "PlainMonthDay", "Duration"],
];

/** The object of extension 0x0f with a text. */
function makeWritten(kind: number, text: string): object {
  if (kind < 1 || kind > TIMES.length + 1) refuse("a class");
  if (kind > 1 && text.length > 256) refuse("a text that is too long");
  const time = Temporal[TIMES[kind - 2]!]!;
  try {
    if (kind === 1) return new URL(text);
    if (kind === 9) return new time(...text.split(",").map(Number));
    if (kind !== 7 && kind !== 8) return time.from(text);
    const [date, calendar] = text.split("[u-ca=");
    const at = date!.lastIndexOf("-", date!.length - 4);
    const [year, month, day] = [
      date!.slice(0, at),
      date!.slice(at + 1, -3),
      date!.slice(-2),
    ].map(Number);
    const id = calendar!.slice(0, -1);
    return kind === 7
      ? new time(year, month, id, day)
      : new time(month, day, id, year);
  } catch {
    return refuse("a text");
  }
}

/** The text that stands for an object in extension 0x0f. */
function textOfWritten(kind: number, value: object): string {
  if (value instanceof URL) return value.href;
  const time = value as Record<string, unknown> & {
    toString(options?: object): string;
    toInstant(): object;
  };
  if (kind === 3) {
    const [, ...zone] = time.toString().split("[");
    return [time.toInstant(), ...zone].join("[");
  }
  if (kind === 9) {
    return ["year", "month", "week", "day", "hour", "minute", "second"]
      .concat("millisecond", "microsecond", "nanosecond")
      .map((unit) => BigInt(time[`${unit}s`] as number)).join();
  }
  const isPart = kind === 7 || kind === 8;
  return time.toString(isPart ? { calendarName: "always" } : {});
}

/** Reads one value. */
export class ReferenceReader {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  #at: number;
  #end: number;
  /** Fields of maps and items of arrays. */
  items = 0;
  /** The depth of nested containers. */
  levels = 0;
  hasExtension = false;
  /** The containers that have started, in graph form. */
  #graph: object[] | undefined;
  hasOtherKeys = false;

  /**
   * @param bytes The bytes that contain the value.
   * @param start Where it begins; it must end at the end of the bytes.
   */
  constructor(bytes: Uint8Array, start = 0) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#at = start;
    this.#end = bytes.length;
  }

  /**
   * Decodes the bytes.
   *
   * @throws {Malformed} If they are invalid.
   */
  read(): unknown {
    const value = this.#value(0);
    if (this.#at !== this.#end) refuse("more bytes");
    return value;
  }

  #skip(size: number): number {
    const at = this.#at;
    if (size > this.#end - at) refuse("too short");
    this.#at += size;
    return at;
  }

  #number(size: number): number {
    let number = 0;
    const at = this.#skip(size);
    for (let index = 0; index < size; index++) {
      number = number * 256 + this.#bytes[at + index]!;
    }
    return number;
  }

  #value(depth: number): unknown {
    const byte = this.#number(1);
    if (byte < 0x80) return byte;
    if (byte < 0x90) return this.#map(byte - 0x80, depth);
    if (byte < 0xa0) return this.#array(byte - 0x90, depth);
    if (byte < 0xc0) return this.#text(byte - 0xa0);
    if (byte >= 0xe0) return byte - 0x100;
    switch (byte) {
      case 0xc0:
        return null;
      case 0xc1:
        return refuse("0xc1");
      case 0xc2:
      case 0xc3:
        return byte === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.#copy(this.#number(1 << (byte - 0xc4)));
      case 0xc7:
      case 0xc8:
      case 0xc9:
        return this.#extension(this.#number(1 << (byte - 0xc7)), depth);
      case 0xca:
        return this.#view.getFloat32(this.#skip(4));
      case 0xcb:
        return this.#view.getFloat64(this.#skip(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.#number(1 << (byte - 0xcc));
      case 0xcf:
        return whole(this.#view.getBigUint64(this.#skip(8)));
      case 0xd0:
        return this.#view.getInt8(this.#skip(1));
      case 0xd1:
        return this.#view.getInt16(this.#skip(2));
      case 0xd2:
        return this.#view.getInt32(this.#skip(4));
      case 0xd3:
        return whole(this.#view.getBigInt64(this.#skip(8)));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.#text(this.#number(1 << (byte - 0xd9)));
      case 0xdc:
      case 0xdd:
        return this.#array(this.#number(2 << (byte - 0xdc)), depth);
      case 0xde:
      case 0xdf:
        return this.#map(this.#number(2 << (byte - 0xde)), depth);
      default:
        return this.#extension(1 << (byte - 0xd4), depth);
    }
  }

  #copy(size: number): Uint8Array<ArrayBuffer> {
    const at = this.#skip(size);
    return new Uint8Array(this.#bytes.subarray(at, at + size));
  }

  #text(size: number): string {
    try {
      return TEXT.decode(this.#copy(size));
    } catch {
      return refuse("UTF-8");
    }
  }

  #enter(count: number, depth: number): void {
    if (depth >= MAX_NESTED) refuse("too deep");
    // Each item has at least one byte.
    if (count > this.#end - this.#at) refuse("too short");
    this.levels = Math.max(this.levels, depth + 1);
    this.items += count;
  }

  /** Gives a container its number. */
  #start<T extends object>(container: T): T {
    this.#graph?.push(container);
    return container;
  }

  #array(count: number, depth: number): unknown[] {
    return this.#items(this.#start([]), count, depth);
  }

  #items(items: unknown[], count: number, depth: number): unknown[] {
    this.#enter(count, depth);
    for (let index = 0; index < count; index++) {
      items.push(this.#value(depth + 1));
    }
    return items;
  }

  #map(count: number, depth: number): unknown {
    return this.#entries(this.#start({}), count, depth);
  }

  #entries(
    fields: Record<string, unknown> | undefined,
    count: number,
    depth: number,
  ): unknown {
    this.#enter(count, depth);
    let map: Map<unknown, unknown> | undefined;
    for (let index = 0; index < count; index++) {
      const key = this.#value(depth + 1);
      if (fields !== undefined && typeof key !== "string") {
        if (this.#graph !== undefined) refuse("a key in graph form");
        map = new Map(Object.entries(fields));
        fields = undefined;
        this.hasOtherKeys = true;
      }
      const value = this.#value(depth + 1);
      if (map !== undefined) map.set(key, value);
      else {
        Object.defineProperty(fields, key as string, {
          value,
          configurable: true,
          enumerable: true,
          writable: true,
        });
      }
    }
    return map ?? fields;
  }

  #extension(size: number, depth: number): unknown {
    this.hasExtension = true;
    const type = this.#number(1);
    const start = this.#skip(size);
    const after = this.#at;
    const outerEnd = this.#end;
    this.#at = start;
    this.#end = after;
    const value = this.#payload(type, size, depth);
    if (this.#at !== after) refuse("a payload that is too long");
    this.#end = outerEnd;
    return value;
  }

  #payload(type: number, size: number, depth: number): unknown {
    switch (type) {
      case 0x01:
        return undefined;
      case 0x02:
        return this.#bigint(size);
      case 0x03:
        return this.#regexp(depth);
      case 0x04: {
        const map = this.#start(new Map());
        const list = this.#list(depth);
        if (list.length % 2 !== 0) refuse("a key without a value");
        for (let at = 0; at < list.length; at += 2) {
          map.set(list[at], list[at + 1]);
        }
        return map;
      }
      case 0x05: {
        const set = this.#start(new Set());
        for (const item of this.#list(depth)) set.add(item);
        return set;
      }
      case 0x06:
        return this.#copy(size).buffer;
      case 0x07: {
        const [constructor, elementSize] = VIEW_KINDS.get(this.#number(1)) ??
          refuse("a kind of view");
        if ((size - 1) % elementSize !== 0) refuse("half an element");
        return new constructor(this.#copy(size - 1).buffer);
      }
      case 0x08:
        return this.#error(depth);
      case 0x09:
        return new Date(NaN);
      case 0x0a:
        return this.#utf16(size);
      case 0x0b:
        return this.#arrayWithFields(depth);
      case 0x0c:
        if (depth !== 0 || this.#graph !== undefined) refuse("a second graph");
        this.#graph = [];
        return this.#value(0);
      case 0x0d: {
        if (![1, 2, 4].includes(size)) refuse("a reference of other bytes");
        const number = this.#number(size);
        return this.#graph?.[number] ?? refuse("a reference to nothing");
      }
      case 0x0e: {
        const value = this.#value(depth + 1);
        if (typeof value === "object" || value === undefined) refuse("no box");
        return Object(value);
      }
      case 0x0f:
        return this.#written(this.#number(1), this.#text(size - 1));
      case 0xff:
        return this.#date(size);
      default:
        return refuse("an extension type");
    }
  }

  #written(kind: number, text: string): object {
    const made = makeWritten(kind, text);
    if (textOfWritten(kind, made) !== text) refuse("not in normal form");
    return made;
  }

  #bigint(size: number): bigint {
    const sign = this.#number(1);
    if (sign > 1) refuse("a sign");
    let hex = "0x0";
    for (const byte of this.#copy(size - 1)) {
      hex += byte.toString(16).padStart(2, "0");
    }
    return sign === 1 ? -BigInt(hex) : BigInt(hex);
  }

  #regexp(depth: number): RegExp {
    const source = this.#value(depth);
    const flags = this.#value(depth);
    if (typeof source !== "string" || typeof flags !== "string") {
      refuse("a string is missing");
    }
    try {
      return new RegExp(source, flags);
    } catch {
      return refuse("an expression");
    }
  }

  /** Reads an array within an extension. */
  #list(depth: number, items: unknown[] = []): unknown[] {
    const byte = this.#number(1);
    const count = byte === 0xdc
      ? this.#number(2)
      : byte === 0xdd
      ? this.#number(4)
      : byte >= 0x90 && byte < 0xa0
      ? byte - 0x90
      : refuse("no array");
    return this.#items(items, count, depth);
  }

  #fields(depth: number): Record<string, unknown> {
    const byte = this.#number(1);
    const count = byte === 0xde
      ? this.#number(2)
      : byte === 0xdf
      ? this.#number(4)
      : byte >> 4 === 8
      ? byte - 0x80
      : refuse("no fields");
    const fields = this.#entries({}, count, depth);
    if (fields instanceof Map) refuse("fields with other keys");
    return fields as Record<string, unknown>;
  }

  #error(depth: number): Error {
    const byte = this.#number(1);
    const count = byte === 0xdc
      ? this.#number(2)
      : byte === 0xdd
      ? this.#number(4)
      : byte >> 4 === 9
      ? byte - 0x90
      : refuse("no array");
    if (count !== 7) refuse("parts");
    this.#enter(count, depth);
    const [className, name, message, stack] = Array.from(
      { length: 4 },
      () => this.#value(depth),
    );
    const isOptional = (part: unknown) =>
      part === null || typeof part === "string";
    if (
      typeof className !== "string" || typeof name !== "string" ||
      !isOptional(message) || !isOptional(stack)
    ) refuse("texts");
    const text = message as string | null ?? undefined;
    const error = this.#start(createError({ className, name, message: text }));
    const causes = this.#list(depth);
    if (causes.length > 1) refuse("causes");
    return restoreParts(error, {
      className,
      name,
      message: text,
      stack: stack as string | null ?? undefined,
      causes,
      errors: this.#list(depth),
      fields: this.#fields(depth),
    });
  }

  #utf16(size: number): string {
    if (size % 2 !== 0) refuse("half a code unit");
    const bytes = this.#copy(size);
    let text = "";
    for (let at = 0; at < size; at += 2) {
      text += String.fromCharCode(bytes[at]! | bytes[at + 1]! << 8);
    }
    return text;
  }

  #arrayWithFields(depth: number): unknown[] {
    const array = this.#list(depth, this.#start([]));
    for (const [key, value] of Object.entries(this.#fields(depth))) {
      if (key === "length" || isArrayIndex(key)) refuse("an item as a field");
      Object.defineProperty(array, key, {
        value,
        configurable: true,
        enumerable: true,
        writable: true,
      });
    }
    if (this.#at < this.#end) {
      const ranges = this.#list(depth);
      let last = 0;
      if (ranges.length % 2 !== 0) refuse("half a range");
      for (let at = 0; at < ranges.length; at += 2) {
        const [start, length] = [ranges[at], ranges[at + 1]];
        if (!Number.isInteger(start) || !Number.isInteger(length)) {
          refuse("a range of other values");
        }
        const end = (start as number) + (length as number);
        if (
          start as number < last || end > array.length || length as number < 1
        ) {
          refuse("a range out of order");
        }
        for (let index = start as number; index < end; index++) {
          delete array[index];
        }
        last = end;
      }
    }
    return array;
  }

  #date(size: number): Date {
    let nanoseconds = 0;
    let seconds: bigint;
    if (size === 4) seconds = BigInt(this.#number(4));
    else if (size === 8) {
      const bits = this.#view.getBigUint64(this.#skip(8));
      nanoseconds = Number(bits >> 34n);
      seconds = bits & (1n << 34n) - 1n;
    } else if (size === 12) {
      nanoseconds = this.#number(4);
      seconds = this.#view.getBigInt64(this.#skip(8));
    } else return refuse("a timestamp");
    if (nanoseconds > 999_999_999) refuse("nanoseconds");
    const ms = seconds * 1000n + BigInt(Math.floor(nanoseconds / 1e6));
    if (ms > 8_640_000_000_000_000n || ms < -8_640_000_000_000_000n) {
      refuse("a date");
    }
    return new Date(Number(ms));
  }
}

/** Whether a name is an index: an integer in its shortest form. */
function isArrayIndex(name: string): boolean {
  const number = Number(name);
  return String(number) === name && Number.isInteger(number) && number >= 0 &&
    number <= 2 ** 32 - 2;
}

/** An integer as a number, if a number can represent it. */
function whole(integer: bigint): number | bigint {
  const number = Number(integer);
  return Number.isSafeInteger(number) ? number : integer;
}

/** The value of the bytes, or `undefined` if they are rejected. */
export function readReference(
  bytes: Uint8Array,
): { value: unknown } | undefined {
  try {
    return { value: new ReferenceReader(bytes).read() };
  } catch (error) {
    if (error instanceof Malformed) return undefined;
    throw error;
  }
}

/** The limits of PROTOCOL.md for control frames. */
const MAX_CONTROL_ITEMS = 64;
const MAX_CONTROL_LEVELS = 4;

/** The fields of a control frame's map, or `undefined` if they are rejected. */
export function readReferenceFields(
  bytes: Uint8Array,
  start: number,
): Record<string, unknown> | undefined {
  const reader = new ReferenceReader(bytes, start);
  let fields: unknown;
  try {
    fields = reader.read();
  } catch (error) {
    if (error instanceof Malformed) return undefined;
    throw error;
  }
  const isRefused = reader.items > MAX_CONTROL_ITEMS ||
    reader.levels > MAX_CONTROL_LEVELS || reader.hasExtension ||
    reader.hasOtherKeys || typeof fields !== "object" || fields === null ||
    Array.isArray(fields) || fields instanceof Uint8Array;
  return isRefused ? undefined : fields as Record<string, unknown>;
}
