// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's own end of a duplex, for every transport that starts workers. It loads
 * only the modules that a worker needs, and requires no permission. A worker that
 * exposes methods imports `@duplex/ipc/rpc` instead. Other modules work too, but load
 * more.
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
import { parentPromises } from "./_base/errors.ts";
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
 * The worker's own end of a {@linkcode Duplex}. `transport` is the transport over
 * which the worker was opened. It determines the additional members:
 *
 * - `"pipe"`, by {@linkcode openPipe}: none.
 * - `"queue"`, by {@linkcode openQueue}: `delivery`, the {@linkcode Delivery} of the
 *   message received last, `undefined` before the first. Use its number and attempt
 *   in a worker that must not do anything twice.
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

/** The transport of this program. Any process counts as opened by `openPipe`. */
const opener = thread?.transport ??
  ("WorkerGlobalScope" in globalThis ? undefined : "pipe");

/** The module of the transport, which loads while the script does. */
const room = thread === undefined
  ? undefined
  : thread.transport === "shm"
  ? import("./_shm/parent.ts")
  : import("./_queue/parent.ts");

/**
 * Settles when the script of a process, with its top-level awaits, has been run. Never
 * settles if this module is loaded after that.
 */
const evaluated = opener === "pipe"
  ? new Promise((resolve) => addEventListener("load", resolve, { once: true }))
  : undefined;

let opened: Promise<Duplex & { readonly transport: Transport }> | undefined;

/**
 * Opens the worker's end of the duplex that its parent opened. Every call returns the
 * same duplex.
 *
 * In a process, standard output carries the messages. What is printed before this call
 * is passed on as standard error is; from this call on, `console`, `Deno.stdout`,
 * `process.stdout` and `node:fs` with descriptor 1 write to standard error, and so do
 * loggers that use them, and Web Workers that the process opens with this package.
 * Some output cannot be redirected and ends the duplex with an error that quotes it:
 *
 * - that of native code, of processes that inherit standard output, of other Web
 *   Workers and threads of `node:worker_threads`, and of the file "/dev/stdout";
 * - that of functions taken from `node:fs` by name (`import { writeSync }`,
 *   `const { writeSync } = require("fs")`) while Deno starts its part for Node. The
 *   option `denoFlags: ["--preload=data:text/javascript,process.pid"]` of `openPipe`
 *   starts that part before the script, which takes 20 to 30 ms if the script would
 *   not start it;
 * - in a process that was opened with the option `command`, with Deno 2.4, and with
 *   `--inspect-brk`, that of functions and writers taken from `console`,
 *   `Deno.stdout` and `node:fs` before this call.
 *
 * From this call on, the process also ends within about a second of its parent, even
 * if the parent is killed, unless its event loop is blocked.
 *
 * A worker ends with `close`, or with the end of an `await using` block. A script
 * that ends without it stays until the parent sends goodbye, and then sends its own:
 * a Web Worker at once, a process when its event loop is empty, or after a second.
 * `close` waits for the parent's goodbye as long as the parent lives: `closeTimeout`
 * is `Infinity` by default here. If an error leaves an `await using` block, goodbye
 * is sent first, and the parent gets the error when the script ends. To report it at
 * once, catch it and call `abort`. A worker that its parent aborts ends without
 * printing the reason, unless it catches it.
 *
 * A worker ends when both sides have sent goodbye. A process has a second to exit by
 * itself after its script has been run to its end. Then it is ended with its exit
 * code, even if a timer or a server is left, so a script must await its cleanup at its
 * top level. The parent waits for that until its `closeTimeout`. A Web Worker is
 * terminated at once, so it must complete its work before it closes the duplex.
 *
 * Import this module with a static import in a Web Worker: otherwise the end of the
 * script cannot be detected, and the parent's goodbye is answered at once.
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
 * @throws {PeerExitError} If the parent ended before its hello, or standard input is
 *   empty.
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
  options?: DuplexOptions & { transport?: undefined },
): Promise<ParentDuplex<In, Out>>;
/**
 * Opens the worker's end in a worker that is written for one transport. The duplex
 * has the members of that transport.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 * @typeParam Transport The transport.
 *
 * @param options The transport, and limits of this end.
 * @returns The duplex, once the parent's hello has arrived.
 * @throws {TypeError} If the worker was opened over another transport. Other errors
 *   are those of a call without `transport`.
 *
 * @example A worker that blocks its thread
 * ```ts ignore
 * import { ClosedError } from "@duplex/ipc/duplex";
 * import { parent } from "@duplex/ipc/parent";
 *
 * await using main = await parent<number>({ transport: "shm" });
 * try {
 *   for (;;) main.sendSync(main.receiveSync() + 1);
 * } catch (error) {
 *   if (!(error instanceof ClosedError)) throw error;
 * }
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
  if (opened === undefined) parentPromises.add(opened = open(limits));
  return opened;
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
  const limits = sessionOptions("Cannot open the parent", "acceptor", {
    closeTimeout: Infinity,
    ...options,
  });
  if (thread !== undefined) {
    const { openParent } = await room!;
    return withTransport(await openParent(limits, thread), thread.transport);
  }
  if ("WorkerGlobalScope" in globalThis) {
    throw new TypeError(
      "Cannot open the parent: this Web Worker was not started by this package; start it with openQueue or openShm",
    );
  }
  const { openStdio } = await import("./_pipe/parent.ts");
  return withTransport(await openStdio(limits, evaluated!), "pipe");
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
