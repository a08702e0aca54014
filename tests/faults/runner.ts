// Copyright 2026 the Duplex authors. MIT license.

/**
 * Runs plans of one scenario in turn, in a separate process. The campaign thus
 * also detects what ends the process, keeps it running or fills its memory.
 *
 * Its argument is an {@linkcode Order} as JSON. It prints a {@linkcode Report}
 * per plan as a line of JSON, and exits automatically.
 *
 * @module
 */

import { memoryInUse } from "./leaks.ts";
import { runPlan, SCENARIOS } from "./scenarios.ts";

/** The plans to run. */
export interface Order {
  readonly scenario: string;
  /** The seeds of plans. */
  readonly seeds?: readonly number[];
  /** Plans, instead of seeds. */
  readonly plans?: readonly unknown[];
}

/** The result of a plan. */
export interface Report {
  /** The index of the plan in its order. */
  readonly index: number;
  readonly ms: number;
  /** The failure, if any. */
  readonly error?: string;
}

/** Plans of a batch before memory is measured: the first ones load code. */
const WARM_UP = 20;

/** Bytes per plan of a batch above which memory is measured more closely. */
const SUSPICIOUS_GROWTH = 15_000;

/** Plans that are then run repeatedly, and how often. */
const MEMORY_PLANS = 15;
const MEMORY_PASSES = 10;

/**
 * Bytes per plan, in every pass, that count as a leak. Compiled code adds more
 * memory, but less in each pass.
 */
const MAX_GROWTH = 5_000;

let unhandled: unknown;

globalThis.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  unhandled ??= event.reason;
});

function errorText(error: unknown): string {
  return error instanceof Error && error.name === "Violation"
    ? error.message
    : Deno.inspect(error);
}

/** Runs a plan; returns the failure, if any. */
async function attempt(
  scenario: string,
  plan: unknown,
): Promise<string | undefined> {
  unhandled = undefined;
  try {
    await runPlan(scenario, plan);
  } catch (error) {
    return errorText(error);
  }
  return unhandled === undefined
    ? undefined
    : `Unhandled rejection: ${Deno.inspect(unhandled)}`;
}

function median(values: number[]): number {
  return values.sort((one, other) => one - other)[values.length >> 1]!;
}

/** Bytes per plan by which memory grew in a batch. */
function growthPerPlan(used: readonly number[]): number {
  const third = Math.floor(used.length / 3);
  if (third === 0) return 0;
  const early = median(used.slice(0, third));
  const late = median(used.slice(-third));
  return (late - early) / (used.length - third);
}

/** The failure, if memory grows in every pass. */
async function checkMemory(
  scenario: string,
  plans: readonly unknown[],
  used: readonly number[],
): Promise<string | undefined> {
  if (growthPerPlan(used.slice(WARM_UP)) < SUSPICIOUS_GROWTH) return undefined;
  const again = plans.slice(0, MEMORY_PLANS);
  let last = Infinity;
  let least = Infinity;
  for (let pass = 0; pass < MEMORY_PASSES; pass++) {
    const inPass: number[] = [];
    for (const plan of again) {
      await attempt(scenario, plan);
      inPass.push(memoryInUse());
    }
    const now = median(inPass);
    if (pass > 0) least = Math.min(least, (now - last) / again.length);
    last = now;
    if (least < MAX_GROWTH) return undefined;
  }
  return `Memory grows by ${Math.round(least)} bytes a plan or more`;
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
