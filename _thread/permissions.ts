// Copyright 2026 the Duplex authors. MIT license.

/**
 * The permissions of a Web Worker. Deno accepts them only if the program was started
 * with `--unstable-worker-options`; otherwise it ends the whole process, which
 * cannot be caught. So the flag is checked before a worker starts.
 *
 * @module
 */

import {
  checkRequest,
  readRequest,
  workerOfScopes,
} from "../_permissions/scopes.ts";
import type { Permissions } from "../permissions.ts";

const FLAG = "--unstable-worker-options";

/** A part of the options of `new Worker`; empty if the worker inherits. */
export interface ThreadPermissions {
  deno?: { permissions: Deno.PermissionOptions };
}

let enabled: Promise<boolean> | undefined;

/**
 * Returns the permissions for a Web Worker, or `undefined` if it inherits. Deno
 * denies it what is denied to this thread.
 *
 * @throws {Deno.errors.NotCapable} If this thread does not hold what it grants.
 * @throws {TypeError} If Deno has no such permission.
 */
export function grantThread(
  permissions: Permissions,
): Deno.PermissionOptions | undefined {
  // Deno then gives the worker exactly what this thread has.
  if (permissions === "inherit") return undefined;
  return workerOfScopes(checkRequest(readRequest(permissions), "thread"));
}

/**
 * Returns the options that give a Web Worker its permissions.
 *
 * @param action What is attempted, for errors.
 * @param permissions What the worker may do.
 * @returns A part of the options of `new Worker`.
 * @throws {Deno.errors.NotCapable} If the caller does not hold what it grants.
 * @throws {TypeError} If Deno was started without the flag.
 */
export async function threadPermissions(
  action: string,
  permissions: Permissions,
): Promise<ThreadPermissions> {
  const worker = grantThread(permissions);
  if (worker === undefined) return {};
  enabled ??= hasWorkerOptions();
  if (await enabled) return { deno: { permissions: worker } };
  throw new TypeError(
    `${action} with permissions of its own: Deno was started without ${FLAG}; add the flag, or "unstable": ["worker-options"] to deno.json, or give the worker all that this program may do with permissions: "inherit"`,
  );
}

/**
 * Whether the flag was given, on the command line or in a configuration file.
 * Deno shows its unstable flags in one place only: the arguments that
 * `node:child_process` makes for a fork. This starts a fork with two IPC pipes,
 * which is refused after the arguments are made, and before a process is started
 * or a permission is requested.
 */
async function hasWorkerOptions(): Promise<boolean> {
  const [{ fork }, { subscribe, unsubscribe }] = await Promise.all([
    import("node:child_process"),
    import("node:diagnostics_channel"),
  ]);
  let args: readonly unknown[] = [];
  let child: unknown;
  const onChild = (message: unknown) => {
    child = (message as { process?: unknown }).process;
  };
  // The fork reads a variable, for which Deno would prompt.
  const { get } = Deno.env;
  Deno.env.get = () => undefined;
  subscribe("child_process", onChild);
  try {
    fork("none", [], {
      execPath: "deno",
      execArgv: [],
      env: {},
      stdio: TWO_IPC,
    });
  } catch {
    ({ spawnargs: args = [] } = child as { spawnargs?: readonly unknown[] });
  } finally {
    unsubscribe("child_process", onChild);
    Deno.env.get = get;
  }
  return args.includes(FLAG);
}

const TWO_IPC: ("ipc")[] = ["ipc", "ipc"];
