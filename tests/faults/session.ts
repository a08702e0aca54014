// Copyright 2026 the Duplex authors. MIT license.

/**
 * Runs a plan over its link, and checks that a message is received at most
 * once, in order and unchanged; that a message whose send rejected never
 * arrives; that an accepted message is received or listed in `unsent`; that
 * every promise settles; and that nothing leaks.
 *
 * @module
 */

import { isEnd } from "../../_base/errors.ts";
import {
  checkNoViolation,
  type EndJournal,
  type JournalEntry,
  memoryJournal,
  readJournals,
  settleWithin,
  Violation,
} from "./journals.ts";
import { isExpected } from "./promises.ts";
import { Side } from "./side.ts";
import { type OpenLink, openLink, workerScript } from "./links.ts";
import { type Fault, hasWorker, type SessionPlan } from "./plan.ts";
import { checkLeaks, resourcesInUse } from "./leaks.ts";

/** Milliseconds that an end which stays open waits for the other one. */
const LAST_CLOSE_TIMEOUT = 300;

/** Messages that a killed worker may have received but not recorded. */
const MAX_UNRECORDED = 200;

/** The journal of one end, and the unsent messages of its duplex. */
interface SessionJournal extends EndJournal {
  /** Absent if the duplex does not report them. */
  readonly unsent?: ReadonlySet<string>;
}

/** The unsent messages of a duplex that has ended. */
async function unsentMessages(
  duplex: OpenLink["main"],
): Promise<ReadonlySet<string> | undefined> {
  try {
    await duplex.send("A probe");
  } catch (error) {
    if (!isEnd(error)) return undefined;
    const messages = error.unsent as [string, number][];
    return new Set(messages.map(([sender, number]) => `${sender} ${number}`));
  }
  throw new Violation("A duplex that has ended accepts a message");
}

/** Injects faults in turn. */
export async function injectFaults(
  faults: readonly Fault[],
  link: OpenLink,
): Promise<void> {
  for (const { after, do: kind } of faults) {
    await new Promise((resolve) => setTimeout(resolve, after));
    await link.fault(kind);
  }
}

/** Opens the link; returns `undefined` if that fails as the plan expects. */
async function openIfPossible(
  plan: SessionPlan,
  folder: string,
): Promise<OpenLink | undefined> {
  try {
    const { seed, link, options, peer } = plan;
    const script = workerScript("./worker.ts", { seed, options, peer, folder });
    return await openLink({ link, options, script, folder });
  } catch (error) {
    if (isExpected(error)) return undefined;
    throw error;
  }
}

async function runEnds(
  plan: SessionPlan,
  link: OpenLink,
  folder: string,
): Promise<void> {
  const isPlain = plan.options.codec === "json";
  const ends = [["main", link.main], ["peer", link.peer]] as const;
  const journals: {
    side: Side;
    duplex: OpenLink["main"];
    entries: JournalEntry[];
  }[] = [];
  for (const [name, duplex] of ends) {
    if (duplex === undefined) continue;
    const entries: JournalEntry[] = [];
    const journal = memoryJournal(entries);
    const side = new Side(name, duplex, journal, plan.seed, isPlain);
    journals.push({ side, duplex, entries });
  }
  const running = journals.map(async ({ side }) => {
    const { finale, ...part } = plan[side.name as "main" | "peer"];
    await side.run({ finale, ...part });
    await side.finish(finale);
  });
  const faults = injectFaults(plan.faults, link);
  const pending = () => journals.flatMap(({ side }) => side.promises.pending);
  await settleWithin("An end", Promise.all(running), pending);
  await faults;
  const closing = journals.map(({ duplex }) =>
    duplex.close({ timeout: LAST_CLOSE_TIMEOUT }).catch(() => {})
  );
  await settleWithin("A close", Promise.all(closing), pending);
  const settled = journals.map(({ side }) => side.promises.allSettled());
  await settleWithin("A promise", Promise.all(settled), pending);
  const own = await Promise.all(
    journals.map(async ({ side, duplex, entries }) => {
      const unsent = await unsentMessages(duplex);
      return { name: side.name, entries, ...unsent && { unsent } };
    }),
  );
  const isAborted = journals.some(({ side }) => side.isAborted);
  check(plan, own, await readJournals(folder), isAborted);
}

