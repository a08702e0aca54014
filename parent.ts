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

import { type SessionOptions, sessionOptions } from "./_session/options.ts";
import { quoted, show } from "./_base/text.ts";
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
 * The worker's own end of a {@linkcode Duplex}. Its `transport` says how the worker
 * was opened, and so which members it has in addition:
 *
 * - `"pipe"`, by {@linkcode openPipe}: none.
 * - `"queue"`, by {@linkcode openQueue}: `delivery`, the {@linkcode Delivery} of the
 *   message received last, `undefined` before the first. A worker that must not do
 *   a thing twice looks at its number and its attempt.
 * - `"shm"`, by {@linkcode openShm}: the blocking methods of {@linkcode ShmDuplex}.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 * @typeParam Transport The transports over which the worker may be opened.
 */
export type ParentDuplex<
  In = unknown,
  Out = In,
  Transport extends "pipe" | "queue" | "shm" = "pipe" | "queue" | "shm",
> = Transport extends "shm" ? ShmDuplex<In, Out> & { readonly transport: "shm" }
  : Transport extends "queue" ?
      & Duplex<In, Out>
      & {
        readonly transport: "queue";
        readonly delivery: Delivery | undefined;
      }
  : Duplex<In, Out> & { readonly transport: "pipe" };

type Transport = ParentDuplex["transport"];

const thread = enterThread();

/** How this program was opened; a process is taken for a worker's. */
const opener = thread?.transport ??
  ("WorkerGlobalScope" in globalThis ? undefined : "pipe");

/** The files of the transport, which load while the script does. */
const room = thread === undefined
  ? undefined
  : thread.transport === "shm"
  ? import("./_shm/parent.ts")
  : import("./_queue/parent.ts");

let opened: Promise<Duplex & { readonly transport: Transport }> | undefined;

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
  options?: DuplexOptions & { transport?: undefined },
): Promise<ParentDuplex<In, Out>>;
/**
 * Opens the worker's end, as above, in a worker for one transport: the duplex has
 * the members of that transport.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 * @typeParam Transport The transport.
 *
 * @param options The transport, and limits of this end.
 * @returns The duplex, once the parent has said hello.
 * @throws {TypeError} If the worker was opened over another transport, and for the
 *   reasons above.
 *
 * @example A worker that blocks its thread
 * ```ts ignore
 * import { parent } from "@duplex/ipc/parent";
 *
 * const main = await parent<number>({ transport: "shm" });
 * for (;;) main.sendSync(main.receiveSync() + 1);
 * ```
 */
export function parent<In = unknown, Out = In>(
  options: DuplexOptions & { transport: "shm" },
): Promise<ParentDuplex<In, Out, "shm">>;
/** Opens the end of a worker behind a queue, which has `delivery`. */
export function parent<In = unknown, Out = In>(
  options: DuplexOptions & { transport: "queue" },
): Promise<ParentDuplex<In, Out, "queue">>;
/** Opens the end of a worker that is a process. */
export function parent<In = unknown, Out = In>(
  options: DuplexOptions & { transport: "pipe" },
): Promise<ParentDuplex<In, Out, "pipe">>;
export function parent(
  options: DuplexOptions & { transport?: Transport | undefined } = {},
): Promise<Duplex & { readonly transport: Transport }> {
  const { transport, ...limits } = options;
  if (transport !== undefined && transport !== opener) {
    return Promise.reject(wrongTransport(transport));
  }
  return opened ??= open(limits);
}

/** The error of a worker that was not opened over its transport. */
function wrongTransport(wanted: unknown): TypeError {
  const openers = { pipe: "openPipe", queue: "openQueue", shm: "openShm" };
  const known = typeof wanted === "string" && Object.hasOwn(openers, wanted);
  return new TypeError(
    known
      ? `Cannot open the parent over ${quoted(wanted)}: this program was ${
        opener === undefined
          ? "not opened as a worker"
          : `opened with ${openers[opener]}`
      }; open it with ${openers[wanted as Transport]}`
      : `Cannot open the parent as "transport" must be "pipe", "queue" or "shm": current value is ${
        show(wanted)
      }`,
  );
}

async function open(
  options: DuplexOptions,
): Promise<Duplex & { readonly transport: Transport }> {
  const limits: SessionOptions = {
    ...sessionOptions("Cannot open the parent", {
      closeTimeout: Infinity,
      ...options,
    }),
    role: "acceptor",
    name: "worker",
  };
  if (thread !== undefined) {
    const { openParent } = await room!;
    return withTransport(await openParent(limits, thread), thread.transport);
  }
  if ("WorkerGlobalScope" in globalThis) {
    throw new TypeError(
      "Cannot open the parent: this Web Worker was started by something else; start it with openQueue or openShm",
    );
  }
  const { openStdio } = await import("./_pipe/parent.ts");
  return withTransport(await openStdio(limits), "pipe");
}

function withTransport(
  duplex: Duplex,
  transport: Transport,
): Duplex & { readonly transport: Transport } {
  return Object.defineProperty(duplex, "transport", {
    value: transport,
    enumerable: true,
  }) as Duplex & { readonly transport: Transport };
}
