// Copyright 2026 the Duplex authors. MIT license.

/**
 * Files that options of the command line name, the secret of a socket among them. A
 * secret is never an argument, which every user of the machine can read.
 *
 * @module
 */

import { type Arguments, UsageError } from "./arguments.ts";
import { messageLine } from "./terminal.ts";
import { quoted } from "../_base/text.ts";
import { writeAll, writeAllSync } from "../_base/writing.ts";

/** The environment variable for a secret. */
export const SECRET_VARIABLE = "DUPLEX_SECRET";

/**
 * Reads the secret of a socket.
 *
 * @returns The secret; `undefined` if none is given.
 * @throws {UsageError} If there are two, or it is empty or cannot be read.
 */
export async function readSecret(
  { values }: Arguments,
): Promise<Uint8Array | undefined> {
  const variable = takeVariable();
  const file = values.get("secret-file");
  if (file !== undefined && variable !== undefined) {
    throw new UsageError(
      `there are two secrets, in --secret-file and in ${SECRET_VARIABLE}: give one of them`,
    );
  }
  if (file !== undefined) {
    const bytes = withoutNewline(await readFile("secret-file", file));
    if (bytes.length > 0) return bytes;
    throw new UsageError(`--secret-file ${quoted(file)} is empty`);
  }
  if (variable === undefined) return undefined;
  if (variable !== "") return new TextEncoder().encode(variable);
  throw new UsageError(
    `${SECRET_VARIABLE} is empty: set it to the secret, or unset it`,
  );
}

/**
 * Removes the variable from the environment, which workers inherit, and returns its
 * value. Does not prompt: without the permission the variable is ignored.
 */
function takeVariable(): string | undefined {
  const { state } = Deno.permissions.querySync({
    name: "env",
    variable: SECRET_VARIABLE,
  });
  if (state !== "granted") return undefined;
  const secret = Deno.env.get(SECRET_VARIABLE);
  if (secret !== undefined) Deno.env.delete(SECRET_VARIABLE);
  return secret;
}

function withoutNewline(bytes: Uint8Array): Uint8Array {
  let end = bytes.length;
  if (bytes[end - 1] === 0x0a) end--;
  if (end < bytes.length && bytes[end - 1] === 0x0d) end--;
  return bytes.subarray(0, end);
}

/**
 * Reads a file that an option names.
 *
 * @throws {UsageError} If it cannot be read.
 */
export async function readFile(
  option: string,
  path: string,
): Promise<Uint8Array> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    throw new UsageError(
      `--${option} ${quoted(path)} cannot be read: ${messageLine(error)}`,
      { cause: error },
    );
  }
}

/** The standard streams, each at the index of its descriptor. */
const STREAMS = [
  "standard input",
  "standard output",
  "standard error",
] as const;

/** The state of a standard stream. */
export interface StreamStat {
  readonly name: typeof STREAMS[number];
  /** Whether it is a regular file. */
  readonly isFile: boolean;
  /** Bytes. */
  readonly size: number;
  /** The device of the file, and its number there. */
  readonly dev: number;
  readonly ino: number;
}

/** The state of the standard streams that are open. */
export async function statStreams(): Promise<StreamStat[]> {
  // Loading it takes some milliseconds, and not every command needs it.
  const { fstatSync } = await import("node:fs");
  return STREAMS.flatMap((name, descriptor): StreamStat[] => {
    try {
      const stat = fstatSync(descriptor);
      const { size, dev, ino } = stat;
      return [{ name, isFile: stat.isFile(), size, dev, ino }];
    } catch {
      // Closed: reading or writing it will report that.
      return [];
    }
  });
}

/** The numbers that identify a file. */
type FileIdentity = Pick<StreamStat, "dev" | "ino">;

/** Whether two files are the same. Some systems have no such numbers. */
export function isSameFile(a: FileIdentity, b: FileIdentity): boolean {
  return a.ino !== 0 && a.ino === b.ino && a.dev === b.dev;
}

