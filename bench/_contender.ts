// Copyright 2026 the Duplex authors. MIT license.

/**
 * Programs that measure themselves and print their figures as a JSON array,
 * run in turns so that a busy moment of the machine hits them all alike.
 *
 * @module
 */

/** A program that measures itself: `command …args SCENARIO COUNT WARM …more`. */
export interface Contender {
  label: string;
  /** What its ratios to the others are called: this module's have a column. */
  column?: string;
  command: string;
  args: readonly string[];
  /** Arguments behind the scenario's. */
  more?: readonly string[];
  /**
   * How much of a rate's messages it sends, so that what is slow does not take
   * all the time and what is fast can be timed.
   *
   * @default {1}
   */
  share?: number;
}

/** One run takes a second or two; whoever takes this long hangs. */
const TIMEOUT = 60_000;

/** The path of a file beside this one. */
export function pathOf(name: string): string {
  return new URL(name, import.meta.url).pathname;
}

/** A contender that Deno runs, from a file beside this one. */
export function deno(
  label: string,
  path: string,
  { flags = [], ...rest }: Partial<Contender> & { flags?: string[] } = {},
): Contender {
  const args = ["run", "--quiet", "-A", ...flags, pathOf(path)];
  return { label, command: Deno.execPath(), args, ...rest };
}

/** The first line that a program prints, or `undefined` if it is not here. */
export async function firstLine(
  command: string,
  ...args: string[]
): Promise<string | undefined> {
  try {
    const { stdout } = await new Deno.Command(command, { args }).output();
    return new TextDecoder().decode(stdout).split("\n")[0];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** The contenders whose programs are installed here. */
export async function installed(
  contenders: readonly Contender[],
): Promise<Contender[]> {
  const here: Contender[] = [];
  for (const contender of contenders) {
    const version = await firstLine(contender.command, "--version");
    if (version !== undefined) here.push(contender);
  }
  return here;
}

/** Runs a contender once. */
export async function runContender(
  contender: Contender,
  scenario: readonly string[],
): Promise<number[]> {
  const { label, command, args, more = [] } = contender;
  const { success, code, stdout } = await new Deno.Command(command, {
    args: [...args, ...scenario, ...more],
    stdin: "null",
    stderr: "inherit",
    signal: AbortSignal.timeout(TIMEOUT),
  }).output();
  if (!success) {
    throw new Error(
      `Cannot measure ${label}, ${scenario.join(" ")}: it ended with ${code}`,
    );
  }
  return JSON.parse(new TextDecoder().decode(stdout));
}

/**
 * Runs all contenders in turns; a round begins where the last one did not.
 *
 * @param contenders Who takes part.
 * @param rounds How often.
 * @param argsOf What each is asked to do.
 * @returns The figures of each.
 */
export async function runRounds(
  contenders: readonly Contender[],
  rounds: number,
  argsOf: (contender: Contender) => readonly string[],
): Promise<{ label: string; samples: number[] }[]> {
  const rows = contenders.map(({ label }) => ({
    label,
    samples: [] as number[],
  }));
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const index = (round + turn) % contenders.length;
      const contender = contenders[index]!;
      const samples = await runContender(contender, argsOf(contender));
      rows[index]!.samples.push(...samples);
    }
  }
  return rows;
}
