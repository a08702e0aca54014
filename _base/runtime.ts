// Copyright 2026 the Duplex authors. MIT license.

/**
 * The version of Deno that a function needs, checked when it is called: with an older
 * one it would fail later, with an error that does not name the reason.
 *
 * @module
 */

/** The first Deno in which the whole package works: it has Web Locks, and permissions for Unix sockets. */
export const MIN_DENO = "2.9.0";

/** The first Deno in which processes work: it has the permission to import. */
export const MIN_DENO_FOR_PROCESSES = "2.4.0";

/** The version that runs, as every thread and process of this package sees it. */
const CURRENT = navigator.userAgent.replace("Deno/", "");

/**
 * Throws if Deno is older than a function needs.
 *
 * @param action What is attempted, for the error.
 * @param minimum The oldest version that suffices.
 * @param current The version that runs.
 * @throws {Error} If the version that runs is older.
 */
export function checkRuntime(
  action: string,
  minimum: string,
  current: string = CURRENT,
): void {
  if (isOlder(current, minimum)) {
    throw new Error(
      `${action} as it needs Deno ${minimum} or later: current version is ${current}`,
    );
  }
}

/** Whether a version is older. `false` if it cannot be read. */
function isOlder(version: string, minimum: string): boolean {
  const own = version.split(".");
  const other = minimum.split(".");
  for (let index = 0; index < other.length; index++) {
    // A suffix of the third number ("+a1b2c3d") does not count.
    const difference = parseInt(own[index] ?? "") - Number(other[index]);
    if (difference !== 0) return difference < 0;
  }
  return false;
}
