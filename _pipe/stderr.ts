// Copyright 2026 the Duplex authors. MIT license.

/**
 * A child's standard error: passed on to its target, with the end of it kept for the
 * error that reports the child's exit.
 *
 * @module
 */

import { TextLineStream } from "@std/streams";
import { quoted, withoutColor } from "../_base/text.ts";
import { writeAllSync } from "../_base/writing.ts";

/** Number of bytes kept for the error. */
const TAIL_SIZE = 4096;

/** Characters after which a line is cut, so that an endless line takes no memory. */
const MAX_LINE_LENGTH = 65_536;

/** Characters of the last line shown in an error. */
const MAX_SHOWN_LENGTH = 500;

/** The target of standard error. */
export type StderrTarget = "inherit" | "null" | ((line: string) => void);

/** Reads a child's standard error to its end. */
export class StderrReader {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #target: StderrTarget;
  readonly #lines:
    | WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>
    | undefined;
  #tail = new Uint8Array();
  readonly #printed = Promise.withResolvers<void>();
  /**
   * Settles when all of it was passed on, which a function that is called with the
   * lines may delay forever. Never rejects.
   */
  readonly ended: Promise<void>;

  /**
   * @param stream The child's standard error.
   * @param target Its target.
   * @param onError Called with an error thrown by a target that is a function.
   */
  constructor(
    stream: ReadableStream<Uint8Array>,
    target: StderrTarget,
    onError: (error: unknown) => void,
  ) {
    this.#reader = stream.getReader();
    this.#target = target;
    if (typeof target === "function") {
      const { readable, writable } = lineStream();
      this.#lines = writable.getWriter();
      const done = forEachLine(readable, target).catch(onError);
      this.ended = this.#read().then(() => done);
    } else {
      this.ended = this.#read();
    }
  }

  /** Passes bytes on as if the child had written them to standard error. */
  async print(bytes: Uint8Array): Promise<void> {
    this.#keep(bytes);
    if (this.#target === "inherit") writeError(bytes);
    // If this fails, `onError` was called with the error.
    await this.#lines?.write(bytes.slice()).catch(() => {});
  }

  /** Nothing more is printed, so that the last line is complete at the end. */
  endPrint(): void {
    this.#printed.resolve();
  }

  /** The end of the output. */
  get tail(): string {
    return new TextDecoder().decode(this.#tail).trimEnd();
  }

  /**
   * The end of an error message, with the most helpful line: the last line that
   * begins with the name of an error, as in Deno and Python, or the last line.
   */
  get hint(): string {
    const lines = withoutColor(this.tail).split("\n");
    const line = lines.findLast((line) => /^\w*error\b/i.test(line)) ??
      lines.at(-1)!;
    return line === "" ? "" : `; stderr: ${quoted(line, MAX_SHOWN_LENGTH)}`;
  }

  /** Stops reading. */
  cancel(): Promise<void> {
    return this.#reader.cancel();
  }

  async #read(): Promise<void> {
    try {
      for (;;) {
        const { value, done } = await this.#reader.read();
        if (done) break;
        await this.print(value);
      }
    } catch {
      // A pipe that cannot be read has ended.
    }
    // Standard error may end before text on standard output has been read.
    await this.#printed.promise;
    await this.#lines?.close().catch(() => {});
  }

  #keep(bytes: Uint8Array): void {
    const kept = this.#tail.subarray(
      Math.max(0, this.#tail.length + bytes.length - TAIL_SIZE),
    );
    const added = bytes.subarray(Math.max(0, bytes.length - TAIL_SIZE));
    const tail = new Uint8Array(kept.length + added.length);
    tail.set(kept);
    tail.set(added, kept.length);
    this.#tail = tail;
  }
}

/** Splits bytes into lines of at most {@linkcode MAX_LINE_LENGTH} characters. */
function lineStream(): TransformStream<Uint8Array<ArrayBuffer>, string> {
  let length = 0;
  const cut = new TransformStream<string, string>({
    transform(text, controller) {
      for (const piece of text.split(/(?<=\n)/)) {
        let rest = piece;
        while (length + rest.length > MAX_LINE_LENGTH) {
          const room = MAX_LINE_LENGTH - length;
          controller.enqueue(`${rest.slice(0, room)}\n`);
          rest = rest.slice(room);
          length = 0;
        }
        controller.enqueue(rest);
        length = rest.endsWith("\n") ? 0 : length + rest.length;
      }
    },
  });
  const decoder = new TextDecoderStream();
  return {
    writable: decoder.writable,
    readable: decoder.readable.pipeThrough(cut).pipeThrough(
      new TextLineStream(),
    ),
  };
}

async function forEachLine(
  lines: ReadableStream<string>,
  onLine: (line: string) => void,
): Promise<void> {
  for await (const line of lines) await onLine(line);
}

/** Passes on what the child wrote. */
function writeError(bytes: Uint8Array): void {
  try {
    writeAllSync(Deno.stderr, bytes);
  } catch {
    // The standard error of this process is closed. The child's is still read, so
    // that it does not fill up and block the child.
  }
}
