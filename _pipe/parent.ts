// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's own end in a child process, over its standard input and output.
 * What it prints is redirected, and the process ends soon after its parent.
 *
 * @module
 */

import type { ByteStream } from "../_wire/byte_stream.ts";
import { PeerExitError } from "../_base/errors.ts";
import { writeAll, writeAllSync } from "../_base/writing.ts";
import { FrameWire } from "../_wire/frame_wire.ts";
import type { SessionOptions } from "../_session/options.ts";
import { Session } from "../_session/session.ts";
import type { Duplex } from "../duplex.ts";
import { type Output, redirectStdout } from "./stdout.ts";

/** Milliseconds for a process to clean up and exit after its parent has ended. */
const ORPHAN_TIMEOUT = 1_000;

/** Milliseconds between checks for the parent's end while standard input is not read. */
const ORPHAN_CHECK_INTERVAL = 250;

/** The child's standard streams, which block, as a stream of bytes. */
class StdioStream implements ByteStream {
  readonly #output: Output;
  #isPaused = false;
  #isClosed = false;
  #released: PromiseWithResolvers<void> | undefined;
  #watch: ReturnType<typeof setInterval> | undefined;
  readonly #parentId = Deno.ppid;

  /** @param output The standard output, which nothing else writes to. */
  constructor(output: Output) {
    this.#output = output;
  }

  async read(
    into: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer> | null> {
    if (this.#isPaused) {
      this.#released = Promise.withResolvers();
      await this.#released.promise;
    }
    const size = await Deno.stdin.read(into);
    if (size !== null) return into.subarray(0, size);
    // The parent closes its end after both goodbyes. Before, it has ended.
    if (!this.#isClosed) exitSoon();
    return null;
  }

  async write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await writeAll(this.#output, bytes);
  }

  writeSync(bytes: Uint8Array<ArrayBuffer>): void {
    writeAllSync(this.#output, bytes);
  }

  /**
   * A read in progress keeps the process alive. After the parent's goodbye the session
   * pauses reading, so that the process exits when the script has ended. A timer then
   * checks for the parent's end.
   */
  pauseReading(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (isPaused) {
      this.#watchParent();
    } else {
      clearInterval(this.#watch);
      this.#released?.resolve();
    }
  }

  diagnose(cause: unknown, unsent: readonly unknown[]): Promise<Error> {
    return Promise.resolve(
      new PeerExitError("The parent ended without a goodbye", {
        cause,
        unsent,
      }),
    );
  }

  close(): Promise<void> {
    this.#isClosed = true;
    // The script may continue without its duplex, but not without its parent.
    this.#watchParent();
    return Promise.resolve();
  }

  destroy(): Promise<void> {
    this.#watchParent();
    if (!this.#isClosed) {
      this.#isClosed = true;
      // Ends the read in progress, which would keep the process alive.
      Deno.stdin.close();
    }
    return Promise.resolve();
  }

  #watchParent(): void {
    clearInterval(this.#watch);
    const watch = setInterval(() => {
      if (Deno.ppid !== this.#parentId) exitSoon();
    }, ORPHAN_CHECK_INTERVAL);
    Deno.unrefTimer(watch);
    this.#watch = watch;
  }
}

/** Ends the process after a time, unless it ends before. */
function exitSoon(): void {
  Deno.unrefTimer(setTimeout(() => Deno.exit(1), ORPHAN_TIMEOUT));
}

/** Opens the standard streams to the parent. */
export async function openStdio(
  limits: SessionOptions,
): Promise<Duplex<unknown, unknown>> {
  if (Deno.stdin.isTerminal()) {
    throw new TypeError(
      "Cannot open the parent: standard input is a terminal; start this program as a worker, with openPipe",
    );
  }
  const output = await redirectStdout();
  // Waits for prints that were begun before: they must not follow the hello.
  await output.write(new Uint8Array());
  const session = new Session(new FrameWire(new StdioStream(output)), limits);
  await session.open();
  closeAtEnd(session);
  return session;
}

/** Closes the duplex when the script has ended without doing so. */
function closeAtEnd(session: Session<unknown, unknown>): void {
  let isOpen = true;
  const onEnd = () => isOpen = false;
  session.closed.then(onEnd, onEnd);
  addEventListener("beforeunload", (event) => {
    if (!isOpen) return;
    // The event loop runs until the goodbye is sent.
    event.preventDefault();
    session.close().catch(onEnd);
  });
}
