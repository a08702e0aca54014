// Copyright 2026 the Duplex authors. MIT license.

/**
 * Web Workers behind a message queue. The queue is bounded, and numbers and
 * acknowledges messages. A worker that dies is replaced, and the messages that it had
 * not handled are delivered again; nothing is lost.
 *
 * ```ts
 * import { openQueue } from "@duplex/ipc/queue";
 * import { assertEquals } from "@std/assert";
 *
 * const script = new URL("./examples/hello/worker.ts", import.meta.url);
 * await using worker = await openQueue<string>(script);
 * await worker.send("Hello from main!");
 * assertEquals(await worker.receive(), "Hello from worker!");
 * ```
 *
 * @module
 */

import { sessionOptions } from "./_session/options.ts";
import { checkKind, checkNumber, checkPositive } from "./_base/options.ts";
import { ASKS_FOR_CALL, openSession, openWithin } from "./_session/opening.ts";
import { quoted } from "./_base/text.ts";
import { MAX_RETRIES } from "./_queue/lease.ts";
import { WorkerLink } from "./_queue/worker_link.ts";
import { MemoryStore } from "./_queue/store.ts";
import { type FailedMessage, QueueWire } from "./_queue/queue_wire.ts";
import { Session } from "./_session/session.ts";
import { Thread, type ThreadOptions, threadOptions } from "./_thread/thread.ts";
import type { Duplex, DuplexOptions } from "./duplex.ts";

export type { FailedMessage, ThreadOptions };
export {
  ClosedError,
  DeadlockError,
  PeerExitError,
  ProtocolError,
} from "./_base/errors.ts";
export type { Duplex, DuplexOptions } from "./duplex.ts";

/**
 * Options for {@linkcode openQueue}.
 *
 * @typeParam Out The type of the messages sent.
 */
export interface QueueOptions<Out = unknown>
  extends DuplexOptions, ThreadOptions {
  /**
   * Number of workers. A message goes to the worker with the fewest messages.
   *
   * @default {1}
   */
  workers?: number;
  /**
   * Maximum number of messages queued or being processed before `send` waits. The
   * workers' windows in bytes limit it as well.
   *
   * @default {4096 for each worker}
   */
  capacity?: number;
  /**
   * Whether answers are received in the order of the messages that they answer, over
   * all workers. Otherwise only the answers of one worker are in order. A message
   * that a worker sends is an answer to the message that it received last.
   *
   * @default {false}
   */
  ordered?: boolean;
  /**
   * Whether a worker that died is replaced. Otherwise the queue fails when its
   * last worker has died.
   *
   * @default {true}
   */
  restart?: boolean;
  /**
   * How often a message is delivered again when its worker died before it had
   * handled it, from 0 to 254. After that it is given to `onFailed`. A message
   * that is delivered again goes to a worker that has no other, so from 1 up only
   * a message that is the cause itself fails.
   *
   * @default {2}
   */
  retries?: number;
  /**
   * Called with a message whose worker died at its last attempt. Without it such a
   * message ends the queue with a {@linkcode PeerExitError}, which has it in
   * `unsent`. The queue does not wait for the callback; if it throws or rejects, the
   * queue ends with that error.
   */
  onFailed?: (failed: FailedMessage<Out>) => void;
}

const ACTION = "Cannot open a queue";

/** As {@linkcode QueueOptions.retries}: two in addition to the first attempt. */
const DEFAULT_RETRIES = 2;

