// Copyright 2026 the Duplex authors. MIT license.

/**
 * Setting properties whose names a peer chose.
 *
 * @module
 */

/** The last index that an object or an array may have. */
const MAX_INDEX = 2 ** 32 - 2;

/** Whether a property's name is an index, which V8 stores apart from other names. */
export function isIndex(key: string): boolean {
  const { length } = key;
  if (length === 0 || length > 10) return false;
  for (let at = 0; at < length; at++) {
    const code = key.charCodeAt(at);
    if (code < 0x30 || code > 0x39) return false;
  }
  return (length === 1 || key[0] !== "0") &&
    (length < 10 || Number(key) <= MAX_INDEX);
}

/** The last index but one that an object may have. */
const FAR_INDEX = "4294967293";

/**
 * Sets a property whose name is an index.
 *
 * V8 stores indexes in an array with room for all lower indexes as well, 13 kB for
 * a key of four bytes, as long as the array is not much larger than a hash table
 * would be. A very large index makes it use a hash table (V8's
 * `ShouldConvertToSlowElements`, `src/objects/js-objects-inl.h`), which
 * it keeps after that index is deleted. `tests/codec/memory_test.ts` fails if this
 * stops working.
 *
 * @param record The object.
 * @param key The name.
 * @param value The value.
 */
export function defineIndex(
  record: Record<string, unknown>,
  key: string,
  value: unknown,
): void {
  if (Object.hasOwn(record, FAR_INDEX) || key === FAR_INDEX) {
    record[key] = value;
    return;
  }
  record[FAR_INDEX] = undefined;
  record[key] = value;
  delete record[FAR_INDEX];
}

/**
 * Sets an own property, even if assignment would call a setter of a prototype.
 *
 * @param target The object.
 * @param key The property's name.
 * @param value Its value.
 * @param enumerable Whether the property is enumerable.
 */
export function defineOwn(
  target: object,
  key: string,
  value: unknown,
  enumerable = true,
): void {
  Object.defineProperty(target, key, {
    value,
    writable: true,
    enumerable,
    configurable: true,
  });
}

/**
 * Sets an own property of an object that was just created.
 *
 * @param target The object.
 * @param key The property's name.
 * @param value Its value.
 */
export function setOwn(target: object, key: string, value: unknown): void {
  // Assignment takes a third of the time if no prototype has such a property.
  if (key in target) defineOwn(target, key, value);
  else (target as Record<string, unknown>)[key] = value;
}
