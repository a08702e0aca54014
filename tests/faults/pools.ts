// Copyright 2026 the Duplex authors. MIT license.

/**
 * Runs a plan for a pool, and checks what pools promise: each task has one outcome,
 * its own; it is begun at most as often as its retries allow; a map gives every
 * outcome once, and in order if it should; every promise settles; nothing is left.
 *
 * @module
 */

import type { Duplex } from "@duplex/ipc/duplex";
import { openPipe } from "@duplex/ipc/pipe";
import { Pool } from "@duplex/ipc/pool";
import { openQueue } from "@duplex/ipc/queue";
import { openShm } from "@duplex/ipc/shm";
import { task } from "@duplex/ipc/task";
import {
  checkUnbroken,
  readJournals,
  settleWithin,
  Violation,
} from "./accounts.ts";
import { scriptOf, watchWorkers } from "./links.ts";
import type { PoolPlan, PoolStep, TaskName } from "./pool_plan.ts";
import type { Methods, Task } from "./pool_worker.ts";
import { checkHoldings, holdings } from "./residue.ts";
import { isExpected, PlannedError, settlesOrNot, sleep } from "./side.ts";

/** Milliseconds that a step waits for its tasks. */
const PATIENCE = 300;

/** Milliseconds for a worker to start: one that is killed meanwhile is not noticed. */
const OPEN_TIMEOUT = 1_000;

/** How often a task is run again unless the plan says so. */
const DEFAULT_RETRIES = 2;

/** A pool, or a task, which has the same methods. */
interface Runner {
  run(task: Task, options: object): Promise<unknown>;
  map(tasks: Iterable<Task>, options: object): AsyncIterable<unknown>;
  mapSettled(tasks: Iterable<Task>, options: object): AsyncIterable<unknown>;
  close(): Promise<void>;
  abort(reason?: unknown): Promise<void>;
  [Symbol.asyncDispose](): PromiseLike<void>;
  readonly stats: { readonly inFlight: number; readonly waiting: number };
}

/** Opens workers, and can kill the latest of them. */
interface Workers {
  open(): Promise<Duplex>;
  kill(): void;
}

function openWorkers(
  plan: PoolPlan,
  folder: string,
  threads: Worker[],
): Workers {
  const script = scriptOf("./pool_worker.ts", { folder });
  const permissions = { read: true as const, write: [folder] };
  if (plan.link === "pipe") {
    const pids: number[] = [];
    return {
      async open() {
        const worker = await openPipe(script, {
          permissions,
          stderr: "null",
        });
        pids.push(worker.pid);
        return worker;
      },
      kill() {
        try {
          Deno.kill(pids.at(-1)!, "SIGKILL");
        } catch {
          // The process has ended.
        }
      },
    };
  }
  const options = { permissions, openTimeout: OPEN_TIMEOUT };
  const open = plan.link === "queue"
    ? () => openQueue(script, options)
    : () => openShm(script, options);
  return { open, kill: () => threads.at(-1)?.terminate() };
}

/** What a function does that runs in Web Workers; it sees nothing else. */
function work([name, id]: Task): [string, null] {
  if (name === "fails") {
    throw Object.assign(new Error(`fail ${id}`), { name: "PlannedError" });
  }
  return [id, null];
}

function makeRunner(plan: PoolPlan, workers: Workers): Runner {
  const { size, options } = plan;
  if (plan.link === "task") {
    const inWorkers = task(work, { workers: size, ...options });
    return {
      run: (one, options) => inWorkers.run([one], options),
      map: (tasks, options) => inWorkers.map(tasks, options),
      mapSettled: (tasks, options) => inWorkers.mapSettled(tasks, options),
      close: () => inWorkers.close(),
      abort: (reason) => inWorkers.abort(reason),
      [Symbol.asyncDispose]: () => inWorkers[Symbol.asyncDispose](),
      get stats() {
        return inWorkers.stats;
      },
    };
  }
  const pool = new Pool<Methods>(() => workers.open(), {
    workers: size,
    ...options,
  });
  return {
    run: (one, options) => pool.run("work", [one], options),
    map: (tasks, options) => pool.map(tasks, "work", options),
    mapSettled: (tasks, options) => pool.mapSettled(tasks, "work", options),
    close: () => pool.close(),
    abort: (reason) => pool.abort(reason),
    [Symbol.asyncDispose]: () => pool[Symbol.asyncDispose](),
    get stats() {
      return pool.stats;
    },
  };
}

