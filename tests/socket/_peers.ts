// Copyright 2026 the Duplex authors. MIT license.

/**
 * Honest peers for tests of sockets: a listener that echoes, peers that exchange
 * messages with it while something is done to others, and a count of what a
 * listener reads.
 *
 * @module
 */

import { assertEquals, assertGreater } from "@std/assert";
import type { Duplex } from "@duplex/ipc/duplex";
import {
  type DuplexListener,
  type ListenOptions,
  listenSocket,
  openSocket,
  type SocketDuplex,
  type SocketOptions,
} from "@duplex/ipc/socket";

/**
 * Milliseconds after which {@linkcode until} throws. Less than a test has, so that
 * the test ends what it has opened and the tests after it see nothing of it.
 */
const UNTIL_LIMIT = 60_000;

/** Waits until something holds, for what has no event of its own. */
export async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + UNTIL_LIMIT;
  while (!condition()) {
    if (performance.now() > end) {
      throw new Error(`Not so within ${UNTIL_LIMIT} ms: ${condition}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** A listener that sends back what its peers send. */
export class EchoListener implements AsyncDisposable {
  readonly listener: DuplexListener;
  /** Why connections were rejected. */
  readonly errors: unknown[] = [];
  /** How many peers it was handed a duplex for. */
  count = 0;
  readonly #serving: Promise<void>;
  readonly #peers: Promise<unknown>[] = [];

  constructor(address: string, options: ListenOptions = {}) {
    const onError = (error: unknown) => void this.errors.push(error);
    this.listener = listenSocket(address, { onError, ...options });
    this.#serving = this.#serve();
  }

  get address(): string {
    return this.listener.address;
  }

  async #serve(): Promise<void> {
    for await (const peer of this.listener) {
      this.count++;
      this.#peers.push(echo(peer), peer.closed.catch(() => {}));
    }
  }

  /** Waits until no peer is left, nor on its way. */
  async idle(): Promise<void> {
    await until(() => {
      const { peers, pending } = this.listener.stats;
      return peers + pending === 0;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.idle();
    await this.listener.close();
    await this.#serving;
    await Promise.all(this.#peers);
  }
}

/** Sends back what comes, to the end. */
export async function echo(duplex: Duplex): Promise<void> {
  try {
    for await (const message of duplex) await duplex.send(message);
    await duplex.close();
  } catch {
    // The test at the other end knows.
  }
}

/** Is served as an honest peer is. */
export async function beServed(
  address: string,
  options: SocketOptions = {},
): Promise<void> {
  const duplex = await openSocket(address, options);
  await exchange(duplex);
  await duplex.close();
}

/** Sends something and has it back. */
export async function exchange(duplex: SocketDuplex): Promise<void> {
  const message = crypto.randomUUID();
  await duplex.send(message);
  assertEquals(await duplex.receive(), message);
}

/** Runs something while an honest peer goes on exchanging messages. */
export async function undisturbed(
  address: string,
  options: SocketOptions,
  run: () => Promise<void>,
): Promise<void> {
  const duplex = await openSocket(address, options);
  let isOver = false;
  let count = 0;
  const exchanging = (async () => {
    do {
      await exchange(duplex);
      count++;
      await new Promise((resolve) => setTimeout(resolve, 1));
    } while (!isOver);
  })();
  try {
    await run();
  } finally {
    isOver = true;
    await exchanging;
    await duplex.close();
  }
  assertGreater(count, 0);
}

/** How many bytes were read of each connection that listeners have accepted since. */
export interface Reads extends Disposable {
  readonly counts: number[];
}

/** Counts what is read of the connections that listeners accept. */
export function countReads(): Reads {
  const counts: number[] = [];
  const { listen } = Deno;
  const counted = (conn: Deno.Conn): Deno.Conn => {
    const index = counts.push(0) - 1;
    const read = conn.read.bind(conn);
    conn.read = async (into) => {
      const size = await read(into);
      counts[index]! += size ?? 0;
      return size;
    };
    return conn;
  };
  const replace = (functions: Partial<typeof Deno>) =>
    Object.assign(Deno, functions);
  replace({
    listen: ((options: Deno.TcpListenOptions) => {
      const listener = listen(options);
      const accept = listener.accept.bind(listener);
      listener.accept = async () => counted(await accept()) as Deno.TcpConn;
      return listener;
    }) as typeof listen,
  });
  return { counts, [Symbol.dispose]: () => void replace({ listen }) };
}
