// Copyright 2026 the Duplex authors. MIT license.

/**
 * What the campaign of faults runs, by name.
 *
 * @module
 */

import { type CallPlan, makeCallPlan, smallerCallPlans } from "./call_plan.ts";
import { runCallPlan } from "./calls.ts";
import {
  type LockPlan,
  makeLockPlan,
  runLockPlan,
  smallerLockPlans,
} from "./locks.ts";
import { makePoolPlan, type PoolPlan, smallerPoolPlans } from "./pool_plan.ts";
import { runPoolPlan } from "./pools.ts";
import {
  LINKS,
  makeSessionPlan,
  type SessionPlan,
  smallerPlans,
} from "./plan.ts";
import { ResidueError } from "./residue.ts";
import { runSessionPlan } from "./session.ts";

/**
 * A kind of plan.
 *
 * @typeParam Plan What a plan is: plain JSON.
 */
export interface Scenario<Plan = unknown> {
  /** The plan that follows from a seed. */
  make(seed: number): Plan;
  /** Carries a plan out. Rejects if the package breaks a promise. */
  run(plan: Plan): Promise<void>;
  /** Plans that leave out a part of another one, large parts first. */
  smaller(plan: Plan): Iterable<Plan>;
}

/** A session over each link. */
function sessionScenarios(): Record<string, Scenario> {
  return Object.fromEntries(LINKS.map((link): [string, Scenario] => {
    const scenario: Scenario<SessionPlan> = {
      make: (seed) => makeSessionPlan(seed, link),
      run: runSessionPlan,
      smaller: smallerPlans,
    };
    return [link, scenario as Scenario];
  }));
}

const calls: Scenario<CallPlan> = {
  make: makeCallPlan,
  run: runCallPlan,
  smaller: smallerCallPlans,
};

const pools: Scenario<PoolPlan> = {
  make: makePoolPlan,
  run: runPoolPlan,
  smaller: smallerPoolPlans,
};

const locks: Scenario<LockPlan> = {
  make: makeLockPlan,
  run: runLockPlan,
  smaller: smallerLockPlans,
};

/** All scenarios. */
export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  ...sessionScenarios(),
  calls: calls as Scenario,
  pools: pools as Scenario,
  locks: locks as Scenario,
};

/** Times that a plan which left something behind is run again. */
const RETRIES = 2;

/** Runs a plan of a scenario. Rejects if the package breaks a promise. */
export async function runPlan(name: string, plan: unknown): Promise<void> {
  for (let tries = 0;; tries++) {
    try {
      return await SCENARIOS[name]!.run(plan);
    } catch (error) {
      // What the process makes once and keeps is not left behind again.
      if (!(error instanceof ResidueError) || tries === RETRIES) throw error;
    }
  }
}
