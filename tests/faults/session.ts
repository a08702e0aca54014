// Copyright 2026 the Duplex authors. MIT license.

/**
 * Runs a plan over its link, and checks what the package promises: a message is
 * received at most once, in order and equal; a send that rejected never arrives;
 * what was accepted is received or in `unsent`; every promise settles; nothing is
 * left behind.
 *
 * @module
 */

import { isEnd } from "../../_base/errors.ts";
import {
  type Account,
  checkUnbroken,
  type Line,
  memoryJournal,
  readJournals,
  settleWithin,
  Violation,
} from "./accounts.ts";
import { isExpected, Side } from "./side.ts";
import { type OpenLink, openLink, scriptOf } from "./links.ts";
import { type Fault, hasWorker, type SessionPlan } from "./plan.ts";
import { checkHoldings, holdings } from "./residue.ts";

/** Milliseconds that an end that is left open waits for the other one. */
const LAST_CLOSE = 300;

/** Messages that a worker may have taken and not written down when it was killed. */
const MAX_IN_HAND = 200;

/** What one end wrote down, and the messages that its duplex gives back. */
interface SessionAccount extends Account {
  /** Absent if its duplex cannot tell. */
  readonly unsent?: ReadonlySet<string>;
}

/** The messages that an end's duplex gives back, once it has ended. */
async function unsentOf(
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

/** Brings faults about, one after the other. */
export async function bringAbout(
  faults: readonly Fault[],
  link: OpenLink,
): Promise<void> {
  for (const { after, do: kind } of faults) {
    await new Promise((resolve) => setTimeout(resolve, after));
    await link.fault(kind);
  }
}

/** Ends of a link whose opening failed, as it may if the plan breaks it. */
async function openOrExplain(
  plan: SessionPlan,
  folder: string,
): Promise<OpenLink | undefined> {
  try {
    const { seed, link, options, peer } = plan;
    const script = scriptOf("./worker.ts", { seed, options, peer, folder });
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
  const accounts: { side: Side; duplex: OpenLink["main"]; lines: Line[] }[] =
    [];
  for (const [name, duplex] of ends) {
    if (duplex === undefined) continue;
    const lines: Line[] = [];
    const journal = memoryJournal(lines);
    const side = new Side(name, duplex, journal, plan.seed, isPlain);
    accounts.push({ side, duplex, lines });
  }
  const running = accounts.map(async ({ side }) => {
    const { finale, ...part } = plan[side.name as "main" | "peer"];
    await side.run({ finale, ...part });
    await side.finish(finale);
  });
  const faults = bringAbout(plan.faults, link);
  const pending = () => accounts.flatMap(({ side }) => side.pending);
  await settleWithin("An end", Promise.all(running), pending);
  await faults;
  const closing = accounts.map(({ duplex }) =>
    duplex.close({ timeout: LAST_CLOSE }).catch(() => {})
  );
  await settleWithin("A close", Promise.all(closing), pending);
  const settled = accounts.map(({ side }) => side.allSettled());
  await settleWithin("A promise", Promise.all(settled), pending);
  const own = await Promise.all(
    accounts.map(async ({ side, duplex, lines }) => {
      const unsent = await unsentOf(duplex);
      return { name: side.name, lines, ...unsent && { unsent } };
    }),
  );
  const isAborted = accounts.some(({ side }) => side.isAborted);
  check(plan, own, await readJournals(folder), isAborted);
}

function check(
  plan: SessionPlan,
  own: readonly SessionAccount[],
  workers: readonly Account[],
  isAborted: boolean,
): void {
  const all: SessionAccount[] = [...own, ...workers];
  checkUnbroken(all);
  const [main] = own as [SessionAccount];
  const others = all.filter((account) => account !== main);
  checkWay([main], others, plan, isAborted);
  checkWay(others, [main], plan, isAborted);
}

/** Checks all that went one way. */
function checkWay(
  senders: readonly SessionAccount[],
  receivers: readonly Account[],
  plan: SessionPlan,
  isAborted: boolean,
): void {
  const received = receivers.flatMap(receivedBy);
  if (mayDeliverAgain(plan)) {
    for (const receiver of receivers) checkOnce(receivedBy(receiver));
  } else {
    for (const receiver of receivers) checkOrder(receiver);
    checkOnce(received);
  }
  const arrived = new Set(received.map(({ message }) => message));
  for (const { lines, unsent } of senders) {
    const accepted = new Set<string>();
    for (const { entry, message } of lines) {
      if (entry === "accepted") accepted.add(message);
      if (entry !== "rejected" && entry !== "refused") continue;
      if (!arrived.has(message)) continue;
      throw new Violation(`"${message}" was ${entry} and arrived`);
    }
    if (unsent === undefined || isAborted) continue;
    checkComplete(accepted, arrived, unsent, plan);
  }
}

function receivedBy({ lines }: Account): Line[] {
  return lines.filter(({ entry }) => entry === "received");
}

/**
 * Whether some messages may be delivered again, out of their order: those that a
 * queue's worker had not handled when it ended.
 */
function mayDeliverAgain({ link, peer, faults }: SessionPlan): boolean {
  return link === "queue" && (faults.length > 0 || peer.finale !== "drain" ||
    peer.steps.some((step) => ENDS.has(step.do)));
}

/** Steps after which a worker may end before it has handled what it has. */
const ENDS = new Set(["exit", "abort", "cancel", "close", "endWritable"]);

/** A message is received once. */
function checkOnce(received: readonly Line[]): void {
  const seen = new Set<string>();
  for (const { message } of received) {
    if (seen.has(message)) {
      throw new Violation(`"${message}" arrived twice`);
    }
    seen.add(message);
  }
}

/** Calls are served in the order in which they were made. */
function checkOrder(account: Account): void {
  const { name } = account;
  const received = receivedBy(account);
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

/** What was accepted is received or in `unsent`. */
function checkComplete(
  accepted: ReadonlySet<string>,
  arrived: ReadonlySet<string>,
  unsent: ReadonlySet<string>,
  plan: SessionPlan,
): void {
  const missing = [...accepted].filter((message) =>
    !arrived.has(message) && !unsent.has(message)
  );
  // A worker may be killed between a receive and its entry in the journal.
  const excused = hasWorker(plan.link) ? MAX_IN_HAND : 0;
  if (missing.length <= excused) return;
  const list = missing.slice(0, 10).join(", ");
  throw new Violation(
    `Accepted, and neither received nor in "unsent": ${list}`,
  );
}

/** Runs a plan. Rejects if the package breaks a promise. */
export async function runSessionPlan(plan: SessionPlan): Promise<void> {
  const before = holdings();
  const folder = await Deno.makeTempDir({ prefix: "duplex_faults_" });
  try {
    const link = await openOrExplain(plan, folder);
    if (link !== undefined) {
      try {
        await runEnds(plan, link, folder);
      } finally {
        await link.dispose();
      }
    }
    await checkHoldings(before);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
