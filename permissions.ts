// Copyright 2026 the Duplex authors. MIT license.

/**
 * One permission value for every transport: the permissions of a worker, as flags for
 * a process and as options for a Web Worker. Only permissions that the caller holds
 * can be granted.
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
  readRequest,
  scopesToFlags,
  scopesToOptions,
} from "./_permissions/scopes.ts";
import type { Permissions } from "./_base/permission_kinds.ts";

export type { Permissions };

/** A permission value in the forms that Deno accepts. */
export interface Grant {
  /** Flags for `deno run`, always including `--no-prompt`. */
  readonly flags: string[];
  /** The `deno.permissions` of a Web Worker. */
  readonly worker: Deno.PermissionOptions;
}

/**
 * Checks that the caller holds the permissions, and converts them to flags for a
 * process and to options for a Web Worker.
 *
 * `"inherit"` passes on the kinds that the caller holds completely. A kind of which
 * the caller holds a list is not passed on, because Deno does not reveal the list:
 * name the items.
 *
 * The denied items of the caller (`--deny-…`) do not apply to a process, and Deno does
 * not list them. So if a part of a kind is denied to the caller, these are refused:
 *
 * - the whole kind, and a folder with a denied part;
 * - in `net` and `import` a name, which may stand for a denied address, and an
 *   address without a port. An IP address with a port that is not denied is granted.
 *
 * Deno reports a denied part only to a caller that holds the rest of the kind, not to
 * one with a list of hosts (`--allow-net=example.com`). For such a caller a name is
 * refused if one of the addresses is denied that usually are: loopback, private and
 * link-local addresses. Other denied addresses, and denied ports of a host that is
 * allowed with all ports, are not detected.
 *
 * A range of addresses, a name with a wildcard and a variable with a wildcard are
 * granted if the caller holds the whole kind without a denied part.
 *
 * `denyRead` and the like become flags such as `--deny-read`. They are refused if the
 * target is a thread, because Deno has no denied items for Web Workers; `worker` is
 * `"none"` then.
 *
 * Requires no permission and never prompts.
 *
 * @param permissions The permissions to grant.
 * @param target The kind of worker. Deno passes the caller's denied items on to a Web
 *   Worker, so for it a kind and a folder are granted even if a part is denied.
 * @returns Flags for `deno run`, and options for a Web Worker.
 * @throws {Deno.errors.NotCapable} If the caller does not hold a permission, or a
 *   part of it may be denied to the caller.
 * @throws {TypeError} If a kind or an item does not exist in Deno, or a thread would
 *   have denied items.
 *
 * @example Usage
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
  return { flags: scopesToFlags(scopes), worker: scopesToOptions(scopes) };
}
