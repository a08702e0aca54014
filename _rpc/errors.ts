// Copyright 2026 the Duplex authors. MIT license.

/**
 * Failures: thrown values as messages carry them. An error is sent as its parts,
 * with its cause and the errors that it holds; any other value is sent as it is.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import {
  type ErrorParts,
  fromParts,
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

/** Limits the number of errors in one failure: each has a stack, which takes time. */
interface Budget {
  left: number;
}

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
    return writeThrown(thrown, [], { left: MAX_NESTED });
  } catch {
    return [false, messageOf(thrown)];
  }
}

/** Failures that were reduced to the parts that every codec carries. */
const reduced = new WeakSet<Failure>();

/**
 * Reduces a failure that cannot be sent: to the parts that every codec carries,
 * then to the message and the class, then to the empty failure.
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
    const plain = withPlainParts(failure);
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

/** A failure without fields that a codec may refuse, and with text for other values. */
function withPlainParts([isError, value]: Failure): Failure {
  if (!isError) return isPlainValue(value) ? [false, value] : toText(value);
  const { fields = {}, cause, errors, ...rest } = value as WireError;
  const plain = Object.entries(fields).filter(([, field]) =>
    isPlainValue(field) && (typeof field !== "string" || isShortText(field))
  );
  return [true, {
    ...rest,
    ...cause !== undefined && { cause: withPlainParts(cause) },
    ...errors !== undefined && { errors: errors.map(withPlainParts) },
    ...plain.length > 0 && { fields: Object.fromEntries(plain) },
  }];
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

/** @param path The errors that contain the value. */
function writeThrown(
  thrown: unknown,
  path: readonly Error[],
  budget: Budget,
): Failure {
  if (!(thrown instanceof Error)) {
    return thrown === undefined ? [false] : [false, thrown];
  }
  if (
    path.includes(thrown) || path.length >= MAX_DEPTH || budget.left-- < 0
  ) return [false, summary(thrown)];
  const innerPath = [...path, thrown];
  const write = (inner: unknown) => writeThrown(inner, innerPath, budget);
  const parts = toParts(thrown, readSafely);
  const { stack, causes, errors, fields } = parts;
  const className = remoteClass(thrown);
  const name = readSafely(thrown, "name");
  return [true, {
    class: className,
    name: typeof name === "string" ? name.slice(0, MAX_NAME) : className,
    message: parts.message ?? messageOf(readSafely(thrown, "message") ?? ""),
    ...stack !== undefined && { stack },
    ...causes.length > 0 && { cause: write(causes[0]) },
    ...errors !== undefined && { errors: errors.map(write) },
    ...Object.keys(fields).length > 0 && { fields },
  }];
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
  return readThrown(failure, 0, { left: MAX_NESTED });
}

function readThrown(
  [isError, value]: Failure,
  depth: number,
  budget: Budget,
): unknown {
  if (!isError) return value;
  // This package sends a text for each error beyond the limit.
  if (budget.left-- < 0) return readText(value, "message");
  const parts = readParts(value, depth, budget);
  if (STANDARD_ERRORS.has(parts.className)) return fromParts(parts);
  const { className, message, errors = [], name } = parts;
  const error = new RemoteError(message, { className });
  if (errors.length > 0) defineOwn(error, "errors", errors, false);
  return restoreParts(error, {
    ...parts,
    name: name === "Error" ? className : name,
  });
}

/** Properties that a field must not replace. */
const RESERVED = ["name", "message", "stack", "cause", "className"];

function readParts(value: unknown, depth: number, budget: Budget): ErrorParts {
  const parts = readRecord(value);
  const { cause, errors, fields = {}, stack } = parts;
  const reserved = errors === undefined ? RESERVED : ["errors", ...RESERVED];
  if (
    depth > MAX_DEPTH || (errors !== undefined && !Array.isArray(errors)) ||
    typeof fields !== "object" || fields === null ||
    (stack !== undefined && typeof stack !== "string")
  ) throw refusal(value);
  return {
    className: readText(parts, "class").slice(0, MAX_NAME),
    name: readText(parts, "name").slice(0, MAX_NAME),
    message: readText(parts, "message"),
    stack,
    causes: cause === undefined ? [] : [readInner(cause, depth, budget)],
    errors: errors?.map((inner) => readInner(inner, depth, budget)),
    fields: Object.fromEntries(
      Object.entries(fields).filter(([name]) => !reserved.includes(name)),
    ),
  };
}

function readInner(failure: unknown, depth: number, budget: Budget): unknown {
  if (!Array.isArray(failure) || typeof failure[0] !== "boolean") {
    throw refusal(failure);
  }
  return readThrown(failure as Failure, depth + 1, budget);
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
