// Copyright 2026 the Duplex authors. MIT license.

/**
 * Checks of options. Each takes the attempted action, with which its error begins.
 *
 * @module
 */

import { isInstance } from "./errors.ts";
import { show } from "./text.ts";

/** Milliseconds to open a duplex: ten times a cold start on a busy machine. */
export const DEFAULT_OPEN_TIMEOUT = 10_000;

/** Throws unless a number is positive, and in range. */
export function checkPositive(
  action: string,
  name: string,
  value: number,
  { integer = false, max = Infinity }: { integer?: boolean; max?: number } = {},
): void {
  if (typeof value !== "number") {
    throw new TypeError(
      `${action} as "${name}" must be a number: current value is ${
        show(value)
      }`,
    );
  }
  if (value > 0 && value <= max && (!integer || Number.isInteger(value))) {
    return;
  }
  const kind = integer ? "integer" : "number";
  const limit = max === Infinity ? "" : ` up to ${max}`;
  throw new RangeError(
    `${action} as "${name}" must be a positive ${kind}${limit}: current value is ${value}`,
  );
}

/** Throws unless a number is in a range; returns it. */
export function checkNumber(
  action: string,
  name: string,
  value: unknown,
  { min, max = Number.MAX_VALUE, integer = false }: {
    min: number;
    /** With `Infinity` the number may be infinite. */
    max?: number;
    integer?: boolean;
  },
): number {
  if (
    typeof value === "number" && value >= min && value <= max &&
    (!integer || Number.isInteger(value))
  ) return value;
  const Kind = typeof value === "number" ? RangeError : TypeError;
  const kind = integer ? "an integer" : "a number";
  const range = max >= Number.MAX_VALUE
    ? `of at least ${min}`
    : `from ${min} to ${max}`;
  throw new Kind(
    `${action} as "${name}" must be ${kind} ${range}: current value is ${
      show(value)
    }`,
  );
}

/** Throws unless a number is finite. */
export function checkFinite(
  action: string,
  name: string,
  value: unknown,
): void {
  if (Number.isFinite(value)) return;
  const Kind = typeof value === "number" ? RangeError : TypeError;
  throw new Kind(
    `${action} as "${name}" must be a finite number: current value is ${
      show(value)
    }`,
  );
}

/** Throws unless `options` is an object; an array or a signal is a mistake. */
export function checkOptions(
  action: string,
  options: unknown,
  name = "options",
): void {
  if (
    typeof options === "object" && options !== null &&
    !isInstance(options, Array) && !isInstance(options, AbortSignal)
  ) return;
  throw new TypeError(
    `${action} as "${name}" must be an object: current value is ${
      show(options)
    }`,
  );
}

/** Throws unless a name is a string. */
export function checkName(action: string, name: string, value: unknown): void {
  if (typeof value === "string") return;
  throw new TypeError(
    `${action} as "${name}" must be a string: current value is ${show(value)}`,
  );
}

/** Throws unless a signal is an `AbortSignal` or `undefined`. */
export function checkSignal(action: string, signal: unknown): void {
  if (signal === undefined || isInstance(signal, AbortSignal)) return;
  throw new TypeError(
    `${action} as "signal" must be an AbortSignal: current value is ${
      show(signal)
    }`,
  );
}

/** Throws unless an option is of a kind or `undefined`. */
export function checkKind(
  action: string,
  name: string,
  value: unknown,
  kind: "boolean" | "function",
): void {
  if (value === undefined || typeof value === kind) return;
  throw new TypeError(
    `${action} as "${name}" must be a ${kind}: current value is ${show(value)}`,
  );
}

/** Throws unless a value is one of some strings. */
export function checkOneOf(
  action: string,
  name: string,
  value: unknown,
  known: readonly string[],
): void {
  if (known.some((text) => text === value)) return;
  const list = known.map((text) => `"${text}"`).join(" or ");
  throw new TypeError(
    `${action} as "${name}" must be ${list}: current value is ${show(value)}`,
  );
}

/** Throws unless items can be iterated. */
export function checkItems(action: string, items: unknown): void {
  if (
    typeof items === "string" || typeof items === "object" && items !== null &&
      (Symbol.iterator in items || Symbol.asyncIterator in items)
  ) return;
  throw new TypeError(
    `${action} as its items must be iterable: current value is ${show(items)}`,
  );
}
