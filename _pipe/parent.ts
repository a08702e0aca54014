// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's own end in a child process, over its standard input and output.
 * `console` is redirected, and the process ends soon after its parent.
 *
 * @module
 */

import type { ByteStream } from "../_wire/byte_stream.ts";
import type { PeerHello } from "../_wire/wire.ts";
import { PeerExitError } from "../_base/errors.ts";
import { writeAll, writeAllSync } from "../_base/writing.ts";
import { FrameWire } from "../_wire/frame_wire.ts";
import type { SessionOptions } from "../_session/options.ts";
import { Session } from "../_session/session.ts";
import { endAtLimit } from "./memory.ts";
import type { Duplex } from "../duplex.ts";

/** Milliseconds for a process to clean up and exit after its parent has ended. */
const ORPHAN_TIMEOUT = 1_000;

/** Milliseconds between checks for the parent's end while standard input is not read. */
const ORPHAN_CHECK_INTERVAL = 250;

/** The child's standard streams, which block, as a stream of bytes. */
class StdioStream implements ByteStream {
  #isPaused = false;
  #isClosed = false;
  #released: PromiseWithResolvers<void> | undefined;
  #watch: ReturnType<typeof setInterval> | undefined;
  readonly #parentId = Deno.ppid;

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
    await writeAll(Deno.stdout, bytes);
  }

  writeSync(bytes: Uint8Array<ArrayBuffer>): void {
    writeAllSync(Deno.stdout, bytes);
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

/** The session of a child process, which watches its memory if the parent limits it. */
class StdioSession extends Session<unknown, unknown> {
  override onHello(peer: PeerHello): void {
    super.onHello(peer);
    if (peer.memory !== undefined) endAtLimit(peer.memory);
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
  redirectConsole();
  const session = new StdioSession(new FrameWire(new StdioStream()), limits);
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

/** Makes every method of `console` that writes to standard output write to standard error. */
function redirectConsole(): void {
  const { error } = console;
  const counts = new Map<string, number>();
  const timers = new Map<string, number>();
  const elapsed = (label: string) => {
    const since = timers.get(label) ?? performance.now();
    return `${label}: ${(performance.now() - since).toFixed(3)}ms`;
  };
  Object.assign(console, {
    log: error,
    info: error,
    debug: error,
    dirxml: error,
    dir: (value: unknown, options?: Deno.InspectOptions) =>
      error(Deno.inspect(value, options)),
    table: (value: unknown) => error(value),
    // The original writes an escape sequence to standard output.
    clear() {},
    count(label: string = "default") {
      const count = (counts.get(label) ?? 0) + 1;
      counts.set(label, count);
      error(`${label}: ${count}`);
    },
    countReset: (label: string = "default") => counts.delete(label),
    time: (label: string = "default") => timers.set(label, performance.now()),
    timeLog: (label: string = "default", ...rest: unknown[]) =>
      error(elapsed(label), ...rest),
    timeEnd(label: string = "default") {
      error(elapsed(label));
      timers.delete(label);
    },
  });
}