/** Carries out the steps of a plan. */
class PoolRun {
  readonly #plan: PoolPlan;
  readonly #runner: Runner;
  readonly #pending = new Map<symbol, string>();
  readonly #settled: Promise<unknown>[] = [];
  /** How often each task may be begun. */
  readonly most = new Map<string, number>();
  broken: string | undefined;
  #next = 0;

  constructor(plan: PoolPlan, runner: Runner) {
    this.#plan = plan;
    this.#runner = runner;
  }

  get pending(): string[] {
    return [...this.#pending.values()];
  }

  async run(): Promise<void> {
    for (const step of this.#plan.steps) {
      const done = this.#step(step);
      if (step.isWaitedFor) await settlesOrNot(done, PATIENCE);
    }
    if (!this.#plan.isEarly) await this.#allSettled();
  }

  async finish(): Promise<void> {
    const ended = {
      close: () => this.#runner.close(),
      dispose: () => Promise.resolve(this.#runner[Symbol.asyncDispose]()),
      abort: () => this.#runner.abort(new PlannedError("The pool aborts")),
    }[this.#plan.finale]();
    await this.#track(this.#plan.finale, ended);
    await this.#allSettled();
    const { inFlight, waiting } = this.#runner.stats;
    if (inFlight + waiting > 0) {
      this.#break(`${inFlight} tasks run and ${waiting} wait in an ended pool`);
    }
  }

  async #allSettled(): Promise<void> {
    for (const promise of this.#settled) await promise;
  }

  async #step(step: PoolStep): Promise<void> {
    const { timeout, waitTimeout, retries, ordered } = step;
    const signal = this.#signal(step.abortAfter);
    const options = {
      ...timeout !== undefined && { timeout },
      ...retries !== undefined && { retries },
      ...signal !== undefined && { signal },
    };
    const tasks = Array.from(
      { length: step.count },
      (_, index) => this.#make(step, step.tasks[index % step.tasks.length]!),
    );
    if (step.do === "run") {
      const own = {
        ...options,
        ...waitTimeout !== undefined && { waitTimeout },
      };
      await Promise.all(tasks.map((task) => this.#runOne(task, own)));
    } else if (step.do === "map") {
      await this.#track("map", this.#map(tasks, step, { ...options, ordered }));
    } else {
      const settled = this.#mapSettled(tasks, step, { ...options, ordered });
      await this.#track("mapSettled", settled);
    }
  }

  #make({ retries }: PoolStep, name: TaskName): Task {
    const id = `task:${this.#next++}`;
    const most = retries ?? this.#plan.options.retries ?? DEFAULT_RETRIES;
    this.most.set(id, most + 1);
    return [name, id];
  }

  #runOne(task: Task, options: object): Promise<void> {
    const call = async () => {
      try {
        this.#check(task, await this.#runner.run(task, options));
      } catch (error) {
        this.#checkError(task, error);
      }
    };
    return this.#track(`run ${task[1]}`, call());
  }

  async #map(tasks: Task[], step: PoolStep, options: object): Promise<void> {
    let taken = 0;
    const seen = new Set<string>();
    for await (const result of this.#runner.map(tasks, options)) {
      const [id] = result as [string];
      if (seen.has(id)) this.#break(`A map gave ${id} twice`);
      seen.add(id);
      if (step.ordered && id !== tasks[taken]![1]) {
        this.#break(`A map gave ${id} in place of ${tasks[taken]![1]}`);
      }
      if (++taken >= step.takes) return;
    }
    if (taken !== tasks.length) {
      this.#break(`A map of ${tasks.length} tasks gave ${taken} results`);
    }
  }

  async #mapSettled(
    tasks: Task[],
    step: PoolStep,
    options: object,
  ): Promise<void> {
    let taken = 0;
    const seen = new Set<number>();
    for await (const outcome of this.#runner.mapSettled(tasks, options)) {
      const { index, status, value, reason } = outcome as {
        index: number;
        status: string;
        value: unknown;
        reason: unknown;
      };
      if (seen.has(index)) this.#break(`A map gave item ${index} twice`);
      seen.add(index);
      if (step.ordered && index !== taken) {
        this.#break(`A map gave item ${index} in place of ${taken}`);
      }
      const task = tasks[index]!;
      if (status === "fulfilled") this.#check(task, value);
      else this.#checkError(task, reason);
      if (++taken >= step.takes) return;
    }
    if (taken !== tasks.length) {
      this.#break(`A map of ${tasks.length} tasks gave ${taken} outcomes`);
    }
  }

  #check([name, id]: Task, result: unknown): void {
    const [found] = result as [string];
    if (name === "fails") this.#break(`${id} must fail and gave a value`);
    if (found !== id) this.#break(`${id} gave the result of ${found}`);
  }

