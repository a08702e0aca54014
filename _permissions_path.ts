// Copyright 2026 the Duplex authors. MIT license.

/**
 * Paths as a worker in another folder understands them.
 *
 * @module
 */

/** A path that begins at a root, with a drive on Windows. */
const ABSOLUTE = /^(?:[a-zA-Z]:)?[\\/]/;

/** The path of a URL; the URL's text where it is not of a file. */
export function pathOf(url: URL): string {
  if (url.protocol !== "file:") return url.href;
  const path = decodeURIComponent(url.pathname);
  return /^\/[a-zA-Z]:/.test(path) ? path.slice(1) : path;
}

/** A path from the root. */
export function absolutePath(path: string): string {
  return ABSOLUTE.test(path) ? path : `${Deno.cwd()}/${path}`;
}
