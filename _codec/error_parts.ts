// Copyright 2026 the Duplex authors. MIT license.

/**
 * The parts of an error. MessagePack, the structured clone between threads, and
 * calls each write these parts in their own format. Abort reasons use the codec of
 * the session.
 *
 * @module
 */

import { defineOwn, setOwn } from "./properties.ts";

/** The parts of an error. */
export interface ErrorParts {
  /** The name of the standard class; any other name stands for `Error`. */
  readonly className: string;
  /** The error's `name`. */
  readonly name: string;
  /** The message, or `undefined` if the error has no own message. */
  readonly message: string | undefined;
  /** The stack, or `undefined` if the error has none. */
  readonly stack: string | undefined;
  /** The cause, or an empty array. */
  readonly causes: readonly unknown[];
  /**
   * The errors of an `AggregateError`, the error and the suppressed one of a
   * `SuppressedError`, or `undefined` for other classes.
   */
  readonly errors: readonly unknown[] | undefined;
  /** The error's own enumerable properties that are not parts. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Reads a property of an error. */
export type ReadProperty = (error: Error, name: string) => unknown;

function readProperty(error: Error, name: string): unknown {
  return (error as unknown as Record<string, unknown>)[name];
}

/** Classes that an older runtime may not have. */
const RUNTIME: {
  readonly SuppressedError?: SuppressedErrorConstructor;
  readonly DOMException?: typeof DOMException;
} = globalThis;

const SuppressedErrorClass = RUNTIME.SuppressedError;
const DomExceptionClass = RUNTIME.DOMException;

/** Classes whose constructor takes only a message. `Error` is the last resort. */
const PLAIN_CLASSES: ReadonlyMap<string, ErrorConstructor> = new Map([
  ["EvalError", EvalError],
  ["RangeError", RangeError],
  ["ReferenceError", ReferenceError],
  ["SyntaxError", SyntaxError],
  ["TypeError", TypeError],
  ["URIError", URIError],
]);

/** The names of the classes that are restored as themselves. */
export const STANDARD_ERRORS: ReadonlySet<string> = new Set([
  "Error",
  "AggregateError",
  ...PLAIN_CLASSES.keys(),
  ...SuppressedErrorClass ? ["SuppressedError"] : [],
  ...DomExceptionClass ? ["DOMException"] : [],
]);

/** Properties that are parts of every error, and of those that hold errors. */
const PARTS: readonly string[] = ["name", "message", "stack", "cause"];
const AGGREGATE_PARTS: readonly string[] = [...PARTS, "errors"];
const SUPPRESSED_PARTS: readonly string[] = [...PARTS, "error", "suppressed"];

function isSuppressed(error: Error): boolean {
  return SuppressedErrorClass !== undefined &&
    error instanceof SuppressedErrorClass;
}

/** The properties of an error that are parts, not fields. */
function partNames(error: Error): readonly string[] {
  if (error instanceof AggregateError) return AGGREGATE_PARTS;
  return isSuppressed(error) ? SUPPRESSED_PARTS : PARTS;
}

function standardClass(error: Error): string {
  for (const [name, constructor] of PLAIN_CLASSES) {
    if (error instanceof constructor) return name;
  }
  if (error instanceof AggregateError) return "AggregateError";
  if (isSuppressed(error)) return "SuppressedError";
  return DomExceptionClass && error instanceof DomExceptionClass
    ? "DOMException"
    : "Error";
}

function innerErrors(
  error: Error,
  read: ReadProperty,
): readonly unknown[] | undefined {
  if (error instanceof AggregateError) {
    const errors = read(error, "errors");
    return Array.isArray(errors) ? errors : [];
  }
  if (!isSuppressed(error)) return undefined;
  return [read(error, "error"), read(error, "suppressed")];
}

/**
 * Takes an error apart.
 *
 * @param error The error.
 * @param read Reads its properties; a caller may handle getters that throw.
 * @returns Its parts.
 */
export function toParts(
  error: Error,
  read: ReadProperty = readProperty,
): ErrorParts {
  const className = standardClass(error);
  const name = read(error, "name");
  const message = read(error, "message");
  const stack = read(error, "stack");
  const hasMessage = typeof message === "string" &&
    (message !== "" || Object.hasOwn(error, "message"));
  const causes = Object.hasOwn(error, "cause") ? [read(error, "cause")] : [];
  const errors = innerErrors(error, read);
  const fields: Record<string, unknown> = {};
  const parts = partNames(error);
  for (const key of Object.keys(error)) {
    if (!parts.includes(key)) setOwn(fields, key, read(error, key));
  }
  return {
    className,
    name: typeof name === "string" ? name : className,
    message: hasMessage ? message : undefined,
    stack: typeof stack === "string" ? stack : undefined,
    causes,
    errors,
    fields,
  };
}

/**
 * Creates an error of a standard class, without its other parts.
 *
 * @param parts Its class, name and message.
 * @returns The error.
 */
export function createError(
  { className, name, message }: Pick<
    ErrorParts,
    "className" | "name" | "message"
  >,
): Error {
  if (className === "AggregateError") return new AggregateError([], message);
  if (className === "SuppressedError" && SuppressedErrorClass) {
    return new SuppressedErrorClass(undefined, undefined, message);
  }
  if (className === "DOMException" && DomExceptionClass) {
    return new DomExceptionClass(message, name);
  }
  return new (PLAIN_CLASSES.get(className) ?? Error)(message);
}

/**
 * Creates an error of a standard class.
 *
 * @param parts Its parts.
 * @returns The error.
 */
export function fromParts(parts: ErrorParts): Error {
  return restoreParts(createError(parts), parts);
}

/**
 * Sets an error's stack through the accessor that V8 gives each error, which
 * takes a quarter of the memory of a second property.
 */
function setStack(error: Error, stack: string | undefined): void {
  error.stack = stack as string;
  if (error.stack !== stack) defineOwn(error, "stack", stack, false);
}

/**
 * Gives an error all parts except the class and the message. A field never
 * replaces a part, which may have another type.
 *
 * @param error The error, of its final class.
 * @param parts The parts.
 * @returns The error.
 */
export function restoreParts<E extends Error>(error: E, parts: ErrorParts): E {
  const { name, stack, causes, errors = [], fields } = parts;
  setStack(error, stack);
  if (error.name !== name) defineOwn(error, "name", name, false);
  if (causes.length > 0) defineOwn(error, "cause", causes[0], false);
  if (error instanceof AggregateError) {
    defineOwn(error, "errors", errors, false);
  } else if (isSuppressed(error)) {
    defineOwn(error, "error", errors[0], false);
    defineOwn(error, "suppressed", errors[1], false);
  }
  const partKeys = partNames(error);
  for (const key of Object.keys(fields)) {
    if (!partKeys.includes(key)) setOwn(error, key, fields[key]);
  }
  return error;
}
