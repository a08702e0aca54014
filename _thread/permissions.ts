// Copyright 2026 the Duplex authors. MIT license.

/**
 * The permissions of a Web Worker. Deno accepts them only if the program was started
 * with `--unstable-worker-options`; otherwise it ends the whole process, which
 * cannot be caught. So the flag is checked before a worker starts.
 *
 * @module
 */

import {
  hasWorkerOptions,
  hasWorkerOptionsSync,
  WORKER_OPTIONS_FLAG,
} from "../_base/worker_options.ts";
import {
  checkRequest,
  readRequest,
  scopesToOptions,
} from "../_permissions/scopes.ts";
import type { Permissions } from "../permissions.ts";

/** A part of the options of `new Worker`; empty if the worker inherits. */
export interface ThreadPermissions {
  deno?: { permissions: Deno.PermissionOptions };
}

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
  return scopesToOptions(checkRequest(readRequest(permissions), "thread"));
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
  return checkFlag(action, await hasWorkerOptions(), worker);
}

/** As {@linkcode threadPermissions}, without the event loop. */
export function threadPermissionsSync(
  action: string,
  permissions: Permissions,
): ThreadPermissions {
  const worker = grantThread(permissions);
  if (worker === undefined) return {};
  return checkFlag(action, hasWorkerOptionsSync(), worker);
}

function checkFlag(
  action: string,
  hasFlag: boolean,
  permissions: Deno.PermissionOptions,
): ThreadPermissions {
  if (hasFlag) return { deno: { permissions } };
  throw new TypeError(
    `${action} with permissions of its own: Deno was started without ${WORKER_OPTIONS_FLAG}; add the flag, or "unstable": ["worker-options"] to deno.json, or give the worker all that this program may do with permissions: "inherit"`,
  );
}
