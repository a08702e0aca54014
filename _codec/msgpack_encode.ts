// Copyright 2026 the Duplex authors. MIT license.

/**
 * The MessagePack encoder. It does not track the path in the message and allocates
 * nothing that a flat message does not need. If a value cannot be sent, a second
 * walk finds its path. If a container occurs again, the message is encoded from the
 * start: in graph form, or with copies for a peer that does not read graph form.
 *
 * @module
 */

import { ByteBuffer, writeText } from "../_base/byte_buffer.ts";
import { toParts } from "./error_parts.ts";
import {
  DEFAULT_RULES,
  type SharingRules,
  tooManyCopies,
} from "./fast_codec.ts";
import { MAX_COST, MAX_ITEMS, regexpCost } from "./message_cost.ts";
import { SeparateList } from "./separate_list.ts";
import {
  arrayFields,
  describeUnsendable,
  explainRefusal,
  EXT,
  findRefusal,
  isOutOfBounds,
  isRecord,
  isUnsendableBuffer,
  leastCopiedSize,
  MAX_DEPTH,
  mayHaveFields,
  missingRanges,
  type Sharing,
  unboxed,
  viewKind,
} from "./values.ts";
import { toWritten, writtenClass } from "./written.ts";
import { bigintToBytes, utf16ToBytes } from "./msgpack_payloads.ts";
import { messageOf } from "../_base/text.ts";

/**
 * Maximum length of ASCII strings that are written by a loop: a call of the text
 * encoder takes as long as a loop over this many characters.
 */
const MAX_LOOP_LENGTH = 100;

/** Maximum bytes of a header. */
const MAX_HEADER = 6;

const MAX_UINT32 = 0xffff_ffff;

/** The running encoder. A getter in a message may start another one. */
let active: Encoder | undefined;

/** An unused encoder: creating one takes as long as encoding a small message. */
let spare: Encoder | undefined;

/**
 * Linear search up to 8 containers: a `Set` costs more than encoding a small
 * message.
 */
const MAX_FEW = 8;

/** The buffer of unused encoders. */
const NO_TARGET = new ByteBuffer(0);

const ARRAY_PROTOTYPE = Array.prototype;

/** Thrown to encode a message from the start, since a container occurs again. */
const REPEAT = new Error("A container occurs again");

/** A message in graph form: the numbers of its containers. */
interface Graph {
  readonly sharing: "graph";
  numbers: Map<object, number>;
  count: number;
}

/** A message with copies. */
interface Copies {
  readonly sharing: "copies";
  /** The length of the buffer above which the message is too large. */
  readonly maxLength: number;
}

/** Encodes one message into a buffer. */
class Encoder {
  target: ByteBuffer = NO_TARGET;
  /** The encoder that this one interrupted. */
  outer: Encoder | undefined = undefined;
  #root: unknown = undefined;
  /** The containers met within the root, while they are few. */
  readonly #few: unknown[] = new Array(MAX_FEW).fill(undefined);
  #fewCount = 0;
  /** All containers met, once they are more. */
  #seen: Set<unknown> | undefined = undefined;
  #rules = DEFAULT_RULES;
  /** Set once a container has occurred again. */
  #repeats: Graph | Copies | undefined = undefined;

  /** Prepares for a message. */
  begin(
    root: unknown,
    target: ByteBuffer,
    outer: Encoder | undefined,
    rules: SharingRules,
  ): void {
    this.#root = root;
    this.target = target;
    this.outer = outer;
    this.#rules = rules;
  }

