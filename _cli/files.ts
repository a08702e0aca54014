// Copyright 2026 the Duplex authors. MIT license.

/**
 * Files that options of the command line name to be written.
 *
 * @module
 */

import { messageOf, UsageError, writeAllSync } from "./arguments.ts";
import { quoted } from "../_base/text.ts";

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

/** The standard streams, each at the place of its descriptor. */
const STREAMS = [
  "standard input",
  "standard output",
  "standard error",
] as const;

/** What is known of a standard stream of this program. */
export interface StreamStat {
  readonly name: typeof STREAMS[number];
  /** Whether it is a file, which has a length. */
  readonly isFile: boolean;
  /** Bytes. */
  readonly size: number;
  /** The device that it is on, and its number there. */
  readonly dev: number;
  readonly ino: number;
}

/** What is known of the standard streams that are open. */
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

/** What says which file it is. */
type FileIdentity = Pick<StreamStat, "dev" | "ino">;

/** Whether two files are one. Some systems have no numbers that tell. */
export function isSameFile(a: FileIdentity, b: FileIdentity): boolean {
  return a.ino !== 0 && a.ino === b.ino && a.dev === b.dev;
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
   * Makes sure that no standard stream reads or writes the same file, by whatever
   * path. A pipe, a terminal or `/dev/null` may be in several places.
   *
   * @throws {UsageError} If one does.
   */
  async checkIsNoneOf(streams: readonly StreamStat[]): Promise<void> {
    const files = streams.filter(({ isFile }) => isFile);
    // One that a stream reads or writes was there before.
    if (files.length === 0 || this.isNew) return;
    const own = await this.#try(() => identify(this.#path));
    const same = files.find((file) => isSameFile(file, own));
    if (same === undefined) return;
    throw new UsageError(
      `--${this.#option} ${
        quoted(this.#path)
      } is ${same.name} as well, and what is in it would be lost: give another file`,
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
async function identify(path: string): Promise<FileIdentity> {
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
