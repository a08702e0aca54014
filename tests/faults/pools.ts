// Copyright 2026 the Duplex authors. MIT license.

/**
 * Runs a plan for a pool, and checks that each task has exactly one outcome,
 * the right one; that it starts at most as often as its retries allow; that a
 * map returns every outcome once, and in order if required; that every promise
 * settles; and that nothing leaks.
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
  checkNoViolation,
  readJournals,
  settleWithin,
  Violation,
} from "./journals.ts";
import { watchWorkers, workerScript } from "./links.ts";
import type { PoolPlan, PoolStep, TaskName } from "./pool_plan.ts";
import type { Methods, Task } from "./pool_worker.ts";
import { checkLeaks, resourcesInUse } from "./leaks.ts";
import {
  isExpected,
  PlannedError,
  settleOrTimeout,
  sleep,
  TrackedPromises,
} from "./promises.ts";

/** Milliseconds that a step waits for its tasks. */
const STEP_TIMEOUT = 300;

/**
 * Timeout for the start of a worker: the only way to detect that it was killed
 * meanwhile.
 */
const OPEN_TIMEOUT = 1_000;

/** The default number of retries of a task. */
const DEFAULT_RETRIES = 2;

/** A pool, or a task function, which has the same methods. */
interface Runner {
  run(task: Task, options: object): Promise<unknown>;
  map(tasks: Iterable<Task>, options: object): AsyncIterable<unknown>;
  mapSettled(tasks: Iterable<Task>, options: object): AsyncIterable<unknown>;
  close(): Promise<void>;
  abort(reason?: unknown): Promise<void>;
  [Symbol.asyncDispose](): PromiseLike<void>;
  readonly stats: { readonly inFlight: number; readonly waiting: number };
}

/** Opens workers, and kills the latest one. */
interface Workers {
  open(): Promise<Duplex>;
  kill(): void;
}

function openWorkers(
  plan: PoolPlan,
  folder: string,
  threads: Worker[],
): Workers {
  const script = workerScript("./pool_worker.ts", { folder });
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

/**
 * The function of a task, which runs in a Web Worker without access to this
 * scope.
 */
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

/** Runs the steps of a plan. */
class PoolRun {
  readonly #plan: PoolPlan;
  readonly #runner: Runner;
  readonly promises = new TrackedPromises((what, error) =>
    this.#checkUnexpected(what, error)
  );
  /** How often each task may start. */
  readonly most = new Map<string, number>();
  violation: string | undefined;
  #next = 0;

  constructor(plan: PoolPlan, runner: Runner) {
    this.#plan = plan;
    this.#runner = runner;
  }

  async run(): Promise<void> {
    for (const step of this.#plan.steps) {
      const done = this.#step(step);
      if (step.isWaitedFor) await settleOrTimeout(done, STEP_TIMEOUT);
    }
    if (!this.#plan.isEarly) await this.promises.allSettled();
  }

  async finish(): Promise<void> {
    const ended = {
      close: () => this.#runner.close(),
      dispose: () => Promise.resolve(this.#runner[Symbol.asyncDispose]()),
      abort: () => this.#runner.abort(new PlannedError("The pool aborts")),
    }[this.#plan.finale]();
    await this.promises.track(this.#plan.finale, ended);
    await this.promises.allSettled();
    const { inFlight, waiting } = this.#runner.stats;
    if (inFlight + waiting > 0) {
      this.#violation(
        `${inFlight} tasks run and ${waiting} wait in an ended pool`,
      );
    }
  }

  async #step(step: PoolStep): Promise<void> {
    const { timeout, waitTimeout, retry, priority, keys, ordered } = step;
    const signal = this.promises.signal(step.abortAfter);
    const options = {
      ...timeout !== undefined && { timeout },
      ...retry !== undefined && { retry },
      ...priority !== undefined && { priority },
      ...signal !== undefined && { signal },
    };
    const tasks = Array.from(
      { length: step.count },
      (_, index) => this.#make(step, step.tasks[index % step.tasks.length]!),
    );
    const keyOf = ([, id]: Task) => `key ${Number(id.split(":")[1]) % keys!}`;
    if (step.do === "run") {
      const own = {
        ...options,
        ...waitTimeout !== undefined && { waitTimeout },
      };
      await Promise.all(tasks.map((task) => {
        const key = keys === undefined ? {} : { key: keyOf(task) };
        return this.#runOne(task, { ...own, ...key });
      }));
      return;
    }
    const key = keys === undefined ? {} : { key: keyOf };
    const all = { ...options, ...key, ordered };
    if (step.do === "map") {
      await this.promises.track("map", this.#map(tasks, step, all));
    } else {
      const settled = this.#mapSettled(tasks, step, all);
      await this.promises.track("mapSettled", settled);
    }
  }

  #make({ retry }: PoolStep, name: TaskName): Task {
    const id = `task:${this.#next++}`;
    const { options } = this.#plan;
    const retries = retry ?? options.retry ?? DEFAULT_RETRIES;
    const most = typeof retries === "number" ? retries : retries.times;
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
    return this.promises.track(`run ${task[1]}`, call());
  }

  async #map(tasks: Task[], step: PoolStep, options: object): Promise<void> {
    let received = 0;
    const seen = new Set<string>();
    for await (const result of this.#runner.map(tasks, options)) {
      const [id] = result as [string];
      if (seen.has(id)) this.#violation(`A map gave ${id} twice`);
      seen.add(id);
      if (step.ordered && id !== tasks[received]![1]) {
        this.#violation(`A map gave ${id} in place of ${tasks[received]![1]}`);
      }
      if (++received >= step.takes) return;
    }
    if (received !== tasks.length) {
      this.#violation(
        `A map of ${tasks.length} tasks gave ${received} results`,
      );
    }
  }

  async #mapSettled(
    tasks: Task[],
    step: PoolStep,
    options: object,
  ): Promise<void> {
    let received = 0;
    const seen = new Set<number>();
    for await (const outcome of this.#runner.mapSettled(tasks, options)) {
      const { index, status, value, reason } = outcome as {
        index: number;
        status: string;
        value: unknown;
        reason: unknown;
      };
      if (seen.has(index)) this.#violation(`A map gave item ${index} twice`);
      seen.add(index);
      if (step.ordered && index !== received) {
        this.#violation(`A map gave item ${index} in place of ${received}`);
      }
      const task = tasks[index]!;
      if (status === "fulfilled") this.#check(task, value);
      else this.#checkError(task, reason);
      if (++received >= step.takes) return;
    }
    if (received !== tasks.length) {
      this.#violation(
        `A map of ${tasks.length} tasks gave ${received} outcomes`,
      );
    }
  }

  #check([name, id]: Task, result: unknown): void {
    const [found] = result as [string];
    if (name === "fails") this.#violation(`${id} must fail and gave a value`);
    if (found !== id) this.#violation(`${id} gave the result of ${found}`);
  }

  #checkError([name, id]: Task, error: unknown): void {
    const isOwn = error instanceof Error && error.message.startsWith("fail ");
    if (!isOwn) {
      return this.#checkUnexpected(`${name} ${id}`, error);
    }
    if (name === "fails" && error.message === `fail ${id}`) return;
    this.#violation(`${name} ${id} failed with "${error.message}"`);
  }

  /** Whether workers may have been killed during their start. */
  #isStartError(error: unknown): boolean {
    return this.#plan.killEvery !== undefined && error instanceof Error &&
      error.message.startsWith("Cannot start a worker");
  }

  #violation(text: string): void {
    this.violation ??= text;
  }

  #checkUnexpected(what: string, error: unknown): void {
    if (isExpected(error) || this.#isStartError(error)) return;
    this.#violation(`${what}: ${Deno.inspect(error)}`);
  }
}

