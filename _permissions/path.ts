// Copyright 2026 the Duplex authors. MIT license.

/**
 * Absolute paths, which are the same for this program and a worker in another folder.
 *
 * @module
 */

import { excerpt, messageOf, printable, quoted, show } from "../_base/text.ts";

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
export function pathOf(
  url: URL,
  { windows }: Pick<PathSystem, "windows"> = SYSTEM,
): string {
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
export function isCommandPath(
  command: string,
  { windows }: Pick<PathSystem, "windows"> = SYSTEM,
): boolean {
  return windows ? /[\\/]|^[a-zA-Z]:/.test(command) : command.includes("/");
}

/** Whether a path is absolute. */
export function isAbsolute(
  path: string,
  { windows }: Pick<PathSystem, "windows"> = SYSTEM,
): boolean {
  return windows ? WINDOWS_ABSOLUTE.test(path) : path.startsWith("/");
}

/** A URL with a scheme. A scheme of one letter is a drive or a folder. */
const URL_START = /^[a-zA-Z][a-zA-Z0-9+.-]+:/;

/** The schemes from which Deno loads modules. */
const SCHEMES = ["file", "http", "https", "data", "blob", "jsr", "npm"];

/**
 * Returns the URL of a worker script, which does not depend on the current folder.
 *
 * @param action What is attempted, for errors.
 * @param script A URL, or a path.
 * @throws {TypeError} If it is neither.
 */
export function scriptUrl(
  action: string,
  script: unknown,
  system: PathSystem = SYSTEM,
): URL {
  if (!(script instanceof URL)) {
    if (
      typeof script !== "string" || script === "" || script.includes("\0")
    ) {
      throw new TypeError(
        `${action} as the script must be a path or a URL: current value is ${
          show(script)
        }`,
      );
    }
    if (!isUrl(script)) return fileUrl(script, system);
  }
  const href = String(script);
  const url = URL.canParse(href) ? new URL(href) : undefined;
  if (url !== undefined && SCHEMES.includes(url.protocol.slice(0, -1))) {
    return url;
  }
  const why = url === undefined
    ? "is not a valid URL"
    : `has a scheme other than ${SCHEMES.join(", ")}`;
  throw new TypeError(
    `${action} as the script ${
      quoted(href)
    } ${why}; begin a path with "./", and give a path with a drive as a string`,
  );
}

/** Whether a text begins like a URL. A scheme of one letter is a drive. */
export function isUrl(text: string): boolean {
  return URL_START.test(text);
}

/** Returns the URL of a path. */
function fileUrl(path: string, system: PathSystem): URL {
  let text = absolutePath(path, system);
  if (system.windows) {
    text = text.replaceAll("\\", "/")
      .replace(/^\/\/[?.]\/UNC\//i, "//")
      .replace(/^\/\/[?.]\//, "");
  }
  // These would end the path, or be removed or changed by the parser of URLs.
  const escaped = text.replace(/[%?#|\\\s]/g, encodeURIComponent);
  // A share has two slashes, a drive none.
  if (!system.windows) return new URL(`file://${escaped}`);
  return new URL(`file:${text.startsWith("//") ? "" : "///"}${escaped}`);
}

/** The name of a script in errors. */
export function scriptName({ protocol, pathname }: URL): string {
  if (protocol === "data:") return "data:";
  const name = pathname.split("/").at(-1)!;
  try {
    return printable(decodeURIComponent(name));
  } catch {
    // It has a "%" without two digits, or bytes that are not UTF-8.
    return name;
  }
}