  /** Releases the message. */
  end(): void {
    this.target = NO_TARGET;
    this.outer = undefined;
    this.#root = undefined;
    for (let index = 0; index < this.#fewCount; index++) {
      this.#few[index] = undefined;
    }
    this.#fewCount = 0;
    if (this.#seen === undefined) return;
    this.#seen = undefined;
    this.#repeats = undefined;
  }

  /** Writes a message in which a container occurs again. */
  writeAgain(): void {
    const { graph, copies, maxBytes } = this.#rules;
    const root = this.#root as object;
    if (!graph && !copies) this.#refuse();
    // From now on, each container is looked up in what `#repeats` has.
    this.#seen = new Set();
    if (graph) {
      const numbers = new Map([[root, 0]]);
      this.#repeats = { sharing: "graph", numbers, count: 1 };
      const payload = this.#open(EXT.graph);
      this.write(root, 0);
      return this.#close(payload);
    }
    const size = leastCopiedSize(root);
    if (size === undefined) this.#refuse();
    if (size > maxBytes) throw tooManyCopies(maxBytes);
    const maxLength = this.target.length + maxBytes;
    this.#repeats = { sharing: "copies", maxLength };
    this.write(root, 0);
  }

  /** What happens to a container that occurs again. */
  get sharing(): Sharing {
    const { graph, copies } = this.#rules;
    return graph ? "graph" : copies ? "copies" : "none";
  }

  write(value: unknown, depth: number): void {
    switch (typeof value) {
      case "string":
        return this.#string(value);
      case "number":
        return this.#number(value);
      case "object":
        if (value !== null) return this.#object(value, depth);
        return this.#byte(0xc0);
      case "boolean":
        return this.#byte(value ? 0xc3 : 0xc2);
      case "undefined":
        return this.#extension(EXT.undefined, 0);
      case "bigint":
        return this.#bigint(value);
      default:
        this.#refuse();
    }
  }

  /** Throws an error with the path to the value that cannot be sent. */
  #refuse(): never {
    const describe = this.#rules.graph ? describeUnsendable : describeOld;
    throw new TypeError(explainRefusal(this.#root, describe, this.sharing));
  }

  #byte(byte: number): void {
    const target = this.target;
    target.reserve(1);
    target.bytes[target.length++] = byte;
  }

  #number(value: number): void {
    const target = this.target;
    target.reserve(9);
    const position = target.length;
    if ((value | 0) === value && (value !== 0 || 1 / value > 0)) {
      if (value >= 0) return this.#unsigned(value);
      if (value >= -0x20) {
        target.bytes[position] = value;
        target.length = position + 1;
      } else if (value >= -0x80) {
        target.bytes[position] = 0xd0;
        target.bytes[position + 1] = value;
        target.length = position + 2;
      } else if (value >= -0x8000) {
        target.bytes[position] = 0xd1;
        target.view.setInt16(position + 1, value);
        target.length = position + 3;
      } else {
        target.bytes[position] = 0xd2;
        target.view.setInt32(position + 1, value);
        target.length = position + 5;
      }
    } else if (Number.isSafeInteger(value) && value !== 0) {
      if (value > 0 && value <= MAX_UINT32) return this.#unsigned(value);
      target.bytes[position] = value < 0 ? 0xd3 : 0xcf;
      target.view.setInt32(position + 1, Math.floor(value / 0x1_0000_0000));
      target.view.setUint32(position + 5, value >>> 0);
      target.length = position + 9;
    } else {
      target.bytes[position] = 0xcb;
      // NaN has many bit patterns; always the same one is sent.
      target.view.setFloat64(position + 1, value === value ? value : NaN);
      target.length = position + 9;
    }
  }

