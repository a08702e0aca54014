// Copyright 2026 the Duplex authors. MIT license.

/**
 * The JSON codec. Encoding throws for values that would not be received equal,
 * which `JSON.stringify` omits or changes.
 *
 * @module
 */

import { type ByteBuffer, readText, writeText } from "../_base/byte_buffer.ts";
import { ProtocolError } from "../_base/errors.ts";
import {
  DEFAULT_RULES,
  type SharingRules,
  tooManyCopies,
} from "./fast_codec.ts";
import { scanJson } from "./json_scan.ts";
import { excerpt, messageOf } from "../_base/text.ts";
import {
  arrayFields,
  describeUnsendable,
  explainRefusal,
  isRecord,
  leastCopiedSize,
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

/** Maximum characters of a string in V8. */
const MAX_TEXT_LENGTH = 2 ** 29 - 24;

/** Thrown to check a message from the start, since a container occurs again. */
const REPEAT = new Error("A container occurs again");

/** A number whose text is not that of `JSON.stringify`, which TypeScript does not know. */
const { rawJSON } = JSON as unknown as { rawJSON(text: string): object };

/** `-0` as a float, since other languages read `-0` as the integer 0. */
const NEGATIVE_ZERO = rawJSON("-0.0");

/** A replacer for `JSON.stringify`, which writes `-0` as 0. */
function keepSign(_key: string, value: unknown): unknown {
  return Object.is(value, -0) ? NEGATIVE_ZERO : value;
}

/** Checks a message before it is encoded. */
class Checker {
  /** Whether `-0` is in the message. */
  hasNegativeZero = false;
  protected readonly root: unknown;
  protected readonly rules: SharingRules;
  /** The containers met so far, if a container contains another one. */
  #seen: Set<unknown> | undefined;

  constructor(root: unknown, rules: SharingRules) {
    this.root = root;
    this.rules = rules;
    this.#seen = undefined;
  }

  check(value: unknown, depth: number): void {
    switch (typeof value) {
      case "string":
      case "boolean":
        return;
      case "number":
        if (!Number.isFinite(value)) this.refuse();
        if (value === 0 && 1 / value < 0) this.hasNegativeZero = true;
        return;
      case "object":
        if (value !== null) this.#object(value, depth);
        return;
      default:
        this.refuse();
    }
  }

  protected refuse(): never {
    const sharing = this.rules.copies ? "copies" : "none";
    throw new TypeError(explainRefusal(this.root, describe, sharing));
  }

  #object(value: object, depth: number): void {
    if (!isPlain(value)) this.refuse();
    this.enter(value, depth);
    if (Array.isArray(value)) {
      // The loop below throws if an item is missing.
      if (mayHaveFields(value)) this.refuse();
      for (const item of value) this.check(item, depth + 1);
    } else {
      const record = value as Record<string, unknown>;
      for (const key of Object.keys(record)) this.check(record[key], depth + 1);
    }
  }

  /** Throws if a container is nested too deep, or occurs again. */
  protected enter(value: object, depth: number): void {
    if (depth === 0) return;
    if (depth >= MAX_DEPTH) this.refuse();
    this.#seen ??= new Set([this.root]);
    const size = this.#seen.size;
    this.#seen.add(value);
    if (this.#seen.size === size) throw REPEAT;
  }
}

/** Checks a message with copies of the containers that occur again. */
class CopyChecker extends Checker {
  readonly #maxLength = Math.min(this.rules.maxBytes, MAX_TEXT_LENGTH);
  /** Characters that the text may still have. */
  #left = this.#maxLength;

  /** Checks the message. */
  checkAll(): void {
    const size = leastCopiedSize(this.root);
    if (size === undefined) this.refuse();
    this.#count(size);
    this.#left = this.#maxLength;
    this.check(this.root, 0);
  }

  /** Counts one character at least for each value. */
  override check(value: unknown, depth: number): void {
    this.#count(typeof value === "string" ? value.length + 2 : 1);
    super.check(value, depth);
  }

  protected override enter(value: object, depth: number): void {
    if (depth >= MAX_DEPTH) this.refuse();
    if (Array.isArray(value)) return;
    for (const key of Object.keys(value)) this.#count(key.length + 3);
  }

  #count(length: number): void {
    this.#left -= length;
    if (this.#left < 0) throw tooManyCopies(this.#maxLength);
  }
}

/**
 * Checks a message, and again with copies if a container occurs again.
 *
 * @returns Whether `-0` is in it.
 */
function checkMessage(value: unknown, rules: SharingRules): boolean {
  try {
    const checker = new Checker(value, rules);
    checker.check(value, 0);
    return checker.hasNegativeZero;
  } catch (error) {
    if (error !== REPEAT) throw error;
    if (!rules.copies) {
      throw new TypeError(explainRefusal(value, describe, "none"));
    }
    const checker = new CopyChecker(value, rules);
    checker.checkAll();
    return checker.hasNegativeZero;
  }
}

/**
 * Appends a value as JSON.
 *
 * @param value The value.
 * @param target The buffer. If this throws, its length is unchanged.
 * @param rules How a container is encoded that occurs again; never in graph form.
 * @throws {TypeError} If the value, or one in it, cannot be sent as JSON.
 * @throws {RangeError} If copies make the message too large.
 */
export function encodeJsonInto(
  value: unknown,
  target: ByteBuffer,
  rules: SharingRules = DEFAULT_RULES,
): void {
  const hasNegativeZero = checkMessage(value, rules);
  const text = JSON.stringify(value, hasNegativeZero ? keepSign : undefined);
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
