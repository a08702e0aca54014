// Copyright 2026 the Duplex authors. MIT license.

/**
 * Programs that tests start, and the terminals in which they run.
 *
 * @module
 */

import { workerUrl } from "./_processes.ts";

/** The text of a stream that has arrived. */
export class Text {
  text = "";
  #news = Promise.withResolvers<void>();
  readonly ended: Promise<void>;

  constructor(stream: ReadableStream<Uint8Array<ArrayBuffer>>) {
    this.ended = this.#read(stream);
  }

  /** Waits for text that matches. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const found = pattern.exec(this.text);
      if (found !== null) return found;
      await this.#news.promise;
    }
  }

  async #read(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    for await (const part of stream.pipeThrough(new TextDecoderStream())) {
      this.text += part;
      this.#news.resolve();
      this.#news = Promise.withResolvers();
    }
  }
}

/** A program in a process group of its own. */
export class Program implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly stdout: Text;
  readonly stderr: Text;
  #isOver = false;

  constructor(
    command: string,
    args: readonly string[],
    env: Record<string, string> = {},
  ) {
    this.#child = new Deno.Command(command, {
      args: [...args],
      env: { NO_COLOR: "1", ...env },
      detached: true,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.stdout = new Text(this.#child.stdout);
    this.stderr = new Text(this.#child.stderr);
    this.#child.status.then(() => this.#isOver = true);
  }

  async write(text: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(text));
  }

  /** Sends SIGINT to the process group, as a terminal does at Ctrl+C. */
  interrupt(): void {
    Deno.kill(-this.#child.pid, "SIGINT");
  }

  /** Kills it alone. */
  kill(): void {
    this.#child.kill("SIGKILL");
  }

  /** Ends its input, and waits for its end. */
  async ended(): Promise<{ code: number; out: string; err: string }> {
    await this.#writer.close().catch(() => {});
    return await this.result();
  }

  async result(): Promise<{ code: number; out: string; err: string }> {
    const { code } = await this.#child.status;
    await Promise.all([this.stdout.ended, this.stderr.ended]);
    return { code, out: this.stdout.text, err: this.stderr.text };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOver) Deno.kill(-this.#child.pid, "SIGKILL");
    await this.#writer.close().catch(() => {});
    await this.result();
  }
}

/**
 * A program for Python that runs a command in a terminal of its own. Its input is what
 * is typed there. No signal is ignored, as it may be in a program that runs in the
 * background.
 */
export const PTY = `import os, pty, signal, sys
for name in signal.SIGINT, signal.SIGHUP, signal.SIGTSTP:
    signal.signal(name, signal.SIG_DFL)
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))`;

/** Whether Python can run {@linkcode PTY}. */
export const HAS_PTY: boolean = Deno.build.os !== "windows" && hasPty();

function hasPty(): boolean {
  try {
    const args = ["-c", "import pty, os; os.waitstatus_to_exitcode"];
    return new Deno.Command("python3", { args }).outputSync().success;
  } catch {
    return false;
  }
}

/** Runs a program of `tests/workers/` in a terminal, through a shell command. */
export function inTerminal(
  script: string,
  args: readonly string[],
  shell = 'exec "$0" "$@"',
): Program {
  const url = workerUrl(script).pathname;
  const deno = ["run", "-A", "--unstable-worker-options", url, ...args];
  return new Program("python3", [
    "-c",
    PTY,
    "sh",
    "-c",
    shell,
    Deno.execPath(),
    ...deno,
  ]);
}

/** Runs a command as a shell does: Ctrl+Z stops it, and a line continues it. */
export const JOB = 'set -m; "$0" "$@"; echo "stopped $?"; read line; fg';
