// Copyright 2026 the Duplex authors. MIT license.

/**
 * Checks of what programs give to pools, tasks and calls, before anything begins.
 *
 * @module
 */

import { show } from "./text.ts";

/**
 * Refuses a number that is out of range.
 *
 * @param action What is attempted, for the error.
 * @param name The option's name.
 * @param value The option's value.
 * @param range Whether it must be whole, and the most that it may be.
 */
export function checkPositive(
  action: string,
  name: string,
  value: number,
  { whole = false, most = Infinity } = {},
): void {
  if (typeof value !== "number") {
    throw new TypeError(
      `${action} as "${name}" must be a number: current value is ${
        show(value)
      }`,
    );
  }
  if (value > 0 && value <= most && (!whole || Number.isInteger(value))) return;
  const kind = whole ? "whole number" : "number";
  const limit = most === Infinity ? "" : ` up to ${most}`;
  throw new RangeError(
    `${action} as "${name}" must be a positive ${kind}${limit}: current value is ${value}`,
  );
}

/** Throws unless `options` are an object. */
export function checkOptions(action: string, options: unknown): void {
  if (typeof options === "object" && options !== null) return;
  throw new TypeError(
    `${action} as "options" must be an object: current value is ${
      show(options)
    }`,
  );
}

/** Throws unless the numbers that a pool is given are in range. */
export function checkPool(
  action: string,
  { maxTasks, retries, startRetries, ...numbers }: {
    workers: number;
    maxTasks: number;
    maxMemory: number;
    startRetries: number;
    timeout: number;
    waitTimeout: number;
    retries: number;
  },
): void {
  if (maxTasks !== Infinity) {
    checkPositive(action, "maxTasks", maxTasks, { whole: true });
  }
  for (const [name, value] of Object.entries(numbers)) {
    const whole = name === "workers";
    checkPositive(action, name, value, { whole });
  }
  checkRetries(action, "retries", retries);
  checkRetries(action, "startRetries", startRetries);
}

/** Throws unless a name is a string. */
export function checkName(action: string, name: string, value: unknown): void {
  if (typeof value === "string") return;
  throw new TypeError(
    `${action} as "${name}" must be a string: current value is ${show(value)}`,
  );
}

/** Throws unless a signal is an `AbortSignal`, if there is one. */
export function checkSignal(action: string, signal: unknown): void {
  if (signal === undefined || signal instanceof AbortSignal) return;
  throw new TypeError(
    `${action} as "signal" must be an AbortSignal: current value is ${
      show(signal)
    }`,
  );
}

/** Throws unless a number of retries is an integer from 0 up, at most `most`. */
export function checkRetries(
  action: string,
  name: string,
  retries: unknown,
  most = Infinity,
): void {
  const isCount = Number.isInteger(retries) && Number(retries) >= 0;
  if (isCount && Number(retries) <= most) return;
  const Kind = typeof retries === "number" ? RangeError : TypeError;
  throw new Kind(
    `${action} as "${name}" must be a whole number from 0 ${
      most === Infinity ? "up" : `to ${most}`
    }: current value is ${show(retries)}`,
  );
}

/** Throws unless an option is of a kind, if it is there. */
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
