// Copyright 2026 the Duplex authors. MIT license.

/**
 * Runs a plan for calls, and checks that each call has exactly one outcome, the
 * right one; that a method runs at most once per call; that every promise
 * settles; and that nothing leaks.
 *
 * @module
 */

import {
  checkNoViolation,
  type EndJournal,
  type JournalEntry,
  memoryJournal,
  readJournals,
  settleWithin,
  Violation,
} from "./journals.ts";
import type { CallPlan } from "./call_plan.ts";
import { CallSide } from "./call_side.ts";
import { type OpenLink, openLink, workerScript } from "./links.ts";
import { checkLeaks, resourcesInUse } from "./leaks.ts";
import { injectFaults } from "./session.ts";
import { isExpected } from "./promises.ts";

/** Milliseconds that an end which stays open waits for the other one. */
const LAST_CLOSE_TIMEOUT = 300;

/** A method runs at most once per call. */
function checkOnce(journals: readonly EndJournal[]): void {
  const started = new Set<string>();
  for (const { entries } of journals) {
    for (const { entry, message } of entries) {
      if (entry !== "received") continue;
      if (started.has(message)) throw new Violation(`${message} was run twice`);
      started.add(message);
    }
  }
}

async function runEnds(
  plan: CallPlan,
  link: OpenLink,
  folder: string,
): Promise<void> {
  const journals: EndJournal[] = [];
  const sides: CallSide[] = [];
  for (const name of ["main", "peer"] as const) {
    const duplex = link[name];
    if (duplex === undefined) continue;
    const entries: JournalEntry[] = [];
    journals.push({ name, entries });
    sides.push(new CallSide(name, duplex, memoryJournal(entries), plan[name]));
  }
  const pending = () => sides.flatMap((side) => side.promises.pending);
  const running = sides.map(async (side) => {
    const part = plan[side.name as "main" | "peer"];
    await side.run(part);
    await side.finish(part.finale);
  });
  const faults = injectFaults(plan.faults, link);
  await settleWithin("An end", Promise.all(running), pending);
  await faults;
  const ends = [link.main, link.peer].filter((end) => end !== undefined);
  const closing = ends.map((end) =>
    // Calls that never end delay the goodbye of the other end.
    end.close({ timeout: LAST_CLOSE_TIMEOUT }).catch(() => end.abort())
  );
  await settleWithin("A close", Promise.all(closing), pending);
  const settled = sides.map((side) => side.promises.allSettled());
  await settleWithin("A promise", Promise.all(settled), pending);
  const all = [...journals, ...await readJournals(folder)];
  checkNoViolation(all);
  checkOnce(all);
}

/** Runs a plan. Rejects if the package breaks a guarantee. */
export async function runCallPlan(plan: CallPlan): Promise<void> {
  const before = resourcesInUse();
  const folder = await Deno.makeTempDir({ prefix: "duplex_faults_" });
  const { link, options, peer } = plan;
  try {
    const script = workerScript("./call_worker.ts", { options, peer, folder });
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
    await checkLeaks(before);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
