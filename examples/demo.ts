// Copyright 2026 the Duplex authors. MIT license.

/**
 * The demonstration: workers that may only read one folder describe every file in
 * it, over each transport, and the answers are compared with the results of the
 * main process.
 *
 * ```sh
 * deno task demo [FOLDER] [--workers N]
 * ```
 *
 * It exits with code 1 if an answer is wrong or a file cannot be read.
 *
 * @module
 */

import { openPipe } from "@duplex/ipc/pipe";
import { openQueue } from "@duplex/ipc/queue";
import { openShm } from "@duplex/ipc/shm";
import {
  asError,
  describeFile,
  type FileFacts,
  listFiles,
  type Unreadable,
} from "./_demo_files.ts";
import {
  type Job,
  type Outcome,
  runTransport,
  type Transport,
} from "./_demo_run.ts";
import { SocketTransport } from "./_demo_socket.ts";

const USAGE = `Usage: deno task demo [FOLDER] [--workers N]

Sends the path of every file in FOLDER to N workers that may only read FOLDER,
and checks their answers.

  FOLDER       the folder to read; the folder of this project by default
  --workers N  number of workers; one for each processor by default`;

const WORKER = new URL("./demo_worker.ts", import.meta.url);

/** The transports that are compared. */
const TRANSPORTS: readonly Transport[] = [
  {
    name: "pipe",
    open: (folder) => openPipe(WORKER, { permissions: { read: [folder] } }),
  },
  {
    name: "queue",
    open: (folder) => openQueue(WORKER, { permissions: { read: [folder] } }),
  },
  {
    name: "shm",
    open: (folder) => openShm(WORKER, { permissions: { read: [folder] } }),
  },
  new SocketTransport(),
];

/** The arguments of the command line. */
interface Arguments {
  folder: string;
  workers: number;
}

/** An error in the arguments. */
class CallError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number) {
    super(message);
    this.exitCode = exitCode;
  }
}

/**
 * Runs the demonstration.
 *
 * @param args The arguments of the command line.
 * @param transports The transports to run.
 * @returns The exit code.
 */
export async function demo(
  args: readonly string[],
  transports: readonly Transport[] = TRANSPORTS,
): Promise<number> {
  if (args.includes("--help")) {
    console.log(USAGE);
    return 0;
  }
  try {
    const { folder, workers } = readArguments(args);
    const job = await prepare(await realFolder(folder), workers);
    const outcomes: Outcome[] = [];
    for (const transport of transports) {
      outcomes.push(await runTransport(transport, job));
    }
    return report(outcomes, job);
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    console.error(`error: ${error.message}`);
    return error.exitCode;
  }
}

function readArguments(args: readonly string[]): Arguments {
  let folder: string | undefined;
  let workers = navigator.hardwareConcurrency;
  const rest = args.flatMap((arg) =>
    arg.startsWith("--workers=") ? arg.split("=", 2) : [arg]
  );
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    if (arg === "--workers") {
      workers = Number(rest.shift());
      if (!Number.isInteger(workers) || workers < 1 || workers > 1024) {
        throw new CallError("--workers must be an integer from 1 to 1024", 2);
      }
    } else if (arg.startsWith("-") || folder !== undefined) {
      throw new CallError(`Unknown argument "${arg}"\n\n${USAGE}`, 2);
    } else {
      folder = arg;
    }
  }
  return { folder: folder ?? `${import.meta.dirname}/..`, workers };
}

/** Resolves the path of the folder, which the workers are allowed to read. */
async function realFolder(folder: string): Promise<string> {
  let info: Deno.FileInfo;
  try {
    info = await Deno.stat(folder);
  } catch (error) {
    throw new CallError(
      error instanceof Deno.errors.NotFound
        ? `The folder "${folder}" does not exist`
        : `The folder "${folder}" cannot be read: ${asError(error).message}`,
      1,
    );
  }
  if (!info.isDirectory) throw new CallError(`"${folder}" is not a folder`, 1);
  const path = await Deno.realPath(folder);
  if (path.includes(",")) {
    throw new CallError(
      `The folder "${path}" has a comma in its path, which permissions of Deno cannot contain`,
      1,
    );
  }
  return path;
}

/** Lists and describes the files, to compare the answers of the workers with. */
async function prepare(folder: string, workers: number): Promise<Job> {
  const { files, skipped, unreadable } = await listFiles(folder);
  const expected = new Map<string, FileFacts>();
  for (const path of files) {
    try {
      expected.set(path, await describeFile(path));
    } catch (error) {
      unreadable.push({ path, error: asError(error) });
    }
  }
  if (unreadable.length > 0) console.error(unreadableAsText(unreadable));
  if (expected.size === 0) {
    throw new CallError(`The folder "${folder}" contains no file to send`, 1);
  }
  const left = skipped > 0 ? `, ${skipped} links and devices skipped` : "";
  console.log(`${expected.size} files in ${folder}${left}`);
  const outside = Deno.execPath();
  // A path that only begins like the folder counts as inside, which skips the check.
  const isInside = outside.startsWith(folder);
  return {
    folder,
    workers,
    expected,
    outside: isInside ? undefined : outside,
  };
}

function unreadableAsText(unreadable: readonly Unreadable[]): string {
  const lines = unreadable.map(({ path, error }) =>
    `  ${path}: ${error.message}`
  );
  return [`${lines.length} files or folders cannot be read:`, ...lines].join(
    "\n",
  );
}

/** Prints the results; returns the exit code. */
function report(outcomes: readonly Outcome[], job: Job): number {
  console.log(`\n${outcomesAsTable(outcomes, job.folder)}\n`);
  let wrong = 0;
  for (const { transport, problems, denial } of outcomes) {
    if (denial !== undefined) {
      console.log(
        `${transport}: a worker was denied a file outside the folder, as expected:`,
      );
      console.log(`  ${denial}`);
    }
    wrong += problems.length;
    for (const problem of problems) {
      console.error(`${transport}: wrong: ${problem}`);
    }
  }
  console.log(
    wrong === 0
      ? "OK: every size, line count and SHA-256 matches that of the main process"
      : `${wrong} wrong`,
  );
  return wrong === 0 ? 0 : 1;
}

const COLUMNS = [
  "transport",
  "workers",
  "start ms",
  "files",
  "MB",
  "seconds",
  "MB/s",
  "messages/s",
  "µs/message",
  "allowed",
] as const;

function outcomesAsTable(
  outcomes: readonly Outcome[],
  folder: string,
): string {
  const rows: (readonly string[])[] = outcomes.map((outcome) => {
    const { transport, workers, startMs, files, bytes, ms, messages } = outcome;
    const megabytes = bytes / 1e6;
    return [
      transport,
      String(workers),
      startMs.toFixed(0),
      String(files),
      megabytes.toFixed(2),
      (ms / 1e3).toFixed(3),
      (megabytes / ms * 1e3).toFixed(1),
      (messages / ms * 1e3).toFixed(0),
      (ms * 1e3 / messages).toFixed(1),
      `read: ${folder}`,
    ];
  });
  rows.unshift(COLUMNS);
  const widths = COLUMNS.map((_, column) =>
    Math.max(...rows.map((row) => row[column]!.length))
  );
  return rows.map((row) =>
    row.map((cell, column) =>
      column === 0 || column === COLUMNS.length - 1
        ? cell.padEnd(widths[column]!)
        : cell.padStart(widths[column]!)
    ).join("  ").trimEnd()
  ).join("\n");
}

if (import.meta.main) Deno.exit(await demo(Deno.args));
