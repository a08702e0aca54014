// Copyright 2026 the Duplex authors. MIT license.

/**
 * The JSON codec. Encoding throws for values that would not be received equal,
 * which `JSON.stringify` omits or changes.
 *
 * @module
 */

import { type ByteBuffer, readText, writeText } from "../_base/byte_buffer.ts";
import { ProtocolError } from "../_base/errors.ts";
import { scanJson } from "./json_scan.ts";
import { excerpt, messageOf } from "../_base/text.ts";
import {
  arrayFields,
  describeUnsendable,
  explainRefusal,
  isRecord,
  MAX_DEPTH,
  mayHaveFields,
} from "./values.ts";

/** Describes why a value itself cannot be sent as JSON, or returns `undefined`. */
function describe(value: unknown): string | undefined {
  switch (typeof value) {
    case "undefined":
      return "undefined, which JSON cannot carry";
    case "bigint":
      return "a bigint, which JSON cannot carry";
    case "number":
      return Number.isFinite(value)
        ? undefined
        : `${value}, which JSON cannot carry`;
    case "object":
      break;
    default:
      return describeUnsendable(value);
  }
  if (value === null) return undefined;
  if (isPlain(value)) {
    return Array.isArray(value) && arrayFields(value).length > 0
      ? "an array with fields in addition to its items, which JSON cannot carry"
      : undefined;
  }
  const reason = describeUnsendable(value);
  if (reason) return reason;
  if (Array.isArray(value) || isRecord(value)) {
    return 'an object with a method "toJSON", which would not be received equal';
  }
  const tag = Object.prototype.toString.call(value).slice(8, -1);
  return `of the class ${excerpt(tag)}, which JSON cannot carry`;
}

/** Whether an object is an array or a record that JSON does not change. */
function isPlain(value: object): boolean {
  if ("toJSON" in value && typeof value.toJSON === "function") return false;
  if (Array.isArray(value)) return true;
  const prototype = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) return true;
  return !(value instanceof Error) && isRecord(value);
}

/** Checks a message before it is encoded. */
class Checker {
  readonly #root: unknown;
  /** The containers met so far, if a container contains another one. */
  #seen: Set<unknown> | undefined;

  constructor(root: unknown) {
    this.#root = root;
    this.#seen = undefined;
  }

  check(value: unknown, depth: number): void {
    switch (typeof value) {
      case "string":
      case "boolean":
        return;
      case "number":
        if (!Number.isFinite(value)) this.#refuse();
        return;
      case "object":
        if (value !== null) this.#object(value, depth);
        return;
      default:
        this.#refuse();
    }
  }

  #refuse(): never {
    throw new TypeError(explainRefusal(this.#root, describe));
  }

  #object(value: object, depth: number): void {
    if (!isPlain(value)) this.#refuse();
    if (depth > 0) {
      if (depth >= MAX_DEPTH) this.#refuse();
      this.#seen ??= new Set([this.#root]);
      const size = this.#seen.size;
      this.#seen.add(value);
      if (this.#seen.size === size) this.#refuse();
    }
    if (Array.isArray(value)) {
      // The loop below throws if an item is missing.
      if (mayHaveFields(value)) this.#refuse();
      for (const item of value) this.check(item, depth + 1);
    } else {
      const record = value as Record<string, unknown>;
      for (const key of Object.keys(record)) this.check(record[key], depth + 1);
    }
  }
}

/**
 * Appends a value as JSON.
 *
 * @param value The value.
 * @param target The buffer. If this throws, its length is unchanged.
 * @throws {TypeError} If the value, or one in it, cannot be sent as JSON.
 */
export function encodeJsonInto(value: unknown, target: ByteBuffer): void {
  new Checker(value).check(value, 0);
  const text = JSON.stringify(value);
  const start = target.length;
  try {
    writeText(target, text);
  } catch (error) {
    target.length = start;
    throw error;
  }
}

/**
 * Reads one JSON text.
 *
 * @param bytes The text in UTF-8.
 * @returns The value.
 * @throws {ProtocolError} If the bytes are not exactly one JSON text.
 */
export function decodeJson(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = readText(bytes);
  } catch (cause) {
    throw new ProtocolError("Cannot decode a message: it is not valid UTF-8", {
      cause,
    });
  }
  const reason = scanJson(bytes, text.length === bytes.length);
  if (reason !== undefined) {
    throw new ProtocolError(`Cannot decode a message: ${reason}`);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ProtocolError(
      `Cannot decode a message: it is not valid JSON: ${
        excerpt(messageOf(cause))
      }`,
      { cause },
    );
  }
}
