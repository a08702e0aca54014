// Copyright 2026 the Duplex authors. MIT license.

/**
 * The kinds of permission, and the permission value.
 *
 * @module
 */

/**
 * The permissions of a worker: none, those of the caller, or Deno's permission
 * object.
 *
 * A process may also import modules from the hosts that Deno allows by default, such
 * as `jsr.io`, if the caller may. `import: false` prevents that.
 */
export type Permissions = "none" | "inherit" | Deno.PermissionOptionsObject;

/** The kinds of permission; others are an error. */
export const KINDS = [
  "env",
  "ffi",
  "import",
  "net",
  "read",
  "run",
  "sys",
  "write",
] as const;

/** A kind of permission. */
export type Kind = typeof KINDS[number];

/** The granted part of a kind: all of it, or the listed items. */
export type Scope = true | readonly string[];
