// Copyright 2026 the Duplex authors. MIT license.

/**
 * Two connected duplexes in one program, for tests and for parts of a program.
 *
 * ```ts
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { assertEquals } from "@std/assert";
 *
 * const [main, worker] = duplexPair<string>();
 * await main.send("Hello from main!");
 * assertEquals(await worker.receive(), "Hello from main!");
 * await Promise.all([main.close(), worker.close()]);
 * ```
 *
 * @module
 */

import {
  ClosedError,
  DeadlockError,
  PeerExitError,
  ProtocolError,
} from "./_base/errors.ts";
import { type SessionOptions, sessionOptions } from "./_session/options.ts";
import { memoryStreams } from "./_session/memory_stream.ts";
import { Session } from "./_session/session.ts";
import { FrameWire } from "./_wire/frame_wire.ts";
import type { Duplex, DuplexOptions } from "./duplex.ts";

export {
  ClosedError,
  DeadlockError,
  type Duplex,
  type DuplexOptions,
  PeerExitError,
  ProtocolError,
};

/**
 * Creates two connected duplexes. They use the session, the frames and the codec of
 * the byte transports, so what works here works there.
 *
 * @typeParam A The type of the messages that the first receives.
 * @typeParam B The type of the messages that the second receives.
 *
 * @param options Limits of both sides.
 * @returns The two ends.
 * @throws {RangeError} If an option is out of range.
 *
 * @example Usage
 * ```ts
 * import { duplexPair } from "@duplex/ipc/pair";
 * import { assertEquals } from "@std/assert";
 *
 * const [left, right] = duplexPair<string, number>();
 * await left.send(1);
 * await right.send("one");
 * assertEquals(await right.receive(), 1);
 * assertEquals(await left.receive(), "one");
 * await Promise.all([left.close(), right.close()]);
 * ```
 */
export function duplexPair<A = unknown, B = A>(
  options: DuplexOptions = {},
): [Duplex<A, B>, Duplex<B, A>] {
  const limits = sessionOptions(
    "Cannot make a pair of duplexes",
    "opener",
    options,
  );
  const [left, right] = memoryStreams().map((stream, index) => {
    const own: SessionOptions = {
      ...limits,
      role: index === 0 ? "opener" : "acceptor",
      name: index === 0 ? "left" : "right",
    };
    return new Session<unknown, unknown>(new FrameWire(stream), own);
  }) as [Session<A, B>, Session<B, A>];
  // Every call on the duplex reports the failure.
  for (const end of [left, right]) end.open().catch(() => {});
  return [left, right];
}
