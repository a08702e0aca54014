// Copyright 2026 the Duplex authors. MIT license.

/**
 * The command `compare`: measures the transports on this machine with messages of
 * one size, and recommends one.
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
  messageLine,
  printError,
  printLine,
} from "./terminal.ts";
import { show } from "../_base/text.ts";

/**
 * The default of `--size`: a line of a log or a small object. With much smaller
 * messages the cost of a message dominates, with much larger ones that of copying.
 */
const DEFAULT_SIZE = 1024;

/**
 * The limit on the size of a message. Each side holds several copies of it, and with
 * larger messages the figures grow in proportion.
 */
const MAX_SIZE = 64 * 2 ** 20;

const COMPARE_USAGE = `Usage: cli.ts compare [OPTION…]

Measures the transports on this machine and recommends one.

  --size BYTES          the size of a message, from 1 to ${MAX_SIZE}; ${DEFAULT_SIZE} by
                        default
  --svg FILE            write a chart to this file, which is replaced

The table shows the time of a message there and back (the median, and the time
that 99 % do not exceed), the messages sent and received per second without
answers, and the time to open a worker. It takes some 7 seconds; with the
largest messages twice as long, and about a gigabyte of memory. The exit code is
1 if a measurement fails or none is possible.

A transport for which a flag of Deno is missing is omitted. None is missing with
-A and --unstable-worker-options. Otherwise the flags are:

  queue, shm            --unstable-worker-options, and --allow-read of this
                        package, unless it comes from JSR
  pipe                  --allow-run=deno (or the path of Deno)
  tcp socket            the same, and --allow-net=127.0.0.1
  unix socket           the same as pipe, and --allow-net, --allow-read=/tmp and
                        --allow-write=/tmp; with --allow-env=TMPDIR the folder
                        of that variable replaces /tmp
  --svg FILE            --allow-write=FILE

Examples:

  deno run -A --unstable-worker-options jsr:@duplex/ipc/cli compare

  deno run -A --unstable-worker-options jsr:@duplex/ipc/cli compare \\
    --size 65536 --svg chart.svg`;

/** The options of `compare`. */
export interface CompareOptions {
  /** The size of a message in bytes. */
  readonly size: number;
  /** The file for a chart. */
  readonly svg: string | undefined;
  /** @default {DEFAULT_EFFORT} */
  readonly effort?: Effort;
}

/** The command `compare`. */
export const compare: Command = {
  summary: "Measures the transports on this machine and recommends one",
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
      `compare takes options only, and more is given: ${show(extra)}`,
    );
  }
  const range = { min: 1, max: MAX_SIZE, integer: true };
  return {
    size: readNumber(given, "size", DEFAULT_SIZE, range),
    svg: given.values.get("svg"),
  };
}

/**
 * Measures, prints a table and a recommendation, and writes the chart.
 *
 * @returns The exit code.
 * @throws {UsageError} If a standard stream is the file of the chart.
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
    // Open the file first, to fail early.
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
    printError(`error: ${messageLine(error)}`);
    return 1;
  } finally {
    await file?.close();
  }
}

/** Prints the results; returns the exit code. */
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

/** A recommended transport, and the reason. */
export interface Recommendation {
  readonly transport: Transport;
  readonly text: string;
}

/**
 * The order of preference among equally fast transports: first those that start
 * their worker, since a socket needs a server; of these first a process, which can
 * always be ended.
 */
const PREFERRED: readonly Transport[] = [
  "pipe",
  "queue",
  "shm",
  "unix socket",
  "tcp socket",
];

/** Ratios below this one are noise: they also occur between two runs. */
const NOISE = 1.15;

/**
 * The cost of a message: the geometric mean of the time there and back, and of the
 * time per message in the slower direction. So a factor in one of them counts as much
 * as in the other.
 */
function costOf(figures: Figures): number {
  return Math.sqrt(figures.trip * 1e6 / rateOf(figures));
}

/**
 * Recommends the transport with the least cost; if others cost as much, within
 * {@linkcode NOISE}, the preferred one of them.
 *
 * @param size The size of a message in bytes.
 * @param outcomes The results.
 * @returns The recommendation; `undefined` if nothing was measured.
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

/** A measured transport. */
interface Candidate {
  readonly transport: Transport;
  readonly figures: Figures;
  readonly cost: number;
}

/** A sentence with the recommendation and its figures. */
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
    return `Take ${transport}, the only one that could be measured: ${trip}, and ${rate}.`;
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

/** A sentence with the drawback, and the alternative. */
function doubtOf(best: Candidate, others: readonly Candidate[]): string {
  const { transport } = best;
  if (transport === "pipe") {
    return "Its worker is a process, which can always be ended.";
  }
  const isThread = THREADS.includes(transport);
  const doubt = isThread
    ? "Its worker is a thread of this program, which Deno cannot end while it computes"
    : "It does not start its worker: a server must run";
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
 * The file of a chart, opened before the measurement. Its content stays until the
 * chart replaces it; a new file is removed if there is no chart.
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
   * @throws {Error} If it cannot be written, or Deno would prompt.
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

  /** Replaces the content. */
  async write(text: string): Promise<void> {
    await this.#file.clear();
    await this.#file.write(new TextEncoder().encode(text));
    this.#isUnused = false;
  }

  /** Closes the file, and removes it if it is new and empty. */
  async close(): Promise<void> {
    this.#file[Symbol.dispose]();
    if (this.#isUnused) await this.#file.remove();
  }
}
