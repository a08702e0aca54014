// Copyright 2026 the Duplex authors. MIT license.

/**
 * Plans for two ends that call each other: which methods, how many at a time, and
 * what becomes of the calls before they are answered.
 *
 * @module
 */

import {
  type Fault,
  type Finale,
  hasWorker,
  type LinkName,
  LINKS,
  Lots,
  makeFaults,
  makeOptions,
  type PlanOptions,
  shorter,
} from "./plan.ts";

/** Methods that both ends expose; see `call_side.ts`. */
export const METHODS = [
  "echo",
  "slow",
  "fail",
  "count",
  "endless",
  "callBack",
  "bounce",
  "waits",
  "forever",
  "missing",
  "note",
] as const;

/** Some calls of one method. */
export interface CallStep {
  readonly method: typeof METHODS[number];
  readonly count: number;
  /** Whether each call is waited for before the next. */
  readonly inTurn: boolean;
  /** Bytes of an echo, turns of a slow method, values of a stream. */
  readonly size: number;
  /** Values of a stream that are read before it is left. */
  readonly reads: number;
  /** Milliseconds that each call may take. */
  readonly timeout?: number;
  /** Turns of the event loop after which the calls are cancelled. */
  readonly abortAfter?: number;
  /** Milliseconds of pause behind the calls. */
  readonly pause: number;
}

/** What one end does. */
export interface CallSidePlan {
  readonly steps: readonly CallStep[];
  readonly finale: Finale;
  readonly maxCalls: number | undefined;
}

/** A plan for calls. */
export interface CallPlan {
  readonly seed: number;
  readonly link: LinkName;
  readonly options: PlanOptions;
  readonly main: CallSidePlan;
  readonly peer: CallSidePlan;
  readonly faults: readonly Fault[];
}

function makeStep(lots: Lots): CallStep {
  const method = lots.pick(METHODS);
  // These end only if they are cancelled.
  const isEndless = method === "waits" || method === "forever";
  const count = lots.few(method === "echo" || method === "note" ? 120 : 20);
  return {
    method,
    count,
    inTurn: !isEndless && lots.chance(0.3),
    size: method === "echo"
      ? lots.pick([0, 10, 10, 100, 3_000, 80_000])
      : lots.few(30),
    reads: lots.few(40),
    ...(isEndless || lots.chance(0.2)) && { timeout: lots.pick([1, 10, 60]) },
    ...lots.chance(0.2) && { abortAfter: Math.floor(lots.draw() * 5) },
    pause: lots.chance(0.5) ? 0 : lots.few(15),
  };
}

function makeSide(lots: Lots): CallSidePlan {
  return {
    steps: Array.from({ length: lots.few(10) }, () => makeStep(lots)),
    finale: lots.pick<Finale>(["close", "close", "dispose", "abort", "leave"]),
    maxCalls: lots.chance(0.3) ? lots.pick([1, 2, 10]) : undefined,
  };
}

/** The plan that follows from a seed. */
export function makeCallPlan(seed: number): CallPlan {
  const lots = new Lots(seed);
  const link = lots.pick(LINKS);
  const options = makeOptions(lots, link);
  return {
    seed,
    link,
    // Over a queue, calls are made to its one worker.
    options: link === "queue" ? { ...options, workers: 1 } : options,
    main: makeSide(lots),
    peer: makeSide(lots),
    faults: hasWorker(link) || link === "proxy" ? makeFaults(lots, link) : [],
  };
}

/** Plans that leave out a part of another one, large parts first. */
export function* smallerCallPlans(plan: CallPlan): Generator<CallPlan> {
  for (const faults of shorter(plan.faults)) yield { ...plan, faults };
  for (const side of ["main", "peer"] as const) {
    for (const steps of shorter(plan[side].steps)) {
      yield { ...plan, [side]: { ...plan[side], steps } };
    }
  }
  for (const name of Object.keys(plan.options)) {
    const options: Record<string, unknown> = { ...plan.options };
    delete options[name];
    if (name !== "workers") yield { ...plan, options };
  }
  for (const side of ["main", "peer"] as const) {
    const { steps } = plan[side];
    for (const [index, step] of steps.entries()) {
      if (step.count < 2) continue;
      const changed = steps.with(index, { ...step, count: step.count >> 1 });
      yield { ...plan, [side]: { ...plan[side], steps: changed } };
    }
  }
}
