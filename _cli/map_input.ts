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

/** What is known of a line that has no outcome. */
interface Open {
  readonly line: number;
  readonly size: number;
}

/** A line that is no item, and what waits for it to be told. */
interface Held extends BadLine {
  readonly size: number;
  /** How many items there are before it. */
  readonly before: number;
}

/** Milliseconds of work that the workers have before them, together. */
const LEAST_SUPPLY = 25;
const MOST_SUPPLY = 100;

/**
 * How many items are given to a pool ahead of their outcomes. A pool that is closed
 * runs all that it has read. So it gets what its workers do in a moment: many that
 * are quick, and of those that take long no more than there are workers.
 */
export class Supply {
  readonly #least: number;
  #size: number;
  /** When the count began that the next look is about, and with how many. */
  #since: number;
  #done = 0;

  /**
   * @param workers How many items can be at work at a time.
   * @param now In milliseconds.
   */
  constructor(workers: number, now: number) {
    this.#least = workers;
    this.#size = workers;
    this.#since = now;
  }

  /** How many there may be. */
  get size(): number {
    return this.#size;
  }

  /**
   * Looks how long as many took as there may be.
   *
   * @param done Items that are through.
   * @param now In milliseconds.
   */
  onProgress(done: number, now: number): void {
    if (done - this.#done < this.#size) return;
    const ms = now - this.#since;
    if (ms < LEAST_SUPPLY) this.#size *= 2;
    else if (ms > MOST_SUPPLY) {
      this.#size = Math.max(this.#least, Math.floor(this.#size / 2));
    }
    this.#since = now;
    this.#done = done;
  }
}

/**
 * The items of the input, for one map of a pool. A line that is no item is told
 * once every item before it was begun, so that what was told and what was not are
 * parted by one line, wherever the map is stopped.
 */
export class Items implements AsyncIterableIterator<unknown> {
  readonly #lines: LineReader;
  readonly #onBad: (bad: BadLine) => void;
  readonly #supply: Supply;
  readonly #maxAhead: number;
  /** Items without an outcome, by their index. */
  readonly #open = new Map<number, Open>();
  readonly #held = new Deque<Held>();
  /** Items that there were, those that are through, and the last that is settled. */
  #count = 0;
  #through = 0;
  #last = -1;
  /** Lines that were taken, of all kinds. */
  #taken = 0;
  #ahead = 0;
  #settled = 0;
  #room = Promise.withResolvers<void>();
  #isExhausted = false;
  #isLeft = false;

  /**
   * @param source Where the lines are.
   * @param onBad Told of each line that is no item.
   * @param workers How many items can be at work at a time.
   * @param maxAhead Bytes of lines without an outcome that may have been read.
   */
  constructor(
    source: ByteSource,
    onBad: (bad: BadLine) => void,
    workers: number,
    maxAhead: number = MAX_AHEAD,
  ) {
    this.#lines = new LineReader(source);
    this.#onBad = onBad;
    this.#supply = new Supply(workers, performance.now());
    this.#maxAhead = maxAhead;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<unknown, undefined>> {
    for (;;) {
      while (!this.#hasRoom && !this.#isLeft) await this.#room.promise;
      const line = this.#isLeft ? undefined : await this.#lines.next();
      // One that comes when none is wanted any more was not begun.
      if (this.#isLeft) return { value: undefined, done: true };
      if (line === undefined) {
        this.#isExhausted = true;
        return { value: undefined, done: true };
      }
      const parsed = parseLine(line);
      this.#taken = line.number;
      if (parsed.kind === "item") {
        return { value: this.#begin(line, parsed.item), done: false };
      }
      if (parsed.kind === "blank") this.#settled += line.size;
      else this.#hold(line, parsed);
    }
  }

  return(): Promise<IteratorResult<unknown, undefined>> {
    this.#isLeft = true;
    this.#room.resolve();
    return Promise.resolve({ value: undefined, done: true });
  }

  /** So many items are through, whether their outcomes were taken or not. */
  onProgress(done: number): void {
    this.#through = done;
    this.#supply.onProgress(done, performance.now());
    this.#onRoom();
  }

  /** The outcome of the item with this index was taken; returns the number of its line. */
  settle(index: number): number {
    const { line, size } = this.#open.get(index)!;
    this.#open.delete(index);
    this.#last = Math.max(this.#last, index);
    this.#onSettled(size);
    this.#tell();
    return line;
  }

  /** Bytes of the lines that have an outcome, or need none. */
  get settledBytes(): number {
    return this.#settled;
  }

  /**
   * The first line that has no outcome, and may not be there; `undefined` if there
   * is none.
   */
  get firstLeft(): number | undefined {
    let first: number | undefined;
    for (const { line } of this.#open.values()) {
      if (first === undefined || line < first) first = line;
    }
    if (first !== undefined || this.#isExhausted) return first;
    return this.#taken + 1;
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
    this.#tell();
  }

  /** Tells of those before which every item was begun: pools begin them in order. */
  #tell(): void {
    while (
      this.#held.length > 0 && this.#held.first.before <= this.#last + 1
    ) {
      const { line, size, text, error } = this.#held.shift();
      this.#onSettled(size);
      this.#onBad({ line, text, error });
    }
  }

  #onSettled(size: number): void {
    this.#settled += size;
    this.#ahead -= size + LINE_COST;
    this.#onRoom();
  }

  get #hasRoom(): boolean {
    return this.#ahead < this.#maxAhead &&
      this.#count - this.#through < this.#supply.size;
  }

  #onRoom(): void {
    if (!this.#hasRoom) return;
    this.#room.resolve();
    this.#room = Promise.withResolvers();
  }
}
