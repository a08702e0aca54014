// Copyright 2026 the Duplex authors. MIT license.

/**
 * The permissions of a child process that runs Deno: what it is granted, in which
 * `PATH` it looks for commands, and from where it may import. Without a flag for
 * that Deno allows some hosts, which this program may not hold.
 *
 * @module
 */

import { isAbsolute, isCommandPath } from "../_permissions/path.ts";
import { flagsOf, isHeldWhole, query } from "../_permissions/held.ts";
import {
  checkRequest,
  flagsOfScopes,
  readRequest,
  type Request,
} from "../_permissions/scopes.ts";
import { quoted } from "../_base/text.ts";
import type { Permissions } from "../permissions.ts";

/** What decides, beside the permissions, on what a child may do. */
export interface ChildContext {
  /** What is attempted, for errors. */
  readonly action: string;
  /** The worker script, as an absolute path or a URL. */
  readonly script: string;
  /** Variables that the child gets. */
  readonly env: Readonly<Record<string, string>>;
  /** Whether it does not get those of this process. */
  readonly clearEnv: boolean;
  /** Whether the child works in a folder of its own. */
  readonly hasCwd: boolean;
}

/**
 * The flags for a child that runs Deno.
 *
 * @throws {Deno.errors.NotCapable} If this program does not hold what it grants.
 * @throws {TypeError} If Deno has no such permission, or a variable changes what
 *   the permissions mean.
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
    ...flagsOfScopes(scopes),
    ...(scopes.has("import") ? [] : importFlags(context)),
  ];
}

/** A variable of Deno's by which another program decides on every permission. */
const BROKER = "DENO_PERMISSION_BROKER_PATH";

/** Variables by which a command without a path is found. */
const LOOKUP = /^(?:path|pathext)$/i;

/** Throws if variables change what the permissions mean. */
function checkEnv(
  request: Request,
  { action, env, clearEnv }: ChildContext,
): void {
  const names = Object.keys(env);
  if (names.some((name) => name.toUpperCase() === BROKER)) {
    throw new TypeError(
      `${action} as "env" must not hold ${BROKER}, which overrides "permissions"`,
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

/** Folders in which a command without a path is usually found. */
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
 * The commands of a grant, so that the child finds those that this program finds.
 * A child looks for a command without a path in its `PATH`, in which an entry may
 * be relative to its own folder, or to its home.
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

/** The path of a command that this program may run, without a look at `PATH`. */
function findCommand(item: string, action: string): string {
  // Without a list every path is granted, whether a program is there or not.
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

/** The hosts that Deno allows to import from without a flag (2.9). */
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
 * Flags that keep a child from importing where this program may not. None if the
 * hosts that Deno allows without a flag are all held.
 *
 * @throws {Deno.errors.NotCapable} If this program may not import from the host of
 *   the script.
 */
function importFlags(
  { action, script, env, clearEnv }: ChildContext,
): string[] {
  if (isHeldWhole("import")) return [];
  const jsrUrl = env.JSR_URL ??
    (clearEnv ? undefined : readVariable("JSR_URL"));
  const jsrHost = hostOf(jsrUrl);
  const scriptHost = script.startsWith("jsr:")
    ? (jsrUrl === undefined ? DEFAULT_HOSTS[0] : jsrHost)
    : hostOf(script);
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
  return held.length === hosts.length
    ? []
    : flagsOf("import", [...new Set(held)]);
}

/** The host of this module, if it was imported from one. */
const OWN_HOST = hostOf(import.meta.url);

/**
 * Whether this program may import from a host. From the host of this module it has
 * imported already, although a Web Worker and a test may not hold it.
 */
function isHeld(host: string): boolean {
  const { state } = query("import", host);
  return state === "granted" || (state === "prompt" && host === OWN_HOST);
}

/** The host and the port from which a module is loaded, if it is loaded from one. */
function hostOf(specifier: string | undefined): string | undefined {
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
