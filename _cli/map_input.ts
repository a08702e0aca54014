// Copyright 2026 the Duplex authors. MIT license.

/**
 * The input of `map`: lines from bytes, items for a pool from lines, and which lines
 * are done.
 *
 * @module
 */

import { messageLine } from "./terminal.ts";
import { Deque } from "../_base/waiting.ts";
import { ByteBuffer } from "../_base/byte_buffer.ts";

/**
 * The limit on the bytes of a line. While a line is processed, its bytes, text and
 * values take about ten times its size. The limit keeps a longer line, or an input
 * without line ends, from filling the memory.
 */
export const MAX_LINE: number = 32 * 2 ** 20;

/**
 * The limit on the bytes of lines that were read and are not done. One line may have
 * as many. The pool limits the number of lines, not their size.
 */
const MAX_AHEAD = MAX_LINE;

/** The memory that a line takes in addition to its bytes. */
const LINE_COST = 64;

/** Bytes of a read: the capacity of a pipe. */
const CHUNK_SIZE = 0x1_0000;

const NEWLINE = 0x0a;

/** The limit on the bytes of a line that is too long in its error. */
const MAX_SHOWN = 1000;

const LENIENT_DECODER = new TextDecoder("utf-8", { ignoreBOM: true });
const STRICT_DECODER = new TextDecoder("utf-8", {
  fatal: true,
  ignoreBOM: true,
});

/** A source of bytes, such as `Deno.stdin`. */
export interface ByteSource {
  /** Reads some bytes; returns how many, or `null` at the end. */
  read(into: Uint8Array): Promise<number | null>;
}

/** A line of the input. */
export interface RawLine {
  /** From 1. */
  readonly number: number;
  /** Its bytes, valid until the next read; only the first ones if it is too long. */
  readonly bytes: Uint8Array;
  /** The bytes that it takes in the input, with its line end. */
  readonly size: number;
}

/** Splits bytes into lines. The last line may have no line end. */
export class LineReader {
  readonly #source: ByteSource;
  readonly #max: number;
  readonly #into = new Uint8Array(CHUNK_SIZE);
  #chunk: Uint8Array = this.#into.subarray(0, 0);
  /** The first part of a line that continues in the next chunk. */
  #rest = new ByteBuffer(0);
  #size = 0;
  #count = 0;
  /** A terminal could be read again after its end. */
  #isOver = false;

  constructor(source: ByteSource, max: number = MAX_LINE) {
    this.#source = source;
    this.#max = max;
  }

  /** The next line; `undefined` at the end. */
  async next(): Promise<RawLine | undefined> {
    this.#size = 0;
    // The memory of a long line is released.
    if (this.#rest.bytes.length > CHUNK_SIZE) this.#rest = new ByteBuffer(0);
    this.#rest.length = 0;
    for (;;) {
      const end = this.#chunk.indexOf(NEWLINE);
      if (end >= 0) return this.#end(end);
      this.#keep(this.#chunk);
      const count = this.#isOver ? null : await this.#read();
      this.#chunk = this.#into.subarray(0, count ?? 0);
      if (count !== null) continue;
      this.#isOver = true;
      return this.#size === 0 ? undefined : this.#line(this.#kept);
    }
  }

  async #read(): Promise<number | null> {
    try {
      return await this.#source.read(this.#into);
    } catch (cause) {
      throw new Error(
        `standard input cannot be read: ${messageLine(cause)}`,
        { cause },
      );
    }
  }

  /** The line that ends at this index of the chunk. */
  #end(end: number): RawLine {
    const part = this.#chunk.subarray(0, end);
    this.#chunk = this.#chunk.subarray(end + 1);
    if (this.#size === 0) {
      this.#size = end + 1;
      return this.#line(part);
    }
    this.#keep(part);
    this.#size++;
    return this.#line(this.#kept);
  }

  #line(bytes: Uint8Array): RawLine {
    return { number: ++this.#count, bytes, size: this.#size };
  }

  /** Adds a part to the line, up to one byte more than the limit. */
  #keep(part: Uint8Array): void {
    this.#size += part.length;
    const rest = this.#rest;
    const kept = part.subarray(0, Math.max(0, this.#max + 1 - rest.length));
    rest.reserve(kept.length);
    rest.bytes.set(kept, rest.length);
    rest.length += kept.length;
  }

  get #kept(): Uint8Array {
    return this.#rest.bytes.subarray(0, this.#rest.length);
  }
}

/** A line that cannot be read as JSON. */
export interface BadLine {
  readonly line: number;
  /** The line, or its beginning. */
  readonly text: string;
  readonly error: Error;
}

/** The content of a line. */
export type Parsed =
  | { readonly kind: "blank" }
  | { readonly kind: "item"; readonly item: unknown }
  | {
    readonly kind: "bad";
    readonly text: string;
    readonly error: Error;
  };

/** Reads the JSON of a line. */
export function parseLine(
  { number, bytes }: Pick<RawLine, "number" | "bytes">,
  max: number = MAX_LINE,
): Parsed {
  if (bytes.length > max) {
    const text = new TextDecoder().decode(bytes.subarray(0, MAX_SHOWN));
    const error = new RangeError(
      `Cannot read the line: it has more than ${max} bytes`,
    );
    return { kind: "bad", text, error };
  }
  let text: string;
  try {
    text = decode(bytes);
  } catch (cause) {
    const text = trimEnd(new TextDecoder().decode(bytes));
    const error = new TypeError("Cannot read the line: it is not valid UTF-8", {
      cause,
    });
    return { kind: "bad", text, error };
  }
  text = trimEnd(text);
  // Some programs begin a file with a byte order mark, which JSON does not allow.
  if (number === 1 && text.startsWith("\ufeff")) text = text.slice(1);
  if (/^[ \t]*$/.test(text)) return { kind: "blank" };
  try {
    return { kind: "item", item: JSON.parse(text) };
  } catch (cause) {
    const error = new SyntaxError(
      `Cannot read the line as JSON: ${messageLine(cause)}`,
      { cause },
    );
    return { kind: "bad", text, error };
  }
}

