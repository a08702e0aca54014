// Copyright 2026 the Duplex authors. MIT license.

/**
 * The demonstration: every file of a folder goes through workers that may read
 * that folder and nothing else, over each transport, and the answers are checked
 * against the main process's own.
 *
 * ```sh
 * deno task demo [FOLDER] [--workers N]
 * ```
 *
 * It exits with code 1 if an answer was wrong or a file failed.
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

Sends the path of every file in FOLDER through N workers that may read FOLDER
and nothing else, and checks what they answer.

  FOLDER       where the files are; the project's own folder by default
  --workers N  how many workers; one for each processor by default`;

const WORKER = new URL("./demo_worker.ts", import.meta.url);

/** The ways to open a worker that are compared. */
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

/** What was asked for on the command line. */
interface Arguments {
  folder: string;
  workers: number;
}

/** What is wrong with how the program was called. */
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
 * @param transports The ways to open a worker.
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
        throw new CallError("--workers takes a whole number from 1 to 1024", 2);
      }
    } else if (arg.startsWith("-") || folder !== undefined) {
      throw new CallError(`There is no argument "${arg}"\n\n${USAGE}`, 2);
    } else {
      folder = arg;
    }
  }
  return { folder: folder ?? `${import.meta.dirname}/..`, workers };
}

/** The folder's own path, which is what the workers are granted. */
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
      `The folder "${path}" has a comma in its path, which no permission of Deno can name`,
      1,
    );
  }
  return path;
}

/** Lists the files and describes them, for the workers to be held against. */
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
    throw new CallError(`The folder "${folder}" has no file to send`, 1);
  }
  const left = skipped > 0 ? `, ${skipped} links and devices skipped` : "";
  console.log(`${expected.size} files in ${folder}${left}`);
  const outside = Deno.execPath();
  // It may be inside where only the names begin alike; then nothing is asked.
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
  return [`${lines.length} that cannot be read:`, ...lines].join("\n");
}

/** Prints what the transports have shown; returns the exit code. */
function report(outcomes: readonly Outcome[], job: Job): number {
  console.log(`\n${outcomesAsTable(outcomes, job.folder)}\n`);
  let wrong = 0;
  for (const { transport, problems, denial } of outcomes) {
    if (denial !== undefined) {
      console.log(
        `${transport}: a worker that asked for a file outside of the folder was refused, as it must be:`,
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
      ? "OK: every size, line count and SHA-256 is that of the main process"
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