  #checkError([name, id]: Task, error: unknown): void {
    const isOwn = error instanceof Error && error.message.startsWith("fail ");
    if (!isOwn) {
      if (isExpected(error) || this.#isStartError(error)) return;
      return this.#break(`${name} ${id}: ${Deno.inspect(error)}`);
    }
    if (name === "fails" && error.message === `fail ${id}`) return;
    this.#break(`${name} ${id} failed with "${error.message}"`);
  }

  /** Whether workers were killed before they could start, as the plan may do. */
  #isStartError(error: unknown): boolean {
    return this.#plan.killEvery !== undefined && error instanceof Error &&
      error.message.startsWith("Cannot start a worker");
  }

  #break(text: string): void {
    this.broken ??= text;
  }

  #signal(turns: number | undefined): AbortSignal | undefined {
    if (turns === undefined) return undefined;
    const controller = new AbortController();
    const abort = async () => {
      for (let turn = 0; turn < turns; turn++) await sleep(0);
      controller.abort(new PlannedError("The plan's signal aborts"));
    };
    this.#track("signal", abort());
    return controller.signal;
  }

  #track(what: string, promise: Promise<unknown>): Promise<void> {
    const key = Symbol();
    this.#pending.set(key, what);
    const settle = () => void this.#pending.delete(key);
    const settled = promise.then(settle, (error) => {
      settle();
      if (isExpected(error) || this.#isStartError(error)) return;
      this.#break(`${what}: ${Deno.inspect(error)}`);
    });
    this.#settled.push(settled);
    return settled;
  }
}

/** Kills the latest worker up to ten times, or until the plan is over. */
async function killWorkers(
  workers: Workers,
  every: number,
  isOver: () => boolean,
): Promise<void> {
  // A task that is killed each time would never end.
  for (let kills = 0; kills < 10 && !isOver(); kills++) {
    await sleep(every);
    workers.kill();
  }
}

/** Runs a plan. Rejects if the package breaks a promise. */
export async function runPoolPlan(plan: PoolPlan): Promise<void> {
  const before = holdings();
  const folder = await Deno.makeTempDir({ prefix: "duplex_faults_" });
  const watch = watchWorkers();
  try {
    const workers = openWorkers(plan, folder, watch.workers);
    const run = new PoolRun(plan, makeRunner(plan, workers));
    let isOver = false;
    const killing = plan.killEvery === undefined
      ? Promise.resolve()
      : killWorkers(workers, plan.killEvery, () => isOver);
    const pending = () => run.pending;
    await settleWithin("A step", run.run(), pending);
    await settleWithin("The pool's end", run.finish(), pending);
    isOver = true;
    await killing;
    if (run.broken !== undefined) throw new Violation(run.broken);
    await checkJournals(folder, run.most);
    await checkHoldings(before);
  } finally {
    watch[Symbol.dispose]();
    await Deno.remove(folder, { recursive: true });
  }
}

/** A task is begun at most as often as its retries allow. */
async function checkJournals(
  folder: string,
  most: ReadonlyMap<string, number>,
): Promise<void> {
  const journals = await readJournals(folder);
  checkUnbroken(journals);
  const begun = new Map<string, number>();
  for (const { lines } of journals) {
    for (const { entry, message } of lines) {
      if (entry !== "received") continue;
      const times = (begun.get(message) ?? 0) + 1;
      begun.set(message, times);
      if (times <= most.get(message)!) continue;
      throw new Violation(`${message} was begun ${times} times`);
    }
  }
}
