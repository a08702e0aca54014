// Copyright 2026 the Duplex authors. MIT license.

/**
 * The options of `openPipe`, their checks, and the arguments of a child made of them.
 *
 * @module
 */

import {
  checkKind,
  checkPositive,
  checkSignal,
  DEFAULT_OPEN_TIMEOUT,
} from "../_base/options.ts";
import { scriptUrl } from "../_permissions/path.ts";
import { readDenoFlags } from "./deno_flags.ts";
import { processFlags } from "./permissions.ts";
import { preloadFlags } from "../_base/prints.ts";
import { excerpt, messageOf, quoted, show } from "../_base/text.ts";
import type { DuplexOptions } from "../duplex.ts";
import type { Permissions } from "../permissions.ts";

/** Options for {@linkcode openPipe}. */
export interface PipeOptions extends DuplexOptions {
  /**
   * The permissions of the worker. The caller must hold all of them. The worker also
   * inherits the environment of this process, unless `clearEnv` is set; it reads only
   * variables that `env` grants, but Deno itself reads some.
   *
   * @default {"none"}
   */
  permissions?: Permissions;
  /**
   * Arguments of the program; `Deno.args` in a Deno worker.
   *
   * @default {[]}
   */
  args?: readonly string[];
  /**
   * Variables of the child's environment, in addition to those of this process
   * unless `clearEnv` is set. A name must not be empty nor contain "=", and neither
   * it nor its value may contain a NUL character.
   *
   * @default {{}}
   */
  env?: Readonly<Record<string, string>>;
  /**
   * Starts the child with the variables in `env` only. Otherwise it inherits all
   * variables of this process, also those that this process may not read. A Deno
   * worker needs the `env` permission to read variables in both cases; Deno itself
   * reads some, such as `HOME`, `DENO_DIR`, `HTTPS_PROXY` and `DENO_V8_FLAGS`. A
   * program other than Deno reads all of them.
   *
   * @default {false}
   */
  clearEnv?: boolean;
  /**
   * Flags for the Deno of the worker, each as `--name` or `--name=value`. A relative
   * path is relative to the folder of this process. Only flags are accepted that
   * cannot give the worker a permission:
   *
   * - `--config`, `--no-config`, `--import-map`, `--lock`, `--no-lock`, `--frozen`,
   *   `--node-modules-dir`, `--vendor`, `--conditions`, `--check`, `--no-check`;
   * - `--cached-only`, `--no-remote`, `--no-npm`;
   * - `--unstable-…`, `--location`, `--seed`;
   * - `--preload`, `--import` and `--require`, whose module runs before the script,
   *   with the worker's permissions;
   * - `--v8-flags` with limits and modes, such as `--stack-size`;
   * - `--inspect`, `--inspect-brk` and `--inspect-wait`, with a loopback address.
   *   Every user of this machine who connects to its port controls the worker, with
   *   its permissions. Port 0 is a free port, for several workers at a time.
   *
   * A configuration file cannot give the worker a permission either: Deno uses its
   * "permissions" only with `-P`, and its "allowScripts" is ignored.
   *
   * @default {[]}
   */
  denoFlags?: readonly string[];
  /**
   * The child's working directory.
   *
   * @default {the caller's}
   */
  cwd?: string | URL;
  /**
   * The target of the child's standard error, and of its standard output before its
   * hello: the standard error of this process, none, or a function that is called
   * with each line. A line is cut after 65536 characters. In all cases the last 4 KiB
   * are in {@linkcode PeerExitError}. An error thrown by the function ends the
   * duplex: everything pending and `close` reject with it, and the worker gets it as
   * the reason of an abort.
   *
   * @default {"inherit"}
   */
  stderr?: "inherit" | "null" | ((line: string) => void);
  /**
   * Milliseconds for the child to start and to send its hello. `Infinity` sets no
   * limit.
   *
   * @default {10000, or Infinity if the worker waits for a debugger}
   */
  openTimeout?: number;
  /** Cancels the opening, which ends the child and rejects with the signal's reason. */
  signal?: AbortSignal;
  /**
   * Bytes of the worker's JavaScript heap and its buffers. A worker that uses more
   * ends, with an error that says so. V8 limits the heap; a worker that has called
   * `parent` measures heap and buffers ten times a second, when it returns to its
   * event loop. Shared memory, memory of WebAssembly and of the worker's own Web
   * Workers do not count. Only for worker scripts.
   *
   * @default {Deno's own limit of the heap, none of buffers}
   */
  memory?: number;
  /**
   * Starts the child in its own session, without the terminal of this process. Ctrl+C
   * and Ctrl+Z then signal only this process, and a signal to its process group does
   * not reach the child. With `false` the child gets these signals as well. It can
   * then open the terminal, as `ssh` and `sudo` do to ask for a password. It also
   * starts faster, by 1 ms, or 35 ms if this process uses a gigabyte of memory.
   *
   * In both cases the child is killed if this process exits. If this process is
   * killed, the child must end by itself, as described for {@linkcode openPipe}. After
   * an uncaught error of this process, Deno kills the child only with `false`.
   *
   * @default {true}
   */
  detached?: boolean;
}

