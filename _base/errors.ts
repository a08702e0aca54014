// Copyright 2026 the Duplex authors. MIT license.

/**
 * The errors of a duplex. They are in a file of their own, so that the session and
 * the codecs can throw them without loading the contract.
 *
 * @module
 */

import { excerpt, messageOf, reasonText } from "./text.ts";

/**
 * Error thrown when a duplex is used after its end: by `send` after this side sent
 * its goodbye, by `receive` after the peer sent its goodbye and the last message was
 * received.
 *
 * @example Usage
 * ```ts
 * import { ClosedError } from "@duplex/ipc/duplex";
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { assertRejects } from "@std/assert";
 *
 * const [left, right] = duplexPair();
 * await Promise.all([left.close(), right.close()]);
 * await assertRejects(() => left.send("too late"), ClosedError);
 * ```
 */
export class ClosedError extends Error {
  /**
   * Messages that were sent, in order, and that the peer did not acknowledge.
   * Messages that are not in the list were received; one that is may have been
   * received just before the end.
   */
  readonly unsent: readonly unknown[];

  /**
   * Constructs a new instance.
   *
   * @param message The error message.
   * @param options The messages that were not delivered, and the cause.
   */
  constructor(
    message: string,
    options: ErrorOptions & { unsent?: readonly unknown[] } = {},
  ) {
    super(message, options);
    this.name = "ClosedError";
    this.unsent = options.unsent ?? [];
  }
}

/**
 * Error thrown when the peer ended without a goodbye: it exited, was killed, or its
 * connection was lost. Everything pending rejects with it.
 *
 * @example Usage
 * ```ts
 * import { PeerExitError } from "@duplex/ipc/duplex";
 * import { assertEquals } from "@std/assert";
 *
 * const error = new PeerExitError("The worker exited with code 3", { code: 3 });
 * assertEquals(error.code, 3);
 * assertEquals(error.signal, null);
 * ```
 */
export class PeerExitError extends Error {
  /**
   * Messages that were accepted and are not known to have been received by the
   * peer, as of a {@linkcode ClosedError}.
   */
  readonly unsent: readonly unknown[];
  /** The exit code of a process that exited, else `null`. */
  readonly code: number | null;
  /** The signal that ended the process, else `null`. */
  readonly signal: string | null;
  /**
   * The last 4 KiB of the peer's standard error; for a Web Worker, the stack of its
   * uncaught error, which is the `cause`.
   */
  readonly stderr: string;

  /**
   * Constructs a new instance.
   *
   * @param message The error message.
   * @param options How the peer ended, what was not delivered, and the cause.
   */
  constructor(
    message: string,
    options: ErrorOptions & {
      unsent?: readonly unknown[];
      code?: number | null;
      signal?: string | null;
      stderr?: string;
    } = {},
  ) {
    super(message, options);
    this.name = "PeerExitError";
    this.unsent = options.unsent ?? [];
    this.code = options.code ?? null;
    this.signal = options.signal ?? null;
    this.stderr = options.stderr ?? "";
  }
}

/**
 * Error thrown when the peer breaks the protocol: bytes that are not a frame, a
 * number out of order, a message over the limit, a payload that the codec cannot
 * decode.
 *
 * @example Usage
 * ```ts
 * import { msgpack } from "@duplex/ipc/codec";
 * import { ProtocolError } from "@duplex/ipc/duplex";
 * import { assertThrows } from "@std/assert";
 *
 * assertThrows(() => msgpack.decode(new Uint8Array([0xc1])), ProtocolError);
 * ```
 */
export class ProtocolError extends Error {
  /**
   * Constructs a new instance.
   *
   * @param message The error message.
   * @param options The cause, if there is one.
   */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "ProtocolError";
  }
}

/**
 * An error thrown while data of a peer was handled, as a `ProtocolError`: the peer is
 * sent an abort with the reason.
 */
export function toFault(thrown: unknown): ProtocolError {
  return thrown instanceof ProtocolError ? thrown : new ProtocolError(
    `Cannot handle what the peer sent: ${reasonText(thrown)}`,
    { cause: thrown },
  );
}

/**
 * Error that a pending `send` rejects with if both sides wait for the other to
 * receive. The messages of the rejected sends were not sent; the duplex stays open,
 * and continues as soon as one side receives.
 *
 * @example Usage
 * ```ts
 * import { DeadlockError } from "@duplex/ipc/duplex";
 * import { assertInstanceOf } from "@std/assert";
 *
 * assertInstanceOf(new DeadlockError("Both sides only send"), Error);
 * ```
 */
export class DeadlockError extends Error {
  /**
   * Constructs a new instance.
   *
   * @param message The error message, which names both sides.
   */
  constructor(message: string) {
    super(message);
    this.name = "DeadlockError";
  }
}

/**
 * Like `instanceof`, but never throws: a thrown value may be a proxy.
 */
export function isInstance<T>(
  value: unknown,
  Class: abstract new (...args: never[]) => T,
): value is T {
  try {
    return value instanceof Class;
  } catch {
    return false;
  }
}

/** Whether an error says that a duplex has ended, with or without a goodbye. */
export function isEnd(error: unknown): error is ClosedError | PeerExitError {
  return isInstance(error, ClosedError) || isInstance(error, PeerExitError);
}

/**
 * Promises of a worker's own duplex. Their rejection must be reported, since a script
 * that cannot open its parent must not end as if it had done its work.
 */
export const parentPromises: WeakSet<Promise<unknown>> = new WeakSet();

/**
 * Replaces the stack of an error by its name and message: an error that is sent to
 * a peer does not show files of this program.
 */
export function withoutStack(error: Error): Error {
  const { name } = error as { name: unknown };
  const kind = typeof name === "string" ? excerpt(name) : "Error";
  const value = `${kind}: ${messageOf(error)}`;
  Object.defineProperty(error, "stack", { value, configurable: true });
  return error;
}
