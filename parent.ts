// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's own end, whichever transport started it. It loads what a worker
 * needs and asks for no permission; a worker may import `@duplex/ipc/sync` beside
 * it, and nothing else of the package.
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

import { type SessionOptions, sessionOptions } from "./_session/hello.ts";
import { enterThread } from "./_thread/scope.ts";
import type { Delivery } from "./_queue/lease.ts";
import type { Duplex, DuplexOptions } from "./duplex.ts";
import type { ShmDuplex } from "./_shm/shm_duplex.ts";

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
   * How the message received last came, where it came from a queue: its number
   * in the queue, and how often it was tried before. A worker that must not do a
   * thing twice looks here.
   */
  readonly delivery?: Delivery | undefined;
  /**
   * Sends a message and blocks the thread meanwhile, where the worker was opened
   * with {@linkcode openShm}.
   */
  sendSync?: ShmDuplex<In, Out>["sendSync"];
  /**
   * Takes the next message and blocks the thread until there is one, where the
   * worker was opened with {@linkcode openShm}.
   */
  receiveSync?: ShmDuplex<In, Out>["receiveSync"];
}

const thread = enterThread();

/** What its transport needs, which loads while the script does. */
const transport = thread === undefined
  ? undefined
  : thread.transport === "shm"
  ? import("./_shm/parent.ts")
  : import("./_queue/parent.ts");

let opened: Promise<Duplex<unknown, unknown>> | undefined;

/**
 * Opens the worker's end of the duplex that its parent opened. Every call gives
 * the same duplex.
 *
 * In a process `console` writes to standard error from here on, since standard
 * output carries the messages. From here on the process also ends within about a
 * second of its parent, even when the parent is killed, as soon as it comes to its
 * event loop.
 * `Deno.stdout` and `process.stdout` are not redirected: what a worker writes
 * there breaks the protocol.
 *
 * A worker that has done its work says so with `close`, or at the end of an
 * `await using` block. A script that comes to its end without it stays until the
 * parent says goodbye, and answers then. `close` waits for the parent's goodbye
 * as long as the parent lives: `closeTimeout` is `Infinity` by default here. An
 * error that leaves an `await using` block says goodbye first; the parent learns
 * of it when the script ends. Catch it and call `abort` to tell it at once.
 *
 * A Web Worker is terminated once both sides have said goodbye: what it has to do
 * must be done before it closes the duplex. Import this module with a static
 * import there: otherwise nothing tells when the script has come to its end, and
 * the parent's goodbye is answered at once.
 *
 * Requires no permission.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 *
 * @param options Limits of this end. Only the first call's count, and its
 *   failure is that of all.
 * @returns The duplex, when the parent has said hello.
 * @throws {TypeError} If the program was not opened as a worker.
 * @throws {RangeError} If an option is out of range.
 * @throws {PeerExitError} If the parent ended before its hello.
 * @throws {ProtocolError} If the parent breaks the protocol, or speaks no codec of
 *   this side's.
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
  const limits: SessionOptions = {
    ...sessionOptions("Cannot open the parent", {
      closeTimeout: Infinity,
      ...options,
    }),
    role: "acceptor",
    name: "worker",
  };
  if (thread !== undefined) {
    const { openParent } = await transport!;
    return await openParent(limits, thread);
  }
  if ("WorkerGlobalScope" in globalThis) {
    throw new TypeError(
      "Cannot open the parent: this Web Worker was started by something else; start it with openQueue or openShm",
    );
  }
  const { openStdio } = await import("./_pipe/parent.ts");
  return await openStdio(limits);
}
