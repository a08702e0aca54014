// Copyright 2026 the Duplex authors. MIT license.

/**
 * The workers that a command opens: the options of the command line that say
 * which, and what they may do.
 *
 * @module
 */

import {
  type Arguments,
  messageOf,
  PERMISSIONS_USAGE,
  readNumber,
  UsageError,
} from "./arguments.ts";
import { grantThread, threadPermissions } from "../_thread/permissions.ts";
import { show } from "../_base/text.ts";
import type { Duplex } from "../duplex.ts";
import { grant, type Permissions } from "../permissions.ts";
import { openPipe } from "../pipe.ts";
import { openQueue } from "../queue.ts";
import { openShm } from "../shm.ts";

const MIB = 2 ** 20;

/** The most MiB of a heap: what a pointer of 48 bits reaches. */
const MAX_MEMORY = 2 ** 28;

/** The options with a value that say what a worker is. */
export const WORKER_VALUES: readonly string[] = ["over", "memory"];

/** They and the permissions, for a command's help. */
export const WORKER_USAGE = `\
  --over TRANSPORT      pipe, a process (the default), or queue or shm, a Web
                        Worker, for which Deno has to be started with
                        --unstable-worker-options, unless the workers get
                        --allow-all (behind WORKER)
  --memory MIB          the most that a worker's JavaScript heap may hold

What a worker may do, of what this program may do itself:

${PERMISSIONS_USAGE}`;

/** A worker as the command line tells of it. */
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
 * Reads the options that say what a worker is.
 *
 * @param given The options.
 * @param script The worker script.
 * @param permissions What it may do.
 * @param choices What `--over` takes, for the error.
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
      `only a process has arguments: leave out what stands behind "--", or --over ${over}`,
    );
  }
  const range = { least: 1, most: MAX_MEMORY, whole: true };
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
 * Why this program cannot give the workers their permissions, if it cannot.
 *
 * @throws {UsageError} If they are none that Deno knows.
 */
export async function whyNotGranted(
  { permissions, over }: WorkerOptions,
): Promise<string | undefined> {
  try {
    if (over === "pipe") grant(permissions);
    else grantThread(permissions);
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return messageOf(error);
    throw new UsageError(messageOf(error), { cause: error });
  }
  return over === "pipe" ? whyNoDeno() : await whyNoThread(permissions);
}

/** Why no Web Worker can have these permissions, which can be granted. */
async function whyNoThread(
  permissions: Permissions,
): Promise<string | undefined> {
  try {
    await threadPermissions("Cannot start a worker", permissions);
    return undefined;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return "Web Workers cannot have permissions of their own: start Deno with --unstable-worker-options, or give the workers --allow-all";
  }
}

/** Why Deno cannot be started, if it cannot. */
function whyNoDeno(): string | undefined {
  const command = Deno.execPath();
  const { state } = Deno.permissions.querySync({ name: "run", command });
  if (state === "granted") return undefined;
  return `Deno may not be run; add --allow-run=${command}`;
}

/**
 * Starts a worker and opens a duplex to it.
 *
 * @param options What the worker is.
 * @param onLine Takes each line that a process prints to its standard error.
 */
export async function openWorker(
  options: WorkerOptions,
  onLine: (line: string) => void,
): Promise<Duplex> {
  const { script, over, permissions, memory, args } = options;
  const limits = {
    permissions,
    ...(memory === undefined ? {} : { memory }),
  };
  if (over === "pipe") {
    // Ctrl+C is for this program, which lets its workers finish.
    const own = { args, stderr: onLine, detached: true };
    return await openPipe(script, { ...limits, ...own });
  }
  const why = await whyNoThread(permissions);
  if (why !== undefined) throw new Error(`Cannot start a worker: ${why}`);
  const open = over === "queue" ? openQueue : openShm;
  return await open(script, limits);
}
