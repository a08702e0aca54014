// Copyright 2026 the Duplex authors. MIT license.

/**
 * A program that grants permissions: it opens workers as its argument says,
 * lets each of them try the same operations, and prints the results.
 *
 * @module
 */

import type { Duplex } from "@duplex/ipc/duplex";
import type { Permissions } from "@duplex/ipc/permissions";
import { openPipe } from "@duplex/ipc/pipe";
import { openQueue } from "@duplex/ipc/queue";
import { openShm } from "@duplex/ipc/shm";
import { attemptAll, type Verdict } from "./_permission_acts.ts";

/** A worker to open. */
export interface Opening {
  readonly over: "pipe" | "queue" | "shm";
  readonly permissions: Permissions;
  readonly cwd?: string;
  readonly env?: Record<string, string>;
  /** Replaces the script that tries operations. */
  readonly script?: string;
}

/** The argument of the program. */
export interface Plan {
  readonly acts: readonly string[];
  readonly openings: readonly Opening[];
}

/** The output of the program. */
export interface Report {
  /** The permissions of the program itself. */
  readonly own: Verdict[];
  /** The permissions of each worker, or the error if there is none. */
  readonly workers: (Verdict[] | string)[];
}

const SCRIPT = new URL("./permission_acts.ts", import.meta.url);

function open(
  { over, permissions, cwd, env, script }: Opening,
): Promise<Duplex<Verdict[], readonly string[]>> {
  const target = script ?? SCRIPT;
  if (over === "queue") return openQueue(target, { permissions });
  if (over === "shm") return openShm(target, { permissions });
  return openPipe(target, {
    permissions,
    stderr: "null",
    ...(cwd === undefined ? {} : { cwd }),
    ...(env === undefined ? {} : { env }),
  });
}

async function tryAll(
  opening: Opening,
  acts: readonly string[],
): Promise<Verdict[] | string> {
  try {
    await using worker = await open(opening);
    await worker.send(acts);
    return await worker.receive();
  } catch (error) {
    const { name, message } = error as Error;
    return `${name}: ${message}`;
  }
}

if (import.meta.main) {
  const { acts, openings }: Plan = JSON.parse(Deno.args[0]!);
  const own = await attemptAll(acts);
  const workers: Report["workers"] = [];
  for (const opening of openings) workers.push(await tryAll(opening, acts));
  console.log(JSON.stringify({ own, workers } satisfies Report));
}
