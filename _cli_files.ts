// Copyright 2026 the Duplex authors. MIT license.

/**
 * Files that options of the command line name to be written.
 *
 * @module
 */

import { messageOf, UsageError, writeAllSync } from "./_cli_arguments.ts";
import { quoted } from "./_text.ts";

/** Where bytes go, such as `Deno.stdout`. */
export interface ByteSink {
  /** Writes some of them; says how many. */
  write(bytes: Uint8Array): Promise<number>;
}

/** Writes all bytes, in as many parts as it takes. */
export async function writeAll(
  sink: ByteSink,
  bytes: Uint8Array,
): Promise<void> {
  for (let start = 0; start < bytes.length;) {
    start += await sink.write(bytes.subarray(start));
  }
}

/** What is known of standard input. */
export interface InputStat {
  /** Whether it is a file, which has a length. */
  readonly isFile: boolean;
  /** Bytes. */
  readonly size: number;
  /** The device that it is on, and its number there. */
  readonly dev: number;
  readonly ino: number;
}

/** What is known of standard input, if it is open. */
export async function statInput(): Promise<InputStat | undefined> {
  const { fstatSync } = await import("node:fs");
  try {
    const stat = fstatSync(0);
    const { size, dev, ino } = stat;
    return { isFile: stat.isFile(), size, dev, ino };
  } catch {
    // It may be closed, which whoever reads it is told.
    return undefined;
  }
}

/** A file that is open, with what was in it until it is cleared. */
export class OutputFile implements Disposable {
  readonly #option: string;
  readonly #path: string;
  readonly #file: Deno.FsFile;
  /** Whether there was none before. */
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
   * Opens it, or makes it.
   *
   * @param option The option that names it, without its dashes.
   * @param path The file.
   * @throws {Error} If it cannot be written, or not without asking a person.
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
   * Makes sure that it is not the file that standard input is read from.
   *
   * @throws {UsageError} If it is.
   */
  async checkIsNot(input: InputStat): Promise<void> {
    // Only a file loses what is in it, and one that was read was there.
    if (!input.isFile || this.isNew) return;
    const { dev, ino } = await this.#try(() => identify(this.#path));
    // Some systems have no such numbers.
    if (!ino || dev !== input.dev || ino !== input.ino) return;
    const name = `--${this.#option} ${quoted(this.#path)}`;
    throw new UsageError(
      `${name} is standard input as well, which would be lost: give another file`,
    );
  }

  /** Removes what is in it. */
  clear(): Promise<void> {
    return this.#try(async () => {
      try {
        await this.#file.truncate();
      } catch (error) {
        // What is no file, such as a pipe, cannot be made shorter. To ask before
        // would take the permission to read it.
        if ((error as { code?: unknown }).code !== "EINVAL") throw error;
      }
    });
  }

  /** Writes at its end. */
  write(bytes: Uint8Array): Promise<void> {
    return this.#try(() => writeAll(this.#file, bytes));
  }

  /** Writes at its end, before anything else is done. */
  writeSync(bytes: Uint8Array): void {
    try {
      writeAllSync(this.#file, bytes);
    } catch (cause) {
      throw writeError(this.#option, this.#path, cause);
    }
  }

  /** Removes it, if nobody else has. */
  async remove(): Promise<void> {
    try {
      await Deno.remove(this.#path);
    } catch {
      // Somebody else has removed it.
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

/** The numbers of a file; unlike `Deno.stat` it only has to be one to write. */
async function identify(
  path: string,
): Promise<Pick<InputStat, "dev" | "ino">> {
  const { closeSync, constants, fstatSync, openSync } = await import("node:fs");
  // A pipe that nobody reads is not waited for.
  const flags = constants.O_WRONLY | (constants.O_NONBLOCK ?? 0);
  const file = openSync(path, flags);
  try {
    const { dev, ino } = fstatSync(file);
    return { dev, ino };
  } finally {
    closeSync(file);
  }
}

/** What is attempted, for errors. */
function describe(option: string, path: string): string {
  return `--${option} ${quoted(path)} cannot be written`;
}

function writeError(option: string, path: string, cause: unknown): Error {
  return new Error(`${describe(option, path)}: ${messageOf(cause)}`, { cause });
}
