// Copyright 2026 the Duplex authors. MIT license.

/**
 * The opener's side of shared memory, with or without the event loop.
 *
 * @module
 */

import { ASKS_FOR_CALL } from "../_session/opening.ts";
import { type SessionOptions, sessionOptions } from "../_session/options.ts";
import { quoted } from "../_base/text.ts";
import { settlesWithin } from "../_base/waiting.ts";
import {
  Thread,
  type ThreadOptions,
  threadOptions,
} from "../_thread/thread.ts";
import { makeRings, RingEnd, type RingMemory, SpinPolicy } from "./ring.ts";
import { ShmSession } from "./session.ts";
import { ShmWire } from "./shm_wire.ts";

/** The default of `ringBytes`: four parts of a large message. */
export const DEFAULT_RING_BYTES: number = 2 ** 20;

/** Milliseconds for the error of a worker that has ended to arrive. */
const DIAGNOSE_TIMEOUT = 1_000;

/** Connects a worker through rings. The session must be opened. */
export function connectThread<In, Out>(
  thread: Thread,
  memory: RingMemory,
  limits: SessionOptions,
): ShmSession<In, Out> {
  const { port } = thread;
  port.postMessage(memory.words.buffer, []);
  const ring = new RingEnd(memory, "opener", new SpinPolicy());
  const exitError = (cause: unknown, unsent: readonly unknown[]) =>
    thread.exitError(cause, unsent);
  const wire: ShmWire = new ShmWire(ring, {
    port,
    end: {
      diagnose: async (cause, unsent) => {
        // A blocked thread notices the end before the error of the worker arrives.
        await settlesWithin(thread.left, DIAGNOSE_TIMEOUT);
        return exitError(cause, unsent);
      },
      close: (timeout, unsent) => thread.close(timeout, unsent),
      destroy: () => thread.destroy(),
    },
    exitError,
    // It is free before the hello.
    lock: () => session.peer === undefined ? undefined : thread.lock,
  });
  thread.ended.then(() => wire.onPeerGone());
  const session: ShmSession<In, Out> = new ShmSession(wire, limits);
  return session;
}

/** A worker that was started without the event loop. */
export interface SyncThread {
  readonly duplex: ShmSession;
  /** Ends it now. */
  stop(reason: unknown): void;
}

/**
 * Starts a worker and blocks this thread until its hello. The worker's script must
 * import this package without awaiting anything before.
 *
 * @param action What is attempted, for errors.
 * @param script The script.
 * @param options Its permissions, its memory, and the timeout.
 * @throws As `openShm`; an error in the script is noticed by the timeout only.
 */
export function openThreadSync(
  action: string,
  script: string,
  options: ThreadOptions,
): SyncThread {
  const own = threadOptions(action, options);
  const memory = makeRings(DEFAULT_RING_BYTES);
  const thread = Thread.startSync(action, "shm", script, own);
  const limits = sessionOptions(action, "opener", {});
  const duplex = connectThread<unknown, unknown>(thread, memory, limits);
  const stop = (reason: unknown) => {
    duplex.abort(reason);
    thread.stop();
  };
  const { openTimeout } = own;
  try {
    if (duplex.openSync(openTimeout)) return { duplex, stop };
    throw new DOMException(
      `${action} as ${
        quoted(thread.label)
      } did not send its hello within ${openTimeout} ms${ASKS_FOR_CALL}`,
      "TimeoutError",
    );
  } catch (error) {
    stop(error);
    throw error;
  }
}
