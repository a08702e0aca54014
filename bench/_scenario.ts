// Copyright 2026 the Duplex authors. MIT license.

/**
 * What contenders are put through: a table for each scenario, or with `--quick`
 * a smaller one.
 *
 * @module
 */

import { type Contender, installed, runRounds } from "./_contender.ts";
import { printMachine } from "./_machine.ts";
import { printTable, type Target } from "./_table.ts";

const ROUNDS = 7;
const QUICK_ROUNDS = 3;
/** How much less there is to do with `--quick`. */
const QUICK = 5;

/** Something to do, and who does it. */
export interface Scenario {
  name: string;
  title: string;
  unit: string;
  /** Whether more is better. */
  isRate: boolean;
  count: number;
  /** Done before anything is timed. */
  warm: number;
  rounds?: number;
  /** The labels of those who take part. */
  who: readonly string[];
  targets: readonly Target[];
}

/** What one contender is asked to do. */
function argsOf(
  { name, count, warm, isRate }: Scenario,
  { share = 1 }: Contender,
  quick: boolean,
): string[] {
  // The warm-up stays, since without it slower code would be measured.
  const less = quick && count > QUICK ? QUICK : 1;
  const part = isRate ? share : 1;
  const counts = [count / less, warm].map((all) => Math.ceil(all * part));
  return [name, ...counts.map(String)];
}

/**
 * Prints the machine, and a table for each scenario.
 *
 * @param scenarios What to do.
 * @param contenders Who does it; who is not installed here is left out.
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
