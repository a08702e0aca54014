// Copyright 2026 the Duplex authors. MIT license.

/**
 * How what was thrown at one end is thrown at the other: an error by its parts,
 * with its causes and the errors that it holds, any other value as it is.
 *
 * @module
 */

import { ProtocolError } from "../_base/errors.ts";
import type { Failure } from "./messages.ts";
import { messageOf, show } from "../_base/text.ts";
import {
  completeError,
  defineOwn,
  errorErrors,
  errorFields,
  type ErrorParts,
  makeError,
  STANDARD_ERRORS,
} from "../_codec/values.ts";

/** Options for {@linkcode RemoteError}. */
export interface RemoteErrorOptions extends ErrorOptions {
  /**
   * The name of the error's class at the far end.
   *
   * @default {"Error"}
   */
  className?: string;
}

/**
 * Error that a call rejects with when the method at the far end threw an error of
 * a class that is not JavaScript's own. It has the message, the stack, the cause
 * and the own fields of that error, and the `errors` of an `AggregateError`; `name`
 * is its name, or that of its class. An error of a standard class, `TypeError` or
 * `DOMException` for example, comes back as one of that class.
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
  /**
   * The name of the error's class at the far end.
   *
   * @example Usage
   * ```ts
   * import { RemoteError } from "@duplex/ipc/rpc";
   * import { assertEquals } from "@std/assert";
   *
   * const error = new RemoteError("Gone", { className: "MissingError" });
   * assertEquals(error.className, "MissingError");
   * ```
   */
  readonly className: string;

  /**
   * Constructs a new instance.
   *
   * @param message The error message.
   * @param options The name of the class, and the cause.
   */
  constructor(message?: string, options: RemoteErrorOptions = {}) {
    super(message, options);
    const { className = "Error" } = options;
    // Not one of the own fields, which are those of the far side's error.
    defineOwn(this, "className", className, false);
    this.className = className;
    defineOwn(this, "name", className, false);
  }
}

/** How deep errors within errors are told. */
const MAX_DEPTH = 16;

/** Errors within one that are told. */
const MAX_NESTED = 1000;

/** Characters of a class's name, and of an error's. */
const MAX_NAME = 200;

/** Characters of a message that crosses without what goes with it. */
const MAX_BARE_MESSAGE = 1000;

/** What is sent for what was thrown. Never throws, whatever that does. */
export function failureOf(thrown: unknown): Failure {
  try {
    return new Teller().tell(thrown);
  } catch {
    return [false, messageOf(thrown)];
  }
}

/** What goes with an error that is told. */
interface Told {
  class: string;
  name: string;
  message: string;
  stack?: string;
  cause?: Failure;
  errors?: Failure[];
  fields?: Record<string, unknown>;
}

/** What is sent instead of a failure that cannot be sent, one after the other. */
const LESSER: ((failure: Failure) => Failure)[] = [
  plainFailure,
  bareFailure,
  () => [false],
];

/** How many of them a failure has been through. */
const steps = new WeakMap<Failure, number>();

/**
 * What is sent instead of a failure that cannot be sent: what text can tell of it,
 * then its message and its class alone, then nothing but that there was one, then
 * there is nothing less.
 */
export function lesserFailure(failure: Failure): Failure | undefined {
  const step = steps.get(failure) ?? 0;
  const lesser = LESSER[step]?.(failure);
  if (lesser !== undefined) steps.set(lesser, step + 1);
  return lesser;
}

/** A failure with those fields alone that every codec carries, and text for what is no error. */
function plainFailure([isError, value]: Failure): Failure {
  if (!isError) return isPlainValue(value) ? [false, value] : bareValue(value);
  const { fields = {}, cause, errors, ...rest } = value as Told;
  const parts: Told = rest;
  const plain = Object.entries(fields).filter(([, field]) =>
    isPlainValue(field) &&
    (typeof field !== "string" || field.length <= MAX_BARE_MESSAGE)
  );
  if (plain.length > 0) parts.fields = Object.fromEntries(plain);
  if (cause !== undefined) parts.cause = plainFailure(cause);
  if (errors !== undefined) parts.errors = errors.map(plainFailure);
  return [true, parts];
}

function bareFailure([isError, value]: Failure): Failure {
  if (!isError) return bareValue(value);
  const { class: className, name, message } = value as Told;
  const bare = message.slice(0, MAX_BARE_MESSAGE);
  return [true, { class: className, name, message: bare }];
}

function bareValue(value: unknown): Failure {
  if (value === undefined) return [false];
  return [false, messageOf(value).slice(0, MAX_BARE_MESSAGE)];
}

/** Whether every codec carries a value. */
function isPlainValue(value: unknown): boolean {
  return value === null || typeof value === "string" ||
    typeof value === "boolean" || Number.isFinite(value);
}

/** Tells an error, and those within it. */
class Teller {
  /** The errors within which this one lies. */
  readonly #path: Error[] = [];
  #count = 0;

