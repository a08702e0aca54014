// Copyright 2026 the Duplex authors. MIT license.

/**
 * Failures: thrown values as messages carry them. An error is sent as its parts,
 * with its cause and the errors that it holds; any other value is sent as it is. An
 * error that occurs again, or contains itself, is the same failure in each place, which
 * a codec with graph form keeps. For other codecs, a cycle ends with a text.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import {
  createError,
  restoreParts,
  STANDARD_ERRORS,
  toParts,
} from "../_codec/error_parts.ts";
import { defineOwn } from "../_codec/properties.ts";
import type { Failure } from "./messages.ts";
import { messageOf, show } from "../_base/text.ts";

/**
 * Error that a call rejects with if the method of the peer threw an error of a
 * class that is not part of JavaScript. It has the message, the stack, the cause
 * and the own fields of that error, and the `errors` of an `AggregateError`. Its
 * `name` is that of the error, or of the error's class. An error of a standard
 * class, such as `TypeError` or `DOMException`, is received as one of that class.
 *
 * @example Usage
 * ```ts
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { expose, remote, RemoteError } from "@duplex/ipc/rpc";
 * import { assertEquals, assertRejects } from "@std/assert";
 *
 * class MissingError extends Error {
 *   key = "apple";
 * }
 * const methods = {
 *   find(): string {
 *     throw new MissingError("There is no apple");
 *   },
 * };
 *
 * const [main, worker] = duplexPair();
 * expose(methods, worker);
 * const api = remote<typeof methods>(main);
 * const error = await assertRejects(() => api.find(), RemoteError, "no apple");
 * assertEquals(error.name, "MissingError");
 * assertEquals((error as unknown as MissingError).key, "apple");
 * await main.close();
 * ```
 */
export class RemoteError extends Error {
  /** The name of the error's class at the peer. */
  readonly className: string;

  /**
   * Constructs a new instance.
   *
   * @param message The error message.
   * @param options The name of the class ("Error" by default), and the cause.
   */
  constructor(
    message?: string,
    options: ErrorOptions & { className?: string } = {},
  ) {
    super(message, options);
    const { className = "Error" } = options;
    // Not enumerable, so that the fields are those of the peer's error.
    defineOwn(this, "className", className, false);
    this.className = className;
    defineOwn(this, "name", className, false);
  }
}

/** Maximum depth of errors within errors. The deepest are sent as text. */
const MAX_DEPTH = 16;

/** Maximum number of errors within an error. */
const MAX_NESTED = 1000;

/** Characters of a class's name, and of an error's. */
const MAX_NAME = 200;

/** Characters of texts in a failure that could not be sent in full. */
const MAX_REDUCED_TEXT = 1000;

/** An error as PROTOCOL.md describes it. */
interface WireError {
  class: string;
  name: string;
  message: string;
  stack?: string;
  cause?: Failure;
  errors?: Failure[];
  fields?: Readonly<Record<string, unknown>>;
}

/** Converts a thrown value to a failure. Never throws, whatever its getters do. */
export function toFailure(thrown: unknown): Failure {
  try {
    return new FailureWriter().write(thrown, 0).failure;
  } catch {
    return [false, messageOf(thrown)];
  }
}

/** Failures that were reduced to the parts that every codec carries. */
const reduced = new WeakSet<Failure>();

/**
 * Reduces a failure that cannot be sent: to a tree of at most 1000 errors, then to the
 * parts that every codec carries, then to the message and the class, then to the empty failure.
 *
 * @returns The reduced failure, or `undefined` if it is empty already.
 */
