// Copyright 2026 the Duplex authors. MIT license.

/**
 * A child process as a stream of bytes, over its standard input and output. It ends
 * the child, and reports how the child has ended.
 *
 * @module
 */

import { PeerExitError } from "../_base/errors.ts";
import type { ByteStream } from "../_wire/byte_stream.ts";
import { describeMemoryEnd } from "../_base/memory.ts";
import type { StderrReader } from "./stderr.ts";
import { quoted } from "../_base/text.ts";
import { settlesWithin } from "../_base/waiting.ts";

/** Milliseconds for a child to exit before SIGTERM, and again before SIGKILL. */
const EXIT_TIMEOUT = 1_000;

/**
 * Milliseconds without output after which the streams of a child that has exited are
 * closed. A grandchild may keep them open forever.
 */
const GRANDCHILD_TIMEOUT = 250;

/** A signal that this side sent to a child, and why. */
interface SentSignal {
  readonly name: "SIGTERM" | "SIGKILL";
  readonly reason: string;
}

/** A child process as a {@linkcode ByteStream}. */
export class ChildStream implements ByteStream {
  readonly #label: string;
  readonly #child: Deno.ChildProcess;
  readonly #stderr: StderrReader;
  readonly #memory: number | undefined;
  readonly #reader: ReadableStreamBYOBReader;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  #status: Deno.CommandStatus | undefined;
  #reads = 0;
  /** Settles when the child's output has ended. */
  readonly #ended = Promise.withResolvers<void>();
  #ending: Promise<Deno.CommandStatus> | undefined;
  /** Settles when the child must exit within {@linkcode EXIT_TIMEOUT}. */
  readonly #destroyed = Promise.withResolvers<void>();
  #sent: SentSignal | undefined;
  /** What the error asks if the child exits with code 0. */
  question = "";

  /**
   * @param label The name of the child in errors.
   * @param child The child, with all three streams piped.
   * @param stderr The reader of its standard error.
   * @param memory The bytes that it may use, if they are limited.
   */
  constructor(
    label: string,
    child: Deno.ChildProcess,
    stderr: StderrReader,
    memory?: number,
  ) {
    this.#memory = memory;
    this.#label = label;
    this.#child = child;
    this.#stderr = stderr;
    this.#reader = child.stdout.getReader({ mode: "byob" });
    this.#writer = child.stdin.getWriter();
    // The failed write reports the error.
    this.#writer.closed.catch(() => {});
    child.status.then((status) => this.#onExit(status));
  }

  async read(
    into: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer> | null> {
    const { value, done } = await this.#reader.read(into);
    this.#reads++;
    if (!done) return value;
    this.#ended.resolve();
    return null;
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    return this.#writer.write(bytes);
  }

  async diagnose(
    cause: unknown,
    unsent: readonly unknown[],
  ): Promise<PeerExitError> {
    const reason =
      `closed its standard input or output without a goodbye, did not exit within ${EXIT_TIMEOUT} ms`;
    return this.#exitError(await this.#end(EXIT_TIMEOUT, reason), {
      cause,
      unsent,
    });
  }

  async close(timeout: number, unsent: readonly unknown[]): Promise<void> {
    const ms = Math.ceil(timeout);
    const reason = `did not exit within ${ms} ms after the last goodbye`;
    const status = await this.#end(timeout, reason);
    // A child that this side had to end has received everything.
    const isDone = this.#sent !== undefined && unsent.length === 0;
    if (!status.success && !isDone) throw this.#exitError(status, { unsent });
  }

  async destroy(): Promise<void> {
    // A `close` in progress may have a longer timeout.
    this.#destroyed.resolve();
    await this.#end(EXIT_TIMEOUT, `did not exit within ${EXIT_TIMEOUT} ms`);
  }

  /**
   * Ends the child, with signals if it does not exit within `grace` milliseconds.
   *
   * @param reason Why signals were sent, for the error.
   */
  #end(grace: number, reason: string): Promise<Deno.CommandStatus> {
    return this.#ending ??= this.#stop(grace, reason);
  }

  async #stop(grace: number, reason: string): Promise<Deno.CommandStatus> {
    // The child exits at the end of its input. `close` fails if the child has exited,
    // and waits while the child does not read.
    const closed = this.#writer.close().catch(() => {});
    if (!await this.#exitsWithin(grace)) {
      this.#kill({ name: "SIGTERM", reason });
      if (!await settlesWithin(this.#child.status, EXIT_TIMEOUT)) {
        this.#kill({
          name: "SIGKILL",
          reason: `${reason}, nor within ${EXIT_TIMEOUT} ms after SIGTERM,`,
        });
      }
    }
    const status = await this.#child.status;
    await settlesWithin(closed, GRANDCHILD_TIMEOUT);
    this.#ended.resolve();
    // The child has exited: its streams are closed in whatever state they are.
    await this.#reader.cancel().catch(() => {});
    this.#stderr.endPrint();
    if (!await settlesWithin(this.#stderr.ended, GRANDCHILD_TIMEOUT)) {
      await this.#stderr.cancel().catch(() => {});
      // The function that is called with the lines may never return.
      await settlesWithin(this.#stderr.ended, GRANDCHILD_TIMEOUT);
    }
    return status;
  }

  /** Whether the child exits in time. `destroy` shortens the time. */
  async #exitsWithin(grace: number): Promise<boolean> {
    const { status } = this.#child;
    const ended = Promise.race([status, this.#destroyed.promise]);
    if (!await settlesWithin(ended, grace)) return false;
    return this.#status !== undefined ||
      await settlesWithin(status, EXIT_TIMEOUT);
  }

  /** Ends the reading soon after the child's exit, even if a grandchild has its output. */
  async #onExit(status: Deno.CommandStatus): Promise<void> {
    this.#status = status;
    let reads: number;
    do {
      reads = this.#reads;
      if (await settlesWithin(this.#ended.promise, GRANDCHILD_TIMEOUT)) return;
    } while (this.#reads > reads);
    await this.#reader.cancel().catch(() => {});
  }

  #kill(signal: SentSignal): void {
    if (this.#status !== undefined) return;
    try {
      this.#child.kill(signal.name);
      this.#sent = signal;
    } catch {
      // The child exited between the check and the signal.
    }
  }

  #exitError(
    { code, signal }: Deno.CommandStatus,
    options: ErrorOptions & { unsent?: readonly unknown[] },
  ): PeerExitError {
    return new PeerExitError(
      `The worker ${quoted(this.#label)} ${
        this.#describeExit(code, signal)
      }${this.#stderr.hint}`,
      {
        ...options,
        code: signal === null ? code : null,
        signal,
        stderr: this.#stderr.tail,
      },
    );
  }

  #describeExit(code: number, signal: Deno.Signal | null): string {
    const end = signal === null
      ? `exited with code ${code}`
      : `was ended by ${signal}`;
    if (this.#sent === undefined) {
      if (code === 0) return end + this.question;
      const why = describeMemoryEnd(this.#stderr.tail, this.#memory);
      return why === undefined ? end : `${why}; it ${end}`;
    }
    const { name, reason } = this.#sent;
    return name === signal
      ? `${reason} and was ended by this side with ${name}`
      : `${reason}, got ${name} from this side and ${end}`;
  }
}
