// Copyright 2026 the Duplex authors. MIT license.

/**
 * The socket of the demonstration: `cli.ts serve` in a process of its own gives
 * each peer a worker, as a server would on another machine.
 *
 * @module
 */

import { openSocket } from "@duplex/ipc/socket";
import { TextLineStream } from "@std/streams";
import type { Transport, WorkerDuplex } from "./_demo_run.ts";

const WORKER = new URL("./demo_worker.ts", import.meta.url);
const CLI = new URL("../cli.ts", import.meta.url);

/** Whether a socket can be a file here, which nobody else may use. */
const HAS_UNIX = Deno.build.os !== "windows";

/** What ends a demonstration from outside; its server would outlive it. */
const END_SIGNALS: readonly Deno.Signal[] = HAS_UNIX
  ? ["SIGINT", "SIGTERM"]
  : ["SIGINT"];

/** A transport whose workers a server starts. */
export class SocketTransport implements Transport {
  readonly name = "socket";
  /** Only who has it may use the server. */
  readonly #secret: string = crypto.randomUUID();
  #server: Deno.ChildProcess | undefined;
  /** The folder of the server's socket. */
  #folder: string | undefined;
  #address = "";
  readonly #stderr: "inherit" | "null";
  readonly #onSignal = () => this.#kill();

  /** @param stderr What becomes of what the server and its workers say. */
  constructor(stderr: "inherit" | "null" = "inherit") {
    this.#stderr = stderr;
  }

  /** Starts the server; its workers may read the folder and do nothing else. */
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
    // The server lets a peer in before its worker has started. The answer to a
    // path that is none tells that it has.
    await worker.send("");
    await worker.receive();
    return worker;
  }

  /** Ends the server, however far it has come. */
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
      // It has ended, and has said why.
    }
  }
}

/** Reads where the server listens, once it does. */
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
    "The server ended before it listened; see what it said above",
  );
}
