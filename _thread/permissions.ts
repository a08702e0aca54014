// Copyright 2026 the Duplex authors. MIT license.

/**
 * A permission value for a Web Worker. Deno takes one only where the program was
 * started with `--unstable-worker-options`, and ends the whole process, past
 * every `catch`, where it was not. So it is found out before a worker starts.
 *
 * @module
 */

import {
  checkRequest,
  readRequest,
  scopesToOptions,
} from "../_permissions/scopes.ts";
import type { Permissions } from "../permissions.ts";

const FLAG = "--unstable-worker-options";

/** What a Web Worker is started with; nothing where it inherits. */
export interface ThreadPermissions {
  deno?: { permissions: Deno.PermissionOptions };
}

let enabled: Promise<boolean> | undefined;

/**
 * The permissions for a Web Worker, none if it inherits. Deno denies it what is
 * denied to this thread.
 *
 * @throws {Deno.errors.NotCapable} If this thread does not hold what it grants.
 * @throws {TypeError} If Deno has no such permission.
 */
export function grantThread(
  permissions: Permissions,
): Deno.PermissionOptions | undefined {
  // Deno then gives the worker what this thread has, exactly.
  if (permissions === "inherit") return undefined;
  return scopesToOptions(checkRequest(readRequest(permissions), "thread"));
}

/**
 * The options that give a Web Worker its permissions.
 *
 * @param action What is attempted, for the error.
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
 * Deno tells of its unstable flags in one place only: the arguments that
 * `node:child_process` makes for a fork. One is begun here with two IPC pipes,
 * which is refused after the arguments are made and before anything is started
 * or any permission asked for.
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
  // The fork looks at a variable, for which a person would be asked.
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
