// Copyright 2026 the Duplex authors. MIT license.

/**
 * A Web Worker through two rings in shared memory: the fastest transport to a thread
 * of the same process, with blocking calls for a worker that does not use its event
 * loop.
 *
 * ```ts
 * import { openShm } from "@duplex/ipc/shm";
 * import { assertEquals } from "@std/assert";
 *
 * const script = new URL("./examples/hello/worker.ts", import.meta.url);
 * await using worker = await openShm<string>(script);
 * await worker.send("Hello from main!");
 * assertEquals(await worker.receive(), "Hello from worker!");
 * ```
 *
 * @module
 */

import { sessionOptions } from "./_session/options.ts";
import { connectThread, DEFAULT_RING_BYTES } from "./_shm/opener.ts";
import { makeRings, MAX_CAPACITY } from "./_shm/ring.ts";
import type { ShmDuplex } from "./_shm/session.ts";
import { ASKS_FOR_CALL, openSession } from "./_session/opening.ts";
import { quoted, show } from "./_base/text.ts";
import { Thread, type ThreadOptions, threadOptions } from "./_thread/thread.ts";
import type { DuplexOptions } from "./duplex.ts";

export type { ShmDuplex, ThreadOptions };
export {
  ClosedError,
  DeadlockError,
  PeerExitError,
  ProtocolError,
} from "./_base/errors.ts";
export type { Duplex, DuplexOptions } from "./duplex.ts";

/** Options for {@linkcode openShm}. */
export interface ShmOptions extends DuplexOptions, ThreadOptions {
  /**
   * Bytes of each of the two rings, a power of two from 4096 to 1073741824. A larger
   * message is sent in parts. The default holds four parts of 256 KiB, so that both
   * sides process a large message at the same time, and it fits a processor's cache.
   *
   * @default {1048576}
   */
  ringBytes?: number;
}

const ACTION = "Cannot open shared memory";

/** The smallest ring: the largest control frame fits. */
const MIN_RING_BYTES = 4096;

/**
 * Starts a worker script in a Web Worker and opens a duplex to it through shared
 * memory. The script opens its end with {@linkcode parent}.
 *
 * Messages are copied through the rings. Shared memory arrives as the same memory, and
 * buffers, ports and streams in `transfer` move. Such messages, and those with objects
 * such as a `Blob`, are posted to the worker instead, and keep their place in the order.
 *
 * `close` sends goodbye and waits for the worker's goodbye; then the worker is
 * terminated. After `abort` it is terminated once it has received the reason, at most
 * a second later. A blocking call on its end throws. Deno cannot terminate a worker
 * that never returns to its event loop for another reason, and it ends the whole
 * process if a worker fills its heap in one step; child processes do not have these
 * limits (see {@linkcode openPipe}).
 *
 * Until it is closed, the duplex keeps the program running: Deno has no `unref` for Web
 * Workers.
 *
 * Requires Deno 2.9.0 or later, `--unstable-worker-options` unless `permissions` is `"inherit"`,
 * `--allow-read` for the script and the files that it imports, and every
 * permission that is passed on.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 *
 * @param script The worker script: a path, or a URL of the schemes `file`, `http`,
 *   `https`, `data`, `blob`, `jsr` and `npm`.
 * @param options The worker's permissions, and limits.
 * @returns The duplex, once both sides have sent their hello.
 * @throws {Deno.errors.NotCapable} If the caller grants a permission that it does not
 *   hold.
 * @throws {PeerExitError} If the worker ended before its hello; an uncaught error of
 *   its script is the `cause`.
 * @throws {ProtocolError} If the worker supports none of this side's codecs.
 * @throws {DOMException} If the worker did not send its hello in time ("TimeoutError").
 * @throws The reason of `signal`, if it aborts before the worker's hello.
 * @throws {RangeError} If an option is out of range.
 * @throws {TypeError} If an option is of the wrong kind, or Deno was started
 *   without `--unstable-worker-options` and `permissions` is not `"inherit"`.
 *
 * @example Memory that both sides share
 * ```ts
 * import { openShm } from "@duplex/ipc/shm";
 * import { assertEquals } from "@std/assert";
 *
 * const source = `
 *   import { parent } from "${import.meta.resolve("@duplex/ipc/parent")}";
 *   await using main = await parent();
 *   for await (const numbers of main) {
 *     numbers[0] = 42;
 *     await main.send("done");
 *   }
 * `;
 * const script = `data:text/javascript,${encodeURIComponent(source)}`;
 * await using worker = await openShm<unknown>(script);
 * const numbers = new Int32Array(new SharedArrayBuffer(4));
 * await worker.send(numbers);
 * assertEquals(await worker.receive(), "done");
 * assertEquals(numbers[0], 42);
 * ```
 */
export async function openShm<In = unknown, Out = In>(
  script: string | URL,
  options: ShmOptions = {},
): Promise<ShmDuplex<In, Out>> {
  const own = threadOptions(ACTION, options);
  const { ringBytes = DEFAULT_RING_BYTES } = options;
  const limits = sessionOptions(ACTION, "opener", options);
  checkRingBytes(ringBytes);
  // First: the system may not have the memory, and no worker must be left then.
  const memory = makeRings(ringBytes);
  const thread = await Thread.start(ACTION, "shm", script, own);
  const { label } = thread;
  const session = connectThread<In, Out>(thread, memory, limits);
  const attempt = `${ACTION} to ${quoted(label)}`;
  const { openTimeout: timeout, signal } = own;
  return await openSession(session, { timeout, signal }, () => ({
    attempt,
    known: ASKS_FOR_CALL,
  }));
}

function checkRingBytes(ringBytes: number): void {
  if (
    Number.isInteger(ringBytes) && ringBytes >= MIN_RING_BYTES &&
    ringBytes <= MAX_CAPACITY && (ringBytes & (ringBytes - 1)) === 0
  ) return;
  throw new RangeError(
    `${ACTION} as "ringBytes" must be a power of two from ${MIN_RING_BYTES} to ${MAX_CAPACITY}: current value is ${
      show(ringBytes)
    }`,
  );
}