/** Kills the latest worker up to ten times, or until the plan has ended. */
async function killWorkers(
  workers: Workers,
  every: number,
  isOver: () => boolean,
): Promise<void> {
  // A task that is killed every time would never end.
  for (let kills = 0; kills < 10 && !isOver(); kills++) {
    await sleep(every);
    workers.kill();
  }
}

/** Runs a plan. Rejects if the package breaks a guarantee. */
export async function runPoolPlan(plan: PoolPlan): Promise<void> {
  const before = resourcesInUse();
  const folder = await Deno.makeTempDir({ prefix: "duplex_faults_" });
  const watch = watchWorkers();
  try {
    const workers = openWorkers(plan, folder, watch.workers);
    const run = new PoolRun(plan, makeRunner(plan, workers));
    let isOver = false;
    const killing = plan.killEvery === undefined
      ? Promise.resolve()
      : killWorkers(workers, plan.killEvery, () => isOver);
    const pending = () => run.promises.pending;
    await settleWithin("A step", run.run(), pending);
    await settleWithin("The pool's end", run.finish(), pending);
    isOver = true;
    await killing;
    if (run.violation !== undefined) throw new Violation(run.violation);
    await checkJournals(folder, run.most);
    await checkLeaks(before);
  } finally {
    watch[Symbol.dispose]();
    await Deno.remove(folder, { recursive: true });
  }
}

/** A task starts at most as often as its retries allow. */
async function checkJournals(
  folder: string,
  most: ReadonlyMap<string, number>,
): Promise<void> {
  const journals = await readJournals(folder);
  checkNoViolation(journals);
  const started = new Map<string, number>();
  for (const { entries } of journals) {
    for (const { entry, message } of entries) {
      if (entry !== "received") continue;
      const times = (started.get(message) ?? 0) + 1;
      started.set(message, times);
      if (times <= most.get(message)!) continue;
      throw new Violation(`${message} was started ${times} times`);
    }
  }
}