export function reduceFailure(failure: Failure): Failure | undefined {
  const [isError, value] = failure;
  if (!isError) {
    if (value === undefined) return undefined;
    return isShortText(value) ? [false] : toText(value);
  }
  if (!reduced.has(failure)) {
    const copier = new FailureCopier(false);
    const tree = copier.copy(failure);
    if (copier.isCut) return tree;
    const plain = new FailureCopier(true).copy(failure);
    reduced.add(plain);
    return plain;
  }
  const { class: className, name, message } = value as WireError;
  if (Object.keys(value as WireError).length === 3 && isShortText(message)) {
    return [false];
  }
  const least: Failure = [true, {
    class: className,
    name,
    message: message.slice(0, MAX_REDUCED_TEXT),
  }];
  reduced.add(least);
  return least;
}

/** Copies a failure, with a copy of each error in each place. */
class FailureCopier {
  /** Whether a text replaces an error: in a cycle, or if there are too many copies. */
  isCut = false;
  readonly #isPlain: boolean;
  #left = MAX_NESTED;
  /** The failures that contain the current one. */
  readonly #path = new Set<Failure>();

  /** @param isPlain Whether to leave out what a codec may refuse. */
  constructor(isPlain: boolean) {
    this.#isPlain = isPlain;
  }

  copy(failure: Failure): Failure {
    const [isError, value] = failure;
    const isPlain = this.#isPlain;
    if (!isError) {
      return !isPlain || isPlainValue(value) ? failure : toText(value);
    }
    const { fields = {}, cause, errors, ...rest } = value as WireError;
    if (this.#path.has(failure) || this.#left-- < 0) {
      this.isCut = true;
      return [false, `${rest.name}: ${rest.message}`];
    }
    this.#path.add(failure);
    const kept = Object.entries(fields).filter(([, field]) =>
      !isPlain ||
      isPlainValue(field) && (typeof field !== "string" || isShortText(field))
    );
    const copy: Failure = [true, {
      ...rest,
      ...cause !== undefined && { cause: this.copy(cause) },
      ...errors !== undefined &&
        { errors: errors.map((inner) => this.copy(inner)) },
      ...kept.length > 0 && { fields: Object.fromEntries(kept) },
    }];
    this.#path.delete(failure);
    return copy;
  }
}

function toText(value: unknown): Failure {
  if (value === undefined) return [false];
  return [false, messageOf(value).slice(0, MAX_REDUCED_TEXT)];
}

function isShortText(value: unknown): boolean {
  return typeof value === "string" && value.length <= MAX_REDUCED_TEXT;
}

/** Whether every codec carries a value. */
function isPlainValue(value: unknown): boolean {
  return value === null || typeof value === "string" ||
    typeof value === "boolean" || Number.isFinite(value);
}

/** A failure, and how many errors are nested in it; 0 until it is complete. */
interface Written {
  readonly failure: Failure;
  height: number;
}

/** Writes the failure of a thrown value. */
class FailureWriter {
  /** Errors that may still be written: each has a stack, which takes time. */
  #left = MAX_NESTED;
  readonly #written = new Map<Error, Written>();

  /** @param depth The number of errors that contain the value. */
  write(thrown: unknown, depth: number): Written {
    if (!(thrown instanceof Error)) {
      const failure: Failure = thrown === undefined ? [false] : [false, thrown];
      return { failure, height: 0 };
    }
    const earlier = this.#written.get(thrown);
    // A copy of it would be nested as deep.
    if (earlier !== undefined && depth + earlier.height <= MAX_DEPTH) {
      return earlier;
    }
    if (depth >= MAX_DEPTH || this.#left-- < 0) {
      return { failure: [false, summary(thrown)], height: 0 };
    }
    const parts = toParts(thrown, readSafely);
    const { stack, causes, errors, fields } = parts;
    const className = remoteClass(thrown);
    const name = readSafely(thrown, "name");
    const error: WireError = {
      class: className,
      name: typeof name === "string" ? name.slice(0, MAX_NAME) : className,
      message: parts.message ?? messageOf(readSafely(thrown, "message") ?? ""),
      ...stack !== undefined && { stack },
    };
    const written: Written = { failure: [true, error], height: 0 };
    this.#written.set(thrown, written);
    let height = 0;
    const write = (inner: unknown): Failure => {
      const result = this.write(inner, depth + 1);
      height = Math.max(height, result.height);
      return result.failure;
    };
    if (causes.length > 0) error.cause = write(causes[0]);
    if (errors !== undefined) error.errors = errors.map(write);
    if (Object.keys(fields).length > 0) error.fields = fields;
    written.height = height + 1;
    return written;
  }
}

