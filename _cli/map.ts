// Copyright 2026 the Duplex authors. MIT license.

/**
 * The command `map`: calls a method of a worker script with each line of standard
 * input, and writes the results to standard output.
 *
 * @module
 */

import {
  type Command,
  type EndSignal,
  EndSignals,
  groupDigits,
  messageOf,
  printLine,
  UsageError,
} from "./arguments.ts";
import {
  type ByteSink,
  isSameFile,
  statStreams,
  type StreamStat,
  writeAll,
} from "./files.ts";
import { type ByteSource, Items } from "./map_input.ts";
import { MAP_USAGE, type MapOptions, readMapOptions } from "./map_options.ts";
import {
  type Failure,
  FailureFile,
  failureLine,
  printableJson,
  ResultWriter,
} from "./map_output.ts";
import {
  formatTaken,
  renderProgress,
  StatusLine,
  stderrTerminal,
} from "./map_progress.ts";
import { ABORT_GRACE, MapWorkers, openerOf } from "./map_workers.ts";
import { whyNotGranted } from "./worker.ts";
import { settlesWithin } from "../_base/waiting.ts";
import { ClosedError } from "../duplex.ts";
import { type MapOutcome, Pool } from "../pool.ts";

/**
 * The exit code when nobody reads the results any more: that of a program which
 * SIGPIPE has ended, as other tools have it.
 */
const PIPE_CODE = 141;

/** The command `map`. */
export const map: Command = {
  summary: "Calls a worker's method with each line of standard input",
  async run(args) {
    const options = await readMapOptions(args);
    if (options === "help") {
      printLine(MAP_USAGE);
      return 0;
    }
    using status = new StatusLine(stderrTerminal());
    try {
      const { source } = options;
      const why = "address" in source ? undefined : await whyNotGranted(source);
      if (why !== undefined) throw new Error(`no worker will start: ${why}`);
      using signals = new EndSignals(() => status[Symbol.dispose]());
      // Two terminals cannot be one file.
      const isAsked = status.isShown || options.errors !== undefined ||
        !Deno.stdin.isTerminal() && !Deno.stdout.isTerminal();
      return await mapLines(options, {
        input: Deno.stdin,
        ...(isAsked ? { streams: statStreams } : {}),
        output: outputBeside(status),
        status,
        stopped: signals.first,
        openOne: openerOf(options, (line) => status.print(line)),
      });
    } catch (error) {
      if (error instanceof UsageError) throw error;
      status.print(`error: ${messageOf(error)}`);
      return 1;
    }
  },
};

/** Standard output, which may be the terminal that the status is drawn on. */
function outputBeside(status: StatusLine): ByteSink {
  if (!Deno.stdout.isTerminal()) return Deno.stdout;
  return {
    async write(bytes) {
      status.pause();
      try {
        await writeAll(Deno.stdout, printableJson(bytes));
        return bytes.length;
      } finally {
        status.resume();
      }
    },
  };
}

/** What a map reads and writes. */
export interface MapEnds {
  readonly input: ByteSource;
  readonly output: ByteSink;
  /** Where people are told. */
  readonly status: StatusLine;
  /**
   * Gives what is known of the standard streams, where it matters.
   *
   * @default {() => []}
   */
  readonly streams?: () => Promise<readonly StreamStat[]>;
  /** Settles when no more is to be begun. */
  readonly stopped: Promise<EndSignal>;
  /** Opens a duplex to a new worker. */
  readonly openOne: ConstructorParameters<typeof MapWorkers>[0];
}

/** What a map does, and how. */
export type MapLimits = Pick<
  MapOptions,
  "method" | "workers" | "ordered" | "retries" | "timeout" | "errors"
>;

/**
 * Maps the lines of an input.
 *
 * @param limits What is called, and how.
 * @param ends What it reads and writes.
 * @returns The exit code.
 * @throws {UsageError} If the workers have no such method, or one file would be
 *   read or written in two places.
 * @throws {Error} If no worker can be had, or the file for failures.
 */
export async function mapLines(
  limits: MapLimits,
  ends: MapEnds,
): Promise<number> {
  const { errors, method: wanted } = limits;
  const { status, openOne, streams = noStreams } = ends;
  // Open the file first, to fail early.
  using file = errors === undefined
    ? undefined
    : await FailureFile.open(errors, await streams());
  const workers = new MapWorkers(openOne, (line) => status.print(line));
  const started = workers.start(wanted);
  // While the worker starts, which takes longer.
  const ready = Promise.all([started, streams().then(findInput)]);
  let first: Ready | EndSignal;
  try {
    first = await Promise.race([ready, ends.stopped]);
  } catch (error) {
    // One that exposes something else can say goodbye.
    const isSound = error instanceof UsageError;
    await started.catch(() => {});
    await (isSound ? workers.close().catch(() => {}) : workers.abort());
    throw error;
  }
  if (!("code" in first)) {
    return await new LineMap(...first, limits, ends, workers, file).run();
  }
  started.then(() => workers.abort(), () => {});
  await workers.abort();
  status.print(
    `stopped by ${first.name}: nothing was begun; left: the lines from 1 on`,
  );
  return first.code;
}

/** The method that is called, and what is known of standard input. */
type Ready = readonly [method: string, input: StreamStat | undefined];

function noStreams(): Promise<readonly StreamStat[]> {
  return Promise.resolve([]);
}

/**
 * Finds what is known of standard input.
 *
 * @throws {UsageError} If standard output is the same file. What is written would
 *   be read, and written again.
 */
function findInput(streams: readonly StreamStat[]): StreamStat | undefined {
  const input = streams.find(({ name }) => name === "standard input");
  const output = streams.find(({ name }) => name === "standard output");
  if (
    input?.isFile && output?.isFile && isSameFile(input, output)
  ) {
    throw new UsageError(
      "standard input and standard output are the same file: write to another file",
    );
  }
  return input;
}

