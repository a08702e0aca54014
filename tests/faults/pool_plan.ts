// Copyright 2026 the Duplex authors. MIT license.

/**
 * Plans for pools of workers of any kind: single tasks and maps, and when
 * workers die.
 *
 * @module
 */

import { Random, shorter } from "./plan.ts";

/** The kinds of worker of a pool. */
export const POOL_LINKS = ["pipe", "queue", "shm", "task"] as const;

/** More outcomes than any map has. */
const ALL = 1_000_000;

/** The kinds of task; see `pool_worker.ts`. */
export const TASKS = [
  "quick",
  "slow",
  "fails",
  "large",
  "exits",
  "throwsLater",
  "closes",
  "busy",
] as const;

export type TaskName = typeof TASKS[number];

/** The number of further runs, or with the delay before them. */
type PlannedRetry = number | { readonly times: number; readonly delay: number };

const RETRIES: readonly PlannedRetry[] = [
  0,
  1,
  3,
  { times: 2, delay: 2 },
];

/** Some tasks. */
export interface PoolStep {
  readonly do: "run" | "map" | "mapSettled";
  readonly count: number;
  /** The kinds of the tasks, used in turn. */
  readonly tasks: readonly TaskName[];
  readonly ordered: boolean;
  /** Outcomes of a map that are read before the loop ends. */
  readonly takes: number;
  readonly timeout?: number;
  readonly waitTimeout?: number;
  readonly retry?: PlannedRetry;
  readonly priority?: number;
  /** Number of keys that the tasks have in turn. */
  readonly keys?: number;
  /** Turns of the event loop after which the tasks are cancelled. */
  readonly abortAfter?: number;
  /** Whether these tasks are awaited before the next step. */
  readonly isWaitedFor: boolean;
}

/** A plan for a pool. */
export interface PoolPlan {
  readonly seed: number;
  readonly link: typeof POOL_LINKS[number];
  readonly size: number;
  readonly options: {
    readonly maxTasks?: number;
    readonly retry?: PlannedRetry;
    readonly timeout?: number;
    readonly minWorkers?: number;
    readonly idleTimeout?: number;
  };
  readonly steps: readonly PoolStep[];
  /** Milliseconds between the kills of workers. */
  readonly killEvery: number | undefined;
  readonly finale: "close" | "abort" | "dispose";
  /** Whether the pool ends while tasks are running. */
  readonly isEarly: boolean;
}

function makeTasks(random: Random): TaskName[] {
  // Most tasks are ordinary, since tasks that end workers are slow.
  const ordinary: TaskName[] = ["quick", "quick", "slow", "fails"];
  return Array.from(
    { length: random.small(4) },
    () => random.chance(0.75) ? random.pick(ordinary) : random.pick(TASKS),
  );
}

function makeStep(random: Random): PoolStep {
  const tasks = makeTasks(random);
  const isOrdinary = tasks.every((name) =>
    name === "quick" || name === "fails"
  );
  const timeout = random.chance(0.2) ? random.pick([5, 40, 300]) : undefined;
  // Each task that exceeds its timeout ends a worker, and the next one must
  // start.
  const count = random.small(isOrdinary ? timeout === 5 ? 30 : 300 : 10);
  return {
    do: random.pick(["run", "run", "map", "mapSettled"] as const),
    count,
    tasks,
    ordered: random.chance(0.6),
    takes: random.chance(0.7) ? ALL : random.small(20),
    ...timeout !== undefined && { timeout },
    ...random.chance(0.15) && { waitTimeout: random.pick([1, 30]) },
    ...random.chance(0.3) && { retry: random.pick(RETRIES) },
    ...random.chance(0.3) && { priority: random.pick([-1, 0.5, 1]) },
    ...random.chance(0.4) && { keys: random.pick([1, 2, 40]) },
    ...random.chance(0.15) && { abortAfter: Math.floor(random.draw() * 6) },
    isWaitedFor: random.chance(0.5),
  };
}

/** Makes the plan of a seed. */
export function makePoolPlan(seed: number): PoolPlan {
  const random = new Random(seed);
  const link = random.pick(POOL_LINKS);
  return {
    seed,
    link,
    size: random.small(3),
    options: random.some(0.3, {
      maxTasks: random.pick([10, 100]),
      retry: random.pick(RETRIES),
      timeout: random.pick([50, 500]),
      minWorkers: 1,
      idleTimeout: random.pick([1, 30]),
    }),
    steps: Array.from({ length: random.small(6) }, () => makeStep(random)),
    // A Web Worker that is killed while it starts is only detected by its
    // timeout, which is long for a task.
    killEvery: link !== "task" && random.chance(0.3)
      ? random.pick([5, 20, 60])
      : undefined,
    finale: random.pick(["close", "close", "dispose", "abort"] as const),
    isEarly: random.chance(0.3),
  };
}

/** Plans that omit a part of another plan, large parts first. */
export function* smallerPoolPlans(plan: PoolPlan): Generator<PoolPlan> {
  if (plan.killEvery !== undefined) yield { ...plan, killEvery: undefined };
  for (const steps of shorter(plan.steps)) yield { ...plan, steps };
  for (const name of Object.keys(plan.options)) {
    const options: Record<string, unknown> = { ...plan.options };
    delete options[name];
    yield { ...plan, options };
  }
  for (const [index, step] of plan.steps.entries()) {
    for (const tasks of shorter(step.tasks)) {
      if (tasks.length === 0) continue;
      yield { ...plan, steps: plan.steps.with(index, { ...step, tasks }) };
    }
    if (step.count < 2) continue;
    const less = { ...step, count: step.count >> 1 };
    yield { ...plan, steps: plan.steps.with(index, less) };
  }
}
