// Copyright 2026 the Duplex authors. MIT license.

/**
 * A permission value, read and checked.
 *
 * @module
 */

import { expandPort, readHost } from "./host.ts";
import { absolutePath, isCommandPath, pathOf } from "./path.ts";
import {
  check,
  denyScopeFlag,
  isInherited,
  scopeFlags,
  type Target,
} from "./held.ts";
import {
  deniedKind,
  type DenyName,
  type Kind,
  KINDS,
  type Permissions,
  type Scope,
} from "../_base/permission_kinds.ts";
import { quoted, show } from "../_base/text.ts";

/**
 * The granted part of each kind, and the denied one under a name such as "denyRead".
 * A kind that is missing is not granted.
 */
export type Scopes = ReadonlyMap<Kind | DenyName, Scope>;

/** The requested part of each kind, with absolute paths, and the denied one. */
export type PermissionRequest = ReadonlyMap<Kind | DenyName, Scope | "inherit">;

/** The kinds whose items are paths. */
const PATH_KINDS: readonly Kind[] = ["ffi", "read", "write"];

/**
 * Reads a permission value and checks its form.
 *
 * @throws {TypeError} If Deno does not have such a kind or item.
 */
export function readRequest(permissions: Permissions): PermissionRequest {
  if (permissions === "none") return new Map();
  if (permissions === "inherit") {
    return new Map(KINDS.map((kind) => [kind, "inherit"]));
  }
  if (typeof permissions !== "object" || permissions === null) {
    throw new TypeError(
      `Cannot grant permissions: they must be "none", "inherit" or an object: current value is ${
        show(permissions)
      }`,
    );
  }
  const request = new Map<Kind | DenyName, Scope | "inherit">();
  for (const [name, value] of Object.entries(permissions)) {
    const denied = deniedKind(name);
    const kind = denied ?? KINDS.find((kind) => kind === name);
    if (kind === undefined) {
      throw new TypeError(
        `Cannot grant permissions: ${
          quoted(name)
        } is not a kind of permission: use one of ${
          KINDS.join(", ")
        }, or denyRead and the like`,
      );
    }
    const scope = readScope(kind, name, value);
    const isEmpty = scope === undefined ||
      denied !== undefined && Array.isArray(scope) && scope.length === 0;
    if (!isEmpty) request.set(name as Kind | DenyName, scope);
  }
  // `--deny-import` alone keeps the hosts that Deno allows by default (2.9).
  if (request.get("denyImport") === true) {
    request.delete("denyImport");
    request.set("import", []);
  }
  return request;
}

/**
 * Checks that this program holds what is requested.
 *
 * @throws {Deno.errors.NotCapable} If it does not.
 * @throws {TypeError} If Deno does not have such an item, or a Web Worker would have
 *   denied items.
 */
export function checkRequest(
  request: PermissionRequest,
  target: Target,
): Scopes {
  const scopes = new Map<Kind | DenyName, Scope>();
  for (const [name, scope] of request) {
    const denied = deniedKind(name);
    const kind = denied ?? name as Kind;
    if (scope === "inherit") {
      if (isInherited(kind, target)) scopes.set(kind, true);
      continue;
    }
    if (denied !== undefined && target === "thread") {
      throw new TypeError(
        `Cannot grant permissions: "${name}" is only for processes, as Deno has no denied items for Web Workers: list in "${kind}" what the worker may use, or open it with openPipe`,
      );
    }
    const isHost = kind === "net" || kind === "import";
    for (const item of scope === true ? [undefined] : scope) {
      if (denied === undefined) check(kind, item, target);
      else if (isHost && item !== undefined) readHost(kind, item);
    }
    scopes.set(name, scope);
  }
  return scopes;
}

/** The value of a name: of a kind, or of a list of denied items of a kind. */
function readScope(
  kind: Kind,
  name: string,
  value: unknown,
): Scope | "inherit" | undefined {
  const isKind = name === kind;
  if (
    value === undefined || value === true || (isKind && value === "inherit")
  ) return value;
  if (value === false) return isKind ? emptyScope(kind) : undefined;
  if (!Array.isArray(value)) {
    throw new TypeError(
      `Cannot grant permissions: "${name}" must be true, false${
        isKind ? ', "inherit"' : ""
      } or an array: current value is ${show(value)}`,
    );
  }
  // `Array.from` includes holes, which are an error.
  const items = Array.from(value, (item) => readItem(kind, name, item))
    .flatMap((item) => expandPort(kind, item));
  return items.length > 0 ? items : emptyScope(kind);
}

/** The scope of a kind that is not granted. Imports must be denied explicitly. */
function emptyScope(kind: Kind): Scope | undefined {
  return kind === "import" ? [] : undefined;
}

function readItem(kind: Kind, name: string, item: unknown): string {
  const text = toText(kind, item);
  if (typeof text !== "string" || text === "" || /[,\0]/.test(text)) {
    // A comma separates items in Deno's flags and cannot be escaped. An argument of a
    // process cannot contain a NUL.
    throw new TypeError(
      `Cannot grant permissions: an item of "${name}" must be a string without a comma: current value is ${
        show(text)
      }`,
    );
  }
  return text;
}

/** An item as in Deno's flags, with an absolute path. */
function toText(kind: Kind, item: unknown): unknown {
  const isPathKind = PATH_KINDS.includes(kind);
  if (item instanceof URL) {
    return isPathKind || kind === "run" ? pathOf(item) : item;
  }
  if (typeof item !== "string" || item === "") return item;
  const isPath = isPathKind || (kind === "run" && isCommandPath(item));
  return isPath ? absolutePath(item) : item;
}

/** The flags of scopes for `deno run`. */
export function scopesToFlags(scopes: Scopes): string[] {
  return [
    "--no-prompt",
    ...[...scopes].flatMap(([name, scope]) => {
      const denied = deniedKind(name);
      return denied === undefined
        ? scopeFlags(name as Kind, scope)
        : denyScopeFlag(denied, scope);
    }),
  ];
}

/**
 * The `deno.permissions` of scopes for a Web Worker: none if it would have denied
 * items.
 */
export function scopesToOptions(scopes: Scopes): Deno.PermissionOptions {
  const granted = [...scopes].filter(([, scope]) =>
    scope === true || scope.length > 0
  );
  const hasDenied = granted.some(([name]) => deniedKind(name) !== undefined);
  return granted.length === 0 || hasDenied
    ? "none"
    : Object.fromEntries(granted) as Deno.PermissionOptions;
}