function check(
  plan: SessionPlan,
  own: readonly SessionJournal[],
  workers: readonly EndJournal[],
  isAborted: boolean,
): void {
  const all: SessionJournal[] = [...own, ...workers];
  checkNoViolation(all);
  const [main] = own as [SessionJournal];
  const others = all.filter((journal) => journal !== main);
  checkDirection([main], others, plan, isAborted);
  checkDirection(others, [main], plan, isAborted);
}

/** Checks one direction. */
function checkDirection(
  senders: readonly SessionJournal[],
  receivers: readonly EndJournal[],
  plan: SessionPlan,
  isAborted: boolean,
): void {
  const received = receivers.flatMap(receivedBy);
  if (mayRedeliver(plan)) {
    for (const receiver of receivers) checkOnce(receivedBy(receiver));
  } else {
    for (const receiver of receivers) checkOrder(receiver);
    checkOnce(received);
  }
  const arrived = new Set(received.map(({ message }) => message));
  for (const { entries, unsent } of senders) {
    const accepted = new Set<string>();
    for (const { entry, message } of entries) {
      if (entry === "accepted") accepted.add(message);
      if (entry !== "rejected" && entry !== "refused") continue;
      if (!arrived.has(message)) continue;
      throw new Violation(`"${message}" was ${entry} and arrived`);
    }
    if (unsent === undefined || isAborted) continue;
    checkComplete(accepted, arrived, unsent, plan);
  }
}

function receivedBy({ entries }: EndJournal): JournalEntry[] {
  return entries.filter(({ entry }) => entry === "received");
}

/**
 * Whether messages may be redelivered out of order: those that a queue's worker
 * had not handled when it ended.
 */
function mayRedeliver({ link, peer, faults }: SessionPlan): boolean {
  return link === "queue" && (faults.length > 0 || peer.finale !== "drain" ||
    peer.steps.some((step) => ENDS.has(step.do)));
}

/** Steps after which a worker may end before it has handled all messages. */
const ENDS = new Set(["exit", "abort", "cancel", "close", "endWritable"]);

/** A message is received at most once. */
function checkOnce(received: readonly JournalEntry[]): void {
  const seen = new Set<string>();
  for (const { message } of received) {
    if (seen.has(message)) {
      throw new Violation(`"${message}" arrived twice`);
    }
    seen.add(message);
  }
}

/** Receive calls are served in order. */
function checkOrder(journal: EndJournal): void {
  const { name } = journal;
  const received = receivedBy(journal);
  const byCall = received.filter(({ text }) => text !== "stream")
    .sort((one, other) => Number(one.text) - Number(other.text));
  const byStream = received.filter(({ text }) => text === "stream");
  for (const way of [byCall, byStream]) {
    const last = new Map<string, number>();
    for (const { message } of way) {
      const [sender, number] = message.split(" ") as [string, string];
      const before = last.get(sender) ?? -1;
      if (Number(number) < before) {
        throw new Violation(`"${name}" received "${message}" behind ${before}`);
      }
      last.set(sender, Number(number));
    }
  }
}

/** An accepted message is received or listed in `unsent`. */
function checkComplete(
  accepted: ReadonlySet<string>,
  arrived: ReadonlySet<string>,
  unsent: ReadonlySet<string>,
  plan: SessionPlan,
): void {
  const missing = [...accepted].filter((message) =>
    !arrived.has(message) && !unsent.has(message)
  );
  // A worker may be killed between a receive and its journal entry.
  const excused = hasWorker(plan.link) ? MAX_UNRECORDED : 0;
  if (missing.length <= excused) return;
  const list = missing.slice(0, 10).join(", ");
  throw new Violation(
    `Accepted, and neither received nor in "unsent": ${list}`,
  );
}

/** Runs a plan. Rejects if the package breaks a guarantee. */
export async function runSessionPlan(plan: SessionPlan): Promise<void> {
  const before = resourcesInUse();
  const folder = await Deno.makeTempDir({ prefix: "duplex_faults_" });
  try {
    const link = await openIfPossible(plan, folder);
    if (link !== undefined) {
      try {
        await runEnds(plan, link, folder);
      } finally {
        await link.dispose();
      }
    }
    await checkLeaks(before);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
