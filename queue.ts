// Copyright 2026 the Duplex authors. MIT license.

/**
 * Web Workers as the far end of a duplex, behind a message queue: bounded,
 * numbered, acknowledged. A worker that dies is replaced, and what it had not
 * handled is delivered again; nothing is lost.
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

import { onClaim } from "./_session/claim.ts";
import { type SessionOptions, sessionOptions } from "./_session/hello.ts";
import { checkKind, checkPositive, checkRetries } from "./_base/options.ts";
import { openWithin } from "./_session/opening.ts";
import { MAX_RETRIES } from "./_queue/lease.ts";
import { Link } from "./_queue/link.ts";
import { MemoryStore } from "./_queue/store.ts";
import { type FailedMessage, QueueWire } from "./_queue/queue_wire.ts";
import { Session } from "./_session/session.ts";
import { Thread, type ThreadOptions, threadOptions } from "./_thread/thread.ts";
import type { Duplex, DuplexOptions } from "./duplex.ts";

export type { FailedMessage, ThreadOptions };

/**
 * Options for {@linkcode openQueue}.
 *
 * @typeParam Out The type of the messages sent.
 */
export interface QueueOptions<Out = unknown>
  extends DuplexOptions, ThreadOptions {
  /**
   * How many workers run the script. A message goes to the one that has the
   * least to do.
   *
   * @default {1}
   */
  workers?: number;
  /**
   * Messages, not bytes, that the queue holds, waiting or being worked on, before a send
   * waits. Without it, as many as all workers together take ahead; the bytes that
   * they take ahead bound it in any case.
   *
   * @default {4096 for each worker}
   */
  capacity?: number;
  /**
   * Whether answers are received in the order of the messages that they answer,
   * over all workers. Otherwise each comes when it is there, and only those of
   * one worker are in order. What a worker sends answers the message that it has
   * received last.
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
   * message ends the queue with {@linkcode PeerExitError}, and stands in its
   * `unsent`. An error that it throws or rejects with ends the queue; the queue
   * does not wait for it.
   */
  onFailed?: (failed: FailedMessage<Out>) => void;
}

/**
 * A {@linkcode Duplex} to Web Workers behind a queue.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 */
export type QueueDuplex<In = unknown, Out = In> = Duplex<In, Out>;

const ACTION = "Cannot open a queue";

/** As {@linkcode QueueOptions.retries}: two in addition to the first attempt. */
const DEFAULT_RETRIES = 2;

/**
 * Starts a worker script in Web Workers and opens a duplex to them.
 *
 * A message that is sent is kept by the queue, with a number of its own, until a
 * worker has handled it: until the worker asks for the next message, answers, or
 * says goodbye. When a worker dies, a new one takes its place, and messages that
 * it had not handled are delivered again, before all others and in order. In the
 * worker, `delivery` of the duplex that {@linkcode parent} gives says of the
 * message received last which number it has and how often it was tried before.
 *
 * So a worker that works on several messages at a time acknowledges all of them
 * when it asks for one more or sends anything: do so only in workers that may
 * lose what they have begun. The first of several answers acknowledges as well.
 * A goodbye does if the script then ends well: a message that a worker throws at
 * is delivered again, also where the error leaves an `await using` block. An
 * `abort` by one worker ends the queue with all its workers, with its reason.
 *
 * Messages are copied when they are sent. Beside the values that every duplex
 * carries, cycles and shared references arrive as they are, and a
 * `SharedArrayBuffer` as the same memory. What is in `transfer` moves to the
 * queue, which gives the worker a copy: it might have to be delivered again.
 *
 * Over a queue with one worker calls can be made ({@linkcode remote}). That worker
 * is not replaced then, since a call must not be made twice unasked: its death
 * ends the queue. A {@linkcode Pool} of such queues replaces them.
 *
 * `close` says goodbye and waits until everything was handled and the workers
 * have said goodbye too; then they are terminated. After `abort` they are
 * terminated as soon as they have heard of it, or a second later. Deno cannot
 * terminate a worker that computes without ever coming to its event loop, and
 * ends the whole process when a worker fills its heap in one go; a child process
 * has neither weakness (see {@linkcode openPipe}).
 *
 * Requires `--unstable-worker-options` unless `permissions` is `"inherit"`,
 * `--allow-read` for the script and the files that it imports, and every
 * permission that is passed on.
 *
 * @typeParam In The type of the messages received.
 * @typeParam Out The type of the messages sent.
 *
 * @param script The worker script: a path, or a URL, `data:` among them.
 * @param options How many workers there are, what they may do, and limits.
 * @returns The duplex, when all workers have said hello.
 * @throws {Deno.errors.NotCapable} If the caller does not hold a permission that
 *   it grants.
 * @throws {PeerExitError} If a worker ended before its hello, also because its
 *   script cannot be read.
 * @throws {ProtocolError} If a worker speaks no codec of this side's.
 * @throws {DOMException} If a worker did not say hello in time ("TimeoutError").
 * @throws {RangeError} If an option is out of range.
 * @throws {TypeError} If an option is of the wrong kind, or Deno was started
 *   without `--unstable-worker-options` and `permissions` is not `"inherit"`.
 *
 * @example Two workers whose answers come in order
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
): Promise<QueueDuplex<In, Out>> {
  const own = threadOptions(ACTION, options);
  const queue = queueOptions(options as QueueOptions);
  const limits: SessionOptions = {
    ...sessionOptions(ACTION, options),
    role: "opener",
    name: "main",
  };
  const wire = new QueueWire({
    ...limits,
    ...queue,
    async openLink(events, signal) {
      const thread = await Thread.start(ACTION, "queue", script, own);
      const link = new Link(thread, limits, events);
      await openLink(link, thread.label, own.openTimeout, signal);
      return link;
    },
  }, new MemoryStore());
  const session = new Session<In, Out>(wire, limits, wire.accounts);
  onClaim(session, () => wire.claim());
  try {
    await session.open();
    return session;
  } catch (error) {
    await session.closed.catch(() => {});
    throw error;
  }
}

/** The options that only a queue has, checked and completed. */
function queueOptions(options: QueueOptions) {
  const {
    workers = 1,
    capacity,
    ordered = false,
    restart = true,
    retries = DEFAULT_RETRIES,
    onFailed,
  } = options;
  checkPositive(ACTION, "workers", workers, { whole: true });
  if (capacity !== undefined) {
    checkPositive(ACTION, "capacity", capacity, { whole: true });
  }
  checkKind(ACTION, "ordered", ordered, "boolean");
  checkKind(ACTION, "restart", restart, "boolean");
  checkRetries(ACTION, "retries", retries, MAX_RETRIES);
  checkKind(ACTION, "onFailed", onFailed, "function");
  return { workers, capacity, ordered, restart, retries, onFailed };
}

/** Waits for a worker's hello, until the time is up or the queue ends. */
async function openLink(
  link: Link,
  label: string,
  timeout: number,
  signal: AbortSignal,
): Promise<void> {
  const onAbort = () => link.fail(signal.reason);
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) onAbort();
  const attempt = `${ACTION} to "${label}"`;
  try {
    await openWithin(link, timeout, () => ({ attempt }));
  } catch (error) {
    await link.fail(error);
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
