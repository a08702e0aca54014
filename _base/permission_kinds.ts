// Copyright 2026 the Duplex authors. MIT license.

/**
 * The kinds of permission, and the value that says what a worker may do.
 *
 * @module
 */

/**
 * What a worker may do: nothing, all that the caller may do, or Deno's own
 * permission object.
 *
 * A process may in addition import modules from the hosts that Deno allows by
 * default, `jsr.io` among them, if the caller may; `import: false` prevents that.
 */
export type Permissions = "none" | "inherit" | Deno.PermissionOptionsObject;

/** The kinds of permission. Any other kind is refused. */
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

/** What a worker is given of a kind: all of it, or the listed items. */
export type Scope = true | readonly string[];
