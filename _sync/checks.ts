// Copyright 2026 the Duplex authors. MIT license.

/**
 * Checks of the arguments of locks.
 *
 * @module
 */

import { show } from "../_base/text.ts";

/** Whether a value is an instance of a class; `false` for a revoked proxy. */
export function hasType<T>(
  value: unknown,
  type: abstract new (...args: never[]) => T,
): value is T {
  try {
    return value instanceof type;
  } catch {
    // A revoked proxy, or a proxy whose trap throws.
    return false;
  }
}

/** Whether a constructor's argument is options, not a buffer. */
export function isOptions<Options extends object>(
  from: Options | SharedArrayBuffer,
): from is Options {
  if (typeof from !== "object" || from === null) return false;
  try {
    const prototype = Object.getPrototypeOf(from);
    return prototype === Object.prototype || prototype === null;
  } catch {
    // A revoked proxy, or a proxy whose trap throws.
    return false;
  }
}

/**
 * Throws unless a value can be the options of a call. An array or a signal is
 * a mistake: its properties are not options, so they would be ignored.
 */
export function checkOptions(action: string, options: unknown): void {
  if (
    typeof options === "object" && options !== null &&
    !hasType(options, Array) && !hasType(options, AbortSignal)
  ) return;
  throw new TypeError(
    `Cannot ${action} as "options" must be an object with options: current value is ${
      show(options)
    }`,
  );
}

/** Returns an option that is a boolean, `false` if it is not set. */
export function checkFlag(
  action: string,
  name: string,
  value: unknown = false,
): boolean {
  if (typeof value === "boolean") return value;
  throw new TypeError(
    `Cannot ${action} as "${name}" must be true or false: current value is ${
      show(value)
    }`,
  );
}

/** Returns a number that must be whole and in a range. */
export function checkWhole(
  action: string,
  name: string,
  value: unknown,
  least: number,
  most = Infinity,
): number {
  if (typeof value === "number") {
    if (Number.isInteger(value) && value >= least && value <= most) {
      return value;
    }
  }
  const range = most === Infinity ? `${least} on` : `${least} to ${most}`;
  const Kind = typeof value === "number" ? RangeError : TypeError;
  throw new Kind(
    `Cannot ${action} as "${name}" must be a whole number from ${range}: current value is ${
      show(value)
    }`,
  );
}

/** Returns a number that must be a safe integer. */
export function checkSafe(
  action: string,
  name: string,
  value: unknown,
): number {
  if (typeof value === "number" && Number.isSafeInteger(value)) return value;
  const Kind = typeof value === "number" ? RangeError : TypeError;
  throw new Kind(
    `Cannot ${action} as "${name}" must be a safe integer: current value is ${
      show(value)
    }`,
  );
}

/** Throws unless a value is a function. */
export function checkFunction(
  action: string,
  name: string,
  value: unknown,
): void {
  if (typeof value === "function") return;
  throw new TypeError(
    `Cannot ${action} as "${name}" must be a function: current value is ${
      show(value)
    }`,
  );
}
