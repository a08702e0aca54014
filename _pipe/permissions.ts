// Copyright 2026 the Duplex authors. MIT license.

/**
 * The permissions of a child process that runs Deno: the flags of its grant, the
 * `PATH` in which it looks for commands, and the hosts from which it may import.
 * Without a flag Deno allows imports from some hosts, which this program may not hold.
 *
 * @module
 */

import { isAbsolute, isCommandPath } from "../_permissions/path.ts";
import { isHeldWhole, query, scopeFlags } from "../_permissions/held.ts";
import {
  checkRequest,
  type PermissionRequest,
  readRequest,
  scopesToFlags,
} from "../_permissions/scopes.ts";
import { printable, quoted } from "../_base/text.ts";
import type { Permissions } from "../permissions.ts";

/** The options that affect the permissions of a child. */
export interface ChildContext {
  /** The attempted action, for errors. */
  readonly action: string;
  /** The worker script, as an absolute path or a URL. */
  readonly script: string;
  /** The variables in the option `env`. */
  readonly env: Readonly<Record<string, string>>;
  /** Whether the child gets these variables only. */
  readonly clearEnv: boolean;
  /** Whether the child has its own working directory. */
  readonly hasCwd: boolean;
  /** Whether the child has the flag `--cached-only`. */
  readonly isCachedOnly: boolean;
}

/**
 * The flags for a child that runs Deno.
 *
 * @throws {Deno.errors.NotCapable} If this program does not hold a permission.
 * @throws {TypeError} If Deno does not have such a permission, or a variable changes
 *   the meaning of the permissions.
 */
export function processFlags(
  permissions: Permissions,
  context: ChildContext,
): string[] {
  const request = readRequest(permissions);
  checkEnv(request, context);
  const scopes = new Map(checkRequest(request, "process"));
  const run = scopes.get("run");
  if (Array.isArray(run)) scopes.set("run", placeCommands(run, context));
  return [
    ...scopesToFlags(scopes),
    ...(scopes.has("import") ? [] : importFlags(context)),
  ];
}

/**
 * Throws unless this program can start processes that run Deno.
 *
 * @param action What is attempted, for errors.
 * @param instead What to do otherwise.
 * @throws {Deno.errors.NotCapable} If it may not.
 * @throws {TypeError} If it is a compiled program.
 */
export function checkRunsDeno(action: string, instead: string): void {
  if (Deno.build.standalone) {
    throw new TypeError(
      `${action} in a process, as a compiled program does not include Deno; ${instead}`,
    );
  }
  const command = Deno.execPath();
  if (query("run", command).state === "granted") return;
  throw new Deno.errors.NotCapable(
    `${action} in a process, as this program may not run Deno; run it again with --allow-run=${
      printable(command)
    }, or ${instead}`,
  );
}

/** Environment variable of Deno that delegates permission checks to a broker. */
export const BROKER = "DENO_PERMISSION_BROKER_PATH";

/** Environment variables for the lookup of a command without a path. */
const LOOKUP = /^(?:path|pathext)$/i;

/** Throws if variables change the meaning of the permissions. */
function checkEnv(
  request: PermissionRequest,
  { action, env, clearEnv }: ChildContext,
): void {
  const names = Object.keys(env);
  if (names.some((name) => name.toUpperCase() === BROKER)) {
    throw new TypeError(
      `${action} as "env" must not contain ${BROKER}, which overrides "permissions"`,
    );
  }
  const run = request.get("run");
  if (!Array.isArray(run)) return;
  const command = run.find((item) => !isCommandPath(item));
  const isChanged = clearEnv || names.some((name) => LOOKUP.test(name));
  if (command === undefined || !isChanged) return;
  throw new TypeError(
    `${action} as "${
      clearEnv ? "clearEnv" : "env"
    }" changes the PATH in which ${
      quoted(command)
    } would be looked for: grant "run" of its path`,
  );
}

/** Usual folders of commands without a path. */
const COMMON_FOLDERS = [
  "/usr/local/sbin",
  "/usr/local/bin",
  "/usr/sbin",
  "/usr/bin",
  "/sbin",
  "/bin",
  "/opt/homebrew/bin",
  "/snap/bin",
];

/**
 * The commands of a grant, so that the child finds the same programs as this one. A
 * child looks for a command without a path in its `PATH`, in which an entry may be
 * relative to its working directory or its home.
 */
