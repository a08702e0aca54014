// Copyright 2026 the Duplex authors. MIT license.

/**
 * The files of the demonstration: lists the files of a folder and describes each.
 * The worker and the main process both use it, so their results can be compared.
 *
 * @module
 */

/** The description of a file. */
export interface FileFacts {
  path: string;
  /** Bytes. */
  size: number;
  /** Lines; the last one counts with or without a line feed at its end. */
  lines: number;
  /** The SHA-256 digest in hexadecimal. */
  sha256: string;
}

/** A file or folder that could not be read, and the error. */
export interface Unreadable {
  path: string;
  error: Error;
}

/** The contents of a folder. */
export interface Listing {
  /** The paths of the files in it and in its subfolders, sorted. */
  files: string[];
  /** Number of symbolic links, devices and the like that were skipped. */
  skipped: number;
  /** The folders that could not be read. */
  unreadable: Unreadable[];
}

/** Names of folders that are skipped. */
const SKIPPED_FOLDERS: readonly string[] = [".git", "node_modules"];

const LINE_FEED = 0x0a;

/**
 * Reads a file and describes it.
 *
 * @param path The file's path.
 * @returns The description.
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
 * Lists the files of a folder and of its subfolders. Symbolic links are not
 * followed, because they may lead out of the folder.
 *
 * @param folder The folder's path.
 * @returns The contents.
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
        else if (!SKIPPED_FOLDERS.includes(name)) folders.push(inner);
      }
    } catch (error) {
      listing.unreadable.push({ path, error: asError(error) });
    }
  }
  listing.files.sort();
  return listing;
}

/**
 * Converts a thrown value to an error.
 *
 * @param thrown The thrown value.
 * @returns The value if it is an error, otherwise an error with its text.
 */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
