// Copyright 2026 the Duplex authors. MIT license.

/**
 * The workers of a command, and the options for them.
 *
 * @module
 */

import {
  type Arguments,
  type OptionNames,
  PERMISSIONS_USAGE,
  readArguments,
  readNumber,
  readPermissions,
  UsageError,
} from "./arguments.ts";
import { messageLine } from "./terminal.ts";
import { quoted, show } from "../_base/text.ts";
import { hasWorkerOptions } from "../_base/worker_options.ts";
import { type Duplex, PeerExitError } from "../duplex.ts";
import { grant, type Permissions } from "../permissions.ts";
import { openPipe } from "../pipe.ts";
import { openQueue } from "../queue.ts";
import { openShm } from "../shm.ts";

const MIB = 2 ** 20;

/** The limit on the MiB of a heap: the address space of a 48-bit pointer. */
const MAX_MEMORY = 2 ** 28;

/** The options for workers, for the help of a command. */
export const WORKER_USAGE: string = `\
Workers:

  --over TRANSPORT      pipe (the default) starts a process, queue and shm a Web
                        Worker; these require --unstable-worker-options before
                        cli.ts, unless the workers get --allow-all
  --memory MIB          the limit on the heap and the buffers of a worker

A process uses the deno.json in the folder of the worker script, or above it. A
Web Worker uses that of cli.ts: from JSR, the one of the current folder, and
none after an installation. Imports of "jsr:" and of paths need no deno.json.

Permissions of the workers, which this program must have itself:

${PERMISSIONS_USAGE}`;

/**
 * Reads the arguments of a command that starts workers: its options, those for
 * workers and `--help`.
 *
 * @param args The arguments.
 * @param names The options of the command.
 * @returns The permissions of the workers, and the other arguments.
 */
export function readWorkerArguments(
  args: readonly string[],
  { flags = [], values = [], lists = [], letters = {} }: Partial<OptionNames>,
): { permissions: Permissions; given: Arguments } {
  const { permissions, args: others } = readPermissions(args);
  const given = readArguments(others, {
    flags: ["help", ...flags],
    values: ["over", "memory", ...values],
    lists,
    letters: { h: "help", ...letters },
  });
  return { permissions, given };
}

/** The options of a worker. */
export interface WorkerOptions {
  readonly script: string;
  readonly over: "pipe" | "queue" | "shm";
  readonly permissions: Permissions;
  /** Bytes. */
  readonly memory: number | undefined;
  /** Its `Deno.args`. */
  readonly args: readonly string[];
}

/**
 * Reads the options of a worker.
 *
 * @param given The arguments.
 * @param script The worker script.
 * @param permissions The permissions of the worker.
 * @param choices The values of `--over`, for the error.
 */
export function readWorker(
  given: Arguments,
  script: string,
  permissions: Permissions,
  choices = "pipe, queue or shm",
): WorkerOptions {
  const over = given.values.get("over") ?? "pipe";
  if (over !== "pipe" && over !== "queue" && over !== "shm") {
    throw new UsageError(
      `--over takes ${choices}: current value is ${show(over)}`,
    );
  }
  if (over !== "pipe" && given.rest.length > 0) {
    throw new UsageError(
      `only a process has arguments: omit those after "--", or --over ${over}`,
    );
  }
  const range = { min: 1, max: MAX_MEMORY, integer: true };
  const mebibytes = readNumber(given, "memory", undefined, range);
  return {
    script,
    over,
    permissions,
    memory: mebibytes === undefined ? undefined : mebibytes * MIB,
    args: given.rest,
  };
}

/**
 * Why no worker can start, as far as that can be found out before; `undefined` if
 * nothing prevents it.
 *
 * @throws {UsageError} If Deno does not have such permissions.
 */
export async function whyNotGranted(
  { permissions, over }: WorkerOptions,
): Promise<string | undefined> {
  try {
    grant(permissions, over === "pipe" ? "process" : "thread");
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return messageLine(error);
    throw new UsageError(messageLine(error), { cause: error });
  }
  return over === "pipe" ? whyNoDeno() : await whyNoThread(permissions);
}

/** Why no Web Worker can have permissions. */
async function whyNoThread(
  permissions: Permissions,
): Promise<string | undefined> {
  // A worker that inherits has no permissions of its own.
  if (permissions === "inherit" || await hasWorkerOptions()) return undefined;
  return "Web Workers cannot have permissions of their own: start Deno with --unstable-worker-options, or give the workers --allow-all";
}

/** Why Deno cannot be started. */
function whyNoDeno(): string | undefined {
  const command = Deno.execPath();
  const { state } = Deno.permissions.querySync({ name: "run", command });
  if (state === "granted") return undefined;
  return `Deno may not be run: add --allow-run=${command}`;
}

/**
 * Why a worker did not start, on one line. It has the file and the line that Deno
 * printed for an error in the script.
 *
 * @param error The error of {@linkcode openWorker}.
 */
export function whyNotStarted(error: unknown): string {
  const text = messageLine(error);
  if (!(error instanceof PeerExitError)) return text;
  const [, place] =
    /^ +at .*?(\w+:\/*[^\s()]+:\d+:\d+)\)?$/m.exec(error.stderr) ??
      [];
  return place === undefined ? text : `${text} at ${quoted(place)}`;
}

/**
 * Starts a worker and opens a duplex to it.
 *
 * @param options The options of the worker.
 * @param onLine Called with each line of a process's standard error.
 * @param signal Cancels the start.
 */
export async function openWorker(
  options: WorkerOptions,
  onLine: (line: string) => void,
  signal?: AbortSignal,
): Promise<Duplex> {
  const { script, over, permissions, memory, args } = options;
  const limits = {
    permissions,
    ...(signal === undefined ? {} : { signal }),
    ...(memory === undefined ? {} : { memory }),
  };
  if (over === "pipe") {
    return await openPipe(script, { ...limits, args, stderr: onLine });
  }
  const why = await whyNoThread(permissions);
  if (why !== undefined) throw new Error(`Cannot start a worker: ${why}`);
  const open = over === "queue" ? openQueue : openShm;
  return await open(script, limits);
}
