// Copyright 2026 the Duplex authors. MIT license.

/**
 * What the campaigns share: their arguments, a time limit, processes that run cases,
 * and the corpus of failed cases.
 *
 * @module
 */

/** The options of a campaign. */
export interface CampaignOptions {
  readonly minutes: number;
  readonly seed: number;
  readonly only: string | undefined;
}

/** Seeds are below this. */
const MAX_SEED = 2 ** 31;

/** The seed unless one is given: the same in every run. */
const DEFAULT_SEED = 20_261_126;

const DEFAULT_MINUTES = 2;

/**
 * Reads `--minutes N`, `--seed S` and `--only NAME`.
 *
 * @param names The values of `--only`.
 * @throws {TypeError} If an argument is not one of these.
 */
export function readCampaignOptions(
  args: readonly string[],
  names: readonly string[],
): CampaignOptions {
  const options = { minutes: DEFAULT_MINUTES, seed: DEFAULT_SEED, only: "" };
  for (let index = 0; index < args.length; index += 2) {
    const [name, value = ""] = args.slice(index, index + 2);
    if (name === "--minutes" && Number(value) > 0) {
      options.minutes = Number(value);
    } else if (name === "--seed" && value === "random") {
      options.seed = Math.floor(Math.random() * MAX_SEED);
    } else if (name === "--seed" && Number.isInteger(Number(value))) {
      options.seed = Number(value);
    } else if (name === "--only" && names.includes(value)) {
      options.only = value;
    } else {
      throw new TypeError(
        `Cannot run a campaign as "${name} ${value}" is not one of: --minutes NUMBER, --seed NUMBER|random, --only ${
          names.join("|")
        }`,
      );
    }
  }
  return { ...options, only: options.only || undefined };
}

/** How a watched process ended. */
export interface Outcome {
  /** The lines that it printed. */
  readonly lines: readonly string[];
  /** The failure at its end, if there was one. */
  readonly fault: string | undefined;
}

/** Characters of standard error that are kept. */
const MAX_ERROR_LENGTH = 4_000;

/**
 * Runs a program that prints a line for each case and exits. Ends it if it prints
 * nothing for too long, or does not exit.
 *
 * @param args The arguments of Deno.
 * @param count The number of lines.
 * @param limit Milliseconds between two lines, and until it exits.
 */
export async function runWatched(
  args: readonly string[],
  count: number,
  limit: number,
): Promise<Outcome> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...args],
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let isKilled = false;
  let timer: ReturnType<typeof setTimeout>;
  const kill = () => {
    isKilled = true;
    child.kill("SIGKILL");
  };
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(kill, limit);
  };
  wait();
  const lines: string[] = [];
  const errors = readTail(child.stderr);
  const text = child.stdout.pipeThrough(new TextDecoderStream());
  let rest = "";
  for await (const chunk of text) {
    wait();
    const parts = (rest + chunk).split("\n");
    rest = parts.pop()!;
    lines.push(...parts.filter((line) => line.startsWith("{")));
  }
  const { code, signal } = await child.status;
  clearTimeout(timer!);
  const how = isKilled
    ? lines.length < count
      ? `It did nothing for ${limit} ms and was killed`
      : `It did not exit within ${limit} ms of its last case: something keeps it alive`
    : code === 0 && lines.length === count
    ? undefined
    : `It ended with ${
      signal ?? `code ${code}`
    } after ${lines.length} of ${count} cases`;
  return {
    lines,
    fault: how === undefined ? undefined : `${how}\n${await errors}`,
  };
}

async function readTail(stream: ReadableStream<Uint8Array>): Promise<string> {
  let tail = "";
  for await (
    const text of stream.pipeThrough(
      new TextDecoderStream() as TransformStream<Uint8Array, string>,
    )
  ) tail = (tail + text).slice(-MAX_ERROR_LENGTH);
  return tail.trim();
}

/** The folder of cases that ever failed in a campaign, which the tests replay. */
export function corpusFolder(campaign: string): URL {
  return new URL(`../tests/corpus/${campaign}/`, import.meta.url);
}

/**
 * Finds a small case that fails.
 *
 * @param smaller Returns cases without a part.
 * @param fails Whether a case fails.
 * @param end When to stop, in milliseconds of `performance.now`.
 */
export async function shrink<Case>(
  found: Case,
  smaller: (of: Case) => Iterable<Case>,
  fails: (of: Case) => Promise<boolean>,
  end: number,
): Promise<Case> {
  let smallest = found;
  search: while (performance.now() < end) {
    for (const candidate of smaller(smallest)) {
      if (performance.now() > end) break search;
      if (!await fails(candidate)) continue;
      smallest = candidate;
      continue search;
    }
    break;
  }
  return smallest;
}
