// Copyright 2026 the Duplex authors. MIT license.

/**
 * Runs a plan for calls, and checks what calls promise: each has one outcome, its
 * own; a method is run at most once for each call; every promise settles; nothing
 * is left behind.
 *
 * @module
 */

import {
  type Account,
  checkUnbroken,
  type Line,
  memoryJournal,
  readJournals,
  settleWithin,
  Violation,
} from "./accounts.ts";
import type { CallPlan } from "./call_plan.ts";
import { CallSide } from "./call_side.ts";
import { type OpenLink, openLink, scriptOf } from "./links.ts";
import { checkHoldings, holdings } from "./residue.ts";
import { bringAbout } from "./session.ts";
import { isExpected } from "./side.ts";

/** Milliseconds that an end that is left open waits for the other one. */
const LAST_CLOSE = 300;

/** A method is run at most once for each call. */
function checkOnce(accounts: readonly Account[]): void {
  const begun = new Set<string>();
  for (const { lines } of accounts) {
    for (const { entry, message } of lines) {
      if (entry !== "received") continue;
      if (begun.has(message)) throw new Violation(`${message} was run twice`);
      begun.add(message);
    }
  }
}

async function runEnds(
  plan: CallPlan,
  link: OpenLink,
  folder: string,
): Promise<void> {
  const accounts: Account[] = [];
  const sides: CallSide[] = [];
  for (const name of ["main", "peer"] as const) {
    const duplex = link[name];
    if (duplex === undefined) continue;
    const lines: Line[] = [];
    accounts.push({ name, lines });
    sides.push(new CallSide(name, duplex, memoryJournal(lines), plan[name]));
  }
  const pending = () => sides.flatMap((side) => side.pending);
  const running = sides.map(async (side) => {
    const part = plan[side.name as "main" | "peer"];
    await side.run(part);
    await side.finish(part.finale);
  });
  const faults = bringAbout(plan.faults, link);
  await settleWithin("An end", Promise.all(running), pending);
  await faults;
  const ends = [link.main, link.peer].filter((end) => end !== undefined);
  const closing = ends.map((end) =>
    // Calls that never end keep the other end from saying goodbye.
    end.close({ timeout: LAST_CLOSE }).catch(() => end.abort())
  );
  await settleWithin("A close", Promise.all(closing), pending);
  const settled = sides.map((side) => side.allSettled());
  await settleWithin("A promise", Promise.all(settled), pending);
  const all = [...accounts, ...await readJournals(folder)];
  checkUnbroken(all);
  checkOnce(all);
}

/** Runs a plan. Rejects if the package breaks a promise. */
export async function runCallPlan(plan: CallPlan): Promise<void> {
  const before = holdings();
  const folder = await Deno.makeTempDir({ prefix: "duplex_faults_" });
  const { link, options, peer } = plan;
  try {
    const script = scriptOf("./call_worker.ts", { options, peer, folder });
    const open = await openLink({ link, options, script, folder })
      .catch((error) => {
        if (!isExpected(error)) throw error;
      });
    if (open !== undefined) {
      try {
        await runEnds(plan, open, folder);
      } finally {
        await open.dispose();
      }
    }
    await checkHoldings(before);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
