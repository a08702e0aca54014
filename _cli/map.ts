// Copyright 2026 the Duplex authors. MIT license.

/**
 * The command `map`: calls a method of a worker script with each line of standard
 * input, and writes the results to standard output.
 *
 * @module
 */

import { type Command, UsageError } from "./arguments.ts";
import { isSameFile, statStreams, type StreamStat } from "./files.ts";
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
  type EndSignal,
  EndSignals,
  formatTaken,
  groupDigits,
  messageLine,
  printLine,
  renderProgress,
  StatusLine,
  stderrTerminal,
} from "./terminal.ts";
import { openWorker, whyNotGranted, whyNotStarted } from "./worker.ts";
import { quoted } from "../_base/text.ts";
import { settlesWithin } from "../_base/waiting.ts";
import { type ByteSink, writeAll } from "../_base/writing.ts";
import { ClosedError, type Duplex } from "../duplex.ts";
import { type MapOutcome, Pool } from "../pool.ts";
import { listMethods } from "../rpc.ts";
import { openSocket } from "../socket.ts";

/**
 * The exit code if the reader of the results has ended: that of a program that
 * SIGPIPE has ended, as other tools have it.
 */
const PIPE_CODE = 141;

/**
 * Milliseconds for a worker to list its methods: the time that a worker has for its
 * hello. A worker that does not expose methods never lists them.
 */
const LIST_TIMEOUT = 10_000;

/**
 * Milliseconds for workers to end after a failure. Those that need longer are killed
 * when the program exits.
 */
const ABORT_GRACE = 200;

/** The limit on different reasons why workers did not start that are counted. */
const MAX_REASONS = 100;

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
      const needsStreams = status.isShown || options.errors !== undefined ||
        !Deno.stdin.isTerminal() && !Deno.stdout.isTerminal();
      return await mapLines(options, {
        input: Deno.stdin,
        ...(needsStreams ? { streams: statStreams } : {}),
        output: outputBeside(status),
        status,
        stopped: signals.first,
        openOne: openerOf(options, (line) => status.print(line)),
        isTyped: Deno.stdin.isTerminal(),
      });
    } catch (error) {
      if (error instanceof UsageError) throw error;
      status.print(`error: ${messageLine(error)}`);
      return 1;
    }
  },
};

/** Standard output, which may be the terminal of the status. */
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

/** Opens a duplex to a new worker with this number. */
type OpenOne = (number: number) => Promise<Duplex>;

/** Opens workers as the options say. */
function openerOf(
  { source }: Pick<MapOptions, "source">,
  print: (line: string) => void,
): OpenOne {
  if ("address" in source) {
    return () => openSocket(source.address, source.socket);
  }
  return (number) =>
    // The output of a worker may contain what is in a line.
    openWorker(
      source,
      (line) => print(`worker ${number}: ${messageLine(line)}`),
    );
}

/**
 * The workers of a map: started here or by a server. The first one lists its
 * methods, and is then the first worker of the pool.
 */
export class MapWorkers {
  readonly #openOne: OpenOne;
  readonly #warn: (line: string) => void;
  /** Reasons why workers did not start, and how often. */
  readonly #reasons = new Map<string, number>();
  #count = 0;
  #first: Duplex | undefined;

  /**
   * @param openOne Opens a duplex to a new worker.
   * @param warn Prints why a worker did not start.
   */
  constructor(openOne: OpenOne, warn: (line: string) => void) {
    this.#openOne = openOne;
    this.#warn = warn;
  }

  /**
   * Opens the first worker, and lists its methods.
   *
   * @param wanted The method; `undefined` for the only one.
   * @returns The method to call.
   * @throws {UsageError} If there is no such method, or more than one.
   * @throws {Error} If the worker does not start.
   */
  async start(wanted: string | undefined): Promise<string> {
    let duplex: Duplex;
    try {
      duplex = await this.#openOne(++this.#count);
    } catch (cause) {
      throw new Error(whyNotStarted(cause), { cause });
    }
    this.#first = duplex;
    return chooseMethod(await methodsOf(duplex), wanted);
  }

  /** Opens a duplex to a worker; the first call returns the first worker. */
  async open(): Promise<Duplex> {
    const first = this.#takeFirst();
    if (first !== undefined) return first;
    try {
      return await this.#openOne(++this.#count);
    } catch (error) {
      this.#onFailure(whyNotStarted(error));
      throw error;
    }
  }

