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

import { absolutePath, pathOf } from "./_permissions_path.ts";

/**
 * What a worker may do: nothing, all that the caller may do, or Deno's own
 * permission object. Even with nothing a worker may import modules from the
 * hosts that Deno allows by default, `jsr.io` among them.
 */
export type Permissions = "none" | "inherit" | Deno.PermissionOptionsObject;

/** A permission value in the forms that Deno takes. */
export interface Grant {
  /** Flags for `deno run`. `--no-prompt` is always among them. */
  readonly flags: string[];
  /** The `deno.permissions` of a Web Worker. */
  readonly worker: Deno.PermissionOptions;
}

/** The kinds of permission; a kind that is not named here is refused. */
const KINDS = [
  "env",
  "ffi",
  "import",
  "net",
  "read",
  "run",
  "sys",
  "write",
] as const;

type Kind = typeof KINDS[number];

/** Kinds whose items are paths. A relative one is made absolute, since the
 * worker may work in another folder than the caller. */
const PATH_KINDS: readonly Kind[] = ["ffi", "read", "write"];

/** What one kind is granted: everything, or what the list names. */
type Scope = true | string[];

/**
 * Checks that the caller holds what it grants, and writes it down for a process
 * and for a Web Worker.
 *
 * `"inherit"` passes on the kinds that the caller holds whole. A kind that it holds
 * for some items only is not passed on, because Deno does not tell which they
 * are: name them. Deno does not tell either of a port that is denied within a
 * host that is allowed: a host that is granted is granted with all its ports.
 *
 * Asks for no permission and never prompts.
 *
 * @param permissions What to grant.
 * @returns Flags for `deno run`, and options for a Web Worker.
 * @throws {Deno.errors.NotCapable} If the caller does not hold a grant itself, or
 *   passes on a kind of which a part is denied.
 * @throws {TypeError} If a kind or a value is none that Deno knows.
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
export function grant(permissions: Permissions = "none"): Grant {
  const scopes = permissions === "none"
    ? []
    : permissions === "inherit"
    ? KINDS.map((kind): [Kind, Scope | undefined] => [kind, inherited(kind)])
    : readObject(permissions);
  const flags = ["--no-prompt"];
  const worker: Record<string, Scope> = {};
  for (const [kind, scope] of scopes) {
    if (scope === undefined) continue;
    flags.push(flagOf(kind, scope));
    worker[kind] = scope;
  }
  const none = Object.keys(worker).length === 0;
  return { flags, worker: none ? "none" : worker as Deno.PermissionOptions };
}

function readObject(
  permissions: Deno.PermissionOptionsObject,
): [Kind, Scope | undefined][] {
  if (typeof permissions !== "object" || permissions === null) {
    throw new TypeError(
      `Cannot grant permissions: they must be "none", "inherit" or an object, got ${
        JSON.stringify(permissions)
      }`,
    );
  }
  return Object.entries(permissions).map(([name, value]) => {
    const kind = KINDS.find((kind) => kind === name);
    if (kind === undefined) {
      throw new TypeError(
        `Cannot grant permissions: "${name}" is no permission, there are ${
          KINDS.join(", ")
        }`,
      );
    }
    return [kind, readScope(kind, value)];
  });
}

function readScope(kind: Kind, value: unknown): Scope | undefined {
  if (value === false || value === undefined) return undefined;
  if (value === "inherit") return inherited(kind);
  if (value === true) {
    check(kind, undefined);
    return true;
  }
  if (!Array.isArray(value)) {
    throw new TypeError(
      `Cannot grant permissions: "${kind}" must be true, false, "inherit" or an array, got ${
        JSON.stringify(value)
      }`,
    );
  }
  // A hole in the array is an item as well, and none that can be granted.
  const items = Array.from(value, (item) => readItem(kind, item));
  for (const item of items) check(kind, item);
  return items.length > 0 ? items : undefined;
}

function readItem(kind: Kind, item: unknown): string {
  const text = item instanceof URL
    ? pathOf(item)
    : typeof item === "string" && isPath(kind, item)
    ? absolutePath(item)
    : item;
  if (typeof text !== "string" || text === "" || text.includes(",")) {
    // Deno's flags separate with a comma and have no way to write one.
    throw new TypeError(
      `Cannot grant permissions: an item of "${kind}" must be a text without a comma, got ${
        JSON.stringify(text)
      }`,
    );
  }
  return text;
}

/** Whether an item is a path; a command without a slash is looked for in `PATH`. */
function isPath(kind: Kind, item: string): boolean {
  return item !== "" &&
    (PATH_KINDS.includes(kind) || (kind === "run" && /[\\/]/.test(item)));
}

/** All of a kind if the caller holds all of it, nothing if nothing. */
function inherited(kind: Kind): Scope | undefined {
  const { state, partial } = Deno.permissions.querySync({ name: kind });
  if (partial) {
    throw new Deno.errors.NotCapable(
      `Cannot pass on "${kind}" by "inherit": a part of it is granted and Deno does not tell which; name what the worker may use`,
    );
  }
  return state === "granted" ? true : undefined;
}

function check(kind: Kind, item: string | undefined): void {
  const { state, partial } = query(kind, item);
  if (
    state === "granted" && !partial &&
    (item === undefined || isHeldWhole(kind, item))
  ) return;
  const what = item === undefined
    ? `all of "${kind}"`
    : `"${kind}" of "${item}"`;
  throw new Deno.errors.NotCapable(
    `Cannot grant ${what}: this program does not hold it; run it again with ${
      flagOf(kind, item === undefined ? true : [item])
    }`,
  );
}

function query(kind: Kind, item: string | undefined): Deno.PermissionStatus {
  try {
    return Deno.permissions.querySync(describe(kind, item));
  } catch (cause) {
    throw new TypeError(
      `Cannot grant permissions: "${item}" is no item of "${kind}" that Deno can be asked about`,
      { cause },
    );
  }
}

/**
 * Whether nothing that a granted item stands for is denied. Deno tells so of a
 * folder, but not of variables with a wildcard nor of a host with all its ports.
 */
function isHeldWhole(kind: Kind, item: string): boolean {
  const { state, partial } = Deno.permissions.querySync({ name: kind });
  switch (kind) {
    case "env":
      return !item.includes("*") || (state === "granted" && !partial);
    case "import":
    case "net":
      // A range of addresses may hold one that is denied.
      return item.includes("/")
        ? state === "granted" && !partial
        : /:\d+$/.test(item) || !partial;
    default:
      return true;
  }
}

function describe(
  kind: Kind,
  item: string | undefined,
): Deno.PermissionDescriptor {
  if (item === undefined) return { name: kind };
  switch (kind) {
    case "env":
      return { name: kind, variable: item };
    case "import":
    case "net":
      return { name: kind, host: item } as Deno.PermissionDescriptor;
    case "run":
      return { name: kind, command: item };
    case "sys":
      return { name: kind, kind: item } as Deno.PermissionDescriptor;
    default:
      return { name: kind, path: item };
  }
}

function flagOf(kind: Kind, scope: Scope): string {
  return scope === true
    ? `--allow-${kind}`
    : `--allow-${kind}=${scope.join(",")}`;
}