/** Options for {@linkcode openPipe} that name a program other than Deno. */
export interface PipeCommandOptions
  extends Omit<PipeOptions, "denoFlags" | "memory" | "permissions"> {
  /**
   * The program to start: a name that is looked for in `PATH`, or a path. Deno's
   * permissions do not restrict it.
   */
  command: string;
}

/** The beginning of errors of `openPipe`. */
export const ACTION = "Cannot open a pipe";

const MIB = 2 ** 20;

/**
 * Prevents that Deno runs the scripts of npm packages, outside of the sandbox, that a
 * configuration file allows ("allowScripts"): the list of the flag replaces that of
 * the file. There is no such package.
 */
const NO_SCRIPTS = "--allow-scripts=npm:@duplex/none";

/** Characters of the system's reason shown in an error: a path in it may have 4096. */
const MAX_REASON_LENGTH = 5_000;

/** The arguments of Deno for a worker script. */
export function denoArgs(url: URL, options: PipeOptions): string[] {
  const { permissions = "none", memory, cwd, clearEnv = false } = options;
  const env = readEnv(options.env);
  // A URL does not depend on the child's folder, and cannot be taken for a flag or
  // the name of a task, which Deno would run in a shell.
  const target = url.href;
  const denoFlags = readDenoFlags(
    ACTION,
    options.denoFlags === undefined ? [] : options.denoFlags,
    memory !== undefined,
  );
  const flags = processFlags(permissions, {
    action: ACTION,
    script: target,
    env,
    clearEnv,
    hasCwd: cwd !== undefined,
    isCachedOnly: denoFlags.some((flag) => flag.startsWith("--cached-only")),
  });
  if (memory !== undefined) {
    checkPositive(ACTION, "memory", memory, { max: Number.MAX_SAFE_INTEGER });
    flags.push(`--v8-flags=--max-old-space-size=${Math.ceil(memory / MIB)}`);
  }
  // Deno reports the address of an inspector unless it is quiet.
  const quiet = denoFlags.some((flag) => flag.startsWith("--inspect"))
    ? []
    : ["--quiet"];
  // A debugger would stop in the module.
  const preload = denoFlags.some((flag) => flag.startsWith("--inspect-brk"))
    ? []
    : preloadFlags();
  return [
    ...[
      "run",
      ...quiet,
      NO_SCRIPTS,
      ...preload,
      ...denoFlags,
      ...flags,
      target,
    ],
    ...readArgs(options.args),
  ];
}

/** The options that a script and a command have in common. */
export type ChildOptions = Omit<
  PipeOptions,
  "denoFlags" | "memory" | "permissions"
>;

/** Checks the options that a script and a command have in common. */
export function checkChild(options: ChildOptions): void {
  const { openTimeout = DEFAULT_OPEN_TIMEOUT } = options;
  checkPositive(ACTION, "openTimeout", openTimeout);
  checkSignal(ACTION, options.signal);
  checkStderr(options.stderr);
  checkKind(ACTION, "detached", options.detached, "boolean");
  checkKind(ACTION, "clearEnv", options.clearEnv, "boolean");
  checkCwd(options.cwd);
}

function checkStderr(stderr: unknown): void {
  if (
    stderr === undefined || stderr === "inherit" || stderr === "null" ||
    typeof stderr === "function"
  ) return;
  throw new TypeError(
    `${ACTION} as "stderr" must be "inherit", "null" or a function: current value is ${
      show(stderr)
    }`,
  );
}