  /** Prints a reason once, and counts it. */
  #onFailure(reason: string): void {
    const count = this.#reasons.get(reason) ?? 0;
    if (count > 0 || this.#reasons.size < MAX_REASONS) {
      this.#reasons.set(reason, count + 1);
    }
    if (count > 0) return;
    this.#warn(`warning: a worker did not start: ${reason}`);
  }

  /** Prints the number of failures for reasons that occurred more than once. */
  warnAgain(): void {
    for (const [reason, count] of this.#reasons) {
      if (count === 1) continue;
      this.#warn(
        `warning: ${count} times a worker did not start: ${reason}`,
      );
    }
  }

  /** Closes the first worker, unless the pool has it. */
  async close(): Promise<void> {
    await this.#takeFirst()?.close();
  }

  /** Ends the first worker, unless the pool has it. Never rejects. */
  async abort(): Promise<void> {
    const first = this.#takeFirst();
    if (first === undefined) return;
    first.abort();
    await settlesWithin(first.closed.catch(() => {}), ABORT_GRACE);
  }

  #takeFirst(): Duplex | undefined {
    const first = this.#first;
    this.#first = undefined;
    return first;
  }
}

/** The methods that a worker exposes. */
async function methodsOf(duplex: Duplex): Promise<string[]> {
  try {
    return await listMethods(duplex, { timeout: LIST_TIMEOUT });
  } catch (cause) {
    throw new Error(
      `the worker does not list its methods, as a worker does that calls "expose" of @duplex/ipc/rpc: ${
        whyNotStarted(cause)
      }`,
      { cause },
    );
  }
}

/**
 * Finds a method.
 *
 * @param methods The methods of the worker.
 * @param wanted The method; `undefined` for the only one.
 */
export function chooseMethod(
  methods: readonly string[],
  wanted: string | undefined,
): string {
  const [only] = methods;
  if (only === undefined) {
    throw new UsageError(
      'the worker exposes no methods: call "expose" of @duplex/ipc/rpc in it',
    );
  }
  if (wanted === undefined && methods.length === 1) return only;
  if (wanted !== undefined && methods.includes(wanted)) return wanted;
  const names = methods.map((name) => quoted(name)).join(", ");
  throw new UsageError(
    wanted === undefined
      ? `there is no METHOD, and the worker exposes ${names}: give one of them`
      : `the worker exposes no method ${quoted(wanted)}, but ${names}`,
  );
}

/** The streams and workers of a map. */
export interface MapEnds {
  readonly input: ByteSource;
  readonly output: ByteSink;
  /** Prints the progress and messages. */
  readonly status: StatusLine;
  /**
   * Returns the state of the standard streams, if it is needed.
   *
   * @default {() => []}
   */
  readonly streams?: () => Promise<readonly StreamStat[]>;
  /** Resolves when no more lines are to be begun. */
  readonly stopped: Promise<EndSignal>;
  /** Opens a duplex to a new worker. */
  readonly openOne: OpenOne;
  /**
   * Whether the lines are typed in a terminal. Then no progress is drawn, which
   * would be on the line that is typed.
   *
   * @default {false}
   */
  readonly isTyped?: boolean;
}

/** The method of a map, and its options. */
export type MapLimits = Pick<
  MapOptions,
  "method" | "workers" | "ordered" | "strict" | "retries" | "timeout" | "errors"
>;

/**
 * Maps the lines of an input.
 *
 * @param limits The method and the options.
 * @param ends The streams and workers.
 * @returns The exit code.
 * @throws {UsageError} If the workers have no such method, or one file would be
 *   read or written twice.
 * @throws {Error} If no worker starts, or the file for failures cannot be written.
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
  // At the same time, as the worker takes longer.
  const ready = Promise.all([started, streams().then(findInput)]);
  let first: Ready | EndSignal;
  try {
    first = await Promise.race([ready, ends.stopped]);
  } catch (error) {
    // A worker without the method can be closed with a goodbye.
    const isSound = error instanceof UsageError;
    // The first error is thrown below; those of the end would hide it.
    await started.catch(() => {});
    await (isSound ? workers.close().catch(() => {}) : workers.abort());
    throw error;
  }
  if (!("code" in first)) {
    const [method, stat] = first;
    const parts = { method, stat, limits, ends, workers, file };
    return await new LineMap(parts).run();
  }
  started.then(() => workers.abort(), () => {});
  await workers.abort();
  status.print(
    `stopped by ${first.name}: nothing was begun; left: the lines from 1 on`,
  );
  return first.code;
}

/** The method to call, and the state of standard input. */
type Ready = readonly [method: string, stat: StreamStat | undefined];

function noStreams(): Promise<readonly StreamStat[]> {
  return Promise.resolve([]);
}

