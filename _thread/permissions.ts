// Copyright 2026 the Duplex authors. MIT license.

/**
 * A permission value for a Web Worker. Deno takes one only where the program was
 * started with `--unstable-worker-options`, and ends the whole process, past
 * every `catch`, where it was not. So it is found out before a worker starts.
 *
 * @module
 */

import {
  hasWorkerOptions,
  WORKER_OPTIONS_FLAG,
} from "../_base/worker_options.ts";
import {
  checkRequest,
  readRequest,
  workerOfScopes,
} from "../_permissions/scopes.ts";
import type { Permissions } from "../permissions.ts";

/** What a Web Worker is started with; nothing where it inherits. */
export interface ThreadPermissions {
  deno?: { permissions: Deno.PermissionOptions };
}

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
  return workerOfScopes(checkRequest(readRequest(permissions), "thread"));
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
  if (await hasWorkerOptions()) return { deno: { permissions: worker } };
  throw new TypeError(
    `${action} with permissions of its own: Deno was started without ${WORKER_OPTIONS_FLAG}; add the flag, or "unstable": ["worker-options"] to deno.json, or give the worker all that this program may do with permissions: "inherit"`,
  );
}
