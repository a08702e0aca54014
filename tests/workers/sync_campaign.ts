// Copyright 2026 the Duplex authors. MIT license.

/**
 * A worker in a campaign (`_sync_campaign.ts`). It posts "loaded" and, after it
 * has received its seat, "ready"; then it performs its part of each round, and
 * posts when it is done or what is wrong.
 *
 * @module
 */

/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />

import { OwnerDiedError } from "../../sync.ts";
import { random } from "../_seed.ts";
import {
  Death,
  type Memories,
  type PlannedDeath,
  WORD,
  World,
} from "./_sync_world.ts";

/** The first message of a worker. */
export interface Start {
  readonly memories: Memories;
  readonly seat: number;
  readonly permits: number;
  readonly seed: number;
  /** The Web Lock that the worker holds while it lives. */
  readonly life: string;
}

/** The part of a worker in a round. */
export interface Part {
  readonly round: "mix" | "turns" | "items" | "barrier" | "until";
  /** Locks that are created for this round. */
  readonly locks: Partial<Memories>;
  /** The number of operations, waits or generations. */
  readonly count: number;
  /** The number of concurrent tasks. */
  readonly tasks: number;
  readonly death?: PlannedDeath;
  /** The lock that grants turns. */
  readonly what?: "semaphore" | "automatic";
  /** Whether it blocks its thread. */
  readonly isSync?: boolean;
  /**
   * Whether it waits in tasks, stays busy until word `go` is set, and then
   * ends.
   */
  readonly isBusy?: boolean;
  readonly target?: number;
  /** Whether it must continue, since it is the last player. */
  readonly isLast?: boolean;
}

let world: World;

function times(count: number, run: () => Promise<void>): Promise<void[]> {
  return Promise.all(Array.from({ length: count }, run));
}

async function mix({ count }: Part): Promise<void> {
  for (let index = 0; index < count; index++) await world.operate();
}

/** One wait for a turn; the tasks of the round count the turns. */
async function turn({ what, isSync }: Part): Promise<boolean> {
  const lock = world[what!];
  const limits = world.chance(0.3) ? world.limits() : {};
  const { timeout = world.below(4) } = limits;
  try {
    if ("acquire" in lock) {
      if (isSync) lock.acquireSync({ timeout });
      else await lock.acquire(limits);
    } else if (isSync) lock.waitSync({ timeout });
    else await lock.wait(limits);
  } catch (error) {
    if (!world.isGivenUp(error)) throw error;
    return false;
  }
  world.note("has a turn");
  Atomics.add(world.data, WORD.operations, 1);
  world.done.add();
  return true;
}

async function turns(part: Part): Promise<void> {
  // A blocked thread checks the word between its waits.
  while (Atomics.load(world.data, WORD.stop) === 0) await turn(part);
}

/** Removes items under the mutex, one after each wait. */
async function items({ isSync, isLast }: Part): Promise<void> {
  const { mutex, condition, data } = world;
  const recover = isLast === true || world.chance(0.5);
  const guard = isSync
    ? mutex.lockSync({ recover: true })
    : await mutex.lock({ recover: true, queue: true });
  if (world.enter(guard)) condition.notify();
  while (data[WORD.stop] === 0) {
    if (data[WORD.items]! > 0) {
      data[WORD.items]!--;
      world.done.add();
    }
    world.note("waits at the condition");
    Atomics.store(data, WORD.inside, 0);
    try {
      if (isSync) condition.waitSync(guard, { recover });
      else await condition.wait(guard, { recover });
    } catch (error) {
      // It may have been notified, and must pass the notification on.
      if (error instanceof OwnerDiedError) return;
      throw error;
    }
    // A thread that died while it held the mutex had a notification, and may
    // not have used it.
    if (world.enter(guard, true)) condition.notify();
    world.note("is notified");
    Atomics.add(data, WORD.operations, 1);
    world.mayDie("inside");
  }
  world.exit(guard);
}

async function barrier({ count, isSync }: Part): Promise<void> {
  const { data } = world;
  for (let generation = 0; generation < count; generation++) {
    const death = world.death?.at === generation ? world.death : undefined;
    if (death?.where === "outside") world.die(death.how);
    Atomics.add(data, WORD.arrived + generation, 1);
    if (death !== undefined) {
      world.barrier.wait().catch(() => {});
      world.die(death.how);
    }
    let number: number;
    try {
      number = isSync ? world.barrier.waitSync() : await world.barrier.wait();
    } catch (error) {
      if ((error as Error).name !== "BrokenBarrierError") throw error;
      return world.note("finds the barrier broken");
    }
    world.note("passes the barrier", number);
    Atomics.add(data, WORD.operations, 1);
    if (data[WORD.arrived + generation] !== world.barrier.parties) {
      world.fail("The barrier opened before all had come");
    }
    const bit = 1 << number;
    if (Atomics.or(data, WORD.numbers + generation, bit) & bit) {
      world.fail(`Two parties are number ${number} of a generation`);
    }
  }
}

async function until({ target, isSync }: Part): Promise<void> {
  const isWanted = (value: number) => value >= target!;
  const value = isSync
    ? world.done.untilSync(isWanted)
    : await world.done.until(isWanted);
  if (!isWanted(value)) {
    world.fail("A wait ended with a value that is not wanted");
  }
}

const ROUNDS = { mix, turns, items, barrier, until };

/** Waits in tasks, and ends without returning to them. */
function beBusy(part: Part): never {
  const { mutex, condition, data } = world;
  const ignore = () => {};
  for (let task = 0; task < part.tasks; task++) {
    if (part.round === "turns") turn(part).catch(ignore);
    else {
      const guard = mutex.lockSync({ recover: true });
      if (world.enter(guard)) condition.notify();
      world.note("waits at the condition");
      Atomics.store(data, WORD.inside, 0);
      condition.wait(guard, { recover: true }).catch(ignore);
    }
  }
  postMessage("busy");
  while (Atomics.load(world.data, WORD.go) === 0);
  world.die("close");
}

self.onmessage = ({ data: start }: MessageEvent<Start>) => {
  const { memories, seat, permits, seed, life } = start;
  const draw = random(seed);
  const { locks } = navigator as unknown as {
    locks: { request(name: string, run: () => Promise<void>): Promise<void> };
  };
  locks.request(life, () => {
    postMessage("ready");
    return new Promise(() => {});
  });
  self.onmessage = async ({ data: part }: MessageEvent<Part>) => {
    try {
      world = new World({ ...memories, ...part.locks }, seat, permits, draw);
      world.note("begins", Object.keys(ROUNDS).indexOf(part.round));
      world.death = part.death;
      if (part.isBusy) beBusy(part);
      await times(part.tasks, () => ROUNDS[part.round](part));
      postMessage("done");
    } catch (error) {
      if (error instanceof Death) throw error;
      postMessage({ wrong: `worker ${seat}: ${(error as Error).stack}` });
    }
  };
};
postMessage("loaded");