/**
 * Starts a worker script in one or more Web Workers and opens a duplex to them.
 *
 * The queue numbers each message and keeps it until a worker has handled it: until
 * the worker receives the next message, answers, or sends goodbye. When a worker dies,
 * it is replaced, and the messages that it had not handled are delivered again,
 * before all others and in order. In the worker, `delivery` of the duplex returned by
 * {@linkcode parent} has the number of the message received last and which attempt it
 * is.
 *
 * A worker that processes several messages at a time acknowledges all of them when it
 * receives one more or sends anything: do this only if messages that have begun may
 * be lost. The first of several answers acknowledges the message. A goodbye
 * acknowledges it only if the script then ends without an error: a message during
 * which a worker throws is delivered again, also if the error leaves an `await using`
 * block. An `abort` by one worker ends the queue and all its workers with its reason.
 *
 * Messages are copied when they are sent. Shared memory arrives as the same memory, and
 * each worker receives objects such as a `WebAssembly.Module` or a `Blob`. A buffer in
 * `transfer` moves to the queue; the worker receives a copy, since the message may have
 * to be delivered again. So a port or a stream can be moved only by a worker's answer.
 *
 * Calls ({@linkcode remote}) need a queue with one worker. That worker is not
 * replaced, since a call must be repeated only by its caller: its
 * death ends the queue. A {@linkcode Pool} of such queues replaces them.
 *
 * `close` sends goodbye and waits until all messages were handled and the workers have
 * sent their goodbyes; then they are terminated. After `abort` they are terminated once
 * they have received the reason, at most a second later. Deno cannot terminate a
 * worker that never returns to its event loop, and it ends the whole process if a
 * worker fills its heap in one step; child processes do not have these limits (see
 * {@linkcode openPipe}).
 *
 * Until it is closed, a queue keeps the program running: Deno has no `unref` for Web
 * Workers.
 *
 * Requires Deno 2.9.0 or later, `--unstable-worker-options` unless `permissions` is `"inherit"`,
 * `--allow-read` for the script and the files that it imports, and every permission
 * that is passed on.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 *
 * @param script The worker script: a path, or a URL of the schemes `file`, `http`,
 *   `https`, `data`, `blob`, `jsr` and `npm`.
 * @param options Number of workers, their permissions, and limits.
 * @returns The duplex, once all workers have sent their hello.
 * @throws {Deno.errors.NotCapable} If the caller grants a permission that it does not
 *   hold.
 * @throws {PeerExitError} If a worker ended before its hello, for example because its
 *   script cannot be read; an uncaught error of the script is the `cause`.
 * @throws {ProtocolError} If a worker supports none of this side's codecs.
 * @throws {DOMException} If a worker did not send its hello in time ("TimeoutError").
 * @throws The reason of `signal`, if it aborts before the last worker's hello.
 * @throws {RangeError} If an option is out of range.
 * @throws {TypeError} If an option is of the wrong kind, or Deno was started
 *   without `--unstable-worker-options` and `permissions` is not `"inherit"`.
 *
 * @example Two workers, with answers in order
 * ```ts
 * import { openQueue } from "@duplex/ipc/queue";
 * import { assertEquals } from "@std/assert";
 *
 * interface File {
 *   size: number;
 * }
 *
 * const script = new URL("./examples/demo_worker.ts", import.meta.url);
 * await using files = await openQueue<File, string>(script, {
 *   workers: 2,
 *   ordered: true,
 *   permissions: { read: ["./LICENSE", "./README.md"] },
 * });
 * for (const path of ["LICENSE", "README.md"]) await files.send(path);
 * for (const path of ["LICENSE", "README.md"]) {
 *   assertEquals((await files.receive()).size, Deno.statSync(path).size);
 * }
 * ```
 */
export async function openQueue<In = unknown, Out = In>(
  script: string | URL,
  options: QueueOptions<Out> = {},
): Promise<Duplex<In, Out>> {
  const own = threadOptions(ACTION, options);
  const queue = queueOptions(options as QueueOptions);
  const limits = sessionOptions(ACTION, "opener", options);
  const wire = new QueueWire({
    ...limits,
    ...queue,
    async openLink(events, signal) {
      const thread = await Thread.start(ACTION, "queue", script, own);
      const link = new WorkerLink(thread, limits, events);
      await openLink(link, thread.label, own.openTimeout, signal);
      return link;
    },
  }, new MemoryStore());
  const session = new Session<In, Out>(wire, limits, wire.flow);
  // Each worker has this time of its own.
  const unlimited = { timeout: Infinity, signal: own.signal };
  return await openSession(session, unlimited, () => ({ attempt: ACTION }));
}

/** The options that only a queue has, checked, with defaults. */
function queueOptions(options: QueueOptions) {
  const {
    workers = 1,
    capacity,
    ordered = false,
    restart = true,
    retries = DEFAULT_RETRIES,
    onFailed,
  } = options;
  checkPositive(ACTION, "workers", workers, { integer: true });
  if (capacity !== undefined) {
    checkPositive(ACTION, "capacity", capacity, { integer: true });
  }
  checkKind(ACTION, "ordered", ordered, "boolean");
  checkKind(ACTION, "restart", restart, "boolean");
  const range = { min: 0, max: MAX_RETRIES, integer: true };
  checkNumber(ACTION, "retries", retries, range);
  checkKind(ACTION, "onFailed", onFailed, "function");
  return { workers, capacity, ordered, restart, retries, onFailed };
}

/** Waits for a worker's hello until the timeout, or until the queue ends. */
async function openLink(
  link: WorkerLink,
  label: string,
  timeout: number,
  signal: AbortSignal,
): Promise<void> {
  const attempt = `${ACTION} to ${quoted(label)}`;
  try {
    await openWithin(link, { timeout, signal }, () => ({
      attempt,
      known: ASKS_FOR_CALL,
    }));
  } catch (error) {
    link.fail(error);
    await link.ended;
    throw error;
  }
}