/**
 * Finds the state of standard input.
 *
 * @throws {UsageError} If standard output is the same file: results would be read
 *   as lines.
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

/** The parts of a map. */
interface MapParts {
  readonly method: string;
  /** The state of standard input. */
  readonly stat: StreamStat | undefined;
  readonly limits: MapLimits;
  readonly ends: MapEnds;
  readonly workers: MapWorkers;
  readonly file: FailureFile | undefined;
}

/** One map, from its first line to its exit code. */
class LineMap {
  readonly #parts: MapParts;
  readonly #pool: Pool;
  readonly #items: Items;
  readonly #results: ResultWriter;
  readonly #since = performance.now();
  #done = 0;
  #failed = 0;
  #signal: EndSignal | undefined;
  #isOver = false;

  constructor(parts: MapParts) {
    this.#parts = parts;
    const { limits, ends, workers } = parts;
    const { workers: count, timeout, retries } = limits;
    this.#pool = new Pool(() => workers.open(), {
      workers: count,
      timeout,
      ...(retries === undefined ? {} : { retry: retries }),
    });
    this.#items = new Items(
      ends.input,
      (bad) => this.#fail({ ...bad, attempts: 0 }),
    );
    this.#results = new ResultWriter(
      ends.output,
      (error) => void this.#pool.abort(error),
      limits.strict,
    );
  }

  async run(): Promise<number> {
    const { method, limits: { ordered }, ends, workers } = this.#parts;
    if (!ends.isTyped) {
      ends.status.start((columns) => this.#progress(columns));
    } else if (ends.status.isShown) {
      this.#print(
        `${
          quoted(method)
        } is called with each line of JSON; Ctrl+D on an empty line ends`,
      );
    }
    ends.stopped.then((signal) => this.#stop(signal));
    let failure: { readonly error: unknown } | undefined;
    try {
      const outcomes = this.#pool.mapSettled(this.#items, method, { ordered });
      for await (const outcome of outcomes) await this.#take(outcome);
    } catch (error) {
      // The map of a pool that was closed after a signal ends with an error.
      const isStopped = this.#signal !== undefined &&
        error instanceof ClosedError;
      if (!isStopped) failure = { error };
    }
    await this.#results.end();
    failure ??= this.#results.failure;
    this.#isOver = true;
    await this.#end(failure !== undefined);
    ends.status[Symbol.dispose]();
    workers.warnAgain();
    return this.#report(failure);
  }

  /** Finishes the lines that are running, and begins no others. */
  #stop(signal: EndSignal): void {
    if (this.#isOver) return;
    this.#signal = signal;
    this.#print(
      `stopping at ${signal.name}: the running lines are finished; a second signal stops at once`,
    );
    // Its errors are reported at the end.
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
    const { file } = this.#parts;
    if (file !== undefined) file.add(failure);
    else this.#print(failureLine(failure));
  }

  /** Ends the workers: with goodbyes, or at once after a failure. */
  async #end(isFailed: boolean): Promise<void> {
    if (isFailed) {
      await settlesWithin(this.#pool.abort(), ABORT_GRACE);
      return;
    }
    try {
      await Promise.all([this.#pool.close(), this.#parts.workers.close()]);
    } catch (error) {
      // All results are there, so this is not a failure of the map.
      this.#print(`warning: a worker did not end well: ${messageLine(error)}`);
    }
  }

  #progress(columns: number): string {
    const { isFile = false, size = 0 } = this.#parts.stat ?? {};
    // A file may have grown, or a part of it was read before.
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

  /** Prints how the map ended; returns the exit code. */
  #report(failure: { readonly error: unknown } | undefined): number {
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
      this.#print(`error: ${what}${messageLine(failure.error)}`);
      this.#print(`lines: ${counts}; ${this.#left()}`);
      return 1;
    }
    if (this.#signal !== undefined) {
      const { name, code } = this.#signal;
      this.#print(`stopped by ${name}: ${counts}; ${this.#left()}`);
      return code;
    }
    if (this.#failed > 0 || this.#parts.ends.status.isShown) {
      this.#print(`lines: ${counts}, in ${formatTaken(this.#seconds)}`);
    }
    return this.#failed > 0 ? 1 : 0;
  }

  /** Says which lines are left. */
  #left(): string {
    const { left } = this.#items;
    if (left === undefined) return "none is left";
    return left.isRest
      ? `left: the lines from ${left.first} on`
      : `left: line ${left.first}, and some of the lines after it`;
  }

  #print(line: string): void {
    this.#parts.ends.status.print(line);
  }
}
