// Copyright 2026 the Duplex authors. MIT license.

/**
 * The command `compare`: measures every transport on this machine with messages
 * of one size, and recommends one.
 *
 * @module
 */

import {
  type Command,
  readArguments,
  readNumber,
  UsageError,
} from "./arguments.ts";
import {
  formatNumber,
  formatSize,
  formatTime,
  rateOf,
  renderChart,
  renderTable,
} from "./compare_chart.ts";
import {
  type Effort,
  type Figures,
  measureAll,
  type Outcomes,
  THREADS,
  type Transport,
} from "./compare_measure.ts";
import { OutputFile, statStreams } from "./files.ts";
import {
  type EndSignal,
  EndSignals,
  messageOf,
  printError,
  printLine,
} from "./terminal.ts";
import { show } from "../_base/text.ts";

/**
 * As `--size`: what a line of a log or a small object takes. With much less the
 * cost of a message alone is measured, with much more that of copying.
 */
const DEFAULT_SIZE = 1024;

/**
 * The most bytes of a message: some copies of it are under way at a time, on
 * either side, and what is larger goes as this does.
 */
const MAX_SIZE = 64 * 2 ** 20;

const COMPARE_USAGE = `Usage: cli.ts compare [OPTION…]

Measures every transport on this machine and recommends one: what a message
takes there and back (the median, and what 99 of 100 stay within), how many go
each way in a second when none waits for an answer, and what it takes to open a
worker. It takes some 7 seconds; with the largest messages twice as long, and
about a gigabyte of memory.

  --size BYTES          the size of a message, from 1 to ${MAX_SIZE}; ${DEFAULT_SIZE} by
                        default, as a line of a log has
  --svg FILE            write a chart as well; a file that is there is replaced

A transport for which something is missing is left out, with the reason. Nothing
is with -A and --unstable-worker-options; otherwise Deno has to be given

  --unstable-worker-options
                        for queue and shm, which are Web Workers
  --allow-read          of this package, for them, unless it comes from JSR
  --allow-run=deno      (or Deno's path, which it tells) for pipe and the
                        sockets, whose far side is a process
  --allow-net=127.0.0.1 for the tcp socket
  --allow-net, --allow-read=/tmp and --allow-write=/tmp
                        for the unix socket; in the place of /tmp the folder
                        that TMPDIR names, where --allow-env=TMPDIR is given
  --allow-write=FILE    for --svg FILE`;

/** What `compare` was told, checked. */
export interface CompareOptions {
  /** Bytes of a message. */
  readonly size: number;
  /** The file for a chart. */
  readonly svg: string | undefined;
  /** @default {DEFAULT_EFFORT} */
  readonly effort?: Effort;
}

/** The command `compare`. */
export const compare: Command = {
  summary: "Measures the transports on this machine, and recommends one",
  async run(args) {
    const options = readCompareOptions(args);
    if (options === "help") {
      printLine(COMPARE_USAGE);
      return 0;
    }
    return await compareTransports(options);
  },
};

function readCompareOptions(args: readonly string[]): CompareOptions | "help" {
  const given = readArguments(args, {
    flags: ["help"],
    values: ["size", "svg"],
    lists: [],
    letters: { h: "help" },
  });
  if (given.flags.has("help")) return "help";
  const [extra] = [...given.operands, ...given.rest];
  if (extra !== undefined) {
    throw new UsageError(
      `compare takes options alone, and more is given: ${show(extra)}`,
    );
  }
  const range = { least: 1, most: MAX_SIZE, whole: true };
  return {
    size: readNumber(given, "size", DEFAULT_SIZE, range),
    svg: given.values.get("svg"),
  };
}

/**
 * Measures, prints a table and what is recommended, and writes the chart.
 *
 * @returns The exit code.
 * @throws {UsageError} If the chart would be written where something else is.
 */
export async function compareTransports(
  { size, svg, effort }: CompareOptions,
): Promise<number> {
  using signals = new EndSignals();
  const abort = new AbortController();
  let stopped: EndSignal | undefined;
  signals.first.then((signal) => {
    stopped = signal;
    abort.abort(new DOMException(`Got ${signal.name}`, "AbortError"));
  });
  let file: ChartFile | undefined;
  try {
    // Before all else: nobody waits for a chart that has nowhere to go.
    if (svg !== undefined) file = await ChartFile.open(svg);
    printError("measuring, which takes some seconds");
    const outcomes = await measureAll({
      size,
      signal: abort.signal,
      ...(effort === undefined ? {} : { effort }),
    });
    return await report(size, outcomes, file);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    if (stopped !== undefined) {
      printError(`stopped by ${stopped.name}`);
      return stopped.code;
    }
    printError(`error: ${messageOf(error)}`);
    return 1;
  } finally {
    await file?.close();
  }
}

/** Prints what was measured; returns the exit code. */
async function report(
  size: number,
  outcomes: Outcomes,
  file: ChartFile | undefined,
): Promise<number> {
  printLine(`A message of ${formatSize(size)}:\n`);
  for (const line of renderTable(size, outcomes)) printLine(line);
  const recommendation = recommend(size, outcomes);
  if (recommendation === undefined) {
    printError("error: no transport could be measured");
    return 1;
  }
  const { transport: best, text } = recommendation;
  printLine(`\n${text}`);
  await file?.write(renderChart({ size, outcomes, best, text }));
  const states = Array.from(outcomes.values(), ({ state }) => state);
  if (!states.includes("failed")) return 0;
  printError("error: not every transport could be measured");
  return 1;
}

/** A transport that is recommended, and why. */
export interface Recommendation {
  readonly transport: Transport;
  readonly text: string;
}

/**
 * Which of those that are equally fast is taken: one that starts its worker rather
 * than one that has to be listening already, and a process rather than a thread,
 * since it can be ended whatever it does.
 */
