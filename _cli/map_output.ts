// Copyright 2026 the Duplex authors. MIT license.

/**
 * The output of `map`: results as lines of JSON, and what failed.
 *
 * @module
 */

import { messageOf } from "./arguments.ts";
import {
  type ByteSink,
  OutputFile,
  type StreamStat,
  writeAll,
} from "./files.ts";
import { messageOf as textOf } from "../_base/text.ts";
import { ByteBuffer, json } from "../codec.ts";

/** Bytes of results that wait for whoever reads them, before the next is taken. */
const MAX_WAITING = 0x1_0000;

/** A buffer that grew beyond this is let go. */
const MAX_KEPT = 0x10_0000;

const NEWLINE = 0x0a;

/**
 * Writes results. What comes while others are written goes together, so that small
 * ones share the cost of a write.
 */
export class ResultWriter {
  readonly #sink: ByteSink;
  readonly #onFailure: (error: unknown) => void;
  #waiting = new ByteBuffer(MAX_WAITING);
  #spare = new ByteBuffer(MAX_WAITING);
  #writing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  /**
   * @param sink Where they go.
   * @param onFailure Told when nothing can be written any more.
   */
  constructor(sink: ByteSink, onFailure: (error: unknown) => void) {
    this.#sink = sink;
    this.#onFailure = onFailure;
  }

  /** Why nothing can be written any more, if it is so. */
  get failure(): { readonly error: unknown } | undefined {
    return this.#failure;
  }

  /**
   * Adds a result.
   *
   * @returns A promise where the next one has to wait.
   * @throws {TypeError} If JSON cannot carry it unchanged.
   */
  add(value: unknown): Promise<void> | undefined {
    const waiting = this.#waiting;
    try {
      // JSON has no undefined, which is what a method gives that gives nothing.
      json.encodeInto(value === undefined ? null : value, waiting);
    } catch (error) {
      throw resultError(error);
    }
    waiting.reserve(1);
    waiting.bytes[waiting.length++] = NEWLINE;
    this.#writing ??= this.#write();
    return waiting.length < MAX_WAITING ? undefined : this.#writing;
  }

  /** Settles when all that was added is written, or nothing can be. */
  async end(): Promise<void> {
    await this.#writing;
  }

  /** Writes what waits, until nothing does. Never rejects. */
  async #write(): Promise<void> {
    // What comes at the same time goes with it.
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
    // After a failure there is none again.
    if (this.#failure === undefined) this.#writing = undefined;
  }
}

/**
 * Lines of JSON with the same values, in which every character is escaped that a
 * terminal would act on or not show. A worker may have chosen them.
 *
 * @param bytes Whole lines.
 */
export function printableJson(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const text = new TextDecoder().decode(bytes);
  // What is left unescaped in JSON is inside of a string, or ends a line.
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

/** What is told of a result that JSON cannot carry. */
function resultError(error: unknown): TypeError {
  const reason = textOf(error).replace(/^Cannot encode a message: /, "");
  return new TypeError(`Cannot write the result as JSON: ${reason}`, {
    cause: error,
  });
}

/** A line without a result. */
export interface Failure {
  readonly line: number;
  /** What it said, or how it began, where it is no JSON. */
  readonly text?: string;
  /** What it says otherwise. */
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
  return messageOf(`line ${line}: ${name}: ${message}${often}`);
}

function partsOf(error: unknown): { name: string; message: string } {
  return { name: nameOf(error), message: textOf(error) };
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

/** The file that failures are written to. */
export class FailureFile implements Disposable {
  readonly #file: OutputFile;
  readonly #encoder = new TextEncoder();

  private constructor(file: OutputFile) {
    this.#file = file;
  }

  /**
   * Opens it; what was in it is gone.
   *
   * @param path The file.
   * @param streams The standard streams, none of which may be the same file.
   * @throws {UsageError} If one is.
   * @throws {Error} If it cannot be written, or not without asking a person.
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

  /** Writes one, before anything else is done: nothing piles up. */
  add(failure: Failure): void {
    this.#file.writeSync(this.#encoder.encode(`${failureJson(failure)}\n`));
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
