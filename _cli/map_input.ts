// Copyright 2026 the Duplex authors. MIT license.

/**
 * The input of `map`: bytes to lines, and lines to items for a pool, with an
 * account of which lines have an outcome.
 *
 * @module
 */

import { ByteBuffer, readText } from "../_codec/byte_buffer.ts";
import { messageOf } from "./arguments.ts";
import { Deque } from "../_base/waiting.ts";

/**
 * The most bytes of a line. While it is read, sent and run there are some ten
 * times as many of it, as bytes, as text and as values; so one that is longer, or
 * an input without lines, does not take all memory.
 */
export const MAX_LINE = 32 * 2 ** 20;

/**
 * The most bytes of lines that were read and have no outcome, before the next one
 * is read: what one line may have, many may have together.
 */
const MAX_AHEAD = MAX_LINE;

/** What a line costs beside its bytes, where it is held. */
const LINE_COST = 64;

/** Bytes that are read at once: what a pipe holds. */
const CHUNK_SIZE = 0x1_0000;

const NEWLINE = 0x0a;

/** Bytes of a line that is too long that are told. */
const MAX_TOLD = 1000;

/** Where bytes come from, such as `Deno.stdin`. */
export interface ByteSource {
  /** Reads some; `null` where there are none any more. */
  read(into: Uint8Array): Promise<number | null>;
}

/** A line as it was read. */
export interface RawLine {
  /** From 1. */
  readonly number: number;
  /** Its bytes, valid until the next is read; the first ones if it is too long. */
  readonly bytes: Uint8Array;
  /** How many bytes it took of the input, its end among them. */
  readonly size: number;
}

/** Finds the lines among bytes. The last one need not end. */
export class LineReader {
  readonly #source: ByteSource;
  readonly #max: number;
  readonly #into = new Uint8Array(CHUNK_SIZE);
  #chunk: Uint8Array = this.#into.subarray(0, 0);
  /** What was found of a line that goes on in the next chunk. */
  #rest = new ByteBuffer(0);
  #size = 0;
  #count = 0;

  constructor(source: ByteSource, max: number = MAX_LINE) {
    this.#source = source;
    this.#max = max;
  }

  /** The next line, if there is one. */
  async next(): Promise<RawLine | undefined> {
    this.#size = 0;
    // One that was long is not kept for those that are not.
    if (this.#rest.bytes.length > CHUNK_SIZE) this.#rest = new ByteBuffer(0);
    this.#rest.length = 0;
    for (;;) {
      const end = this.#chunk.indexOf(NEWLINE);
      if (end >= 0) return this.#end(end);
      this.#keep(this.#chunk);
      const count = await this.#read();
      this.#chunk = this.#into.subarray(0, count ?? 0);
      if (count !== null) continue;
      return this.#size === 0 ? undefined : this.#line(this.#kept);
    }
  }

  async #read(): Promise<number | null> {
    try {
      return await this.#source.read(this.#into);
    } catch (cause) {
      throw new Error(
        `standard input cannot be read: ${messageOf(cause)}`,
        { cause },
      );
    }
  }

  /** The line that ends there in the chunk. */
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

  /** Adds to a line; of one that is too long, what shows that it is. */
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

/** A line that is no item. */
export interface BadLine {
  readonly line: number;
  /** The line, or how it begins. */
  readonly text: string;
  readonly error: Error;
}

/** What a line says. */
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
    const text = new TextDecoder().decode(bytes.subarray(0, MAX_TOLD));
    const error = new RangeError(
      `Cannot read the line: it has more than ${max} bytes`,
    );
    return { kind: "bad", text, error };
  }
  let text: string;
  try {
    text = readText(bytes);
  } catch (cause) {
    const text = trimEnd(new TextDecoder().decode(bytes));
    const error = new TypeError("Cannot read the line: it is not valid UTF-8", {
      cause,
    });
    return { kind: "bad", text, error };
  }
  text = trimEnd(text);
  // Some programs begin a file with a byte order mark, which is no JSON.
  if (number === 1 && text.startsWith("\ufeff")) text = text.slice(1);
  if (/^[ \t]*$/.test(text)) return { kind: "blank" };
  try {
    return { kind: "item", item: JSON.parse(text) };
  } catch (cause) {
    const error = new SyntaxError(
      `Cannot read the line as JSON: ${messageOf(cause)}`,
      { cause },
    );
    return { kind: "bad", text, error };
  }
}

/** A line as Windows ends it has a carriage return more. */
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
 * items before it were begun, so that one line number tells what is done and what
 * is left when the map is stopped.
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
  /** What the lines take that were read and are not done. */
  #ahead = 0;
  #doneBytes = 0;
  #room: PromiseWithResolvers<void> | undefined;
  #isExhausted = false;
  #isStopped = false;

  /**
   * @param source The source of the lines.
   * @param onBad Called with each bad line.
   */
  constructor(source: ByteSource, onBad: (bad: BadLine) => void) {
    this.#lines = new LineReader(source);
    this.#onBad = onBad;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<unknown, undefined>> {
    for (;;) {
      // The pool limits the number of items that it reads ahead, not their bytes.
      while (this.#ahead >= MAX_AHEAD && !this.#isStopped) {
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
    if (this.#ahead < MAX_AHEAD) this.#room?.resolve();
  }
}
