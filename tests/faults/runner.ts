// Copyright 2026 the Duplex authors. MIT license.

/**
 * Runs plans of one scenario, one after the other, in a process of its own: so
 * what ends the process, keeps it alive or fills its memory is noticed, too.
 *
 * Its argument is JSON, as {@linkcode Order}. It prints a line of JSON for each
 * plan, as {@linkcode Report}, and exits by itself.
 *
 * @module
 */

import { memoryInUse } from "./residue.ts";
import { runPlan, SCENARIOS } from "./scenarios.ts";

/** What to run. */
export interface Order {
  readonly scenario: string;
  /** The seeds of plans. */
  readonly seeds?: readonly number[];
  /** Plans, in place of seeds. */
  readonly plans?: readonly unknown[];
}

/** How a plan went. */
export interface Report {
  /** The place of the plan in its order. */
  readonly index: number;
  readonly ms: number;
  /** What was wrong. */
  readonly error?: string;
}

/** Plans after which memory must not grow any more. */
const WARM_UP = 20;

/** Times that all plans are run again if memory has grown. */
const MEMORY_PASSES = 2;

/** Plans that are needed to tell that memory grows. */
const MIN_MEASURED = 30;

/** Bytes for each plan that are not counted as growing: measuring is not exact. */
const MAX_GROWTH = 20_000;

let unhandled: unknown;

globalThis.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  unhandled ??= event.reason;
});

function textOf(error: unknown): string {
  return error instanceof Error && error.name === "Violation"
    ? error.message
    : Deno.inspect(error);
}

/** What is wrong with a plan's run, if anything is. */
async function attempt(
  scenario: string,
  plan: unknown,
): Promise<string | undefined> {
  unhandled = undefined;
  try {
    await runPlan(scenario, plan);
  } catch (error) {
    return textOf(error);
  }
  return unhandled === undefined
    ? undefined
    : `Unhandled rejection: ${Deno.inspect(unhandled)}`;
}

function median(values: number[]): number {
  return values.sort((one, other) => one - other)[values.length >> 1]!;
}

/** Bytes by which memory grew with each plan. */
function growthOf(used: readonly number[]): number {
  const third = Math.floor(used.length / 3);
  const early = median(used.slice(0, third));
  const late = median(used.slice(-third));
  return (late - early) / (used.length - third);
}

/**
 * What is wrong with memory after each plan, if it grows. The first time, it grows
 * by the code that is compiled; so the plans are run again.
 */
async function checkMemory(
  scenario: string,
  plans: readonly unknown[],
  used: readonly number[],
): Promise<string | undefined> {
  if (plans.length < MIN_MEASURED) return undefined;
  let growth = growthOf(used.slice(WARM_UP));
  for (let pass = 0; pass < MEMORY_PASSES && growth > MAX_GROWTH; pass++) {
    const again: number[] = [];
    for (const plan of plans) {
      await attempt(scenario, plan);
      again.push(memoryInUse());
    }
    growth = growthOf(again);
  }
  return growth > MAX_GROWTH
    ? `Memory grows by ${Math.round(growth)} bytes a plan`
    : undefined;
}

async function main(): Promise<void> {
  const order: Order = JSON.parse(Deno.args[0]!);
  const { make } = SCENARIOS[order.scenario]!;
  const plans = order.plans ?? order.seeds!.map((seed) => make(seed));
  const used: number[] = [];
  for (const [index, plan] of plans.entries()) {
    const start = performance.now();
    let error = await attempt(order.scenario, plan);
    used.push(memoryInUse());
    if (index === plans.length - 1) {
      error ??= await checkMemory(order.scenario, plans, used);
    }
    const ms = Math.round(performance.now() - start);
    const report: Report = { index, ms, ...error !== undefined && { error } };
    console.log(JSON.stringify(report));
  }
}

main();
