// Copyright 2026 the Duplex authors. MIT license.

/**
 * The scenarios of the campaign of faults, by name.
 *
 * @module
 */

import { type CallPlan, makeCallPlan } from "./call_plan.ts";
import { runCallPlan } from "./calls.ts";
import {
  type LockPlan,
  makeLockPlan,
  runLockPlan,
  smallerLockPlans,
} from "./locks.ts";
import {
  makeOutagePlan,
  type OutagePlan,
  runOutagePlan,
  smallerOutagePlans,
} from "./outages.ts";
import { makePoolPlan, type PoolPlan, smallerPoolPlans } from "./pool_plan.ts";
import { runPoolPlan } from "./pools.ts";
import {
  LINKS,
  makeSessionPlan,
  type SessionPlan,
  smallerPlans,
} from "./plan.ts";
import { LeakError } from "./leaks.ts";
import { runSessionPlan } from "./session.ts";

/**
 * A kind of plan.
 *
 * @typeParam Plan The type of a plan: plain JSON.
 */
export interface Scenario<Plan = unknown> {
  /** Makes the plan of a seed. */
  make(seed: number): Plan;
  /** Runs a plan. Rejects if the package breaks a guarantee. */
  run(plan: Plan): Promise<void>;
  /** Plans that omit a part of another plan, large parts first. */
  smaller(plan: Plan): Iterable<Plan>;
}

/** A session over each link. */
function sessionScenarios(): Record<string, Scenario> {
  return Object.fromEntries(LINKS.map((link): [string, Scenario] => {
    const scenario: Scenario<SessionPlan> = {
      make: (seed) => makeSessionPlan(seed, link),
      run: runSessionPlan,
      smaller: (plan) => smallerPlans(plan),
    };
    return [link, scenario as Scenario];
  }));
}

const calls: Scenario<CallPlan> = {
  make: makeCallPlan,
  run: runCallPlan,
  // Calls over a queue require a single worker.
  smaller: (plan) => smallerPlans(plan, ["workers"]),
};

const pools: Scenario<PoolPlan> = {
  make: makePoolPlan,
  run: runPoolPlan,
  smaller: smallerPoolPlans,
};

const outages: Scenario<OutagePlan> = {
  make: makeOutagePlan,
  run: runOutagePlan,
  smaller: smallerOutagePlans,
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
  outages: outages as Scenario,
  locks: locks as Scenario,
};

/** How often a plan that leaked is run again. */
const RETRIES = 2;

/** Runs a plan of a scenario. Rejects if the package breaks a guarantee. */
export async function runPlan(name: string, plan: unknown): Promise<void> {
  for (let tries = 0;; tries++) {
    try {
      return await SCENARIOS[name]!.run(plan);
    } catch (error) {
      // Resources that the process allocates once and keeps do not grow again.
      if (!(error instanceof LeakError) || tries === RETRIES) throw error;
    }
  }
}