/** Decodes UTF-8. The lenient decoder is three times as fast as the strict one. */
function decode(bytes: Uint8Array): string {
  const text = LENIENT_DECODER.decode(bytes);
  return text.includes("\ufffd") ? STRICT_DECODER.decode(bytes) : text;
}

/** Removes the carriage return of a Windows line end. */
function trimEnd(text: string): string {
  return text.endsWith("\r") ? text.slice(0, -1) : text;
}

/** A line that was given to the pool and has no outcome. */
interface Open {
  readonly line: number;
  readonly size: number;
}

/** A bad line that is not reported yet. */
interface Held extends BadLine {
  readonly size: number;
  /** The number of items before it. */
  readonly before: number;
}

/**
 * The items of the input, for one map of a pool. A bad line is reported once the
 * items before it were begun, so that one line number separates the items that are
 * done from those left when the map is stopped.
 */
export class Items implements AsyncIterableIterator<unknown> {
  readonly #lines: LineReader;
  readonly #onBad: (bad: BadLine) => void;
  /** Items without an outcome, by their index. */
  readonly #open = new Map<number, Open>();
  readonly #held = new Deque<Held>();
  #count = 0;
  /** The highest index of an item that has an outcome. */
  #last = -1;
  /** The number of the last line that was read, and of the last that is done. */
  #read = 0;
  #lastDone = 0;
  /** The memory of lines that were read and are not done. */
  #ahead = 0;
  #doneBytes = 0;
  readonly #maxAhead: number;
  #room: PromiseWithResolvers<void> | undefined;
  #isExhausted = false;
  #isStopped = false;

  /**
   * @param source The source of the lines.
   * @param onBad Called with each bad line.
   * @param maxAhead The limit on the bytes of lines that are not done.
   */
  constructor(
    source: ByteSource,
    onBad: (bad: BadLine) => void,
    maxAhead: number = MAX_AHEAD,
  ) {
    this.#lines = new LineReader(source);
    this.#onBad = onBad;
    this.#maxAhead = maxAhead;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<unknown, undefined>> {
    for (;;) {
      while (this.#ahead >= this.#maxAhead && !this.#isStopped) {
        this.#room = Promise.withResolvers();
        await this.#room.promise;
      }
      const line = this.#isStopped ? undefined : await this.#lines.next();
      // A line that arrives after the stop is not begun.
      if (this.#isStopped) return { value: undefined, done: true };
      if (line === undefined) {
        this.#isExhausted = true;
        return { value: undefined, done: true };
      }
      const parsed = parseLine(line);
      this.#read = line.number;
      if (parsed.kind === "item") {
        return { value: this.#begin(line, parsed.item), done: false };
      }
      if (parsed.kind === "blank") this.#doneBytes += line.size;
      else this.#hold(line, parsed);
    }
  }

  return(): Promise<IteratorResult<unknown, undefined>> {
    this.#isStopped = true;
    this.#room?.resolve();
    return Promise.resolve({ value: undefined, done: true });
  }

  /** The line number of an item without an outcome. */
  lineOf(index: number): number {
    return this.#open.get(index)!.line;
  }

  /** The item with this index has an outcome, which was reported. */
  settle(index: number): void {
    const { line, size } = this.#open.get(index)!;
    this.#open.delete(index);
    this.#last = Math.max(this.#last, index);
    this.#onDone(line, size);
    this.#report();
  }

  /** The bytes of all lines that are done. */
  get doneBytes(): number {
    return this.#doneBytes;
  }

  /**
   * Which lines are left: the first one, which the input may not have, and whether
   * all lines behind it are left as well. `undefined` if no line is left.
   */
  get left(): { readonly first: number; readonly isRest: boolean } | undefined {
    const open = Array.from(this.#open.values(), ({ line }) => line);
    if (this.#held.length > 0) open.push(this.#held.first.line);
    if (!this.#isExhausted) open.push(this.#read + 1);
    if (open.length === 0) return undefined;
    const first = open.reduce((least, line) => Math.min(least, line));
    return { first, isRest: first > this.#lastDone };
  }

  #begin({ number, size }: RawLine, item: unknown): unknown {
    this.#open.set(this.#count++, { line: number, size });
    this.#ahead += size + LINE_COST;
    return item;
  }

  #hold(
    { number, size }: RawLine,
    { text, error }: { readonly text: string; readonly error: Error },
  ): void {
    this.#held.push({ line: number, size, text, error, before: this.#count });
    this.#ahead += size + LINE_COST;
    this.#report();
  }

  /**
   * Reports bad lines. The pool begins items in order, so all items before the
   * last one with an outcome were begun. After the stop a bad line behind that one
   * is left, as the items behind it are.
   */
  #report(): void {
    const reach = this.#isStopped ? this.#last : this.#last + 1;
    while (this.#held.length > 0 && this.#held.first.before <= reach) {
      const { line, size, text, error } = this.#held.shift();
      this.#onDone(line, size);
      this.#onBad({ line, text, error });
    }
  }

  #onDone(line: number, size: number): void {
    this.#lastDone = Math.max(this.#lastDone, line);
    this.#doneBytes += size;
    this.#ahead -= size + LINE_COST;
    if (this.#ahead < this.#maxAhead) this.#room?.resolve();
  }
}
