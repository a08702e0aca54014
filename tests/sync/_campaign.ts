// Copyright 2026 the Duplex authors. MIT license.

/**
 * A random campaign over all locks with real workers, which die at any moment.
 * {@linkcode runSyncPlan} runs the plan of a seed: some rounds of
 *
 * - **mix:** operations on all locks in all forms, with timeouts that end when
 * a wait is granted, and threads that die before, during and after a wait;
 * - **turns:** permits and sets, one after the other, each of which must reach
 * one running thread even if other threads die;
 * - **items:** notifications of a condition, with the same rule;
 * - **barrier:** generations, which all pass, or which break if a party dies;
 * - **until:** waits for a counter.
 *   moment of a turn, and threads that die before, inside and while they wait;
 * - **turns:** permits and sets, one after the other, each of which must reach one
 *   thread that lives, whatever dies meanwhile;
 * - **items:** notifications of a condition, likewise;
 * - **barrier:** generations, which all pass or which break when a party dies;
 * - **until:** waits for a counter.
 *
 * After each round all invariants are checked: only one thread at a time held
 * the mutex; it recovered only after deaths of its holder; all permits are
 * free; no change of a counter is lost; every wait has ended; no waiter
 * remains.
 *
 * The seed determines the operations of the threads, but not how they overlap,
 * so a failed plan may have to run several times to fail again.
 *
 * For a longer run: `deno task faults --only locks --minutes 10`.
 *
 * @module
 */

import {
  AtomicCounter,
  Barrier,
  Condition,
  Mutex,
  ResetEvent,
  Semaphore,
} from "../../sync.ts";
import { settlesWithin } from "../../_base/waiting.ts";
import { random } from "../_seed.ts";
import { Player } from "./_player.ts";
import { sleepersOf, slotsInUse } from "../workers/_sync_acts.ts";
import {
  GENERATIONS,
  type Memories,
  type PlannedDeath,
  SEATS,
  WORD,
  World,
} from "../workers/_sync_world.ts";
import type { Part } from "../workers/sync_campaign.ts";

/** Options of {@linkcode runSyncPlan}. */
export interface SyncPlanOptions {
  /**
   * Number of concurrent workers.
   *
   * @default {3}
   */
  workers?: number;
  /**
   * Rounds of the plan.
   *
   * @default {10}
   */
  rounds?: number;
  /**
   * Operations per worker in a round of mixed operations.
   *
   * @default {80}
   */
  operations?: number;
  /**
   * Milliseconds after which a round counts as stuck.
   *
   * @default {30000}
   */
  roundTimeout?: number;
}

/** Permits of the semaphore. */
const PERMITS = 2;

/** Turns in a round of turns or items. */
const TURNS = 12;

/** One plan. */
class Campaign {
  readonly #options: Required<SyncPlanOptions>;
  readonly #seed: number;
  readonly #draw: () => number;
  readonly #memories: Memories;
  readonly #world: World;
  #players: Player[] = [];
  /** The busy players of the round. */
  readonly #busy = new Map<Player, Promise<void>>();
  #seats = 1;
  /** Whether the generations of a barrier have ended. */
  #isOver = true;
  /** Rejects if an invariant is broken. */
  readonly #wrong = Promise.withResolvers<never>();

