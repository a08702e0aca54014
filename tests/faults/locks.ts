// Copyright 2026 the Duplex authors. MIT license.

/**
 * Plans for all locks, with threads that die at any moment;
 * `../sync/_campaign.ts` describes what is checked. The seed determines the
 * operations of the threads, but not how they overlap.
 *
 * @module
 */

import { random } from "../_seed.ts";
import { runSyncPlan } from "../sync/_campaign.ts";
import { checkLeaks, resourcesInUse } from "./leaks.ts";

/** A plan for locks. */
export interface LockPlan {
  readonly seed: number;
  readonly workers: number;
  readonly rounds: number;
  /** Operations per worker in a round of mixed operations. */
  readonly operations: number;
}

/** Makes the plan of a seed. */
export function makeLockPlan(seed: number): LockPlan {
  const draw = random(seed);
  return {
    seed,
    workers: 2 + Math.floor(draw() * 3),
    rounds: 1 + Math.floor(draw() * 4),
    operations: 10 + Math.floor(draw() * 100),
  };
}

/** Runs a plan. Rejects if a lock breaks a guarantee. */
export async function runLockPlan(plan: LockPlan): Promise<void> {
  const before = resourcesInUse();
  const { seed, ...options } = plan;
  await runSyncPlan(seed, options);
  await checkLeaks(before);
}

/** Plans with fewer rounds, workers or operations. */
export function* smallerLockPlans(plan: LockPlan): Iterable<LockPlan> {
  const { workers, rounds, operations } = plan;
  if (rounds > 1) yield { ...plan, rounds: rounds >> 1 };
  if (rounds > 2) yield { ...plan, rounds: rounds - 1 };
  if (operations > 1) yield { ...plan, operations: operations >> 1 };
  if (workers > 1) yield { ...plan, workers: workers - 1 };
}
