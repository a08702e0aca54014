// Copyright 2026 the Duplex authors. MIT license.

/**
 * Compares two values as a receiver sees them. Order of keys, 0 and -0, and
 * fields of errors and arrays count.
 *
 * @module
 */

/** Fields of an error that are not enumerable. */
const ERROR_PARTS = [
  "name",
  "message",
  "stack",
  "cause",
  "errors",
  "error",
  "suppressed",
];

/** Finds the place at which two values differ. */
class Comparison {
  readonly #seen = new Map<object, object>();

  /** The place of the difference, or `undefined`. */
  find(one: unknown, other: unknown, path: string): string | undefined {
    if (Object.is(one, other)) return undefined;
    if (
      typeof one !== "object" || typeof other !== "object" || one === null ||
      other === null
    ) return path;
    if (Object.getPrototypeOf(one) !== Object.getPrototypeOf(other)) {
      return `${path} (its class)`;
    }
    if (this.#seen.has(one)) {
      return this.#seen.get(one) === other ? undefined : path;
    }
    this.#seen.set(one, other);
    return this.#special(one, other, path) ?? this.#fields(one, other, path);
  }

  /** Compares the parts of a value that are not fields. */
  #special(one: object, other: object, path: string): string | undefined {
    for (const constructor of [Number, String, Boolean, BigInt]) {
      if (!(one instanceof constructor)) continue;
      return this.find(one.valueOf(), other.valueOf(), path);
    }
    if (one instanceof URL) {
      return one.href === (other as URL).href ? undefined : path;
    }
    if (Object.prototype.toString.call(one).startsWith("[object Temporal.")) {
      return sameTime(one, other) ? undefined : path;
    }
    if (one instanceof Date) {
      return this.find(one.getTime(), (other as Date).getTime(), path);
    }
    if (one instanceof RegExp) {
      return String(one) === String(other) ? undefined : path;
    }
    if (one instanceof ArrayBuffer) {
      return equalBytes(
          new Uint8Array(one),
          new Uint8Array(other as ArrayBuffer),
        )
        ? undefined
        : path;
    }
    if (ArrayBuffer.isView(one)) {
      return equalBytes(bytesOf(one), bytesOf(other as ArrayBufferView))
        ? undefined
        : path;
    }
    if (one instanceof Map) {
      return this.#list([...one].flat(), [...other as typeof one].flat(), path);
    }
    if (one instanceof Set) {
      return this.#list([...one], [...other as typeof one], path);
    }
    if (one instanceof Error) return this.#error(one, other as Error, path);
    if (Array.isArray(one) && one.length !== (other as unknown[]).length) {
      return `${path}.length`;
    }
    return undefined;
  }

  #list(one: unknown[], other: unknown[], path: string): string | undefined {
    if (one.length !== other.length) return `${path} (its size)`;
    for (let index = 0; index < one.length; index++) {
      const found = this.find(one[index], other[index], `${path}<${index}>`);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #error(one: Error, other: Error, path: string): string | undefined {
    for (const part of ERROR_PARTS) {
      if (Object.hasOwn(one, part) !== Object.hasOwn(other, part)) {
        return `${path}.${part}`;
      }
      const found = this.find(
        one[part as keyof Error],
        other[part as keyof Error],
        `${path}.${part}`,
      );
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #fields(one: object, other: object, path: string): string | undefined {
    // Their indexes are their bytes.
    if (ArrayBuffer.isView(one)) return undefined;
    const keys = Object.keys(one);
    const others = Object.keys(other);
    if (keys.length !== others.length) return `${path} (its keys)`;
    for (let index = 0; index < keys.length; index++) {
      const key = keys[index]!;
      if (key !== others[index]) return `${path} (its keys)`;
      const found = this.find(
        (one as Record<string, unknown>)[key],
        (other as Record<string, unknown>)[key],
        `${path}.${key}`,
      );
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

/** Whether the parts of two objects of a class of `Temporal` are equal. */
function sameTime(one: object, other: object): boolean {
  const options = { calendarName: "always" } as const;
  const [text, otherText] = [one, other].map((value) =>
    (value as { toString(options: object): string }).toString(options)
  );
  const prototype = Object.getPrototypeOf(one);
  return text === otherText && Object.keys(
    Object.getOwnPropertyDescriptors(prototype),
  ).every((key) =>
    typeof Object.getOwnPropertyDescriptor(prototype, key)!.get !==
      "function" ||
    Object.is(
      one[key as keyof object],
      other[key as keyof object],
    )
  );
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** Whether bytes are equal. */
export function equalBytes(one: Uint8Array, other: Uint8Array): boolean {
  if (one.length !== other.length) return false;
  for (let index = 0; index < one.length; index++) {
    if (one[index] !== other[index]) return false;
  }
  return true;
}

/** The place at which two values differ, or `undefined` if they are equal. */
export function difference(one: unknown, other: unknown): string | undefined {
  return new Comparison().find(one, other, "$");
}
