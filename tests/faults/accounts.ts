// Copyright 2026 the Duplex authors. MIT license.

/**
 * What both ends of a plan wrote down, and waiting for them in good time.
 *
 * @module
 */

import type { Entry, Journal } from "./side.ts";

/** Milliseconds that everything has to end. */
const LIMIT = 60_000;

/** A line of a journal. */
export interface Line {
  readonly entry: Entry;
  readonly message: string;
  readonly text: string;
}

/** What one end wrote down. */
export interface Account {
  readonly name: string;
  readonly lines: readonly Line[];
}

/** A promise of the package that was not kept. */
export class Violation extends Error {
  override name = "Violation";
}

/** A journal that is kept in memory. */
export function memoryJournal(lines: Line[]): Journal {
  return {
    add: (entry, message, text = "") =>
      void lines.push({ entry, message, text }),
  };
}

/** The journals that workers have written, which may end in the middle of a line. */
export async function readJournals(folder: string): Promise<Account[]> {
  const accounts: Account[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    if (!name.endsWith(".log")) continue;
    const text = await Deno.readTextFile(`${folder}/${name}`);
    const lines = text.split("\n").slice(0, -1).map((line): Line =>
      JSON.parse(line)
    );
    accounts.push({ name: name.slice(0, -".log".length), lines });
  }
  return accounts;
}

/** Throws if an end has noticed that a promise was broken. */
export function checkUnbroken(accounts: readonly Account[]): void {
  for (const { name, lines } of accounts) {
    const broken = lines.find(({ entry }) => entry === "broken");
    if (broken) throw new Violation(`"${name}": ${broken.text}`);
  }
}

/**
 * Lets a promise settle in good time.
 *
 * @param pending What has not settled, for the error.
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
