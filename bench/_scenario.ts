// Copyright 2026 the Duplex authors. MIT license.

/**
 * The scenarios of a measurement, each with a table. `--quick` runs a part of them.
 *
 * @module
 */

import { type Contender, installed, runRounds } from "./_contender.ts";
import { printMachine } from "./_machine.ts";
import { printTable, type Target } from "./_table.ts";

const ROUNDS = 7;
const QUICK_ROUNDS = 3;
/** The divisor of counts with `--quick`. */
const QUICK = 5;

/** A task, and its contenders. */
export interface Scenario {
  name: string;
  title: string;
  unit: string;
  /** Whether more is better. */
  isRate: boolean;
  count: number;
  /** How often it is done before the measurement. */
  warm: number;
  rounds?: number;
  /** The labels of the contenders. */
  who: readonly string[];
  targets: readonly Target[];
}

/** The arguments of a contender. */
function argsOf(
  { name, count, warm, isRate }: Scenario,
  { share = 1 }: Contender,
  quick: boolean,
): string[] {
  // The whole warm-up is kept, because unoptimized code is slower.
  const less = quick && count > QUICK ? QUICK : 1;
  const part = isRate ? share : 1;
  const counts = [count / less, warm].map((all) => Math.ceil(all * part));
  return [name, ...counts.map(String)];
}

/**
 * Prints the machine, and a table for each scenario.
 *
 * @param scenarios The scenarios.
 * @param contenders The contenders; those that are not installed are omitted.
 */
export async function runScenarios(
  scenarios: readonly Scenario[],
  contenders: readonly Contender[],
): Promise<void> {
  const quick = Deno.args.includes("--quick");
  const only = Deno.args.filter((arg) => !arg.startsWith("-"));
  await printMachine();
  const here = await installed(contenders);
  for (const scenario of scenarios) {
    const { name, who, rounds = ROUNDS } = scenario;
    if (only.length > 0 && !only.includes(name)) continue;
    const part = here.filter(({ label }) => who.includes(label));
    const rows = await runRounds(
      part,
      quick ? QUICK_ROUNDS : rounds,
      (contender) => argsOf(scenario, contender, quick),
    );
    const columns = part.filter(({ column }) => column !== undefined)
      .map(({ label, column }) => ({ label, title: `${column}/it` }));
    printTable({ ...scenario, rows, columns });
  }
}