  constructor(seed: number, options: SyncPlanOptions) {
    const { workers = 3, rounds = 10, operations = 80, roundTimeout = 30_000 } =
      options;
    this.#options = { workers, rounds, operations, roundTimeout };
    this.#seed = seed;
    this.#draw = random(seed);
    this.#memories = {
      ...World.memory(),
      mutex: new Mutex().buffer,
      semaphore: new Semaphore({ permits: PERMITS }).buffer,
      condition: new Condition().buffer,
      automatic: new ResetEvent({ automatic: true }).buffer,
      manual: new ResetEvent().buffer,
      barrier: new Barrier({ parties: 2 }).buffer,
      counter: new AtomicCounter().buffer,
      done: new AtomicCounter().buffer,
    };
    this.#world = this.#worldWith({});
    this.#wrong.promise.catch(() => {});
  }

  async run(): Promise<number> {
    try {
      for (let round = 0; round < this.#options.rounds; round++) {
        await this.#within(this.#round());
      }
      return this.#world.data[WORD.operations]!;
    } catch (error) {
      throw new Error(
        `Plan ${this.#seed} failed: ${
          (error as Error).message
        }\n${this.#world.history}`,
        { cause: error },
      );
    } finally {
      Atomics.store(this.#world.data, WORD.go, 1);
      for (const player of this.#players) player.terminate();
      // A stuck thread does not end by itself.
      const ended = Promise.all(this.#players.map(({ ended }) => ended));
      await settlesWithin(ended, this.#options.roundTimeout);
    }
  }

  /** Fails on a timeout, or if an invariant is broken meanwhile. */
  async #within(round: Promise<void>): Promise<void> {
    let timer;
    const stuck = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error("The round does not end")),
        this.#options.roundTimeout,
      );
    });
    try {
      await Promise.race([round, stuck, this.#wrong.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  #worldWith(memories: Partial<Memories>): World {
    const all = { ...this.#memories, ...memories };
    return new World(all, 0, PERMITS, this.#draw);
  }

  async #round(): Promise<void> {
    const { data } = this.#world;
    data[WORD.stop] = data[WORD.go] = 0;
    await this.#fill();
    switch (this.#world.below(7)) {
      case 0:
        await this.#turns("semaphore");
        break;
      case 1:
        await this.#turns("automatic");
        break;
      case 2:
        await this.#items();
        break;
      case 3:
        await this.#barrier();
        break;
      case 4:
        await this.#until();
        break;
      default:
        await this.#mix();
    }
    await this.#check();
  }

  /** Starts workers up to the number in the options. */
  async #fill(): Promise<void> {
    this.#players = this.#players.filter(({ isGone }) => !isGone);
    const missing = this.#options.workers - this.#players.length;
    if (missing > SEATS - this.#seats) return;
    const started = Array.from({ length: missing }, () => {
      const seat = this.#seats++;
      return Player.start(
        {
          memories: this.#memories,
          seat,
          permits: PERMITS,
          seed: this.#seed + 7919 * seat,
          life: `sync campaign ${crypto.randomUUID()}`,
        },
        (error) => this.#wrong.reject(error),
        (player) => this.#onGone(player),
      );
    });
    this.#players.push(...await Promise.all(started));
  }

  /** Releases the permits of a thread that died, like a supervisor. */
  #onGone({ seat }: Player): void {
    const { data, semaphore } = this.#world;
    this.#world.note("has ended", 0, seat);
    const lost = Atomics.exchange(data, WORD.holding + seat, 0);
    if (lost === 0) return;
    Atomics.sub(data, WORD.held, lost);
    semaphore.release(lost);
  }

  #terminate(player: Player): void {
    this.#world.note("is terminated", 0, player.seat);
    player.terminate();
  }

  #death(where: PlannedDeath["where"], at: number): PlannedDeath {
    const how = this.#world.pick(["close", "exit", "throw"] as const);
    return { how, at, where };
  }

  async #mix(): Promise<void> {
    const world = this.#world;
    const count = this.#options.operations;
    const parts = this.#players.map((player) => {
      const where = world.pick(["outside", "inside", "waiting"] as const);
      const dies = world.chance(0.5);
      // A player that ends in one task might have been granted a lock in
      // another task.
      const tasks = dies ? 1 : 1 + world.below(3);
      const death = dies
        ? { death: this.#death(where, world.below(count)) }
        : {};
      return player.play({
        round: "mix",
        locks: {},
        tasks,
        count: Math.ceil(count / tasks),
        ...death,
      });
    });
    const own = (async () => {
      if (world.chance(0.2)) await world.flood(200);
      for (let index = 0; index < count / 4; index++) {
        await world.operate();
        if (!world.chance(0.02)) continue;
        this.#terminate(world.pick(this.#players));
      }
    })();
    await Promise.all([own, ...parts]);
  }

  /** Permits or sets, each of which must reach one thread. */
  async #turns(what: "semaphore" | "automatic"): Promise<void> {
    const memory = what === "semaphore"
      ? new Semaphore({ permits: 0 }).buffer
      : new ResetEvent({ automatic: true }).buffer;
    const lock = what === "semaphore"
      ? new Semaphore(memory)
      : new ResetEvent(memory);
    const done = new AtomicCounter();
    const give = () => "release" in lock ? lock.release() : lock.set();
    const locks = { [what]: memory, done: done.buffer };
    const world = this.#worldWith(locks);
    const parts = await this.#playTurns(world, { round: "turns", what, locks });
    for (let turn = 1; turn <= TURNS; turn++) {
      give();
      this.#endSome(world);
      await done.until((value) => value >= turn);
      if (done.value !== turn) world.fail(`${done.value} turns of ${turn}`);
    }
    Atomics.store(world.data, WORD.go, 1);
    Atomics.store(world.data, WORD.stop, 1);
    await this.#untilDone(parts, give);
  }

  /** Notifications, each of which must reach one thread. */
  async #items(): Promise<void> {
    const done = new AtomicCounter();
    const condition = new Condition();
    const locks = { done: done.buffer, condition: condition.buffer };
    const world = this.#worldWith(locks);
    const { mutex, data } = world;
    const parts = await this.#playTurns(world, { round: "items", locks });
    const notify = async (items: number) => {
      const guard = await mutex.lock({ recover: true, queue: true });
      const isRecovered = world.enter(guard);
      data[WORD.items]! += items;
      if (isRecovered || items > 0) {
        world.note("notifies");
        condition.notify();
      }
      if (items > 0 && world.chance(0.5)) {
        // Threads that are notified, wait for the mutex, and die.
        await new Promise((resolve) => setTimeout(resolve, world.below(3)));
        this.#terminateSome(world, 0.3);
        await new Promise((resolve) => setTimeout(resolve, world.below(8)));
      }
      world.exit(guard);
    };
    let isOver = false;
    // A thread that dies while it holds the mutex may have been notified.
    for (const { ended } of this.#players) {
      ended.then(() => isOver ? undefined : notify(0));
    }
    for (let turn = 1; turn <= TURNS; turn++) {
      await notify(1);
      this.#endSome(world);
      await done.until((value) => value >= turn);
    }
    Atomics.store(data, WORD.go, 1);
    Atomics.store(data, WORD.stop, 1);
    await this.#untilDone(parts, () => void condition.notifyAll());
    isOver = true;
    data[WORD.items] = 0;
  }

  /**
   * Assigns the parts to the players; some of them die, but not the last one.
   */
  async #playTurns(
    world: World,
    part: Pick<Part, "round" | "what" | "locks">,
  ): Promise<Promise<void>[]> {
    const last = this.#players.length - 1;
    const parts = this.#players.map((player, index) => {
      const isBusy = index < last && world.chance(0.4);
      const isSync = !isBusy && world.chance(0.4);
      const dies = index < last && part.round === "items" && world.chance(0.3);
      const tasks = isSync ? 1 : 1 + world.below(3);
      const death = dies ? { death: this.#death("inside", -1) } : {};
      const done = player.play({
        ...part,
        isLast: index === last,
        count: TURNS,
        tasks,
        isSync,
        isBusy,
        ...death,
      });
      if (isBusy) this.#busy.set(player, done);
      return done;
    });
    // The busy players wait in the queue before the first turn.
    await Promise.all(this.#busy.values());
    return parts;
  }

  /** Ends busy threads, or a random thread; the last player keeps running. */
  #endSome(world: World): void {
    // A turn granted to a busy thread passes on when it dies.
    const end = () => Atomics.store(world.data, WORD.go, 1);
    if (world.chance(0.5)) end();
    else setTimeout(end, world.below(4));
    this.#terminateSome(world, 0.1);
  }

  /** Terminates a random player, but not the last one. */
  #terminateSome(world: World, share: number): void {
    const mortals = this.#players.slice(0, -1);
    if (mortals.length === 0 || !world.chance(share)) return;
    this.#terminate(world.pick(mortals));
  }

  /** Ends waits until all parts have ended. */
  async #untilDone(parts: Promise<void>[], give: () => void): Promise<void> {
    let isDone = false;
    const all = Promise.all(parts).then(() => isDone = true);
    while (!isDone) {
      give();
      await Promise.race([all, new Promise((run) => setTimeout(run, 1))]);
    }
    // The part of a busy thread ends with the thread.
    await Promise.all([...this.#busy.keys()].map(({ ended }) => ended));
    this.#busy.clear();
  }

  async #barrier(): Promise<void> {
    const players = this.#players;
    const barrier = new Barrier({ parties: players.length + 1 });
    const locks = { barrier: barrier.buffer };
    const world = this.#worldWith(locks);
    const { data } = world;
    const count = 1 + world.below(GENERATIONS);
    this.#isOver = false;
    data.fill(0, WORD.arrived, WORD.numbers + GENERATIONS);
    const parts = players.map((player) => {
      const isSync = world.chance(0.5);
      const where = world.pick(["outside", "waiting"] as const);
      const death = world.chance(0.3)
        ? { death: this.#death(where, world.below(count)) }
        : {};
      const part = { locks, count, tasks: 1, isSync, ...death };
      const done = player.play({ round: "barrier", ...part });
      player.ended.then(() => this.#onPartyEnded(world, player, death.death));
      return done;
    });
    let passed = 0;
    try {
      for (; passed < count; passed++) {
        if (world.chance(0.02)) this.#terminate(world.pick(players));
        Atomics.add(data, WORD.arrived + passed, 1);
        const number = await barrier.wait();
        Atomics.add(data, WORD.operations, 1);
        Atomics.or(data, WORD.numbers + passed, 1 << number);
      }
    } catch (error) {
      if ((error as Error).name !== "BrokenBarrierError") throw error;
    }
    await Promise.all(parts);
    this.#isOver = true;
    const isAnyGone = players.some(({ isGone }) => isGone);
    if (passed < count && !isAnyGone) {
      world.fail("The barrier broke although no party died");
    }
    if (isAnyGone) return;
    const all = (1 << barrier.parties) - 1;
    for (let generation = 0; generation < count; generation++) {
      if (data[WORD.numbers + generation] === all) continue;
      world.fail(`Generation ${generation} lacks a number`);
    }
  }

  /**
   * A party that died while it waited breaks the barrier, unless it arrived
   * last: then the others wait for it in the next generation, as for a party
   * that never arrives.
   */
  async #onPartyEnded(
    world: World,
    { isTerminated }: Player,
    death: PlannedDeath | undefined,
  ): Promise<void> {
    const { barrier, data } = world;
    const hasWaited = !isTerminated && death?.where === "waiting";
    const arrived = WORD.arrived + (death?.at ?? 0) + 1;
    while (hasWaited && data[arrived] === 0) {
      if (barrier.broken || this.#isOver) return;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    barrier.abort();
  }

  async #until(): Promise<void> {
    const done = new AtomicCounter();
    const locks = { done: done.buffer };
    const world = this.#worldWith(locks);
    const parts = this.#players.map((player) => {
      const isSync = world.chance(0.5);
      const target = 1 + world.below(TURNS);
      const tasks = isSync ? 1 : 20;
      return player.play({
        round: "until",
        locks,
        count: 1,
        tasks,
        isSync,
        target,
      });
    });
    for (let turn = 0; turn < TURNS; turn++) {
      if (world.chance(0.5)) await world.pause();
      done.add();
    }
    await Promise.all(parts);
  }

  /** Checks all invariants after a round. */
  async #check(): Promise<void> {
    const world = this.#world;
    const { data, mutex, semaphore, counter } = world;
    const guard = await mutex.lock({ recover: true, queue: true });
    world.enter(guard);
    if (data[WORD.sections] !== data[WORD.entered]) {
      world.fail(`${data[WORD.sections]} of ${data[WORD.entered]} sections`);
    }
    world.exit(guard);
    if (data[WORD.held] !== 0) {
      world.fail(`${data[WORD.held]} permits are held`);
    }
    // A grant to a thread that died is returned by the next sweep.
    const permits = [];
    for (let permit = 0; permit < PERMITS; permit++) {
      permits.push(await semaphore.acquire());
    }
    if (semaphore.tryAcquire()) {
      world.fail("There are more permits than at first");
    }
    for (const permit of permits) permit.release();
    const added = data.subarray(WORD.added, WORD.added + SEATS)
      .reduce((sum, amount) => sum + amount, 0);
    if (counter.value !== added) world.fail(`${counter.value} is not ${added}`);
    await this.#checkWaiters();
  }

  /**
   * Checks that no other thread waits for a lock: this thread waits for each
   * one, and its checks soon clean up after dead threads.
   */
  async #checkWaiters(): Promise<void> {
    const { semaphore, automatic, manual, barrier } = this.#world;
    const { mutex, condition } = this.#world;
    const guard = await mutex.lock({ queue: true });
    const lock = () => mutex.lock({ queue: true });
    await this.#isAlone(mutex, lock, () => guard.unlock());
    mutex.unlock();
    const held = await mutex.lock({ queue: true });
    const wait = () => condition.wait(held);
    await this.#isAlone(condition, wait, () => condition.notify());
    held.unlock();
    const permits = [await semaphore.acquire(), await semaphore.acquire()];
    const next = () => semaphore.acquire();
    await this.#isAlone(semaphore, next, () => permits[0]!.release());
    semaphore.release(PERMITS);
    for (const event of [automatic, manual]) {
      const set = () => (event.reset(), event.wait());
      await this.#isAlone(event, set, () => event.set());
      event.reset();
    }
    const party = () => (barrier.reset(), barrier.wait());
    await this.#isAlone(
      barrier,
      party,
      () => barrier.waitSync({ timeout: 10_000 }),
    );
  }

  /**
   * Checks that a wait is the only one, and that it leaves nothing in the
   * queue.
   */
  async #isAlone(
    { buffer }: { buffer: SharedArrayBuffer },
    start: () => Promise<unknown>,
    end: () => unknown,
  ): Promise<void> {
    for (let isAlone = false; !isAlone;) {
      let isOver = false;
      const wait = start().finally(() => isOver = true);
      wait.catch(() => {});
      // It may receive the grant of a thread that died, and then starts again.
      while (!isOver && !isAlone) {
        isAlone = slotsInUse(buffer) === 1;
        if (!isAlone) await new Promise((resolve) => setTimeout(resolve, 1));
      }
      if (isAlone) end();
      await wait;
    }
    const left = slotsInUse(buffer);
    if (left > 0) this.#world.fail(`${left} slots of a queue are in use`);
    const sleepers = sleepersOf(buffer);
    if (sleepers > 0) this.#world.fail(`${sleepers} sleep after their wait`);
  }
}

/**
 * Runs the plan of a seed. Throws an error with the seed and the history if an
 * invariant is broken or the plan does not end.
 */
export async function runSyncPlan(
  seed: number,
  options: SyncPlanOptions = {},
): Promise<{ operations: number }> {
  return { operations: await new Campaign(seed, options).run() };
}
