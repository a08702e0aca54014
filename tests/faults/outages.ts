// Copyright 2026 the Duplex authors. MIT license.

/**
 * Plans for a pool over a server that is away for 0.1 to 30 seconds, in different
 * ways: every task must have its result although it waits for the server, and a pool
 * with a `startTimeout` must fail its tasks with the last failure and then run others.
 *
 * @module
 */

import {
  type DuplexListener,
  listenSocket,
  openSocket,
} from "@duplex/ipc/socket";
import { Pool } from "@duplex/ipc/pool";
import { expose } from "@duplex/ipc/rpc";
import { settleWithin, Violation } from "./journals.ts";
import { checkLeaks, resourcesInUse } from "./leaks.ts";
import { Random, shorter } from "./plan.ts";
import { sleep } from "./promises.ts";

/** How a server is away: it does not listen, does not answer, or breaks off. */
type Manner = "refuses" | "hangs" | "breaks";

interface Outage {
  readonly manner: Manner;
  /** Milliseconds of the outage, and of the time before it. */
  readonly down: number;
  readonly up: number;
}

/** A plan for outages. */
export interface OutagePlan {
  readonly seed: number;
  readonly workers: number;
  readonly minWorkers: number;
  /** Milliseconds between two tasks. */
  readonly pause: number;
  /** `null` for no limit, so that every task must have its result. */
  readonly startTimeout: number | null;
  readonly outages: readonly Outage[];
}

/** Makes the plan of a seed. */
export function makeOutagePlan(seed: number): OutagePlan {
  const random = new Random(seed);
  const workers = random.small(4);
  const outages = Array.from({ length: random.small(4) }, (): Outage => ({
    manner: random.pick(["refuses", "refuses", "hangs", "breaks"] as const),
    // Short outages are more likely.
    down: Math.round(100 * 300 ** (random.draw() ** 3)),
    up: random.pick([0, 10, 300]),
  }));
  return {
    seed,
    workers,
    minWorkers: random.chance(0.5) ? 0 : workers,
    pause: random.pick([1, 5, 50]),
    startTimeout: random.chance(0.3) ? random.pick([50, 1_000]) : null,
    outages,
  };
}

/** Plans that omit a part of another plan, large parts first. */
export function* smallerOutagePlans(plan: OutagePlan): Generator<OutagePlan> {
  for (const outages of shorter(plan.outages)) yield { ...plan, outages };
  if (plan.minWorkers > 0) yield { ...plan, minWorkers: 0 };
  if (plan.workers > 1) yield { ...plan, workers: 1, minWorkers: 0 };
}

const methods = { twice: (n: number) => 2 * n };

/** A server that can be away. */
class Server {
  address = "tcp://127.0.0.1:0";
  #end: () => Promise<void> = () => Promise.resolve();

  /** Serves until the next call of another method. */
  async serve(): Promise<void> {
    await this.#end();
    const listener = listenSocket(this.address);
    this.address = listener.address;
    const peers = new Set<{ abort(reason: unknown): void }>();
    const serving = this.#accept(listener, peers);
    this.#end = async () => {
      for (const peer of peers) peer.abort(new Error("The server is away"));
      await listener.close();
      await serving;
    };
  }

  async #accept(
    listener: DuplexListener,
    peers: Set<{ abort(reason: unknown): void }>,
  ): Promise<void> {
    for await (const peer of listener) {
      peers.add(peer);
      const onEnd = () => void peers.delete(peer);
      peer.closed.then(onEnd, onEnd);
      expose(methods, peer);
    }
  }

  /** Is away until the next call of another method. */
  async leave(manner: Manner): Promise<void> {
    await this.#end();
    this.#end = () => Promise.resolve();
    if (manner === "refuses") return;
    const { hostname, port } = new URL(this.address);
    const listener = Deno.listen({ hostname, port: Number(port) });
    const held: Deno.Conn[] = [];
    const accepting = (async () => {
      for await (const conn of listener) {
        if (manner === "breaks") conn.close();
        else held.push(conn);
      }
    })();
    this.#end = async () => {
      listener.close();
      await accepting;
      for (const conn of held) conn.close();
    };
  }

  async close(): Promise<void> {
    await this.#end();
  }
}

/** Adds tasks until it is stopped, and checks their outcomes. */
class Tasks {
  readonly #pool: Pool<typeof methods>;
  readonly #mayFail: boolean;
  readonly #retries: number;
  readonly #running: Promise<void>[] = [];
  violation: string | undefined;
  isStopped = false;

  constructor(
    pool: Pool<typeof methods>,
    { outages, startTimeout, workers }: OutagePlan,
  ) {
    this.#pool = pool;
    this.#mayFail = startTimeout !== null;
    // At the beginning of an outage a task may be lost with each worker in turn.
    this.#retries = outages.length * workers;
  }

  async add(pause: number): Promise<void> {
    for (let n = 0; !this.isStopped; n++) {
      this.#running.push(this.#run(n));
      await sleep(pause);
    }
    await Promise.all(this.#running);
  }

  async #run(n: number): Promise<void> {
    try {
      const options = { retry: this.#retries };
      const value = await this.#pool.run("twice", [n], options);
      if (value !== 2 * n) this.violation ??= `${n} gave ${value}`;
    } catch (error) {
      const isPlanned = this.#mayFail && error instanceof Error &&
        error.message.startsWith("Cannot start a worker within") &&
        error.cause !== undefined;
      if (!isPlanned) this.violation ??= `${n}: ${Deno.inspect(error)}`;
    }
  }
}

/** Runs a plan. Rejects if the package breaks a guarantee. */
export async function runOutagePlan(plan: OutagePlan): Promise<void> {
  const before = resourcesInUse();
  const { workers, minWorkers, pause, startTimeout, outages } = plan;
  const server = new Server();
  await server.serve();
  const options = { openTimeout: 500 };
  const pool = new Pool<typeof methods>(
    () => openSocket(server.address, options),
    { workers, minWorkers, startTimeout: startTimeout ?? Infinity },
  );
  const tasks = new Tasks(pool, plan);
  const adding = tasks.add(pause);
  for (const { manner, down, up } of outages) {
    await sleep(up);
    await server.leave(manner);
    await sleep(down);
    await server.serve();
  }
  tasks.isStopped = true;
  const nothing = () => [];
  await settleWithin("The tasks after the last outage", adding, nothing);
  // The time limit may end just after a task is added, and then an attempt follows.
  const later = pool.run("twice", [1]).catch(() => pool.run("twice", [1]));
  await settleWithin("A later task", later, nothing);
  await settleWithin("The pool's end", pool.close(), nothing);
  await server.close();
  if (tasks.violation !== undefined) throw new Violation(tasks.violation);
  await checkLeaks(before);
}
