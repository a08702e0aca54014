// Copyright 2026 the Duplex authors. MIT license.

/**
 * Absolute paths, which are the same for this program and a worker in another folder.
 *
 * @module
 */

import { excerpt, messageOf, quoted } from "../_base/text.ts";

/** The notation of paths of a system. */
export interface PathSystem {
  readonly windows: boolean;
  /** The current folder. */
  readonly cwd: () => string;
}

const SYSTEM: PathSystem = {
  windows: Deno.build.os === "windows",
  cwd: Deno.cwd,
};

/** A path on Windows from the root of a drive, or a UNC path. */
const WINDOWS_ABSOLUTE = /^(?:[a-zA-Z]:[\\/]|[\\/]{2})/;

/** A path on Windows that starts in the current folder of a drive. */
const DRIVE_RELATIVE = /^[a-zA-Z]:/;

/** The drive or the share of a path on Windows. */
const WINDOWS_ROOT = /^(?:[a-zA-Z]:|[\\/]{2}[^\\/]+[\\/][^\\/]+)/;

/**
 * The path of a file URL.
 *
 * @throws {TypeError} If the URL has no path on this system.
 */
export function pathOf(url: URL, { windows } = SYSTEM): string {
  if (url.protocol !== "file:") {
    throw new TypeError(
      `Cannot use the URL ${quoted(url.href)} as a path: it must be of a file`,
    );
  }
  if (url.hostname !== "" && !windows) {
    throw new TypeError(
      `Cannot use the URL ${quoted(url.href)} as a path: it names a host`,
    );
  }
  const path = decode(url);
  if (url.hostname !== "") return `//${url.hostname}${path}`;
  return windows && /^\/[a-zA-Z]:/.test(path) ? path.slice(1) : path;
}

function decode(url: URL): string {
  try {
    // As in Deno, a "%" without two digits is a character.
    const text = url.pathname.replace(/%(?![0-9A-Fa-f]{2})/g, "%25");
    return decodeURIComponent(text);
  } catch (cause) {
    throw new TypeError(
      `Cannot use the URL ${quoted(url.href)} as a path: ${
        excerpt(messageOf(cause))
      }`,
      { cause },
    );
  }
}

/**
 * Makes a path absolute, as this system resolves it.
 *
 * @throws {TypeError} If it is relative to the current folder of a drive, which a
 *   worker may not share.
 */
export function absolutePath(
  path: string,
  { windows, cwd }: PathSystem = SYSTEM,
): string {
  if (!windows) {
    if (path.startsWith("/")) return path;
    const folder = cwd();
    return folder === "/" ? `/${path}` : `${folder}/${path}`;
  }
  if (WINDOWS_ABSOLUTE.test(path)) return path;
  if (DRIVE_RELATIVE.test(path)) {
    throw new TypeError(
      `Cannot use the path ${
        quoted(path)
      }: it is relative to the current folder of a drive, which a worker may not share; begin it with "/" or a drive and "/"`,
    );
  }
  return /^[\\/]/.test(path)
    ? `${WINDOWS_ROOT.exec(cwd())?.[0] ?? ""}${path}`
    : `${cwd()}\\${path}`;
}

/** Whether a command is a path. Deno looks for other commands in `PATH`. */
export function isCommandPath(command: string, { windows } = SYSTEM): boolean {
  return windows ? /[\\/]|^[a-zA-Z]:/.test(command) : command.includes("/");
}

/** Whether a path is absolute. */
export function isAbsolute(path: string, { windows } = SYSTEM): boolean {
  return windows ? WINDOWS_ABSOLUTE.test(path) : path.startsWith("/");
}

/** Whether a script is a URL. A scheme of one letter is a drive or a folder. */
export function isUrl(script: string): boolean {
  return /^[a-zA-Z][a-zA-Z0-9+.-]+:/.test(script) && URL.canParse(script);
}
