// Copyright 2026 the Duplex authors. MIT license.

/**
 * Which errors of the start of a worker last: a mistake in the script or the options,
 * or a permission that is missing. Another attempt would fail in the same way. Other
 * errors, such as that of a server that cannot be reached, may pass.
 *
 * @module
 */

import { isInstance, PeerExitError } from "./errors.ts";
import { messageOf, withoutColor } from "./text.ts";

/** Errors that last although errors of their class may pass. */
const marked = new WeakSet<object>();

/** Causes of an error that are looked at: one may be its own cause. */
const MAX_CAUSES = 8;

/** Names of errors for what the program, or the system, does not allow. */
const FORBIDDEN = ["NotCapable", "PermissionDenied"];

/** The classes of errors for invalid options, and for mistakes in a program. */
const MISTAKES = [TypeError, RangeError, ReferenceError, SyntaxError];

/** A reason of the runtime for an error of one of these classes that may pass. */
const SHORTAGE = /allocation failed|out of memory/i;

/**
 * What Deno prints, or reports of a Web Worker, for a script that it cannot load or
 * that lacks a permission, and for flags that it does not accept.
 */
const LASTING_END = new RegExp(
  [
    /Module not found/,
    /\bSyntaxError\b/,
    /module's source code could not be parsed/,
    /not a dependency|[Rr]elative import path|Unsupported scheme/,
    /\bNotCapable\b|Requires \w+ access to/,
    /TS\d+ \[ERROR\]|Type checking failed/,
    /error: (?:unexpected argument|invalid value|the argument|unrecognized)/,
    /[Uu]nknown flag|illegal value for flag/,
  ].map(({ source }) => source).join("|"),
);

/** Marks an error as one that lasts; returns it. */
export function markLasting<T>(error: T): T {
  if (typeof error === "object" && error !== null) marked.add(error);
  return error;
}

/**
 * Whether an error lasts. One that has a cause lasts if its cause does, so that an
 * error of `fetch`, a `TypeError` for a lost connection, does not.
 */
export function isLasting(error: unknown): boolean {
  let current = error;
  for (let depth = 0; depth < MAX_CAUSES; depth++) {
    if (!isInstance(current, Error)) return false;
    if (marked.has(current)) return true;
    if (isInstance(current, PeerExitError)) return isLastingEnd(current);
    try {
      const { name, cause } = current;
      if (FORBIDDEN.includes(name)) return true;
      if (cause === undefined) return isMistake(current);
      current = cause;
    } catch {
      // A proxy or a getter threw.
      return false;
    }
  }
  return false;
}

function isMistake(error: Error): boolean {
  return MISTAKES.some((Class) => isInstance(error, Class)) &&
    !SHORTAGE.test(messageOf(error));
}

/** Whether a worker that ended before it was ready would do so again. */
function isLastingEnd({ code, stderr, message }: PeerExitError): boolean {
  // A script that has been run to its end without a call of `parent` or `expose`.
  if (code === 0) return true;
  return LASTING_END.test(withoutColor(stderr)) || LASTING_END.test(message);
}
