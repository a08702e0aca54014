// Copyright 2026 the Duplex authors. MIT license.

/**
 * A child process as a stream of bytes: its standard input and output carry the
 * frames, and its end is brought about, waited for and told.
 *
 * @module
 */

import { PeerExitError } from "../_base/errors.ts";
import type { ByteStream } from "../_wire/byte_stream.ts";
import type { StderrReader } from "./stderr.ts";
import { quoted } from "../_base/text.ts";
import { settlesWithin } from "../_base/waiting.ts";

/** Milliseconds that a child has to end by itself, and again after SIGTERM. */
const GRACE = 1_000;

/**
 * Milliseconds without news after which the child's streams are given up once it
 * is gone. A grandchild may hold them open for as long as it likes.
 */
const GRANDCHILD_GRACE = 250;

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
  readonly #reader: ReadableStreamBYOBReader;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  #status: Deno.CommandStatus | undefined;
  #reads = 0;
  /** Settles when the child's output has come to its end. */
  readonly #ended = Promise.withResolvers<void>();
  #ending: Promise<Deno.CommandStatus> | undefined;
  /** Settles when the child is to end within {@linkcode GRACE}. */
  readonly #destroyed = Promise.withResolvers<void>();
  #sent: SentSignal | undefined;

  /**
   * @param label What the child is called in errors.
   * @param child The child, with all three streams piped.
   * @param stderr The reader of its standard error.
   */
  constructor(label: string, child: Deno.ChildProcess, stderr: StderrReader) {
    this.#label = label;
    this.#child = child;
    this.#stderr = stderr;
    this.#reader = child.stdout.getReader({ mode: "byob" });
    this.#writer = child.stdin.getWriter();
    // A write that fails says so itself.
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
      `closed its standard input or output without a goodbye, did not exit within ${GRACE} ms`;
    return this.#exitError(await this.#end(GRACE, reason), { cause, unsent });
  }

  async close(timeout: number, unsent: readonly unknown[]): Promise<void> {
    const ms = Math.ceil(timeout);
    const reason = `did not exit within ${ms} ms after the last goodbye`;
    const status = await this.#end(timeout, reason);
    if (!status.success) throw this.#exitError(status, { unsent });
  }

  async destroy(): Promise<void> {
    // One that is being closed may have been given more time.
    this.#destroyed.resolve();
    await this.#end(GRACE, `did not exit within ${GRACE} ms`);
  }

  /**
   * Ends the child, in good order within `grace` milliseconds.
   *
   * @param reason What the child did otherwise, for its error.
   */
  #end(grace: number, reason: string): Promise<Deno.CommandStatus> {
    return this.#ending ??= this.#stop(grace, reason);
  }

  async #stop(grace: number, reason: string): Promise<Deno.CommandStatus> {
    // The end of its input tells the child that it may go. Closing fails when
    // the child has gone, and waits while the child does not read.
    const closed = this.#writer.close().catch(() => {});
    if (!await this.#exitsWithin(grace)) {
      this.#kill({ name: "SIGTERM", reason });
      if (!await settlesWithin(this.#child.status, GRACE)) {
        this.#kill({
          name: "SIGKILL",
          reason: `${reason}, nor within ${GRACE} ms after SIGTERM,`,
        });
      }
    }
    const status = await this.#child.status;
    await settlesWithin(closed, GRANDCHILD_GRACE);
    this.#ended.resolve();
    // The child is gone; whatever state its streams are in, they are let go.
    await this.#reader.cancel().catch(() => {});
    if (!await settlesWithin(this.#stderr.ended, GRANDCHILD_GRACE)) {
      await this.#stderr.cancel().catch(() => {});
      // A function that takes the lines may itself never come to an end.
      await settlesWithin(this.#stderr.ended, GRANDCHILD_GRACE);
    }
    return status;
  }

  /** Whether the child exits in time; an abort leaves it no more than the usual. */
  async #exitsWithin(grace: number): Promise<boolean> {
    const { status } = this.#child;
    const ended = Promise.race([status, this.#destroyed.promise]);
    if (!await settlesWithin(ended, grace)) return false;
    return this.#status !== undefined || await settlesWithin(status, GRACE);
  }

  /** Ends the reading soon after the child, whoever else holds its output. */
  async #onExit(status: Deno.CommandStatus): Promise<void> {
    this.#status = status;
    let reads: number;
    do {
      reads = this.#reads;
      if (await settlesWithin(this.#ended.promise, GRANDCHILD_GRACE)) return;
    } while (this.#reads > reads);
    await this.#reader.cancel().catch(() => {});
  }

  #kill(signal: SentSignal): void {
    if (this.#status !== undefined) return;
    try {
      this.#child.kill(signal.name);
      this.#sent = signal;
    } catch {
      // It ended between the look and the signal, which is what was wanted.
    }
  }

  #exitError(
    { code, signal }: Deno.CommandStatus,
    options: ErrorOptions & { unsent?: readonly unknown[] },
  ): PeerExitError {
    return new PeerExitError(
      `The worker ${quoted(this.#label)} ${
        this.#howItEnded(code, signal)
      }${this.#stderr.lastWords}`,
      {
        ...options,
        code: signal === null ? code : null,
        signal,
        stderr: this.#stderr.tail,
      },
    );
  }

  #howItEnded(code: number, signal: Deno.Signal | null): string {
    const end = signal === null
      ? `exited with code ${code}`
      : `was ended by ${signal}`;
    if (this.#sent === undefined) return end;
    const { name, reason } = this.#sent;
    return name === signal
      ? `${reason} and was ended by this side with ${name}`
      : `${reason}, got ${name} from this side and ${end}`;
  }
}
