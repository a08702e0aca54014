// Copyright 2026 the Duplex authors. MIT license.

/**
 * A permission value, read and checked.
 *
 * @module
 */

import { expandPort } from "./host.ts";
import { absolutePath, isCommandPath, pathOf } from "./path.ts";
import { check, isInherited, scopeFlags, type Target } from "./held.ts";
import {
  type Kind,
  KINDS,
  type Permissions,
  type Scope,
} from "../_base/permission_kinds.ts";
import { quoted, show } from "../_base/text.ts";

/** The granted part of each kind. A kind that is missing is not granted. */
export type Scopes = ReadonlyMap<Kind, Scope>;

/** The requested part of each kind, with absolute paths. */
export type PermissionRequest = ReadonlyMap<Kind, Scope | "inherit">;

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
  const request = new Map<Kind, Scope | "inherit">();
  for (const [name, value] of Object.entries(permissions)) {
    const kind = KINDS.find((kind) => kind === name);
    if (kind === undefined) {
      throw new TypeError(
        `Cannot grant permissions: ${
          quoted(name)
        } is not a kind of permission: use one of ${KINDS.join(", ")}`,
      );
    }
    const scope = readScope(kind, value);
    if (scope !== undefined) request.set(kind, scope);
  }
  return request;
}

/**
 * Checks that this program holds what is requested.
 *
 * @throws {Deno.errors.NotCapable} If it does not.
 * @throws {TypeError} If Deno does not have such an item.
 */
export function checkRequest(
  request: PermissionRequest,
  target: Target,
): Scopes {
  const scopes = new Map<Kind, Scope>();
  for (const [kind, scope] of request) {
    if (scope === "inherit") {
      if (isInherited(kind, target)) scopes.set(kind, true);
      continue;
    }
    for (const item of scope === true ? [undefined] : scope) {
      check(kind, item, target);
    }
    scopes.set(kind, scope);
  }
  return scopes;
}

function readScope(kind: Kind, value: unknown): Scope | "inherit" | undefined {
  if (value === undefined || value === true || value === "inherit") {
    return value;
  }
  if (value === false) return emptyScope(kind);
  if (!Array.isArray(value)) {
    throw new TypeError(
      `Cannot grant permissions: "${kind}" must be true, false, "inherit" or an array: current value is ${
        show(value)
      }`,
    );
  }
  // `Array.from` includes holes, which are an error.
  const items = Array.from(value, (item) => readItem(kind, item))
    .flatMap((item) => expandPort(kind, item));
  return items.length > 0 ? items : emptyScope(kind);
}

/** The scope of a kind that is not granted. Imports must be denied explicitly. */
function emptyScope(kind: Kind): Scope | undefined {
  return kind === "import" ? [] : undefined;
}

function readItem(kind: Kind, item: unknown): string {
  const text = toText(kind, item);
  if (typeof text !== "string" || text === "" || /[,\0]/.test(text)) {
    // A comma separates items in Deno's flags and cannot be escaped. An argument of a
    // process cannot contain a NUL.
    throw new TypeError(
      `Cannot grant permissions: an item of "${kind}" must be a string without a comma: current value is ${
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
    ...[...scopes].flatMap(([kind, scope]) => scopeFlags(kind, scope)),
  ];
}

/** The `deno.permissions` of scopes for a Web Worker. */
export function scopesToOptions(scopes: Scopes): Deno.PermissionOptions {
  const granted = [...scopes].filter(([, scope]) =>
    scope === true || scope.length > 0
  );
  return granted.length === 0
    ? "none"
    : Object.fromEntries(granted) as Deno.PermissionOptions;
}
