// Copyright 2026 the Duplex authors. MIT license.

/**
 * `cli.ts serve` in a process of its own, for tests.
 *
 * @module
 */

import { TextLineStream } from "@std/streams";
import { workerUrl } from "../workers/_processes.ts";

const CLI = new URL("../../cli.ts", import.meta.url);

/** The folder of the project, which Web Workers import from. */
export const ROOT: string = new URL("../..", import.meta.url).pathname;

/** The worker that does what it is told. */
export const ACTS: string = workerUrl("cli_acts").pathname;

/** Lines as they come. */
class Log {
  readonly lines: string[] = [];
  #news = Promise.withResolvers<void>();
  #isOver = false;
  readonly ended: Promise<void>;

  constructor(stream: ReadableStream<Uint8Array<ArrayBuffer>>) {
    this.ended = this.#read(stream);
  }

  /** The first line that fits, once it is there. */
  async until(pattern: RegExp): Promise<string> {
    for (;;) {
      const line = this.lines.find((line) => pattern.test(line));
      if (line !== undefined) return line;
      if (this.#isOver) {
        throw new Error(`No line is ${pattern}:\n${this.lines.join("\n")}`);
      }
      await this.#news.promise;
    }
  }

  async #read(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    const lines = stream.pipeThrough(new TextDecoderStream())
      .pipeThrough(new TextLineStream());
    for await (const line of lines) {
      this.lines.push(line);
      this.#onNews();
    }
    this.#isOver = true;
    this.#onNews();
  }

  #onNews(): void {
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }
}

/** How a server is started. */
export interface ServerOptions {
  /** The flags of Deno; everything is allowed by default. */
  deno?: readonly string[];
  env?: Record<string, string>;
}

/** A server that runs. */
export class CliServer implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly stdout: Log;
  readonly stderr: Log;
  #isOver = false;

  /** @param args What stands behind `serve`. */
  constructor(
    args: readonly string[],
    { deno = ["-A"], env = {} }: ServerOptions = {},
  ) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--no-prompt",
        ...deno,
        CLI.href,
        "serve",
        ...args,
      ],
      env: { NO_COLOR: "1", ...env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.stdout = new Log(this.#child.stdout);
    this.stderr = new Log(this.#child.stderr);
    this.#child.status.then(() => this.#isOver = true);
  }

  /** Where it listens, once it does. */
  async address(kind = ""): Promise<string> {
    const line = await this.stdout.until(new RegExp(`^listening on ${kind}`))
      .catch((error) => {
        throw new Error(`${error.message}${this.stderr.lines.join("\n")}`);
      });
    return line.slice("listening on ".length);
  }

  get pid(): number {
    return this.#child.pid;
  }

  kill(signal: Deno.Signal): void {
    if (!this.#isOver) this.#child.kill(signal);
  }

  /** Waits for its end; returns its exit code. */
  async ended(): Promise<number> {
    const { code } = await this.#child.status;
    await Promise.all([this.stdout.ended, this.stderr.ended]);
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill("SIGKILL");
    await this.ended();
  }
}
