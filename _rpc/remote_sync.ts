// Copyright 2026 the Duplex authors. MIT license.

/**
 * Calls that block the thread until they have ended.
 *
 * @module
 */

import { checkOptions, checkPositive } from "../_base/options.ts";
import type { ShmDuplex } from "../_shm/session.ts";
import { checkBlocks, RpcEndpoint } from "./endpoint.ts";
import { methodProxy } from "./methods.ts";
import type { RemoteSync, RemoteSyncResult } from "./types.ts";

export type { RemoteSync, RemoteSyncResult };

/** Options for {@linkcode remoteSync}, which hold for every call made with it. */
export interface RemoteSyncOptions {
  /**
   * Milliseconds that a call may block the thread. After that it is cancelled, and
   * throws a "TimeoutError".
   *
   * @default {Infinity}
   */
  timeout?: number;
}

/**
 * The methods that the peer exposes, called by blocking the thread until they have
 * ended. A call returns the awaited result, or throws the error of the method.
 *
 * Both ends of a duplex through shared memory can use it: the program that opened the
 * worker, and the worker. It can be mixed with `remote` and
 * `expose` on the same duplex. While the thread is blocked, its event loop
 * does not run:
 *
 * - Other messages that arrive are handled in their order. Answers to other calls
 *   settle their promises, which continue after the blocking call. Methods and
 *   functions of this end that the peer calls run at once, inside of the blocking
 *   call; those that return a promise answer after it.
 * - So the peer must not wait for an asynchronous method of this end before it
 *   answers: such a call ends with its timeout. A function among the arguments of the
 *   call itself must return a value: a promise is an error for the peer.
 * - If both ends block and wait for each other, the one that began later throws a
 *   `DeadlockError`, unless a timeout of the other one will end the wait.
 * - A worker that ends without a goodbye is noticed after up to two seconds, with or
 *   without a timeout. A worker that never returns to its event loop is noticed only
 *   with one.
 * - Signals abort, and timeouts of other calls expire, after the blocking call.
 * - A result with shared or transferred memory, or with an object such as a `Blob`,
 *   throws an "InvalidStateError", since it arrives through the event loop. They may
 *   be among the arguments.
 *
 * Expose methods before the first call. Requires no permission.
 *
 * @typeParam Methods The type of the object that the peer exposes.
 *
 * @param duplex The duplex, from `openShm`, or in a worker that it started from
 *   `parent` with `transport: "shm"`.
 * @param options A time limit for every call. For a call with another one, create
 *   another remote, which costs little.
 * @returns An object with a function for each method. They throw the errors that
 *   calls of `remote` reject with, and a `TypeError` if the result is a
 *   stream.
 * @throws {RangeError} If the timeout is not positive.
 * @throws {TypeError} If the duplex does not use shared memory, or an option is of the
 *   wrong type.
 *
 * @example Usage
 * ```ts
 * import { remoteSync } from "@duplex/ipc/rpc";
 * import { openShm } from "@duplex/ipc/shm";
 * import { assertEquals } from "@std/assert";
 *
 * const source = `
 *   import { expose } from "${import.meta.resolve("@duplex/ipc/rpc")}";
 *   expose({ add: async (a, b) => a + b });
 * `;
 * const script = `data:text/javascript,${encodeURIComponent(source)}`;
 * await using worker = await openShm(script);
 *
 * type Methods = { add(a: number, b: number): Promise<number> };
 * const api = remoteSync<Methods>(worker, { timeout: 60_000 });
 * assertEquals(api.add(1, 2), 3);
 * ```
 */
export function remoteSync<Methods extends object>(
  duplex: ShmDuplex,
  options: RemoteSyncOptions = {},
): RemoteSync<Methods> {
  const action = "Cannot make a blocking remote";
  checkOptions(action, options);
  const { timeout = Infinity } = options;
  checkPositive(action, "timeout", timeout);
  checkBlocks(action, duplex);
  const endpoint = RpcEndpoint.of(duplex);
  return methodProxy(
    (name) => (...args: unknown[]) => endpoint.callSync(name, args, timeout),
  ) as RemoteSync<Methods>;
}
