// Copyright 2026 the Duplex authors. MIT license.

/**
 * What `socket_main.ts` and `peers/socket_deno.ts` share: addresses, the peer process
 * and the check of lines.
 *
 * @module
 */

import { LOG_LINE } from "../_messages.mjs";

/** The connections of "many". */
export const CONNECTIONS = 1_000;
/** The lines of a request. */
export const LINES = 100;

/** Milliseconds for the threads of a garbage collection to release memory. */
const SETTLE = 300;

/** The fields of a log line that identify it. */
export interface Line {
  host: string;
  pid: number;
}

/** A line of a connection. */
export function lineOf(connection: number, index: number): Line {
  return { ...LOG_LINE, host: `web-${connection}`, pid: index };
}

/** Checks that a connection delivers its own lines, each once and in order. */
export class Order {
  #host: string | undefined;
  #next = 0;

  /** The host in all lines of the connection. */
  get host(): string {
    if (this.#host === undefined) throw new Error("No line has come");
    return this.#host;
  }

  /** Expects the first line next. */
  restart(): void {
    this.#next = 0;
  }

  /** Checks a line. */
  take({ host, pid }: Line): void {
    this.#host ??= host;
    if (host === this.#host && pid === this.#next) {
      this.#next++;
      return;
    }
    throw new Error(
      `Line ${pid} of ${host} came where line ${this.#next} of ${this.#host} was next`,
    );
  }
}

/** Throws unless each connection has another host. */
export function checkHosts(orders: readonly Order[]): void {
  const { size } = new Set(orders.map(({ host }) => host));
  if (size !== CONNECTIONS) {
    throw new Error(`Lines came of ${size} hosts, not of ${CONNECTIONS}`);
  }
}

/** Opens many connections, a few at a time: the backlog of a listener is limited. */
export async function openMany<T>(
  count: number,
  open: (index: number) => Promise<T>,
): Promise<T[]> {
  const opened: T[] = [];
  while (opened.length < count) {
    const { length } = opened;
    const next = Math.min(50, count - length);
    const some = Array.from({ length: next }, (_, add) => open(length + add));
    opened.push(...await Promise.all(some));
  }
  return opened;
}

/** KiB of resident memory after a garbage collection. */
export async function residentMemory(): Promise<number> {
  const { gc } = globalThis as { gc?: () => void };
  if (gc === undefined) throw new Error("Start with --v8-flags=--expose-gc");
  for (let times = 0; times < 2; times++) {
    gc();
    await new Promise((resolve) => setTimeout(resolve, SETTLE));
  }
  return Deno.memoryUsage().rss / 1024;
}

/** An address to listen on; a Unix socket gets a new folder. */
export class Place implements AsyncDisposable {
  readonly address: string;
  readonly #folder: string | undefined;

  private constructor(address: string, folder?: string) {
    this.address = address;
    this.#folder = folder;
  }

  /** @param form "tcp" or "unix". */
  static async make(form: string): Promise<Place> {
    if (form !== "unix") return new Place("tcp://127.0.0.1:0");
    const folder = await Deno.makeTempDir({ prefix: "duplex_bench_" });
    return new Place(`unix:${folder}/socket`, folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#folder !== undefined) {
      await Deno.remove(this.#folder, { recursive: true });
    }
  }
}

/** The peer process, which ends when its connections are closed. */
export class Far {
  readonly #process: Deno.ChildProcess;

  constructor(script: URL, ...args: string[]) {
    this.#process = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "-A", script.href, ...args],
      stdin: "null",
      stdout: "inherit",
    }).spawn();
  }

  /** Waits for its end. */
  async ended(): Promise<void> {
    const { code } = await this.#process.status;
    if (code !== 0) throw new Error(`The far process ended with ${code}`);
  }
}
