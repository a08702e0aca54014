// Copyright 2026 the Duplex authors. MIT license.

/**
 * The socket of the demonstration: `cli.ts serve` runs in a separate process and
 * starts a worker for each peer, as a server on another machine would.
 *
 * @module
 */

import { openSocket } from "@duplex/ipc/socket";
import { TextLineStream } from "@std/streams";
import type { Transport, WorkerDuplex } from "./_demo_run.ts";

const WORKER = new URL("./demo_worker.ts", import.meta.url);
const CLI = new URL("../cli.ts", import.meta.url);

/** Whether there are Unix sockets here, which other users cannot connect to. */
const HAS_UNIX = Deno.build.os !== "windows";

/** Signals that end the demonstration. The server must end with it. */
const END_SIGNALS: readonly Deno.Signal[] = HAS_UNIX
  ? ["SIGINT", "SIGTERM"]
  : ["SIGINT"];

/** A transport whose workers are started by a server. */
export class SocketTransport implements Transport {
  readonly name = "socket";
  /** The server accepts only peers that hold it. */
  readonly #secret: string = crypto.randomUUID();
  #server: Deno.ChildProcess | undefined;
  /** The folder of the socket. */
  #folder: string | undefined;
  #address = "";
  readonly #stderr: "inherit" | "null";
  readonly #onSignal = () => this.#kill();

  /** @param stderr The standard error of the server and its workers. */
  constructor(stderr: "inherit" | "null" = "inherit") {
    this.#stderr = stderr;
  }

  /** Starts the server; its workers may only read the folder. */
  async setUp(folder: string, workers: number): Promise<void> {
    this.#folder = await Deno.makeTempDir({ prefix: "duplex_demo_" });
    const address = HAS_UNIX
      ? `unix:${this.#folder}/demo.sock`
      : "tcp://127.0.0.1:0";
    this.#server = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--quiet", CLI.href, "serve", WORKER.href],
        ...["--listen", address, "--max-workers", String(workers)],
        ...[`--allow-read=${folder}`, "--quiet", "--grace", "0"],
      ],
      env: { DUPLEX_SECRET: this.#secret },
      stdin: "null",
      stdout: "piped",
      stderr: this.#stderr,
    }).spawn();
    for (const signal of END_SIGNALS) {
      Deno.addSignalListener(signal, this.#onSignal);
    }
    this.#address = await firstAddress(this.#server.stdout);
  }

  async open(): Promise<WorkerDuplex> {
    const secret = this.#secret;
    const worker: WorkerDuplex = await openSocket(this.#address, { secret });
    // The server accepts a peer before its worker has started. The answer to an
    // empty path shows that it has.
    await worker.send("");
    await worker.receive();
    return worker;
  }

  /** Ends the server, even if it has not finished starting. */
  async tearDown(): Promise<void> {
    for (const signal of END_SIGNALS) {
      Deno.removeSignalListener(signal, this.#onSignal);
    }
    this.#kill();
    await this.#server?.status;
    this.#server = undefined;
    if (this.#folder === undefined) return;
    await Deno.remove(this.#folder, { recursive: true });
    this.#folder = undefined;
  }

  #kill(): void {
    try {
      this.#server?.kill("SIGTERM");
    } catch {
      // It has already ended, and has printed the reason.
    }
  }
}

/** Waits for the address that the server prints when it listens. */
async function firstAddress(
  stdout: ReadableStream<Uint8Array<ArrayBuffer>>,
): Promise<string> {
  const lines = stdout.pipeThrough(new TextDecoderStream())
    .pipeThrough(new TextLineStream());
  for await (const line of lines) {
    const [, address] = /^listening on (.*)$/.exec(line) ?? [];
    if (address !== undefined) return address;
  }
  throw new Error(
    "Cannot start the server: it ended before it listened; its error is printed above",
  );
}