function checkCwd(cwd: unknown): void {
  if (cwd === undefined || (isText(cwd) && cwd !== "")) return;
  if (cwd instanceof URL && cwd.protocol === "file:") return;
  const value = cwd instanceof URL ? quoted(cwd.href) : show(cwd);
  throw new TypeError(
    `${ACTION} as "cwd" must be a path or a file URL: current value is ${value}`,
  );
}

/** Whether a value is a string without a NUL character, which would end it. */
function isText(value: unknown): value is string {
  return typeof value === "string" && !value.includes("\0");
}

/** Returns a copy of the arguments; throws unless they are strings. */
export function readArgs(args: readonly string[] = []): string[] {
  if (!Array.isArray(args)) {
    throw new TypeError(
      `${ACTION} as "args" must be an array of strings: current value is ${
        show(args)
      }`,
    );
  }
  // Holes become `undefined`.
  const copy: unknown[] = Array.from(args);
  for (const [index, item] of copy.entries()) {
    if (isText(item)) continue;
    throw new TypeError(
      `${ACTION} as "args[${index}]" must be a string without a NUL character: current value is ${
        show(item)
      }`,
    );
  }
  return copy as string[];
}

/** Returns a copy of the variables; throws unless they are strings. */
export function readEnv(
  env: Readonly<Record<string, string>> = {},
): Record<string, string> {
  if (typeof env !== "object" || env === null || Symbol.iterator in env) {
    throw new TypeError(
      `${ACTION} as "env" must be an object of strings: current value is ${
        show(env)
      }`,
    );
  }
  const copy: Record<string, unknown> = { ...env };
  for (const [name, value] of Object.entries(copy)) {
    if (name === "" || name.includes("=") || !isText(name)) {
      throw new TypeError(
        `${ACTION} as a name in "env" must not be empty nor contain "=" or a NUL character: current value is ${
          quoted(name)
        }`,
      );
    }
    if (isText(value)) continue;
    throw new TypeError(
      `${ACTION} as the variable ${
        quoted(name)
      } in "env" must be a string without a NUL character: current value is ${
        show(value)
      }`,
    );
  }
  return copy as Record<string, string>;
}

/** Throws unless the script or the command can be opened with these options. */
export function checkTarget(
  target: string | URL | PipeCommandOptions,
  options: PipeOptions | undefined,
): void {
  if (typeof target === "string" || target instanceof URL) {
    if (
      options === undefined ||
      (typeof options === "object" && options !== null &&
        !Array.isArray(options))
    ) return;
    throw new TypeError(
      `${ACTION} as "options" must be an object: current value is ${
        show(options)
      }`,
    );
  }
  if (!isText(target?.command) || target.command === "") {
    throw new TypeError(
      `${ACTION} as there must be a script or a "command": current value is ${
        show(target?.command ?? target)
      }`,
    );
  }
  if (options !== undefined) {
    throw new TypeError(
      `${ACTION} to the command ${
        quoted(target.command)
      } with a second argument: put its options next to "command"`,
    );
  }
  for (const name of ["permissions", "memory", "denoFlags"]) {
    if (!(name in target)) continue;
    throw new TypeError(
      `${ACTION} as "${name}" cannot be applied to ${
        quoted(target.command)
      }: it is for worker scripts only`,
    );
  }
}

/** Returns the URL of a script that another process can load. */
export function processUrl(script: string | URL): URL {
  if (Deno.build.standalone) {
    throw new TypeError(
      `${ACTION} to a script from a compiled program: it does not include Deno; use "command"`,
    );
  }
  const url = scriptUrl(ACTION, script);
  if (url.protocol !== "blob:") return url;
  throw new TypeError(
    `${ACTION} to ${
      quoted(url.href)
    }: a blob exists only in this process; use a "data:" URL, or openQueue or openShm`,
  );
}

/** An error of the same class that names the program that did not start. */
export function startError(label: string, cause: unknown): unknown {
  if (!(cause instanceof Error)) return cause;
  const text = messageOf(cause).replace(/^Failed to spawn '.*?': /s, "");
  const hint = cause instanceof Deno.errors.NotFound && !/\bcwd\b/.test(text)
    ? '; "command" must be the name of a program in PATH, or a path'
    : "";
  const Kind = cause.constructor as ErrorConstructor;
  return new Kind(
    `${ACTION} to ${quoted(label)}: it cannot be started: ${
      excerpt(text, MAX_REASON_LENGTH)
    }${hint}`,
    { cause },
  );
}