  tell(thrown: unknown): Failure {
    if (!(thrown instanceof Error)) {
      return thrown === undefined ? [false] : [false, thrown];
    }
    if (
      this.#path.includes(thrown) || this.#path.length >= MAX_DEPTH ||
      this.#count > MAX_NESTED
    ) return [false, briefOf(thrown)];
    this.#path.push(thrown);
    this.#count++;
    const parts = this.#parts(thrown);
    this.#path.pop();
    return [true, parts];
  }

  #parts(error: Error): Told {
    const className = classOf(error);
    const name = read(error, "name");
    const parts: Told = {
      class: className,
      name: typeof name === "string" ? name.slice(0, MAX_NAME) : className,
      message: messageOf(read(error, "message") ?? ""),
    };
    const stack = read(error, "stack");
    if (typeof stack === "string") parts.stack = stack;
    if (Object.hasOwn(error, "cause")) {
      parts.cause = this.tell(read(error, "cause"));
    }
    const errors = attempt(() => errorErrors(error));
    if (errors !== undefined) {
      parts.errors = errors.map((nested) => this.tell(nested));
    }
    const fields = fieldsOf(error);
    if (fields !== undefined) parts.fields = fields;
    return parts;
  }
}

/** What a getter gives, which may throw. */
function attempt<T>(get: () => T): T | undefined {
  try {
    return get();
  } catch {
    return undefined;
  }
}

function read(error: Error, name: string): unknown {
  return attempt(() => (error as unknown as Record<string, unknown>)[name]);
}

function classOf(error: Error): string {
  // One that came from further away is handed on.
  if (error instanceof RemoteError) return error.className;
  const { name } = (read(error, "constructor") ?? {}) as { name?: unknown };
  const isNamed = typeof name === "string" && name !== "";
  return isNamed ? name.slice(0, MAX_NAME) : "Error";
}

/** What is told of an error that lies too deep: its name and its message. */
function briefOf(error: Error): string {
  const name = read(error, "name");
  const text = messageOf(error);
  return typeof name === "string" ? `${name}: ${text}` : text;
}

function fieldsOf(error: Error): Record<string, unknown> | undefined {
  const fields: Record<string, unknown> = {};
  const names = errorFields(error);
  for (const name of names) defineOwn(fields, name, read(error, name));
  return names.length === 0 ? undefined : fields;
}

/**
 * What to throw for a failure that arrived.
 *
 * @throws {ProtocolError} If its parts are not those of an error.
 */
export function thrownFrom(failure: Failure): unknown {
  return makeThrown(failure, 0, { left: MAX_NESTED });
}

/** How many more errors may be made: each has a stack, which takes its time. */
interface Budget {
  left: number;
}

function makeThrown(
  [isError, value]: Failure,
  depth: number,
  budget: Budget,
): unknown {
  if (!isError) return value;
  // This package sends no more than that, and a text for those beyond it.
  if (budget.left-- < 0) return readText(value, "message");
  const parts = readParts(value, depth, budget);
  if (STANDARD_ERRORS.has(parts.className)) return makeError(parts);
  const { className, message, name } = parts;
  const error = new RemoteError(message, { className });
  if (parts.errors.length > 0) {
    defineOwn(error, "errors", parts.errors, false);
  }
  return completeError(error, {
    ...parts,
    name: name === "Error" ? className : name,
  });
}

/** What no field may stand in for. */
const PARTS = ["name", "message", "stack", "cause", "className"];

function readParts(value: unknown, depth: number, budget: Budget): ErrorParts {
  const parts = recordOf(value);
  const { cause, errors = [], fields = {}, stack } = parts;
  const taken = errors === parts.errors ? ["errors", ...PARTS] : PARTS;
  if (
    depth > MAX_DEPTH || !Array.isArray(errors) ||
    typeof fields !== "object" ||
    fields === null || (stack !== undefined && typeof stack !== "string")
  ) throw refusal(value);
  return {
    className: readText(parts, "class").slice(0, MAX_NAME),
    name: readText(parts, "name").slice(0, MAX_NAME),
    message: readText(parts, "message"),
    stack,
    causes: cause === undefined ? [] : [readNested(cause, depth, budget)],
    errors: errors.map((nested) => readNested(nested, depth, budget)),
    fields: Object.fromEntries(
      Object.entries(fields).filter(([name]) => !taken.includes(name)),
    ),
  };
}

function readNested(
  failure: unknown,
  depth: number,
  budget: Budget,
): unknown {
  if (!Array.isArray(failure) || typeof failure[0] !== "boolean") {
    throw refusal(failure);
  }
  return makeThrown(failure as Failure, depth + 1, budget);
}

function recordOf(value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null) throw refusal(value);
  return value as Record<string, unknown>;
}

function readText(value: unknown, name: string): string {
  const text = recordOf(value)[name];
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
