// Copyright 2026 the Duplex authors. MIT license.

/**
 * What `socket_main.ts` and `peers/socket_deno.ts` do alike: they listen, start
 * the process at the far end, let it connect, and look at what comes of that.
 *
 * @module
 */

import { LOG_LINE } from "../_messages.mjs";

/** How many connections "many" has. */
export const CONNECTIONS = 1_000;
/** How many lines each of them sends when it is asked for some. */
export const LINES = 100;

/** A garbage collection lets go of memory in threads of its own. */
const SETTLE = 300;

/** A line of a log, as far as it tells where it belongs. */
export interface Line {
  host: string;
  pid: number;
}

/** The line that is sent on one of many connections at one of many times. */
export function lineOf(connection: number, index: number): Line {
  return { ...LOG_LINE, host: `web-${connection}`, pid: index };
}

/** Sees to it that a connection brings its own lines, each once and in order. */
export class Order {
  #host: string | undefined;
  #next = 0;

  /** What all lines of the connection say. */
  get host(): string {
    if (this.#host === undefined) throw new Error("No line has come");
    return this.#host;
  }

  /** Expects the first line again. */
  restart(): void {
    this.#next = 0;
  }

  /** Looks at a line. */
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

/** Complains unless each connection has a host of its own. */
export function checkHosts(orders: readonly Order[]): void {
  const { size } = new Set(orders.map(({ host }) => host));
  if (size !== CONNECTIONS) {
    throw new Error(`Lines came of ${size} hosts, not of ${CONNECTIONS}`);
  }
}

/**
 * Opens many things. Not all at once: a listener's backlog does not hold so many.
 */
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

/** KiB of memory that this process has, when the garbage is gone. */
export async function residentMemory(): Promise<number> {
  const { gc } = globalThis as { gc?: () => void };
  if (gc === undefined) throw new Error("Start with --v8-flags=--expose-gc");
  for (let times = 0; times < 2; times++) {
    gc();
    await new Promise((resolve) => setTimeout(resolve, SETTLE));
  }
  return Deno.memoryUsage().rss / 1024;
}

/** An address to listen at. A Unix socket gets a folder of its own. */
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

/** The process at the far end. It ends by itself when its connections do. */
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
