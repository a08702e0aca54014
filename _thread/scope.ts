// Copyright 2026 the Duplex authors. MIT license.

/**
 * The agreement of a Web Worker and the thread that started it, before the hello. The
 * worker's name contains the transport that it was started for, and is the name of a
 * Web Lock that the worker holds as long as it lives. The worker posts first, as
 * soon as it listens, while the rest of its script is still being loaded. The first
 * post of the parent is the limit of the worker's memory.
 *
 * @module
 */

import { hasPrints, redirectStdout } from "../_base/prints.ts";
import { failurePost } from "./failure.ts";

/** Web Locks, as far as they are used here; TypeScript has no types for them. */
interface LockManager {
  request(
    name: string,
    options: { mode?: "shared"; signal?: AbortSignal },
    callback: () => unknown,
  ): Promise<unknown>;
}

/** The locks of this process, shared by its threads. */
export const locks: LockManager =
  (navigator as unknown as { locks: LockManager }).locks;

/** Posted by a worker that listens. */
export const READY_POST = "@duplex/ipc ready";

/** Posted by a worker whose duplex has ended. */
export const CLOSED_POST = "@duplex/ipc gone";

const NAME = / \(@duplex\/ipc (queue|shm)( stderr)? [\w-]+\)$/;

/**
 * Makes a name for a worker and its Web Lock. Deno shows it with an uncaught error of
 * the worker, so it begins with the script.
 *
 * @param label The name of the script.
 * @param transport The transport that the worker must open.
 */
export function threadName(label: string, transport: string): string {
  // All locks of a process have different names with 48 random bits.
  const key = crypto.randomUUID().slice(-12);
  // A worker of a worker process shares the standard output that carries its messages.
  const prints = hasPrints() ? " stderr" : "";
  return `${label} (@duplex/ipc ${transport}${prints} ${key})`;
}

/** One end of a pair that posts to each other. */
export interface Port {
  /** Posts a message; buffers in `transfer` move. */
  postMessage(message: unknown, transfer: Transferable[]): void;
  /** Calls `onMessage` with everything that arrives, or has arrived. */
  listen(onMessage: (message: unknown) => void): void;
}

/** The global scope of a Web Worker, as far as it is used here. */
interface WorkerScope {
  readonly name: string;
  readonly location: { readonly href: string };
  onmessage: ((event: MessageEvent) => void) | null;
  postMessage(message: unknown, transfer?: Transferable[]): void;
}

/** The limit of a worker's memory: the first post of its parent. */
export interface ThreadMemory {
  readonly bytes: number;
  /** Whether buffers count in addition to the heap. */
  readonly hasBuffers: boolean;
}

/** A worker of this package, seen from within. */
export interface ThreadScope {
  /** The transport that it was started for. */
  readonly transport: "queue" | "shm";
  /** The limit of its memory, as the parent has posted. */
  readonly memory: Promise<ThreadMemory>;
  /** The way to the thread that started it. */
  readonly port: Port;
  /** Settles when the worker script has been run to its end. */
  readonly evaluated: Promise<unknown>;
  /** Whether an error that nothing caught is about to end the worker. */
  hasFailed(): boolean;
}

/**
 * Starts to listen, if this is a worker of this package. Must be called while the
 * worker's script is being loaded: an import of the script waits for its end only
 * if it starts before the script runs, and there is no other way to know its end.
 */
export function enterThread(): ThreadScope | undefined {
  if (!("WorkerGlobalScope" in globalThis)) return undefined;
  const scope = globalThis as unknown as WorkerScope;
  const [, transport, prints] = NAME.exec(scope.name) ?? [];
  if (transport === undefined) return undefined;
  if (prints !== undefined) redirectStdout();
  const { port, memory } = portOf(scope);
  // Never released; the parent requests it and gets it when this worker is gone.
  locks.request(scope.name, {}, () => {
    port.postMessage(READY_POST, []);
    return new Promise(() => {});
  });
  let hasFailed = false;
  const evaluated = import(scope.location.href).catch(() => hasFailed = true);
  // The script may prevent the end in a listener of its own, which runs later than
  // this one, so an event is checked when the next one arrives, or in `hasFailed`.
  let last: Event | undefined;
  const isEnd = () => last !== undefined && !last.defaultPrevented;
  for (const type of ["error", "unhandledrejection"]) {
    globalThis.addEventListener(type, (event) => {
      hasFailed ||= isEnd();
      last = event;
      // Nothing can be posted once the listeners have run.
      port.postMessage(failurePost(event), []);
    });
  }
  return {
    transport: transport === "shm" ? transport : "queue",
    memory,
    port,
    evaluated,
    hasFailed: () => hasFailed || isEnd(),
  };
}

/**
 * The limit that the parent posts first, and the port to it, which keeps messages
 * until there is a listener.
 */
function portOf(
  scope: WorkerScope,
): { port: Port; memory: Promise<ThreadMemory> } {
  const memory = Promise.withResolvers<ThreadMemory>();
  const early: unknown[] = [];
  let onMessage = (message: unknown): void => {
    early.push(message);
  };
  scope.onmessage = ({ data }) => {
    memory.resolve(data as ThreadMemory);
    scope.onmessage = ({ data }) => onMessage(data);
  };
  const port: Port = {
    postMessage: (message, transfer) => post(scope, message, transfer),
    listen: (listener) => {
      for (const message of early) listener(message);
      onMessage = listener;
    },
  };
  return { port, memory: memory.promise };
}

/** Posts a message; Deno is faster without an empty list of buffers. */
export function post(
  target: {
    postMessage(message: unknown, transfer?: Transferable[]): void;
  },
  message: unknown,
  transfer: Transferable[],
): void {
  if (transfer.length === 0) target.postMessage(message);
  else target.postMessage(message, transfer);
}
