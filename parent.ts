// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's own end of a duplex, for every transport that starts workers. It loads
 * only the modules that a worker needs, and requires no permission. A worker may
 * import `@duplex/ipc/sync` in addition, and no other module of the package.
 *
 * ```ts ignore
 * import { parent } from "@duplex/ipc/parent";
 *
 * await using main = await parent<string>();
 * for await (const message of main) await main.send(message.toUpperCase());
 * ```
 *
 * @module
 */

import { sessionOptions } from "./_session/options.ts";
import { enterThread } from "./_thread/scope.ts";
import type { Delivery } from "./_queue/lease.ts";
import type { Duplex, DuplexOptions } from "./duplex.ts";
import type { ShmDuplex } from "./_shm/session.ts";

export type { Delivery };
export {
  ClosedError,
  DeadlockError,
  PeerExitError,
  ProtocolError,
} from "./_base/errors.ts";
export type { Duplex, DuplexOptions } from "./duplex.ts";

/**
 * The worker's own end of a {@linkcode Duplex}.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 */
export interface ParentDuplex<In = unknown, Out = In> extends Duplex<In, Out> {
  /**
   * The delivery of the message received last, if it came from a queue: its number in
   * the queue, and the number of earlier attempts. Use it in a worker that must not
   * do anything twice.
   */
  readonly delivery?: Delivery | undefined;
  /**
   * Sends a message and blocks the thread until there is room for it. Only for
   * workers opened with {@linkcode openShm}.
   */
  sendSync?: ShmDuplex<In, Out>["sendSync"];
  /**
   * Receives the next message and blocks the thread until one arrives. Only for
   * workers opened with {@linkcode openShm}.
   */
  receiveSync?: ShmDuplex<In, Out>["receiveSync"];
}

const thread = enterThread();

/** The module of the transport, which loads while the script does. */
const transport = thread === undefined
  ? undefined
  : thread.transport === "shm"
  ? import("./_shm/parent.ts")
  : import("./_queue/parent.ts");

let opened: Promise<Duplex<unknown, unknown>> | undefined;

/**
 * Opens the worker's end of the duplex that its parent opened. Every call returns the
 * same duplex.
 *
 * In a process, `console` writes to standard error from this call on, since standard
 * output carries the messages. `Deno.stdout` and `process.stdout` are not redirected:
 * output there breaks the protocol. From this call on, the process also ends within
 * about a second of its parent, even if the parent is killed, unless its event loop
 * is blocked.
 *
 * A worker ends with `close`, or with the end of an `await using` block. A script
 * that ends without it stays until the parent sends goodbye, and then sends its own.
 * `close` waits for the parent's goodbye as long as the parent lives: `closeTimeout`
 * is `Infinity` by default here. If an error leaves an `await using` block, goodbye
 * is sent first, and the parent gets the error when the script ends. To report it at
 * once, catch it and call `abort`.
 *
 * A Web Worker is terminated once both sides have sent goodbye, so it must complete
 * its work before it closes the duplex. Import this module with a static import in a
 * Web Worker: otherwise the end of the script cannot be detected, and the parent's
 * goodbye is answered at once.
 *
 * Requires no permission.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 *
 * @param options Limits of this end. Later calls ignore them, and return the result
 *   of the first.
 * @returns The duplex, once the parent's hello has arrived.
 * @throws {TypeError} If the program was not opened as a worker.
 * @throws {RangeError} If an option is out of range.
 * @throws {PeerExitError} If the parent ended before its hello.
 * @throws {ProtocolError} If the parent breaks the protocol, or shares no codec with
 *   this side.
 *
 * @example A worker and its parent
 * ```ts
 * import { openPipe } from "@duplex/ipc/pipe";
 * import { assertEquals } from "@std/assert";
 *
 * // The worker script has these lines:
 * //   await using main = await parent<string>();
 * //   console.log(await main.receive());
 * //   await main.send("Hello from worker!");
 * const script = new URL("./examples/hello/worker.ts", import.meta.url);
 *
 * await using worker = await openPipe<string>(script);
 * await worker.send("Hello from main!");
 * assertEquals(await worker.receive(), "Hello from worker!");
 * ```
 */
export function parent<In = unknown, Out = In>(
  options: DuplexOptions = {},
): Promise<ParentDuplex<In, Out>> {
  opened ??= open(options);
  return opened as Promise<ParentDuplex<In, Out>>;
}

async function open(
  options: DuplexOptions,
): Promise<Duplex<unknown, unknown>> {
  const limits = sessionOptions("Cannot open the parent", "acceptor", {
    closeTimeout: Infinity,
    ...options,
  });
  if (thread !== undefined) {
    const { openParent } = await transport!;
    return await openParent(limits, thread);
  }
  if ("WorkerGlobalScope" in globalThis) {
    throw new TypeError(
      "Cannot open the parent: this Web Worker was not started by this package; start it with openQueue or openShm",
    );
  }
  const { openStdio } = await import("./_pipe/parent.ts");
  return await openStdio(limits);
}
