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
  command: string;
  args: readonly string[];
  /** Arguments behind the scenario's. */
  more?: readonly string[];
}

/** One run takes a second or two; whoever takes this long hangs. */
const TIMEOUT = 60_000;

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

/** Runs all contenders in turns; a round begins where the last one did not. */
export async function runRounds(
  contenders: readonly Contender[],
  scenario: readonly string[],
  rounds: number,
): Promise<{ label: string; samples: number[] }[]> {
  const rows = contenders.map(({ label }) => ({
    label,
    samples: [] as number[],
  }));
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const index = (round + turn) % contenders.length;
      const samples = await runContender(contenders[index]!, scenario);
      rows[index]!.samples.push(...samples);
    }
  }
  return rows;
}