type Outcome = MapOutcome<unknown, unknown>;

/** One map, from its first line to its exit code. */
class LineMap {
  readonly #method: string;
  readonly #input: StreamStat | undefined;
  readonly #limits: MapLimits;
  readonly #ends: MapEnds;
  readonly #workers: MapWorkers;
  readonly #file: FailureFile | undefined;
  readonly #pool: Pool;
  readonly #items: Items;
  readonly #results: ResultWriter;
  readonly #since = performance.now();
  #done = 0;
  #failed = 0;
  #signal: EndSignal | undefined;
  #isOver = false;

  constructor(
    method: string,
    input: StreamStat | undefined,
    limits: MapLimits,
    ends: MapEnds,
    workers: MapWorkers,
    file: FailureFile | undefined,
  ) {
    this.#method = method;
    this.#input = input;
    this.#limits = limits;
    this.#ends = ends;
    this.#workers = workers;
    this.#file = file;
    const { workers: size, timeout, retries } = limits;
    this.#pool = new Pool(() => workers.open(), {
      workers: size,
      timeout,
      ...(retries === undefined ? {} : { retries }),
    });
    this.#items = new Items(
      ends.input,
      (bad) => this.#fail({ ...bad, attempts: 0 }),
    );
    this.#results = new ResultWriter(
      ends.output,
      (error) => void this.#pool.abort(error),
    );
  }

  async run(): Promise<number> {
    const { status, stopped } = this.#ends;
    status.start((columns) => this.#progress(columns));
    stopped.then((signal) => this.#stop(signal));
    let failure: { readonly error: unknown } | undefined;
    try {
      const { ordered } = this.#limits;
      const outcomes = this.#pool.mapSettled(this.#items, this.#method, {
        ordered,
      });
      for await (const outcome of outcomes) await this.#take(outcome);
    } catch (error) {
      // After a signal the pool is closed before the input is at its end.
      const isStopped = this.#signal !== undefined &&
        error instanceof ClosedError;
      if (!isStopped) failure = { error };
    }
    await this.#results.end();
    failure ??= this.#results.failure;
    this.#isOver = true;
    await this.#end(failure !== undefined);
    status[Symbol.dispose]();
    this.#workers.warnAgain();
    return this.#report(failure);
  }

  /** Reads no more, and has what runs finished. */
  #stop(signal: EndSignal): void {
    if (this.#isOver) return;
    this.#signal = signal;
    this.#ends.status.print(
      `stopping at ${signal.name}, once what runs is finished; a second one ends it now`,
    );
    // Whether it ends well is asked for at the end.
    this.#pool.close({ waiting: "reject" }).catch(() => {});
  }

  #take(outcome: Outcome): Promise<void> | undefined {
    const { index, item, attempts } = outcome;
    const line = this.#items.lineOf(index);
    try {
      if (outcome.status === "rejected") throw outcome.reason;
      const written = this.#results.add(outcome.value);
      this.#done++;
      return written;
    } catch (error) {
      this.#fail({ line, item, error, attempts });
      return undefined;
    } finally {
      this.#items.settle(index);
    }
  }

  #fail(failure: Failure): void {
    this.#failed++;
    if (this.#file !== undefined) this.#file.add(failure);
    else this.#ends.status.print(failureLine(failure));
  }

  /** Ends the workers, in good order unless the map has failed. */
  async #end(isFailed: boolean): Promise<void> {
    if (isFailed) {
      await settlesWithin(this.#pool.abort(), ABORT_GRACE);
      return;
    }
    try {
      await Promise.all([this.#pool.close(), this.#workers.close()]);
    } catch (error) {
      // It has done all that it was given.
      this.#ends.status.print(
        `warning: a worker did not end well: ${messageOf(error)}`,
      );
    }
  }

  #progress(columns: number): string {
    const { isFile = false, size = 0 } = this.#input ?? {};
    // A file may have grown, or been read in part by somebody else.
    const share = isFile && size > 0
      ? Math.min(1, this.#items.doneBytes / size)
      : undefined;
    return renderProgress({
      done: this.#done,
      failed: this.#failed,
      seconds: this.#seconds,
      share,
    }, columns);
  }

  get #seconds(): number {
    return (performance.now() - this.#since) / 1000;
  }

  /** Says how it ended, where there is something to say; returns the exit code. */
  #report(failure: { readonly error: unknown } | undefined): number {
    const { status } = this.#ends;
    const counts = `${groupDigits(this.#done)} done, ${
      groupDigits(this.#failed)
    } failed`;
    if (this.#results.failure?.error instanceof Deno.errors.BrokenPipe) {
      return PIPE_CODE;
    }
    if (failure !== undefined) {
      const what = this.#results.failure === undefined
        ? ""
        : "the results cannot be written: ";
      status.print(`error: ${what}${messageOf(failure.error)}`);
      status.print(`lines: ${counts}; ${this.#left()}`);
      return 1;
    }
    if (this.#signal !== undefined) {
      const { name, code } = this.#signal;
      status.print(`stopped by ${name}: ${counts}; ${this.#left()}`);
      return code;
    }
    if (this.#failed > 0 || status.isShown) {
      status.print(`lines: ${counts}, in ${formatTaken(this.#seconds)}`);
    }
    return this.#failed > 0 ? 1 : 0;
  }

  /** Says which lines are left. */
  #left(): string {
    const { left } = this.#items;
    if (left === undefined) return "none is left";
    return left.isRest
      ? `left: the lines from ${left.first} on`
      : `left: line ${left.first}, and others behind it`;
  }
}
