// Copyright 2026 the Duplex authors. MIT license.

/**
 * The errors of sockets: the refusal of a connection, and errors of the system in
 * the context of what was attempted.
 *
 * @module
 */

import { messageOf } from "../_base/text.ts";

/** Why a connection was refused, the `refusal` of an abort. */
export type Refusal = "secret" | "full" | "session" | "closed";

/** Error of a side that refuses a connection. */
export class RefusedError extends Error {
  readonly refusal: Refusal;

  constructor(refusal: Refusal, message: string) {
    super(message);
    this.refusal = refusal;
  }
}

/** An error of the same class that names the attempt, with the original as its cause. */
export function inContext(attempt: string, error: unknown): Error {
  if (!(error instanceof Error)) return new Error(attempt, { cause: error });
  const message = `${attempt}: ${messageOf(error)}`;
  if (error instanceof RefusedError) {
    return error.refusal === "secret"
      ? new Deno.errors.PermissionDenied(message, { cause: error })
      : new Deno.errors.ConnectionRefused(message, { cause: error });
  }
  if (error instanceof DOMException) {
    const copy = new DOMException(message, error.name);
    Object.defineProperty(copy, "cause", { value: error, configurable: true });
    return copy;
  }
  if (error instanceof AggregateError) {
    return new AggregateError(error.errors, message, { cause: error });
  }
  // The classes of Deno and of this package take a message and options.
  const Class = error.constructor as ErrorConstructor;
  return new Class(message, { cause: error });
}