  /** Writes an integer below 2^32. The caller has reserved the room. */
  #unsigned(value: number): void {
    const target = this.target;
    const bytes = target.bytes;
    const position = target.length;
    if (value < 0x80) {
      bytes[position] = value;
      target.length = position + 1;
    } else if (value < 0x100) {
      bytes[position] = 0xcc;
      bytes[position + 1] = value;
      target.length = position + 2;
    } else if (value < 0x1_0000) {
      bytes[position] = 0xcd;
      bytes[position + 1] = value >>> 8;
      bytes[position + 2] = value;
      target.length = position + 3;
    } else {
      bytes[position] = 0xce;
      target.view.setUint32(position + 1, value);
      target.length = position + 5;
    }
  }

  #bigint(value: bigint): void {
    const safe = value >= Number.MIN_SAFE_INTEGER &&
      value <= Number.MAX_SAFE_INTEGER;
    const negative = value < 0n;
    // In the plain formats, a safe integer would be decoded as a number.
    if (
      safe || value !== (negative ? BigInt.asIntN : BigInt.asUintN)(64, value)
    ) {
      return this.#payload(EXT.bigint, bigintToBytes(value));
    }
    const target = this.target;
    target.reserve(9);
    target.bytes[target.length] = negative ? 0xd3 : 0xcf;
    target.view.setBigUint64(target.length + 1, BigInt.asUintN(64, value));
    target.length += 9;
  }

  #string(value: string): void {
    const length = value.length;
    if (length > MAX_LOOP_LENGTH) return this.#longString(value);
    const target = this.target;
    target.reserve(length + MAX_HEADER);
    const bytes = target.bytes;
    let position = target.length;
    if (length < 0x20) {
      bytes[position++] = 0xa0 | length;
    } else {
      bytes[position] = 0xd9;
      bytes[position + 1] = length;
      position += 2;
    }
    for (let index = 0; index < length; index++) {
      const code = value.charCodeAt(index);
      // The length is not updated yet, so this starts again.
      if (code > 0x7f) return this.#longString(value);
      bytes[position + index] = code;
    }
    target.length = position + length;
  }

  /** Writes a string that is long or not ASCII. */
  #longString(value: string): void {
    if (!value.isWellFormed()) {
      return this.#payload(EXT.utf16, utf16ToBytes(value));
    }
    const target = this.target;
    const start = target.length;
    // The header has the size for ASCII. If the text is longer, it is moved.
    const guess = stringHeaderSize(value.length);
    target.reserve(value.length + MAX_HEADER);
    target.length += guess;
    writeText(target, value);
    const size = target.length - start - guess;
    const header = stringHeaderSize(size);
    if (header > guess) {
      target.reserve(header - guess);
      target.bytes.copyWithin(start + header, start + guess, target.length);
      target.length += header - guess;
    }
    const end = target.length;
    target.length = start;
    if (size < 0x20) target.bytes[start] = 0xa0 | size;
    else this.#sized(size, 0xd9, 0xda, 0xdb);
    target.length = end;
  }

  /** Writes a format byte and a size of 8, 16 or 32 bits. A `byte` of 0: no 8 bits. */
  #sized(size: number, byte: number, short: number, long: number): void {
    const target = this.target;
    target.reserve(MAX_HEADER);
    const position = target.length;
    if (size < 0x100 && byte !== 0) {
      target.bytes[position] = byte;
      target.bytes[position + 1] = size;
      target.length = position + 2;
    } else if (size < 0x1_0000) {
      target.bytes[position] = short;
      target.view.setUint16(position + 1, size);
      target.length = position + 3;
    } else {
      if (size > MAX_UINT32) throwTooLong(size);
      target.bytes[position] = long;
      target.view.setUint32(position + 1, size);
      target.length = position + 5;
    }
  }

  /** Writes the header of an extension with `size` bytes of payload. */
  #extension(type: number, size: number): void {
    switch (size) {
      case 1:
        this.#byte(0xd4);
        break;
      case 2:
        this.#byte(0xd5);
        break;
      case 4:
        this.#byte(0xd6);
        break;
      case 8:
        this.#byte(0xd7);
        break;
      case 16:
        this.#byte(0xd8);
        break;
      default:
        this.#sized(size, 0xc7, 0xc8, 0xc9);
    }
    this.#byte(type);
  }

  #raw(bytes: Uint8Array): void {
    const target = this.target;
    target.reserve(bytes.length);
    target.bytes.set(bytes, target.length);
    target.length += bytes.length;
  }

  #payload(type: number, payload: Uint8Array): void {
    this.#extension(type, payload.length);
    this.#raw(payload);
  }

  #object(value: object, depth: number): void {
    const prototype = Object.getPrototypeOf(value);
    if (prototype === Object.prototype || prototype === null) {
      return this.#record(value as Record<string, unknown>, depth);
    }
    if (Array.isArray(value)) {
      return prototype === ARRAY_PROTOTYPE || !(value instanceof SeparateList)
        ? this.#array(value, depth)
        : this.#separateList(value, depth);
    }
    if (value instanceof Uint8Array) return this.#bytes(value);
    if (value instanceof Date) return this.#date(value);
    if (value instanceof Map) return this.#map(value, depth);
    if (value instanceof Set) return this.#set(value, depth);
    if (value instanceof Error) return this.#error(value, depth);
    if (value instanceof RegExp) return this.#regexp(value);
    if (ArrayBuffer.isView(value)) return this.#view(value);
    if (value instanceof ArrayBuffer) {
      if (value.detached) this.#refuse();
      return this.#payload(EXT.arrayBuffer, new Uint8Array(value));
    }
    if (isRecord(value)) {
      return this.#record(value as Record<string, unknown>, depth);
    }
    if (!this.#rules.graph) this.#refuse();
    const primitive = unboxed(value);
    if (primitive === undefined) return this.#written(value);
    const payload = this.#open(EXT.boxed);
    this.write(primitive, depth + 1);
    this.#close(payload);
  }

  /** Writes an object that is sent as a text. */
  #written(value: object): void {
    const { written, text } = toWritten(value) ?? this.#refuse();
    const payload = this.#open(EXT.written);
    this.#byte(written.kind);
    writeText(this.target, text);
    this.#close(payload);
  }

  /**
   * Begins a container. Throws if it is nested too deep.
   *
   * @returns Whether to write it: not if it was written as a reference.
   */
  #enter(value: object, depth: number): boolean {
    if (depth === 0) return true;
    if (this.#seen !== undefined) {
      return this.#enterMany(this.#seen, value, depth);
    }
    if (depth >= MAX_DEPTH) this.#refuse();
    if (value === this.#root) throw REPEAT;
    const count = this.#fewCount;
    for (let index = 0; index < count; index++) {
      if (this.#few[index] === value) throw REPEAT;
    }
    if (count < MAX_FEW) {
      this.#few[count] = value;
      this.#fewCount = count + 1;
    } else {
      this.#seen = new Set(this.#few);
      this.#seen.add(value);
    }
    return true;
  }

  #enterMany(seen: Set<unknown>, value: object, depth: number): boolean {
    if (this.#repeats !== undefined) {
      return this.#enterWithRepeats(this.#repeats, value, depth);
    }
    if (depth >= MAX_DEPTH) this.#refuse();
    const { size } = seen;
    seen.add(value);
    if (seen.size === size || value === this.#root) throw REPEAT;
    return true;
  }

  #enterWithRepeats(
    repeats: Graph | Copies,
    value: object,
    depth: number,
  ): boolean {
    if (repeats.sharing === "graph") {
      const number = repeats.numbers.get(value);
      if (number !== undefined) {
        this.#reference(number);
        return false;
      }
      if (depth >= MAX_DEPTH) this.#refuse();
      repeats.numbers.set(value, repeats.count++);
      return true;
    }
    if (depth >= MAX_DEPTH) this.#refuse();
    if (this.target.length > repeats.maxLength) {
      throw tooManyCopies(this.#rules.maxBytes);
    }
    return true;
  }

  /** Writes a reference to a container of the message. */
  #reference(number: number): void {
    const target = this.target;
    const size = number < 0x100 ? 1 : number < 0x1_0000 ? 2 : 4;
    this.#extension(EXT.reference, size);
    target.reserve(size);
    if (size === 1) target.bytes[target.length] = number;
    else if (size === 2) target.view.setUint16(target.length, number);
    else target.view.setUint32(target.length, number);
    target.length += size;
  }

  /** Writes a list whose items share no containers with each other. */
  #separateList(list: unknown[], depth: number): void {
    if (!this.#enter(list, depth)) return;
    const { length } = list;
    this.#arrayHeader(length);
    const repeats = this.#repeats;
    const seen = this.#seen;
    // What was met before the list stays, so that a cycle is found.
    const first = seen === undefined ? this.#fewCount : 0;
    for (let index = 0; index < length; index++) {
      if (repeats === undefined) {
        this.#seen = undefined;
        this.#fewCount = first;
      } else if (repeats.sharing === "graph") repeats.numbers = new Map();
      this.write(list[index], depth + 1);
    }
    if (repeats !== undefined) return;
    this.#seen = seen;
    this.#few.fill(undefined, first);
    this.#fewCount = first;
  }

  #record(value: Record<string, unknown>, depth: number): void {
    if (!this.#enter(value, depth)) return;
    const keys = Object.keys(value);
    this.#fields(value, keys, depth);
  }

  #fields(
    value: Readonly<Record<string, unknown>>,
    keys: readonly string[],
    depth: number,
  ): void {
    const length = keys.length;
    if (length < 0x10) this.#byte(0x80 | length);
    else this.#sized(length, 0, 0xde, 0xdf);
    for (let index = 0; index < length; index++) {
      const key = keys[index]!;
      this.#string(key);
      this.write(value[key], depth + 1);
    }
  }

  #arrayHeader(length: number): void {
    if (length < 0x10) this.#byte(0x90 | length);
    // A sparse array takes little memory at any length.
    else if (length > MAX_ITEMS) this.#refuse();
    else this.#sized(length, 0, 0xdc, 0xdd);
  }

  #array(value: unknown[], depth: number): void {
    if (!this.#enter(value, depth)) return;
    const start = this.target.length;
    const { length } = value;
    const isWhole = this.#items(value, depth);
    if (isWhole && !mayHaveFields(value)) return;
    const fields = arrayFields(value);
    // A peer without graph form does not read which items are missing.
    const isComplete = isWhole || !this.#rules.graph;
    if (isComplete && fields.length === 0) return;
    // Few arrays are such. Their items are moved behind another header.
    const { target } = this;
    target.reserve(MAX_HEADER);
    target.bytes.copyWithin(start + MAX_HEADER, start, target.length);
    const end = target.length;
    target.length = start;
    const payload = this.#open(EXT.array);
    target.length = end + MAX_HEADER;
    this.#fields(value as unknown as Record<string, unknown>, fields, depth);
    if (!isComplete) this.#list(missingRanges(value, length), depth);
    this.#close(payload);
  }

  /** Writes an array without its fields; returns whether no item is missing. */
  #items(value: unknown[], depth: number): boolean {
    // A getter may change the length, but the header is already written.
    const length = value.length;
    this.#arrayHeader(length);
    let isWhole = true;
    for (let index = 0; index < length; index++) {
      const item = value[index];
      if (typeof item === "number") this.#number(item);
      else {
        if (item === undefined && !(index in value)) {
          isWhole = false;
          if (this.#rules.graph) this.#byte(0xc0);
          else this.write(undefined, depth + 1);
        } else this.write(item, depth + 1);
      }
    }
    return isWhole;
  }

  #bytes(value: Uint8Array): void {
    if (isUnsendableBuffer(value.buffer)) this.#refuse();
    if (value.length === 0 && isOutOfBounds(value)) this.#refuse();
    this.#sized(value.length, 0xc4, 0xc5, 0xc6);
    this.#raw(value);
  }

  #view(value: ArrayBufferView): void {
    const kind = viewKind(value);
    if (
      kind === undefined || isUnsendableBuffer(value.buffer) ||
      isOutOfBounds(value)
    ) this.#refuse();
    this.#extension(EXT.view, value.byteLength + 1);
    this.#byte(kind);
    // The payload is little-endian, as are all processors that Deno supports.
    this.#raw(
      new Uint8Array(value.buffer, value.byteOffset, value.byteLength),
    );
  }

  /** Writes the timestamp extension in the shortest of its three forms. */
  #date(value: Date): void {
    const time = value.getTime();
    if (time !== time) return this.#extension(EXT.invalidDate, 0);
    const seconds = Math.floor(time / 1000);
    const nanoseconds = (time - seconds * 1000) * 1_000_000;
    const high = Math.floor(seconds / 0x1_0000_0000);
    const target = this.target;
    target.reserve(15);
    if (high === 0 && nanoseconds === 0) {
      this.#extension(EXT.timestamp, 4);
    } else if (high >= 0 && high < 4) {
      this.#extension(EXT.timestamp, 8);
      target.view.setUint32(target.length, nanoseconds * 4 + high);
      target.length += 4;
    } else {
      this.#extension(EXT.timestamp, 12);
      target.view.setUint32(target.length, nanoseconds);
      target.view.setInt32(target.length + 4, high);
      target.length += 8;
    }
    target.view.setUint32(target.length, seconds - high * 0x1_0000_0000);
    target.length += 4;
  }

  /** Writes the header of an extension of unknown size; returns where its payload begins. */
  #open(type: number): number {
    const target = this.target;
    target.reserve(MAX_HEADER);
    target.bytes[target.length] = 0xc9;
    target.bytes[target.length + 5] = type;
    target.length += MAX_HEADER;
    return target.length;
  }

  /** Writes the size into the header of the payload that begins at `start`. */
  #close(start: number): void {
    const size = this.target.length - start;
    if (size > MAX_UINT32) throwTooLong(size);
    this.target.view.setUint32(start - 5, size);
  }

  #map(value: Map<unknown, unknown>, depth: number): void {
    if (!this.#enter(value, depth)) return;
    const start = this.#open(EXT.map);
    const size = value.size;
    this.#arrayHeader(size * 2);
    let count = 0;
    for (const [key, item] of value) {
      // A getter may add entries to the map without end.
      if (count++ === size) break;
      this.write(key, depth + 1);
      this.write(item, depth + 1);
    }
    if (count !== size) this.#refuse();
    this.#close(start);
  }

  #set(value: Set<unknown>, depth: number): void {
    if (!this.#enter(value, depth)) return;
    const start = this.#open(EXT.set);
    const size = value.size;
    this.#arrayHeader(size);
    let count = 0;
    for (const item of value) {
      if (count++ === size) break;
      this.write(item, depth + 1);
    }
    if (count !== size) this.#refuse();
    this.#close(start);
  }

  #regexp(value: RegExp): void {
    const { source, flags } = value;
    if (regexpCost(source, flags) > MAX_COST) this.#refuse();
    const start = this.#open(EXT.regexp);
    this.#string(source);
    this.#string(flags);
    this.#close(start);
  }

  #error(value: Error, depth: number): void {
    if (!this.#enter(value, depth)) return;
    const start = this.#open(EXT.error);
    const { className, name, message, stack, causes, errors = [], fields } =
      toParts(value);
    this.#arrayHeader(7);
    this.#string(className);
    this.#string(name);
    this.write(message ?? null, depth + 1);
    this.write(stack ?? null, depth + 1);
    this.#list(causes, depth);
    this.#list(errors, depth);
    this.#fields(fields, Object.keys(fields), depth);
    this.#close(start);
  }

  /** Writes an array that is part of an extension. */
  #list(values: readonly unknown[], depth: number): void {
    const count = values.length;
    this.#arrayHeader(count);
    for (let index = 0; index < count; index++) {
      this.write(values[index], depth + 1);
    }
  }
}