/** Reads a property; a getter that throws gives `undefined`. */
function readSafely(error: Error, name: string): unknown {
  try {
    return (error as unknown as Record<string, unknown>)[name];
  } catch {
    return undefined;
  }
}

function remoteClass(error: Error): string {
  // The error may come from yet another program.
  if (error instanceof RemoteError) return error.className;
  const { name } = (readSafely(error, "constructor") ?? {}) as {
    name?: unknown;
  };
  const isNamed = typeof name === "string" && name !== "";
  return isNamed ? name.slice(0, MAX_NAME) : "Error";
}

/** The text that is sent for an error beyond the limits: its name and message. */
function summary(error: Error): string {
  const name = readSafely(error, "name");
  const text = messageOf(error);
  return typeof name === "string" ? `${name}: ${text}` : text;
}

/**
 * Converts a received failure to the value to throw.
 *
 * @throws {ProtocolError} If its parts are not those of an error.
 */
export function fromFailure(failure: Failure): unknown {
  return new FailureReader().read(failure, 0);
}

/** Properties that a field must not replace. */
const RESERVED = ["name", "message", "stack", "cause", "className"];

/** Reads a failure. */
class FailureReader {
  #left = MAX_NESTED;
  /** The errors of the records that were read, one of which may occur again. */
  readonly #errors = new Map<object, Error>();

  read([isError, value]: Failure, depth: number): unknown {
    if (!isError) return value;
    const record = readRecord(value);
    const known = this.#errors.get(record);
    if (known !== undefined) return known;
    // This package sends a text for each error beyond the limit.
    if (this.#left-- < 0) return readText(record, "message");
    const { cause, errors, fields = {}, stack } = record;
    if (
      depth > MAX_DEPTH || (errors !== undefined && !Array.isArray(errors)) ||
      typeof fields !== "object" || fields === null ||
      (stack !== undefined && typeof stack !== "string")
    ) throw refusal(value);
    const className = readText(record, "class").slice(0, MAX_NAME);
    const name = readText(record, "name").slice(0, MAX_NAME);
    const message = readText(record, "message");
    const isStandard = STANDARD_ERRORS.has(className);
    const error = isStandard
      ? createError({ className, name, message })
      : new RemoteError(message, { className });
    this.#errors.set(record, error);
    const causes = cause === undefined ? [] : [this.#inner(cause, depth)];
    const inner = errors?.map((one) => this.#inner(one, depth));
    const reserved = errors === undefined ? RESERVED : ["errors", ...RESERVED];
    if (!isStandard && inner !== undefined && inner.length > 0) {
      defineOwn(error, "errors", inner, false);
    }
    return restoreParts(error, {
      className,
      name: !isStandard && name === "Error" ? className : name,
      message,
      stack,
      causes,
      errors: inner,
      fields: Object.fromEntries(
        Object.entries(fields).filter(([key]) => !reserved.includes(key)),
      ),
    });
  }

  #inner(failure: unknown, depth: number): unknown {
    if (!Array.isArray(failure) || typeof failure[0] !== "boolean") {
      throw refusal(failure);
    }
    return this.read(failure as Failure, depth + 1);
  }
}

function readRecord(value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null) throw refusal(value);
  return value as Record<string, unknown>;
}

function readText(value: unknown, name: string): string {
  const text = readRecord(value)[name];
  if (typeof text === "string") return text;
  throw refusal(value);
}

function refusal(value: unknown): ProtocolError {
  return new ProtocolError(
    `Cannot read an error of the peer: its parts are not those of an error: current value is ${
      show(value)
    }`,
  );
}
