// Copyright 2026 the Duplex authors. MIT license.

/**
 * The worker's own end in a child process, over its standard input and output.
 * What it prints is redirected, and the process ends soon after its parent.
 *
 * @module
 */

import type { ByteStream } from "../_wire/byte_stream.ts";
import type { PeerHello } from "../_wire/wire.ts";
import { PeerExitError } from "../_base/errors.ts";
import { quoted } from "../_base/text.ts";
import { writeAll, writeAllSync } from "../_base/writing.ts";
import { mayBeHello } from "../_wire/frame_layout.ts";
import { FrameWire } from "../_wire/frame_wire.ts";
import type { SessionOptions } from "../_session/options.ts";
import { endQuietly, onPeerGoodbye, Session } from "../_session/session.ts";
import { endAtLimit } from "./memory.ts";
import { type Output, redirectStdout } from "../_base/prints.ts";
import type { Duplex } from "../duplex.ts";

/** Milliseconds for a process to clean up and exit after its parent has ended. */
const ORPHAN_TIMEOUT = 1_000;

/**
 * Milliseconds for a process to clean up and exit after both goodbyes, once its script
 * has been run to its end. A timer, a server or a watcher would keep it running.
 */
const CLEANUP_TIMEOUT = 1_000;

/** Milliseconds between checks for the parent's end while standard input is not read. */
const ORPHAN_CHECK_INTERVAL = 250;

/** Characters of an input shown in an error. */
const MAX_INPUT_LENGTH = 40;

/** The child's standard streams, which block, as a stream of bytes. */
class StdioStream implements ByteStream {
  readonly #output: Output;
  #hasRead = false;
  #refusal: TypeError | undefined;
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
    if (size !== null) {
      const bytes = into.subarray(0, size);
      if (!this.#hasRead && !mayBeHello(bytes, 0)) throw this.#refuse(bytes);
      this.#hasRead = true;
      return bytes;
    }
    // The parent closes its end after both goodbyes. Before, it has ended.
    if (!this.#isClosed) exitSoon(ORPHAN_TIMEOUT, 1);
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
    if (this.#refusal !== undefined) return Promise.resolve(this.#refusal);
    const message = this.#hasRead
      ? "The parent ended without a goodbye"
      : "Cannot open the parent: standard input ended before a message, as this program was not started as a worker or its parent has ended; open it with openPipe";
    return Promise.resolve(new PeerExitError(message, { cause, unsent }));
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

  /** Standard input is not that of a worker. */
  #refuse(bytes: Uint8Array): TypeError {
    const text = quoted(new TextDecoder().decode(bytes), MAX_INPUT_LENGTH);
    return this.#refusal = notWorker(`: standard input begins with ${text}`);
  }

  #watchParent(): void {
    clearInterval(this.#watch);
    const watch = setInterval(() => {
      if (Deno.ppid !== this.#parentId) exitSoon(ORPHAN_TIMEOUT, 1);
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

function notWorker(reason = ""): TypeError {
  return new TypeError(
    `Cannot open the parent: this program was not started as a worker; open it with openPipe${reason}`,
  );
}

/** Ends the process after a time, unless it ends before. */
function exitSoon(timeout: number, code?: number): void {
  Deno.unrefTimer(setTimeout(() => Deno.exit(code), timeout));
}

/**
 * Opens the standard streams to the parent.
 *
 * @param limits The limits of this end.
 * @param evaluated Settles when the script has been run to its end.
 */
export async function openStdio(
  limits: SessionOptions,
  evaluated: Promise<unknown>,
): Promise<Duplex<unknown, unknown>> {
  // A hello on a terminal would be unreadable.
  if (Deno.stdin.isTerminal() || Deno.stdout.isTerminal()) throw notWorker();
  const output = redirectStdout();
  // Waits for prints that were begun before: they must not follow the hello.
  await output.write(new Uint8Array());
  const session = new StdioSession(
    new FrameWire(new StdioStream(output)),
    limits,
  );
  endQuietly(session, () => Deno.exit(1));
  // The parent's goodbye may arrive together with its hello.
  closeAtEnd(session, evaluated);
  await session.open();
  exitAtEnd(session, evaluated);
  return session;
}

/** Ends the process after both goodbyes, although something keeps it running. */
async function exitAtEnd(
  session: Session<unknown, unknown>,
  evaluated: Promise<unknown>,
): Promise<void> {
  try {
    await session.closed;
  } catch {
    // The parent ends this process.
    return;
  }
  await evaluated;
  // The exit code is that of the script.
  exitSoon(CLEANUP_TIMEOUT);
}

/**
 * Closes the duplex when the script has ended without doing so: when its event loop is
 * empty, or a while after the parent's goodbye.
 */
function closeAtEnd(
  session: Session<unknown, unknown>,
  evaluated: Promise<unknown>,
): void {
  let isOpen = true;
  const onEnd = () => isOpen = false;
  session.closed.then(onEnd, onEnd);
  const close = () => session.close().catch(onEnd);
  addEventListener("beforeunload", (event) => {
    if (!isOpen) return;
    // The event loop runs until the goodbye is sent.
    event.preventDefault();
    close();
  });
  session[onPeerGoodbye] = async () => {
    await evaluated;
    Deno.unrefTimer(setTimeout(close, CLEANUP_TIMEOUT));
  };
}
