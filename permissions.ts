// Copyright 2026 the Duplex authors. MIT license.

/**
 * One permission value for every transport: what a worker may do, said once,
 * as flags for a process or as options for a Web Worker. Nothing is granted that
 * the caller does not hold itself.
 *
 * ```ts
 * import { grant } from "@duplex/ipc/permissions";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(grant("none").flags, ["--no-prompt"]);
 * ```
 *
 * @module
 */

import {
  checkRequest,
  flagsOfScopes,
  readRequest,
  workerOfScopes,
} from "./_permissions/scopes.ts";
import type { Permissions } from "./_base/permission_kinds.ts";

export type { Permissions };

/** A permission value in the forms that Deno takes. */
export interface Grant {
  /** Flags for `deno run`. `--no-prompt` is always among them. */
  readonly flags: string[];
  /** The `deno.permissions` of a Web Worker. */
  readonly worker: Deno.PermissionOptions;
}

/**
 * Checks that the caller holds what it grants, and writes it down for a process
 * and for a Web Worker.
 *
 * `"inherit"` passes on the kinds that the caller holds whole. A kind of which the
 * caller holds a list is not passed on, because Deno does not say what is in the
 * list: name the items.
 *
 * A process does not have the denied items of the caller (`--deny-…`), and Deno
 * does not list them either. If a part of a kind is denied to the caller, these are
 * refused:
 *
 * - the whole kind, and a folder with a denied part;
 * - in `net` and `import` a name, which may stand for a denied address, and an
 *   address without a port; an IP address with a port that is not denied is granted.
 *
 * Deno says that a part is denied only to a caller that holds the rest of the kind.
 * To a caller with a list of hosts (`--allow-net=example.com`) it does not. A name
 * is then refused if one of the addresses is denied that usually are: loopback,
 * private and link-local ones. Another denied address, and a denied port of a host
 * that is allowed with all its ports, are not noticed.
 *
 * A range of addresses, a name with a wildcard and a variable with a wildcard are
 * granted if the caller holds the whole kind, without a denied part.
 *
 * Asks for no permission and never prompts.
 *
 * @param permissions What to grant.
 * @param target What is started. To a Web Worker Deno passes on what is denied to
 *   the caller, so a whole kind and a folder are granted also if a part is denied.
 * @returns Flags for `deno run`, and options for a Web Worker.
 * @throws {Deno.errors.NotCapable} If the caller does not hold a grant itself, or a
 *   part of it may be denied to the caller.
 * @throws {TypeError} If Deno does not have such a kind or item.
 *
 * @example What is granted is what the worker gets
 * ```ts
 * import { grant } from "@duplex/ipc/permissions";
 * import { assertEquals } from "@std/assert";
 *
 * const { flags, worker } = grant({ read: ["/data"], net: false });
 * assertEquals(flags, ["--no-prompt", "--allow-read=/data"]);
 * assertEquals(worker, { read: ["/data"] });
 * ```
 */
export function grant(
  permissions: Permissions = "none",
  target: "process" | "thread" = "process",
): Grant {
  const scopes = checkRequest(readRequest(permissions), target);
  return { flags: flagsOfScopes(scopes), worker: workerOfScopes(scopes) };
}
