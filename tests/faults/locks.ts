// Copyright 2026 the Duplex authors. MIT license.

/**
 * Plans for all locks, with threads that die at any moment; what is checked is
 * described in `../sync/_campaign.ts`. The seed draws what the threads do, but not
 * how they overlap.
 *
 * @module
 */

import { random } from "../_seed.ts";
import { runSyncPlan } from "../sync/_campaign.ts";
import { checkHoldings, holdings } from "./residue.ts";

/** What a plan for locks is. */
export interface LockPlan {
  readonly seed: number;
  readonly workers: number;
  readonly rounds: number;
  /** Operations of a worker in a round of mixed operations. */
  readonly operations: number;
}

/** The plan that follows from a seed. */
export function makeLockPlan(seed: number): LockPlan {
  const draw = random(seed);
  return {
    seed,
    workers: 2 + Math.floor(draw() * 3),
    rounds: 1 + Math.floor(draw() * 4),
    operations: 10 + Math.floor(draw() * 100),
  };
}

/** Carries a plan out. Rejects if a lock breaks a promise. */
export async function runLockPlan(plan: LockPlan): Promise<void> {
  const before = holdings();
  const { seed, ...options } = plan;
  await runSyncPlan(seed, options);
  await checkHoldings(before);
}

/** Plans with fewer rounds, workers or operations. */
export function* smallerLockPlans(plan: LockPlan): Iterable<LockPlan> {
  const { workers, rounds, operations } = plan;
  if (rounds > 1) yield { ...plan, rounds: rounds >> 1 };
  if (rounds > 2) yield { ...plan, rounds: rounds - 1 };
  if (operations > 1) yield { ...plan, operations: operations >> 1 };
  if (workers > 1) yield { ...plan, workers: workers - 1 };
}