function placeCommands(
  run: readonly string[],
  { action, env, hasCwd }: ChildContext,
): readonly string[] {
  const hasHome = "HOME" in env;
  if ((!hasCwd && !hasHome) || isHeldWhole("run")) return run;
  const command = run.find((item) => !isCommandPath(item));
  if (command === undefined) return run;
  const path = readVariable("PATH");
  if (path === undefined) {
    return hasCwd ? run.map((item) => findCommand(item, action)) : run;
  }
  const entries = path.split(Deno.build.os === "windows" ? ";" : ":");
  const moved = entries.find((entry) =>
    /^~(?:$|[\\/])/.test(entry) ? hasHome : hasCwd && !isAbsolute(entry)
  );
  if (moved === undefined) return run;
  throw new TypeError(
    `${action} as "${moved.startsWith("~") ? "env" : "cwd"}" changes where ${
      quoted(command)
    } would be looked for, by ${
      quoted(moved)
    } in PATH: grant "run" of its path`,
  );
}

/** The path of a command that this program may run, found without `PATH`. */
function findCommand(item: string, action: string): string {
  // Without a list every path is granted, whether a program exists there or not.
  if (isCommandPath(item) || query("run").state === "granted") return item;
  for (const folder of COMMON_FOLDERS) {
    const path = `${folder}/${item}`;
    if (query("run", path).state === "granted") return path;
  }
  throw new Deno.errors.NotCapable(
    `${action} as "cwd" may change where ${
      quoted(item)
    } would be looked for: grant "run" of its path, or let this program read PATH with --allow-env=PATH`,
  );
}

/** The hosts from which Deno allows imports without a flag (2.9). */
const DEFAULT_HOSTS = [
  "jsr.io:443",
  "deno.land:443",
  "esm.sh:443",
  "raw.esm.sh:443",
  "cdn.jsdelivr.net:443",
  "raw.githubusercontent.com:443",
  "gist.githubusercontent.com:443",
];

/**
 * Flags that prevent imports from hosts that this program does not hold. None if it
 * holds all hosts that Deno allows without a flag; but with `--cached-only` Deno
 * allows all hosts without a flag (2.9).
 *
 * @throws {Deno.errors.NotCapable} If this program may not import from the host of
 *   the script.
 */
function importFlags(
  { action, script, env, clearEnv, isCachedOnly }: ChildContext,
): string[] {
  if (!isCachedOnly && isHeldWhole("import")) return [];
  const jsrUrl = env["JSR_URL"] ??
    (clearEnv ? undefined : readVariable("JSR_URL"));
  const jsrHost = moduleHost(jsrUrl);
  const scriptHost = script.startsWith("jsr:")
    ? (jsrUrl === undefined ? DEFAULT_HOSTS[0] : jsrHost)
    : moduleHost(script);
  if (scriptHost !== undefined && !isHeld(scriptHost)) {
    throw new Deno.errors.NotCapable(
      `${action} to a script at ${
        quoted(scriptHost)
      }: this program may not import from there; run it again with --allow-import=${scriptHost}`,
    );
  }
  const hosts = [...DEFAULT_HOSTS, jsrHost, scriptHost]
    .filter((host) => host !== undefined);
  const held = hosts.filter((host) => isHeld(host));
  return held.length === hosts.length && !isCachedOnly
    ? []
    : scopeFlags("import", [...new Set(held)]);
}

/** The host of this module, if it was imported from one. */
const OWN_HOST = moduleHost(import.meta.url);

/**
 * Whether this program may import from a host. The host of this module counts as
 * held, since a Web Worker or a test may not hold it although it was imported.
 */
function isHeld(host: string): boolean {
  const { state } = query("import", host);
  return state === "granted" || (state === "prompt" && host === OWN_HOST);
}

/** The host and the port of a module, if it has them. */
function moduleHost(specifier: string | undefined): string | undefined {
  if (specifier === undefined || !URL.canParse(specifier)) return undefined;
  const { protocol, hostname, port } = new URL(specifier);
  switch (protocol) {
    case "http:":
      return `${hostname}:${port || 80}`;
    case "https:":
      return `${hostname}:${port || 443}`;
    default:
      return undefined;
  }
}

/** A variable of this process, if it may be read. */
function readVariable(name: string): string | undefined {
  return query("env", name).state === "granted"
    ? Deno.env.get(name)
    : undefined;
}