/** As `describeUnsendable`, for a peer that does not read boxed values and texts. */
function describeOld(value: unknown): string | undefined {
  const reason = describeUnsendable(value);
  if (reason !== undefined || typeof value !== "object" || value === null) {
    return reason;
  }
  if (unboxed(value) !== undefined) {
    return "an object with a primitive value, which the peer does not read";
  }
  const written = writtenClass(value);
  return written && `a ${written.name}, which the peer does not read`;
}

function throwTooLong(size: number): never {
  throw new TypeError(
    `Cannot encode a message: MessagePack carries at most ${MAX_UINT32} ` +
      `bytes or items in one value: current value is ${size}`,
  );
}

/** The bytes of a string's header. */
function stringHeaderSize(size: number): number {
  if (size < 0x20) return 1;
  if (size < 0x100) return 2;
  return size < 0x1_0000 ? 3 : 5;
}

/**
 * Adds the path of the object to an error of a built-in method. Such a method throws
 * if an object is a proxy of an object of its class.
 */
function asRefusal(error: unknown, root: unknown, sharing: Sharing): unknown {
  if (!(error instanceof TypeError)) return error;
  if (messageOf(error).startsWith("Cannot encode a message: ")) return error;
  try {
    const text = findRefusal(root, describeUnsendable, sharing);
    if (text !== undefined) return new TypeError(text, { cause: error });
  } catch {
    // A getter throws: `error` is its error.
  }
  return error;
}

