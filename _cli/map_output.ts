// Copyright 2026 the Duplex authors. MIT license.

/**
 * The output of `map`: results as lines of JSON, and failures.
 *
 * @module
 */

import { OutputFile, type StreamStat } from "./files.ts";
import { toPlain } from "./plain.ts";
import { messageLine } from "./terminal.ts";
import { messageOf } from "../_base/text.ts";
import { ByteBuffer } from "../_base/byte_buffer.ts";
import { type ByteSink, writeAll } from "../_base/writing.ts";
import { json } from "../codec.ts";

/** Bytes of results that wait to be written before `map` waits: the capacity of a pipe. */
const MAX_WAITING = 0x1_0000;

/** The size in bytes above which a buffer is released. */
const MAX_KEPT = 0x10_0000;

const NEWLINE = 0x0a;

/**
 * Writes results. Results that arrive during a write are written together, so that
 * small ones share the cost of a write.
 */
export class ResultWriter {
  readonly #sink: ByteSink;
  readonly #onFailure: (error: unknown) => void;
  readonly #isStrict: boolean;
  /** Whether a result had no JSON form of its own; then the next ones may not either. */
  #isChanging = false;
  #waiting = new ByteBuffer(MAX_WAITING);
  #spare = new ByteBuffer(MAX_WAITING);
  #writing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  /**
   * @param sink The output.
   * @param onFailure Called with the error of a write.
   * @param isStrict Whether a result that JSON does not have is an error.
   */
  constructor(
    sink: ByteSink,
    onFailure: (error: unknown) => void,
    isStrict = false,
  ) {
    this.#sink = sink;
    this.#onFailure = onFailure;
    this.#isStrict = isStrict;
  }

  /** The error of a write, after which nothing is written. */
  get failure(): { readonly error: unknown } | undefined {
    return this.#failure;
  }

  /**
   * Adds a result.
   *
   * @returns A promise if the next result has to wait.
   * @throws {TypeError} If it has no JSON form.
   */
  add(value: unknown): Promise<void> | undefined {
    const waiting = this.#waiting;
    try {
      const bytes = this.#encode(value);
      waiting.reserve(bytes.length + 1);
      waiting.bytes.set(bytes, waiting.length);
      waiting.length += bytes.length;
    } catch (error) {
      throw resultError(error);
    }
    waiting.bytes[waiting.length++] = NEWLINE;
    this.#writing ??= this.#write();
    return waiting.length < MAX_WAITING ? undefined : this.#writing;
  }

  #encode(value: unknown): Uint8Array {
    // JSON has no undefined, the result of a method that returns nothing.
    if (value === undefined) return json.encode(null);
    if (this.#isStrict) return json.encode(value);
    if (!this.#isChanging) {
      try {
        return json.encode(value);
      } catch {
        // The copy below is encoded, or its error is thrown.
        this.#isChanging = true;
      }
    }
    return json.encode(toPlain(value));
  }

  /** Resolves when all results are written, or a write has failed. */
  async end(): Promise<void> {
    await this.#writing;
  }

  /** Writes the results that wait. Never rejects. */
  async #write(): Promise<void> {
    // Results of the same turn are written together.
    await undefined;
    try {
      while (this.#waiting.length > 0) {
        const full = this.#waiting;
        this.#waiting = this.#spare;
        await writeAll(this.#sink, full.bytes.subarray(0, full.length));
        full.length = 0;
        this.#spare = full.bytes.length > MAX_KEPT
          ? new ByteBuffer(MAX_WAITING)
          : full;
      }
    } catch (error) {
      this.#failure = { error };
      this.#onFailure(error);
    }
    // After a failure nothing is written.
    if (this.#failure === undefined) this.#writing = undefined;
  }
}

/**
 * Escapes the characters that control a terminal, or that it does not show, in lines
 * of JSON. The values stay the same. A worker may have chosen the characters.
 *
 * @param bytes Complete lines.
 */
export function printableJson(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const text = new TextDecoder().decode(bytes);
  // Such a character is inside a string, or ends a line.
  const safe = text.replace(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (char) => char === "\n" ? char : escapeJson(char),
  );
  return new TextEncoder().encode(safe);
}

function escapeJson(char: string): string {
  return Array.from(
    { length: char.length },
    (_, index) => `\\u${char.charCodeAt(index).toString(16).padStart(4, "0")}`,
  ).join("");
}

/** Error of a result that JSON cannot carry. */
function resultError(error: unknown): TypeError {
  const reason = messageOf(error).replace(/^Cannot encode a message: /, "");
  return new TypeError(`Cannot write the result as JSON: ${reason}`, {
    cause: error,
  });
}

/** A line without a result. */
export interface Failure {
  readonly line: number;
  /** The text of a line that is not JSON, or its beginning. */
  readonly text?: string;
  /** The value of a line that is JSON. */
  readonly item?: unknown;
  readonly error: unknown;
  /** How often it was given to a worker that may have begun it. */
  readonly attempts: number;
}

/** A failure as a line of JSON. */
export function failureJson(failure: Failure): string {
  const { line, text, item, error, attempts } = failure;
  const what = text === undefined ? { item } : { text };
  return JSON.stringify({ line, ...what, error: partsOf(error), attempts });
}

/** A failure as a line for people. */
export function failureLine({ line, error, attempts }: Failure): string {
  const { name, message } = partsOf(error);
  const often = attempts > 1 ? ` (run ${attempts} times)` : "";
  return messageLine(`line ${line}: ${name}: ${message}${often}`);
}

function partsOf(error: unknown): { name: string; message: string } {
  return { name: nameOf(error), message: messageOf(error) };
}

/** The name of an error, the type of any other value. */
function nameOf(error: unknown): string {
  try {
    if (error instanceof Error) {
      const { name } = error as { name: unknown };
      return typeof name === "string" ? name : "Error";
    }
  } catch {
    // A proxy or a getter threw.
  }
  return typeof error;
}

/** The file for failures. */
export class FailureFile implements Disposable {
  readonly #file: OutputFile;
  readonly #encoder = new TextEncoder();

  private constructor(file: OutputFile) {
    this.#file = file;
  }

  /**
   * Opens the file and removes its content.
   *
   * @param path The file.
   * @param streams The standard streams, which must be other files.
   * @throws {UsageError} If a stream is the same file.
   * @throws {Error} If it cannot be written, or Deno would prompt.
   */
  static async open(
    path: string,
    streams: readonly StreamStat[],
  ): Promise<FailureFile> {
    const file = await OutputFile.open("errors", path);
    try {
      await file.checkIsNoneOf(streams);
      await file.clear();
    } catch (error) {
      file[Symbol.dispose]();
      throw error;
    }
    return new FailureFile(file);
  }

  /** Writes a failure before it returns, so that no failures wait in memory. */
  add(failure: Failure): void {
    this.#file.writeSync(this.#encoder.encode(`${failureJson(failure)}\n`));
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
