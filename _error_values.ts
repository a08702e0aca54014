// Copyright 2026 the Duplex authors. MIT license.

/**
 * Errors as values: which parts of one go onto the wire, and how it is put
 * together again.
 *
 * @module
 */

/** What an older runtime may not have. */
const RUNTIME: {
  readonly SuppressedError?: SuppressedErrorConstructor;
  readonly DOMException?: typeof DOMException;
} = globalThis;

/** Error classes that come back as themselves, the most special first. */
const ERROR_CLASSES: ReadonlyMap<string, ErrorConstructor> = new Map([
  ["EvalError", EvalError],
  ["RangeError", RangeError],
  ["ReferenceError", ReferenceError],
  ["SyntaxError", SyntaxError],
  ["TypeError", TypeError],
  ["URIError", URIError],
]);

const SuppressedErrorClass = RUNTIME.SuppressedError;

const DomExceptionClass = RUNTIME.DOMException;

/**
 * The class that an error comes back as.
 *
 * @param error The error.
 * @returns The class's name.
 */
export function errorClass(error: Error): string {
  for (const [name, constructor] of ERROR_CLASSES) {
    if (error instanceof constructor) return name;
  }
  if (error instanceof AggregateError) return "AggregateError";
  if (SuppressedErrorClass && error instanceof SuppressedErrorClass) {
    return "SuppressedError";
  }
  if (DomExceptionClass && error instanceof DomExceptionClass) {
    return "DOMException";
  }
  return "Error";
}

/**
 * The errors that an error holds beside its cause.
 *
 * @param error The error.
 * @returns The errors of an `AggregateError`, the error and the suppressed one
 * of a `SuppressedError`, `undefined` for other classes.
 */
export function errorErrors(error: Error): unknown[] | undefined {
  if (error instanceof AggregateError) {
    return Array.isArray(error.errors) ? error.errors : [];
  }
  if (SuppressedErrorClass && error instanceof SuppressedErrorClass) {
    const { error: inner, suppressed } = error as {
      error?: unknown;
      suppressed?: unknown;
    };
    return [inner, suppressed];
  }
  return undefined;
}

/** Own properties that an error's payload has a place for. */
const ERROR_PARTS = new Set(["name", "message", "stack", "cause"]);

/**
 * The names of an error's own fields, apart from those that every error has.
 *
 * @param error The error.
 * @returns The names.
 */
export function errorFields(error: Error): string[] {
  return Object.keys(error).filter((key) => !ERROR_PARTS.has(key));
}

/** The parts of an error as they were sent. */
export interface ErrorParts {
  /** The standard class, or any other name for `Error`. */
  className: string;
  /** The error's `name`. */
  name: string;
  /** The message, `undefined` if it has none of its own. */
  message: string | undefined;
  /** The stack, `undefined` if it has none. */
  stack: string | undefined;
  /** The cause, or nothing. */
  causes: unknown[];
  /** The errors that an aggregate holds. */
  errors: unknown[];
  /** The error's own fields. */
  fields: Record<string, unknown>;
}

/**
 * Sets an own property, even where assigning would reach a prototype's setter.
 *
 * @param target The object.
 * @param key The property's name.
 * @param value Its value.
 * @param enumerable Whether it is seen when the object is walked.
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

/** An error of the class named, with what its constructor takes. */
function construct(parts: ErrorParts): Error {
  const { className, name, message, errors } = parts;
  if (className === "AggregateError") {
    return new AggregateError(errors, message);
  }
  if (className === "SuppressedError" && SuppressedErrorClass) {
    return new SuppressedErrorClass(errors[0], errors[1], message);
  }
  if (className === "DOMException" && DomExceptionClass) {
    return new DomExceptionClass(message, name);
  }
  return new (ERROR_CLASSES.get(className) ?? Error)(message);
}

/**
 * Puts an error together.
 *
 * @param parts Its parts.
 * @returns The error.
 */
export function makeError(parts: ErrorParts): Error {
  const error = construct(parts);
  if (error.name !== parts.name) defineOwn(error, "name", parts.name, false);
  defineOwn(error, "stack", parts.stack, false);
  if (parts.causes.length > 0) {
    defineOwn(error, "cause", parts.causes[0], false);
  }
  for (const [key, value] of Object.entries(parts.fields)) {
    defineOwn(error, key, value);
  }
  return error;
}
