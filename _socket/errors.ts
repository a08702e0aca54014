// Copyright 2026 the Duplex authors. MIT license.

/**
 * The errors of sockets: why a side lets a connection go, and errors of the
 * system said with what was attempted.
 *
 * @module
 */

import { messageOf } from "../_base/text.ts";

/** Why a connection was let go, as an abort's `refusal` says it. */
export type Refusal = "secret" | "full" | "session" | "closed";

/** Error of a side about what the other one is not allowed. */
export class RefusedError extends Error {
  readonly refusal: Refusal;

  constructor(refusal: Refusal, message: string) {
    super(message);
    this.refusal = refusal;
  }
}

/** The same error, saying what was attempted, with the original as its cause. */
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
  // Deno's errors and ours are made of a message and options.
  const Class = error.constructor as ErrorConstructor;
  return new Class(message, { cause: error });
}

/** Why an address that everybody can reach is not listened on. */
export function unauthenticated(): TypeError {
  return new TypeError(
    'without a "secret" everybody who reaches it could speak: give one, or set "allowUnauthenticated"',
  );
}