/** An open file that keeps its content until it is cleared. */
export class OutputFile implements Disposable {
  readonly #option: string;
  readonly #path: string;
  readonly #file: Deno.FsFile;
  /** Whether this program created it. */
  readonly isNew: boolean;

  private constructor(
    option: string,
    path: string,
    file: Deno.FsFile,
    isNew: boolean,
  ) {
    this.#option = option;
    this.#path = path;
    this.#file = file;
    this.isNew = isNew;
  }

  /**
   * Opens or creates a file.
   *
   * @param option The option that names it, without its dashes.
   * @param path The file.
   * @throws {Error} If it cannot be written, or Deno would prompt.
   */
  static async open(option: string, path: string): Promise<OutputFile> {
    const { state } = Deno.permissions.querySync({ name: "write", path });
    if (state !== "granted") {
      throw new Deno.errors.NotCapable(
        `${describe(option, path)}: run it again with --allow-write=${path}`,
      );
    }
    const write = { write: true };
    const open = async (isNew: boolean) => {
      const how = isNew ? { createNew: true } : { create: true };
      const file = await Deno.open(path, { ...write, ...how });
      return new OutputFile(option, path, file, isNew);
    };
    try {
      return await open(true).catch((error) => {
        if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
        return open(false);
      });
    } catch (cause) {
      throw writeError(option, path, cause);
    }
  }

  /**
   * Throws if a standard stream is the same file, under any path. A pipe, a
   * terminal or `/dev/null` may be used several times.
   *
   * @throws {UsageError} If a stream is the same file.
   */
  async checkIsNoneOf(streams: readonly StreamStat[]): Promise<void> {
    const files = streams.filter(({ isFile }) => isFile);
    // The file of a stream existed before.
    if (files.length === 0 || this.isNew) return;
    const own = await this.#try(() => identify(this.#path));
    const same = files.find((file) => isSameFile(file, own));
    if (same === undefined) return;
    throw new UsageError(
      `--${this.#option} ${
        quoted(this.#path)
      } is ${same.name} as well, and its content would be lost: give another file`,
    );
  }

  /** Removes its content. */
  clear(): Promise<void> {
    return this.#try(async () => {
      try {
        await this.#file.truncate();
      } catch (error) {
        // A pipe, for example, cannot be truncated. To test for that before would
        // require the permission to read it.
        if ((error as { code?: unknown }).code !== "EINVAL") throw error;
      }
    });
  }

  /** Appends bytes. */
  write(bytes: Uint8Array): Promise<void> {
    return this.#try(() => writeAll(this.#file, bytes));
  }

  /** Appends bytes before it returns. */
  writeSync(bytes: Uint8Array): void {
    try {
      writeAllSync(this.#file, bytes);
    } catch (cause) {
      throw writeError(this.#option, this.#path, cause);
    }
  }

  /** Removes the file. Never rejects. */
  async remove(): Promise<void> {
    try {
      await Deno.remove(this.#path);
    } catch {
      // It was removed already.
    }
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }

  async #try<T>(act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (cause) {
      throw writeError(this.#option, this.#path, cause);
    }
  }
}

/** Identifies a file. Unlike `Deno.stat` it requires only the permission to write. */
async function identify(path: string): Promise<FileIdentity> {
  const { closeSync, constants, fstatSync, openSync } = await import("node:fs");
  // Does not wait for a reader of a named pipe.
  const flags = constants.O_WRONLY | (constants.O_NONBLOCK ?? 0);
  const file = openSync(path, flags);
  try {
    const { dev, ino } = fstatSync(file);
    return { dev, ino };
  } finally {
    closeSync(file);
  }
}

/** The start of an error about a file. */
function describe(option: string, path: string): string {
  return `--${option} ${quoted(path)} cannot be written`;
}

function writeError(option: string, path: string, cause: unknown): Error {
  return new Error(`${describe(option, path)}: ${messageLine(cause)}`, {
    cause,
  });
}
