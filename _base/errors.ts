// Copyright 2026 the Duplex authors. MIT license.

/**
 * The errors that callers of a duplex catch, in a file of their own so that the
 * session and the codecs can throw them without loading the contract.
 *
 * @module
 */

import { excerpt, messageOf, reasonText } from "./text.ts";

/** Options for {@linkcode ClosedError}. */
export interface ClosedErrorOptions extends ErrorOptions {
  /**
   * Messages that were accepted and are not known to have been delivered.
   *
   * @default {[]}
   */
  unsent?: readonly unknown[];
}

/**
 * Error thrown when a duplex is used after its end: a `send` after this side said
 * goodbye, a `receive` after the far side did and the last message was taken.
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
   * Messages that were accepted, in the order sent, and are not known to have
   * been taken by the far side. One that was taken just before the end may be
   * among them, one that is not among them was taken.
   *
   * @example Usage
   * ```ts
   * import { ClosedError } from "@duplex/ipc/duplex";
   * import { assertEquals } from "@std/assert";
   *
   * const error = new ClosedError("The duplex is closed", { unsent: [1, 2] });
   * assertEquals(error.unsent, [1, 2]);
   * ```
   */
  readonly unsent: readonly unknown[];

  /**
   * Constructs a new instance.
   *
   * @param message The error message.
   * @param options The messages that were not delivered, and the cause.
   */
  constructor(message: string, options: ClosedErrorOptions = {}) {
    super(message, options);
    this.name = "ClosedError";
    this.unsent = options.unsent ?? [];
  }
}

/** Options for {@linkcode PeerExitError}. */
export interface PeerExitErrorOptions extends ClosedErrorOptions {
  /**
   * The exit code, where the peer was a process that ended by itself.
   *
   * @default {null}
   */
  code?: number | null;
  /**
   * The signal that ended the peer, where one did.
   *
   * @default {null}
   */
  signal?: string | null;
  /**
   * The last of what the peer wrote to its standard error.
   *
   * @default {""}
   */
  stderr?: string;
}

/**
 * Error thrown when the peer ended without a goodbye: it exited, was killed, or
 * its connection broke. Everything that was pending rejects with it.
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
export class PeerExitError extends ClosedError {
  /**
   * The exit code of a process that ended by itself, else `null`.
   *
   * @example Usage
   * ```ts
   * import { PeerExitError } from "@duplex/ipc/duplex";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new PeerExitError("Gone", { code: 3 }).code, 3);
   * ```
   */
  readonly code: number | null;
  /**
   * The name of the signal that ended the process, else `null`.
   *
   * @example Usage
   * ```ts
   * import { PeerExitError } from "@duplex/ipc/duplex";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new PeerExitError("Gone", { signal: "SIGKILL" }).signal, "SIGKILL");
   * ```
   */
  readonly signal: string | null;
  /**
   * The last of what the peer wrote to its standard error, at most 4 KiB; of a
   * Web Worker, the error that it did not catch.
   *
   * @example Usage
   * ```ts
   * import { PeerExitError } from "@duplex/ipc/duplex";
   * import { assertEquals } from "@std/assert";
   *
   * assertEquals(new PeerExitError("Gone", { stderr: "no such file" }).stderr, "no such file");
   * ```
   */
  readonly stderr: string;

  /**
   * Constructs a new instance.
   *
   * @param message The error message.
   * @param options How the peer ended, what was not delivered, and the cause.
   */
  constructor(message: string, options: PeerExitErrorOptions = {}) {
    super(message, options);
    this.name = "PeerExitError";
    this.code = options.code ?? null;
    this.signal = options.signal ?? null;
    this.stderr = options.stderr ?? "";
  }
}

/**
 * Error thrown when the peer sent something that the protocol does not allow:
 * bytes that are no frame, a number out of order, a message over the limit, a
 * payload that the codec cannot read.
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
   * @param options The cause, where there is one.
   */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "ProtocolError";
  }
}

/**
 * What was thrown while something that a peer sent was handled, as a fault of the
 * peer: whatever it sends, it is answered with an abort that says why.
 */
export function toFault(thrown: unknown): ProtocolError {
  return thrown instanceof ProtocolError ? thrown : new ProtocolError(
    `Cannot handle what the peer sent: ${reasonText(thrown)}`,
    { cause: thrown },
  );
}

/**
 * Error that a waiting `send` rejects with when both sides wait for the other
 * to receive and neither does. The messages of the rejected sends were not
 * sent; the duplex stays open, and goes on as soon as somebody receives.
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
 * Whether a value that was thrown is of a class. As `instanceof`, but never throws:
 * a reason that a program or a peer gives may be a proxy.
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

/** Whether an error says that a duplex ended in good order. */
export function isGoodbye(error: unknown): error is ClosedError {
  return isInstance(error, ClosedError) && !isInstance(error, PeerExitError);
}

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
