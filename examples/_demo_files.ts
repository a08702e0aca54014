// Copyright 2026 the Duplex authors. MIT license.

/**
 * The files of the demonstration: what is told of one, and which ones a folder
 * holds. The worker and the main process both use it, so that they can be held
 * against each other.
 *
 * @module
 */

/** What is told of a file. */
export interface FileFacts {
  path: string;
  /** Bytes. */
  size: number;
  /** Lines; the last one counts although no line feed may end it. */
  lines: number;
  /** The SHA-256 digest in hexadecimal. */
  sha256: string;
}

/** A file or folder that could not be read, and why. */
export interface Unreadable {
  path: string;
  error: Error;
}

/** What a folder holds. */
export interface Listing {
  /** The paths of its files and those of the folders in it, sorted. */
  files: string[];
  /** How many symbolic links, devices and the like were left out. */
  skipped: number;
  /** The folders that could not be read. */
  unreadable: Unreadable[];
}

/** Folders that are not gone into. */
const LEFT_OUT: readonly string[] = [".git", "node_modules"];

const LINE_FEED = 0x0a;

/**
 * Reads a file and describes it.
 *
 * @param path The file's path.
 * @returns What is told of it.
 */
export async function describeFile(path: string): Promise<FileFacts> {
  const bytes = await Deno.readFile(path);
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return {
    path,
    size: bytes.length,
    lines: countLines(bytes),
    sha256: new Uint8Array(digest).toHex(),
  };
}

function countLines(bytes: Uint8Array): number {
  let lines = 0;
  let at = bytes.indexOf(LINE_FEED);
  for (; at >= 0; at = bytes.indexOf(LINE_FEED, at + 1)) lines++;
  const ended = bytes.length === 0 || bytes.at(-1) === LINE_FEED;
  return ended ? lines : lines + 1;
}

/**
 * Lists the files of a folder and of the folders in it. Symbolic links are not
 * followed: they may lead out of the folder.
 *
 * @param folder The folder's path.
 * @returns What it holds.
 */
export async function listFiles(folder: string): Promise<Listing> {
  const listing: Listing = { files: [], skipped: 0, unreadable: [] };
  const folders = [folder];
  for (const path of folders) {
    try {
      for await (const { name, ...entry } of Deno.readDir(path)) {
        const inner = path.endsWith("/") ? path + name : `${path}/${name}`;
        if (entry.isFile) listing.files.push(inner);
        else if (!entry.isDirectory) listing.skipped++;
        else if (!LEFT_OUT.includes(name)) folders.push(inner);
      }
    } catch (error) {
      listing.unreadable.push({ path, error: asError(error) });
    }
  }
  listing.files.sort();
  return listing;
}

/**
 * What was thrown as an error.
 *
 * @param thrown What was thrown.
 * @returns The error, or one that says what was thrown.
 */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
