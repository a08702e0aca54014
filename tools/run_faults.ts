// Copyright 2026 the Duplex authors. MIT license.

/**
 * The campaign of faults: random plans over every transport, and over calls, pools
 * and locks, as many as the time allows.
 *
 * `deno task faults [--minutes N] [--seed S|random] [--only NAME]` prints the seed,
 * and for a plan that fails the error and the shortest plan found with it. It keeps
 * that plan in `tests/corpus/faults/`, which `deno task test` runs, and exits with
 * code 1.
 *
 * @module
 */

import type { Order, Report } from "../tests/faults/runner.ts";
import { SCENARIOS } from "../tests/faults/scenarios.ts";
import {
  corpusFolder,
  readCampaignOptions,
  runWatched,
  shrink,
} from "./_campaign.ts";

/** Plans that one process runs. */
const BATCH = 60;

/** Milliseconds within which a plan must have ended. */
const PLAN_LIMIT = 150_000;

/** Milliseconds for finding a shorter plan that fails. */
const SHRINK_TIME = 120_000;

/** How often a plan is run to see whether it fails: some faults depend on timing. */
const TRIES = 6;

const RUNNER = new URL("../tests/faults/runner.ts", import.meta.url);

/** A plan that failed. */
interface Failure {
  readonly scenario: string;
  readonly seed: number;
  readonly error: string;
}

/** Runs plans in a process of their own. */
async function runOrder(
  order: Order,
): Promise<{ reports: Report[]; fault: string | undefined }> {
  const count = (order.seeds ?? order.plans)!.length;
  const { lines, fault } = await runWatched(
    [
      "run",
      "-A",
      "--no-check",
      "--v8-flags=--expose-gc",
      RUNNER.href,
      JSON.stringify(order),
    ],
    count,
    PLAN_LIMIT,
  );
  return { reports: lines.map((line) => JSON.parse(line)), fault };
}

/** Runs a batch of seeds; the failures in it, and how many plans were run. */
async function runBatch(
  scenario: string,
  seeds: readonly number[],
): Promise<{ failures: Failure[]; count: number }> {
  const { reports, fault } = await runOrder({ scenario, seeds });
  const failures = reports.flatMap(({ index, error }): Failure[] =>
    error === undefined ? [] : [{ scenario, seed: seeds[index]!, error }]
  );
  if (fault !== undefined) {
    // The plan that was running, or the last one if the process does not exit.
    const seed = seeds[Math.min(reports.length, seeds.length - 1)]!;
    failures.push({ scenario, seed, error: fault });
  }
  return { failures, count: reports.length };
}

/** Shows a failure and a short plan that fails, and keeps that plan. */
async function report({ scenario, seed, error }: Failure): Promise<void> {
  console.log(`\nFAILED: ${scenario}, seed ${seed}\n${error}`);
  const { make, smaller } = SCENARIOS[scenario]!;
  const fails = async (plan: unknown) => {
    const plans = Array.from({ length: TRIES }, () => plan);
    const { reports, fault } = await runOrder({ scenario, plans });
    return fault !== undefined || reports.some(({ error }) => error);
  };
  const plan = make(seed);
  const end = performance.now() + SHRINK_TIME;
  const isFound = await fails(plan);
  const short = isFound ? await shrink(plan, smaller, fails, end) : plan;
  const note = isFound
    ? "The shortest plan found that fails:"
    : `It did not fail again in ${TRIES} runs. The plan:`;
  console.log(`${note}\n${JSON.stringify(short, undefined, 2)}`);
  const folder = corpusFolder("faults");
  await Deno.mkdir(folder, { recursive: true });
  const file = new URL(`${scenario}_${seed}.json`, folder);
  const kept = { scenario, error: error.split("\n", 1)[0], plan: short };
  await Deno.writeTextFile(file, `${JSON.stringify(kept, undefined, 2)}\n`);
  console.log(`Kept in ${file.pathname}`);
}

async function main(): Promise<void> {
  const names = Object.keys(SCENARIOS);
  const { minutes, seed, only } = readCampaignOptions(Deno.args, names);
  console.log(`Seed ${seed}, ${minutes} minutes`);
  const end = performance.now() + minutes * 60_000;
  const chosen = only === undefined ? names : [only];
  const counts = new Map(chosen.map((name) => [name, 0]));
  const failures: Failure[] = [];
  let next = 0;
  async function lane(): Promise<void> {
    while (performance.now() < end && failures.length < 10) {
      const batch = next++;
      const scenario = chosen[batch % chosen.length]!;
      const start = seed + batch * BATCH;
      const seeds = Array.from({ length: BATCH }, (_, index) => start + index);
      const result = await runBatch(scenario, seeds);
      counts.set(scenario, counts.get(scenario)! + result.count);
      failures.push(...result.failures);
    }
  }
  // A plan mostly waits.
  const lanes = 2 * navigator.hardwareConcurrency;
  await Promise.all(Array.from({ length: lanes }, lane));
  for (const failure of failures) await report(failure);
  const list = [...counts].map(([name, count]) => `${name} ${count}`);
  console.log(`Plans: ${list.join(", ")}`);
  console.log(`${failures.length} failed`);
  Deno.exit(failures.length === 0 ? 0 : 1);
}

if (import.meta.main) await main();
