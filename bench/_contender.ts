// Copyright 2026 the Duplex authors. MIT license.

/**
 * Programs that measure themselves and print their figures as a JSON array. They run
 * in turns, so that other load of the machine affects all of them.
 *
 * @module
 */

/** A program that measures itself: `command …args SCENARIO COUNT WARM …more`. */
export interface Contender {
  label: string;
  /** The title of the column with its ratios to the others. */
  column?: string;
  command: string;
  args: readonly string[];
  /** Arguments after those of the scenario. */
  more?: readonly string[];
  /**
   * The share of the messages that it sends when a rate is measured: less for slow
   * contenders, which would take too long, more for fast ones.
   *
   * @default {1}
   */
  share?: number;
}

/** The limit on the milliseconds of a run, which usually takes a second or two. */
const TIMEOUT = 60_000;

/** The path of a file in this folder. */
export function pathOf(name: string): string {
  return new URL(name, import.meta.url).pathname;
}

/** A contender for Deno, from a file in this folder. */
export function deno(
  label: string,
  path: string,
  { flags = [], ...rest }: Partial<Contender> & { flags?: string[] } = {},
): Contender {
  const args = ["run", "--quiet", "-A", ...flags, pathOf(path)];
  return { label, command: Deno.execPath(), args, ...rest };
}

/** The first line of a program's output; `undefined` if it is not installed. */
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

/** The contenders whose programs are installed. */
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
 * Runs all contenders in turns; each round begins with another one.
 *
 * @param contenders The contenders.
 * @param rounds The number of rounds.
 * @param argsOf The arguments of a contender.
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
