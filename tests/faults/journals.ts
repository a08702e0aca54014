// Copyright 2026 the Duplex authors. MIT license.

/**
 * The journals of both ends of a plan, and waiting with a time limit.
 *
 * @module
 */

import type { Entry, Journal } from "./side.ts";

/** Milliseconds within which every promise must settle. */
const LIMIT = 60_000;

/** An entry of a journal. */
export interface JournalEntry {
  readonly entry: Entry;
  readonly message: string;
  readonly text: string;
}

/** The journal of one end. */
export interface EndJournal {
  readonly name: string;
  readonly entries: readonly JournalEntry[];
}

/** The package broke a guarantee. */
export class Violation extends Error {
  override name = "Violation";
}

/** A journal in memory. */
export function memoryJournal(entries: JournalEntry[]): Journal {
  return {
    add: (entry, message, text = "") =>
      void entries.push({ entry, message, text }),
  };
}

/** The journals of workers. The last line may be incomplete. */
export async function readJournals(folder: string): Promise<EndJournal[]> {
  const journals: EndJournal[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    if (!name.endsWith(".log")) continue;
    const text = await Deno.readTextFile(`${folder}/${name}`);
    const entries = text.split("\n").slice(0, -1).map((line): JournalEntry =>
      JSON.parse(line)
    );
    journals.push({ name: name.slice(0, -".log".length), entries });
  }
  return journals;
}

/** Throws if an end has recorded a violation. */
export function checkNoViolation(journals: readonly EndJournal[]): void {
  for (const { name, entries } of journals) {
    const found = entries.find(({ entry }) => entry === "violation");
    if (found) throw new Violation(`"${name}": ${found.text}`);
  }
}

/**
 * Waits for a promise; throws if it does not settle within the time limit.
 *
 * @param pending Lists the promises that are pending, for the error.
 */
export async function settleWithin(
  what: string,
  promise: Promise<unknown>,
  pending: () => string[] = () => [],
): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const rest = pending();
      const list = rest.slice(0, 5).join(", ");
      const more = rest.length > 5 ? ` and ${rest.length - 5} more` : "";
      reject(new Violation(`${what} has not settled: ${list}${more}`));
    }, LIMIT);
  });
  try {
    await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
