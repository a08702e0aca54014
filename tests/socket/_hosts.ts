// Copyright 2026 the Duplex authors. MIT license.

/**
 * Hosts of a session in processes of their own, `workers/socket_host.ts`.
 *
 * @module
 */

import { workerUrl } from "../workers/_processes.ts";

/** How a host is started. */
export interface HostOptions {
  role: "listen" | "open";
  address: string;
  options?: object;
  /** The `--allow-…` flags of the process. */
  permissions?: string[];
  /** The network namespace that it runs in. */
  namespace?: string;
  /** How many files it may have open. */
  maxFiles?: number;
}

/** A process that gets orders on lines and answers with lines. */
export class Host implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #lines: string[] = [];
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #reading: Promise<void>;
  #onLine = Promise.withResolvers<void>();
  #hasEnded = false;

  constructor(hostOptions: HostOptions) {
    const { role, address, options = {}, namespace, maxFiles } = hostOptions;
    const { permissions = ["--allow-net"] } = hostOptions;
    const command = [
      Deno.execPath(),
      ...["run", "--quiet", "--no-prompt", ...permissions],
      ...[workerUrl("socket_host").pathname, role, address],
      JSON.stringify(options),
    ];
    if (namespace !== undefined) {
      command.unshift("ip", "netns", "exec", namespace);
    }
    if (maxFiles !== undefined) {
      command.unshift("sh", "-c", `ulimit -n ${maxFiles}; exec "$@"`, "sh");
    }
    const [program, ...args] = command;
    this.#child = new Deno.Command(program!, {
      args,
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#reading = this.#read();
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Settles with the process. */
  get status(): Promise<Deno.CommandStatus> {
    return this.#child.status;
  }

  /** Sends an order to the process. */
  async say(order: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(`${order}\n`));
  }

  /** Waits for a line that begins with a word; returns what follows it. */
  async hear(word: string): Promise<string> {
    for (;;) {
      const line = this.#lines.shift();
      if (line?.startsWith(word)) return line.slice(word.length).trim();
      if (line !== undefined) continue;
      if (this.#hasEnded) {
        const { code, signal } = await this.#child.status;
        const how = signal ?? `code ${code}`;
        throw new Error(`It has ended without "${word}": ${how}`);
      }
      await this.#onLine.promise;
    }
  }

  async #read(): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of this.#child.stdout) {
      const lines = (rest + decoder.decode(chunk, { stream: true }))
        .split("\n");
      rest = lines.pop()!;
      this.#lines.push(...lines);
      this.#wake();
    }
    this.#hasEnded = true;
    this.#wake();
  }

  #wake(): void {
    this.#onLine.resolve();
    this.#onLine = Promise.withResolvers();
  }

  /** Ends the process as it stands. */
  async kill(): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.#child.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await this.#writer.abort().catch(() => {});
    await this.#reading;
  }
}

/** Starts a listener and waits for its address. */
export async function startListener(
  options: Omit<HostOptions, "role">,
): Promise<{ host: Host; address: string }> {
  const host = new Host({ ...options, role: "listen" });
  try {
    return { host, address: await host.hear("listening") };
  } catch (error) {
    await host[Symbol.asyncDispose]();
    throw error;
  }
}
