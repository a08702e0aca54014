// Copyright 2026 the Duplex authors. MIT license.

/**
 * Plans for two ends that call each other: the methods, the number of
 * concurrent calls, and when calls are cancelled.
 *
 * @module
 */

import {
  type Fault,
  type Finale,
  hasWorker,
  type LinkName,
  LINKS,
  makeFaults,
  makeOptions,
  type PlanOptions,
  Random,
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
  /** Whether each call is awaited before the next one. */
  readonly inTurn: boolean;
  /** Bytes of an echo, turns of a slow method, values of a stream. */
  readonly size: number;
  /** Values that are read before the stream is closed. */
  readonly reads: number;
  /** Timeout of each call in milliseconds. */
  readonly timeout?: number;
  /** Turns of the event loop after which the calls are cancelled. */
  readonly abortAfter?: number;
  /** Milliseconds of pause after the calls. */
  readonly pause: number;
}

/** The steps of one end. */
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

function makeStep(random: Random): CallStep {
  const method = random.pick(METHODS);
  // These calls end only if they are cancelled.
  const isEndless = method === "waits" || method === "forever";
  const count = random.small(method === "echo" || method === "note" ? 120 : 20);
  return {
    method,
    count,
    inTurn: !isEndless && random.chance(0.3),
    size: method === "echo"
      ? random.pick([0, 10, 10, 100, 3_000, 80_000])
      : random.small(30),
    reads: random.small(40),
    ...(isEndless || random.chance(0.2)) &&
      { timeout: random.pick([1, 10, 60]) },
    ...random.chance(0.2) && { abortAfter: Math.floor(random.draw() * 5) },
    pause: random.chance(0.5) ? 0 : random.small(15),
  };
}

function makeSide(random: Random): CallSidePlan {
  return {
    steps: Array.from({ length: random.small(10) }, () => makeStep(random)),
    finale: random.pick<Finale>([
      "close",
      "close",
      "dispose",
      "abort",
      "leave",
    ]),
    maxCalls: random.chance(0.3) ? random.pick([1, 2, 10]) : undefined,
  };
}

/** Makes the plan of a seed. */
export function makeCallPlan(seed: number): CallPlan {
  const random = new Random(seed);
  const link = random.pick(LINKS);
  const options = makeOptions(random, link);
  return {
    seed,
    link,
    // Calls over a queue require a single worker.
    options: link === "queue" ? { ...options, workers: 1 } : options,
    main: makeSide(random),
    peer: makeSide(random),
    faults: hasWorker(link) || link === "proxy" ? makeFaults(random, link) : [],
  };
}