const PREFERRED: readonly Transport[] = [
  "pipe",
  "queue",
  "shm",
  "unix socket",
  "tcp socket",
];

/** Figures that differ by less differ from one run to the next as well. */
const NOISE = 1.15;

/**
 * What a message costs: the geometric mean of the time that it takes there and
 * back and of the time that it takes up in a stream of them, the slower way. So
 * both count the same, and one transport costs less than another if it gains more
 * by the one than it loses by the other.
 */
function costOf(figures: Figures): number {
  return Math.sqrt(figures.trip * 1e6 / rateOf(figures));
}

/**
 * Recommends the transport of the least cost. Where others cost as much, but for
 * {@linkcode NOISE}, the one that is preferred is taken.
 *
 * @param size Bytes of a message.
 * @param outcomes What was measured.
 * @returns Nothing if nothing was measured.
 */
export function recommend(
  size: number,
  outcomes: Outcomes,
): Recommendation | undefined {
  const ranked = PREFERRED.flatMap((transport): Candidate[] => {
    const outcome = outcomes.get(transport);
    if (outcome?.state !== "measured") return [];
    const { figures } = outcome;
    return [{ transport, figures, cost: costOf(figures) }];
  }).sort((a, b) => a.cost - b.cost);
  const [cheapest] = ranked;
  if (cheapest === undefined) return undefined;
  const equals = ranked.filter(({ cost }) => cost <= cheapest.cost * NOISE)
    .map(({ transport }) => transport);
  const transport = PREFERRED.find((name) => equals.includes(name))!;
  const best = ranked.find((candidate) => candidate.transport === transport)!;
  const others = ranked.filter((candidate) => candidate !== best);
  const isEqual = best !== cheapest;
  const reason = reasonFor(size, best, others[0], isEqual);
  const text = `${reason} ${doubtOf(best, others)}`;
  return { transport, text };
}

/** A transport that may be recommended. */
interface Candidate {
  readonly transport: Transport;
  readonly figures: Figures;
  readonly cost: number;
}

/** Says in a sentence what is recommended, and by which figures. */
function reasonFor(
  size: number,
  { transport, figures }: Candidate,
  next: Candidate | undefined,
  isEqual: boolean,
): string {
  const trip = `a message of ${formatSize(size)} goes there and back in ${
    formatTime(figures.trip)
  }`;
  const rate = `at least ${formatNumber(rateOf(figures))} a second go each way`;
  if (next === undefined) {
    return `Take ${transport}, which alone could be measured: ${trip}, and ${rate}.`;
  }
  const faster = next.figures.trip / figures.trip;
  const more = rateOf(figures) / rateOf(next.figures);
  const tripThere = formatTime(next.figures.trip);
  const rateThere = formatNumber(rateOf(next.figures));
  const trips = isLess(faster)
    ? `against ${tripThere} over`
    : `${isMore(faster) ? times(faster) : "about"} as fast as over`;
  const rates = isLess(more)
    ? `against ${rateThere} there`
    : `${isMore(more) ? times(more) : "about"} as many`;
  const and = isLess(faster) === isLess(more) ? "and" : "but";
  const name = isEqual ? `${transport}, about as fast as any` : transport;
  return `Take ${name}: ${trip}, ${trips} ${next.transport}, the next, ${and} ${rate}, ${rates}.`;
}

function isLess(ratio: number): boolean {
  return ratio < 1 / NOISE;
}

function isMore(ratio: number): boolean {
  return ratio > NOISE;
}

function times(ratio: number): string {
  return `${formatNumber(ratio)} times`;
}

/** Says in a sentence what speaks against it, and what to take then. */
function doubtOf(best: Candidate, others: readonly Candidate[]): string {
  const { transport } = best;
  if (transport === "pipe") {
    return "Its worker is a process, which can be ended whatever it does.";
  }
  const isThread = THREADS.includes(transport);
  const doubt = isThread
    ? "Its worker is a thread of this program, which Deno cannot end while it computes"
    : "It starts no worker: one has to listen there";
  const other = others.find(({ transport }) =>
    transport === "pipe" || (!isThread && THREADS.includes(transport))
  );
  if (other === undefined) return `${doubt}.`;
  const longer = other.figures.trip / best.figures.trip;
  const time = isLess(longer) || isMore(longer)
    ? `in ${times(longer)} the time`
    : "in about the same time";
  return isThread
    ? `${doubt}; ${other.transport} has a process, there and back ${time}.`
    : `${doubt}; ${other.transport} starts one, there and back ${time}.`;
}

/**
 * The file of a chart, opened before there is one. What was there stays until the
 * chart takes its place, and a new file goes if none does.
 */
class ChartFile {
  readonly #file: OutputFile;
  #isUnused: boolean;

  private constructor(file: OutputFile) {
    this.#file = file;
    this.#isUnused = file.isNew;
  }

  /**
   * @throws {UsageError} If a standard stream is the same file.
   * @throws {Error} If it cannot be written, or not without asking a person.
   */
  static async open(path: string): Promise<ChartFile> {
    const file = await OutputFile.open("svg", path);
    try {
      await file.checkIsNoneOf(await statStreams());
    } catch (error) {
      file[Symbol.dispose]();
      throw error;
    }
    return new ChartFile(file);
  }

  /** Replaces what is in it. */
  async write(text: string): Promise<void> {
    await this.#file.clear();
    await this.#file.write(new TextEncoder().encode(text));
    this.#isUnused = false;
  }

  /** Closes it, and removes it if it is new and nothing is in it. */
  async close(): Promise<void> {
    this.#file[Symbol.dispose]();
    if (this.#isUnused) await this.#file.remove();
  }
}
