// Copyright 2026 the Duplex authors. MIT license.

/**
 * The kinds of permission, and the permission value.
 *
 * @module
 */

/**
 * The permissions of a worker: none, those of the caller, or Deno's permission
 * object, in which `denyRead` and the like take a part away, as the flag `--deny-read`
 * does. Only a process can have such a part.
 *
 * Imports differ between processes and Web Workers:
 *
 * - A process may also import from the hosts that Deno allows by default, such as
 *   `jsr.io`, if the caller may. `import: false` prevents that for all imports.
 * - Deno checks the imports that are written in the script of a Web Worker, static
 *   ones and `import()` of a literal, with the permissions of the caller: they may
 *   name any host from which the caller may import. Only an `import()` of a computed
 *   name is restricted to the hosts in `import`.
 */
export type Permissions =
  | "none"
  | "inherit"
  | Deno.PermissionOptionsObject & {
    /** Variables that the worker cannot read or set, or all. */
    denyEnv?: boolean | readonly string[];
    /** Libraries that the worker cannot load, or all. */
    denyFfi?: boolean | readonly (string | URL)[];
    /** Hosts from which the worker cannot import, or all. */
    denyImport?: boolean | readonly string[];
    /** Hosts that the worker cannot reach, or all. */
    denyNet?: boolean | readonly string[];
    /** Files and folders that the worker cannot read, or all. */
    denyRead?: boolean | readonly (string | URL)[];
    /** Programs that the worker cannot run, or all. */
    denyRun?: boolean | readonly (string | URL)[];
    /** System information that the worker cannot get, or all. */
    denySys?: boolean | readonly string[];
    /** Files and folders that the worker cannot write, or all. */
    denyWrite?: boolean | readonly (string | URL)[];
  };

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

/** The name of a list of denied items, as "denyRead". */
export type DenyName = `deny${Capitalize<Kind>}`;

/** The name of the list of denied items of a kind. */
export function denyName(kind: string): string {
  return `deny${kind.charAt(0).toUpperCase()}${kind.slice(1)}`;
}

/** The kind of a list of denied items; `undefined` for other names. */
export function deniedKind(name: string): Kind | undefined {
  return KINDS.find((kind) => name === denyName(kind));
}

/** The granted part of a kind: all of it, or the listed items. */
export type Scope = true | readonly string[];
