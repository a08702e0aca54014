// Copyright 2026 the Duplex authors. MIT license.

/**
 * A pool over three servers in processes of their own, of which one is slow, one is
 * away at first, and one is killed and started again.
 *
 * @module
 */

import { assert, assertEquals, assertGreater } from "@std/assert";
import { Pool } from "@duplex/ipc/pool";
import { machines } from "../../examples/machines/machines.ts";
import type { Methods } from "../../examples/machines/server.ts";
import { numbers } from "./_pools.ts";
import { test } from "../workers/_processes.ts";

const FOLDER = new URL("../../examples/machines/", import.meta.url);

function deno(name: string, args: string[]): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--no-prompt", "--allow-net=127.0.0.1"],
      ...[new URL(name, FOLDER).href, ...args],
    ],
    stdout: "piped",
  });
}

/** A server in a process of its own. */
class Server implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  address = "";

  private constructor(address: string, ms: number) {
    this.#child = deno("server.ts", [address, `${ms}`]).spawn();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream())
      .getReader();
  }

  static async start(
    address: string = "tcp://127.0.0.1:0",
    ms: number = 0,
  ): Promise<Server> {
    const server = new Server(address, ms);
    const { value } = await server.#lines.read();
    assert(value !== undefined, "The server has not started");
    server.address = value.trim();
    return server;
  }

  get pid(): number {
    return this.#child.pid;
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
    await this.#lines.cancel();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

/** Counts without an end. */
function* count(): Generator<number> {
  for (let n = 0;; n++) yield n;
}

/** Runs tasks until each of these processes has run one; checks each result. */
async function runUntilUsed(
  pool: Pool<Methods>,
  ...servers: Server[]
): Promise<void> {
  const missing = new Set(servers.map(({ pid }) => pid));
  for await (
    const { status, item, ...rest } of pool.mapSettled(count(), "square", {
      // Each server may die once during a task.
      retry: 5,
    })
  ) {
    assertEquals(status, "fulfilled");
    const [square, pid] = (rest as unknown as { value: [number, number] })
      .value;
    assertEquals(square, (item as number) ** 2);
    missing.delete(pid);
    if (missing.size === 0) return;
  }
}

test(
  "Pool over three machines goes on while one is away, slow or restarted",
  async () => {
    const [first, away] = await Promise.all([Server.start(), Server.start()]);
    await using slow = await Server.start(undefined, 20);
    const addresses = [first.address, slow.address, away.address];
    await away.kill();
    await using pool = new Pool<Methods>(machines(addresses, 1), {
      workers: 3,
    });
    // One is away: the others run all tasks, the slow one fewer of them.
    const counts = new Map<number, number>();
    const items = numbers(500);
    const results = pool.map(items, "square", { ordered: false });
    const squares = new Set<number>();
    for await (const [square, pid] of results) {
      squares.add(square);
      counts.set(pid, (counts.get(pid) ?? 0) + 1);
    }
    assertEquals(squares, new Set(items.map((n) => n ** 2)));
    const [quick, rest] = [first, slow].map(({ pid }) => counts.get(pid) ?? 0);
    assertGreater(quick!, rest!);
    assertEquals(quick! + rest!, 500);
    // It is back.
    await using back = await Server.start(away.address);
    await runUntilUsed(pool, first, slow, back);
    // Another one is killed during tasks, and started again.
    const running = runUntilUsed(pool, back);
    await first.kill();
    await running;
    await using again = await Server.start(first.address);
    await runUntilUsed(pool, again, back, slow);
  },
  { run: [Deno.execPath()], net: ["127.0.0.1"] },
);

test("The example with machines uses all of them", async () => {
  await using first = await Server.start();
  await using second = await Server.start(undefined, 2);
  const { stdout } = await deno("main.ts", [first.address, second.address])
    .output();
  const text = new TextDecoder().decode(stdout);
  const counts = JSON.parse(text) as number[];
  assertEquals(counts.length, 2);
  assertEquals(counts[0]! + counts[1]!, 1_000);
}, { run: [Deno.execPath()], net: ["127.0.0.1"] });
