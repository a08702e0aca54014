// Copyright 2026 the Duplex authors. MIT license.

/**
 * Plans for pools of workers of any kind: tasks one by one and as maps, with what
 * becomes of their workers meanwhile.
 *
 * @module
 */

import { Lots, shorter } from "./plan.ts";

/** What the workers of a pool are. */
export const POOL_LINKS = ["pipe", "queue", "shm", "task"] as const;

/** More outcomes than any map has. */
const ALL = 1_000_000;

/** What a task does; see `pool_worker.ts`. */
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

/** Some tasks. */
export interface PoolStep {
  readonly do: "run" | "map" | "mapSettled";
  readonly count: number;
  /** What the tasks do, in turn. */
  readonly tasks: readonly TaskName[];
  readonly ordered: boolean;
  /** Outcomes of a map that are taken before it is left. */
  readonly takes: number;
  readonly timeout?: number;
  readonly waitTimeout?: number;
  readonly retries?: number;
  /** Turns of the event loop after which the tasks are cancelled. */
  readonly abortAfter?: number;
  /** Whether the next step waits for these tasks. */
  readonly isWaitedFor: boolean;
}

/** A plan for a pool. */
export interface PoolPlan {
  readonly seed: number;
  readonly link: typeof POOL_LINKS[number];
  readonly size: number;
  readonly options: {
    readonly maxTasks?: number;
    readonly retries?: number;
    readonly timeout?: number;
  };
  readonly steps: readonly PoolStep[];
  /** Milliseconds after which a worker is killed, and after which the next is. */
  readonly killEvery: number | undefined;
  readonly finale: "close" | "abort" | "dispose";
  /** Whether the pool ends while tasks are under way. */
  readonly isEarly: boolean;
}

function makeTasks(lots: Lots): TaskName[] {
  // Most tasks are ordinary; those that end workers cost time.
  const ordinary: TaskName[] = ["quick", "quick", "slow", "fails"];
  return Array.from(
    { length: lots.few(4) },
    () => lots.chance(0.75) ? lots.pick(ordinary) : lots.pick(TASKS),
  );
}

function makeStep(lots: Lots): PoolStep {
  const tasks = makeTasks(lots);
  const isOrdinary = tasks.every((name) =>
    name === "quick" || name === "fails"
  );
  const timeout = lots.chance(0.2) ? lots.pick([5, 40, 300]) : undefined;
  // Each task that takes longer ends a worker, and the next one has to start.
  const count = lots.few(isOrdinary ? timeout === 5 ? 30 : 300 : 10);
  return {
    do: lots.pick(["run", "run", "map", "mapSettled"] as const),
    count,
    tasks,
    ordered: lots.chance(0.6),
    takes: lots.chance(0.7) ? ALL : lots.few(20),
    ...timeout !== undefined && { timeout },
    ...lots.chance(0.15) && { waitTimeout: lots.pick([1, 30]) },
    ...lots.chance(0.3) && { retries: lots.pick([0, 1, 3]) },
    ...lots.chance(0.15) && { abortAfter: Math.floor(lots.draw() * 6) },
    isWaitedFor: lots.chance(0.5),
  };
}

/** The plan that follows from a seed. */
export function makePoolPlan(seed: number): PoolPlan {
  const lots = new Lots(seed);
  const link = lots.pick(POOL_LINKS);
  return {
    seed,
    link,
    size: lots.few(3),
    options: lots.some(0.3, {
      maxTasks: lots.pick([10, 100]),
      retries: lots.pick([0, 1, 2]),
      timeout: lots.pick([50, 500]),
    }),
    steps: Array.from({ length: lots.few(6) }, () => makeStep(lots)),
    // A Web Worker that is killed while it starts is noticed by its time limit
    // only, which is long for a task.
    killEvery: link !== "task" && lots.chance(0.3)
      ? lots.pick([5, 20, 60])
      : undefined,
    finale: lots.pick(["close", "close", "dispose", "abort"] as const),
    isEarly: lots.chance(0.3),
  };
}

/** Plans that leave out a part of another one, large parts first. */
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