/** Encodes a message in which a container occurs again. */
function encodeAgain(encoder: Encoder, value: unknown): void {
  const { target } = encoder;
  const start = target.length;
  try {
    encoder.writeAgain();
  } catch (error) {
    target.length = start;
    throw asRefusal(error, value, encoder.sharing);
  }
}

/**
 * Appends a value as MessagePack.
 *
 * @param value The value.
 * @param target The buffer. If this throws, its length is unchanged.
 * @param rules How a container is encoded that occurs again.
 * @throws {TypeError} If the value, or one in it, cannot be sent.
 * @throws {RangeError} If copies make the message too large.
 */
export function encodeMsgpackInto(
  value: unknown,
  target: ByteBuffer,
  rules: SharingRules = DEFAULT_RULES,
): void {
  const start = target.length;
  const outer = active;
  for (let encoder = outer; encoder; encoder = encoder.outer) {
    if (encoder.target === target) {
      throw new TypeError(
        "Cannot encode a message: a getter in another message encodes into " +
          "the same buffer",
      );
    }
  }
  const encoder = spare ?? new Encoder();
  spare = undefined;
  encoder.begin(value, target, outer, rules);
  active = encoder;
  try {
    encoder.write(value, 0);
  } catch (error) {
    target.length = start;
    if (error === REPEAT) encodeAgain(encoder, value);
    else throw asRefusal(error, value, encoder.sharing);
  } finally {
    encoder.end();
    spare = encoder;
    active = outer;
  }
}
