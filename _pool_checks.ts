// Copyright 2026 the Duplex authors. MIT license.

/**
 * Looks at what a pool was told, before anything is begun.
 *
 * @module
 */

/** Refuses what is no number of retries. */
export function checkRetries(action: string, retries: number): void {
  if (Number.isInteger(retries) && retries >= 0) return;
  const Kind = typeof retries === "number" ? RangeError : TypeError;
  throw new Kind(
    `${action} as "retries" must be a whole number from 0 up: current value is ${retries}`,
  );
}

/** Refuses an option of the wrong kind, if there is one. */
export function checkKind(
  action: string,
  name: string,
  value: unknown,
  kind: "boolean" | "function",
): void {
  if (value === undefined || typeof value === kind) return;
  throw new TypeError(
    `${action} as "${name}" must be a ${kind}: current value is ${value}`,
  );
}

/** Refuses items that cannot be iterated. */
export function checkItems(action: string, items: unknown): void {
  if (
    typeof items === "string" || typeof items === "object" && items !== null &&
      (Symbol.iterator in items || Symbol.asyncIterator in items)
  ) return;
  throw new TypeError(
    `${action} as its items must be iterable: current value is ${items}`,
  );
}
